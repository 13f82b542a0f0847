"""The session as a person had it: lines typed, lines that came back, and which of them were seen on the wire.

Claim: nothing is shown as said until it was captured. A typed line and octets read from the socket are *faint* until
the captured line that covers their stream offsets arrives; what never arrives stays faint. Offset 0 is the first octet
of the connection, so counting what was typed is enough to know where each line stands in the stream.

What the server said keeps its place in order of arrival: octets that only the socket has get an entry as soon as
something else is to stand behind them, and their captured lines, which may come much later, take that place.
"""

from __future__ import annotations

import enum
import re
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from capture.model import Conversation, Endpoint, Line, Missing, Side, Update
from capture.protocols.secrets import mistyped

EARLY = 256  # lines kept of conversations that nobody has opened yet
LINGER = 0.4  # s that octets from the socket wait for their captured twin before they are shown faint
_SECRET = re.compile(rb"(?i)\A(PASS +|AUTH +\S+ +|USER +(?=\S+ +\S))(\S.*?)(\s*)\Z", re.DOTALL)


class Kind(enum.Enum):
    """What an entry of the session pane is."""

    TYPED = "typed"
    SERVER = "server"
    NOTICE = "notice"
    TROUBLE = "trouble"


@dataclass(slots=True, eq=False)
class Entry:
    """One entry. octets: the line with its end, or a notice as UTF-8; start: its stream offset, -1 without one.

    line: its captured twin; missing: octets that no captured line covers yet; secret: not to be shown.
    """

    kind: Kind
    octets: bytes
    start: int = -1
    missing: int = 0
    line: Line | None = None
    secret: bool = False

    @property
    def faint(self) -> bool:
        """Known here, not seen on the wire."""
        return self.missing > 0

    @property
    def end(self) -> int:
        """The stream offset behind it."""
        return self.start + len(self.octets)


def _pieces(octets: bytes | bytearray) -> list[bytes]:
    """Lines, as a capture has them: each ends at its LF, the last one perhaps nowhere yet."""
    return [piece for piece in re.split(rb"(?<=\n)", bytes(octets)) if piece]


def hide(octets: bytes) -> bytes:
    """A typed line with its password blotted out, before any captured line says where it is."""
    match = _SECRET.match(octets)
    if match is None:
        body = octets.rstrip(b"\r\n")
        return b"*" * len(body) + octets[len(body) :] if mistyped(body) else octets
    return match[1] + b"*" * len(match[2]) + match[3]


class Dialog:
    """One session's entries over all its connections. Pure: no widget, no clock but the one passed in."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.changed_from = 0
        """Index of the first entry that changed since `settle` was last called."""
        self.conversation = 0
        """The capture's number of the connection that stands, 0 until its first packets were seen."""
        self._endpoints: tuple[Endpoint | None, Endpoint | None] | None = None
        self._known: dict[int, Conversation] = {}
        self._claimed = 0  # the newest conversation that was ours
        self._early: deque[Line | Missing] = deque(maxlen=EARLY)
        self._begin()

    def _begin(self) -> None:
        self.conversation = 0
        self._typed: list[Entry] = []
        self._starts: list[int] = []
        self._next_offset = 0
        self._socket = bytearray()
        self._socket_start = 0
        self._placed: list[Entry] = []  # of the socket's octets, with no captured line for all of them yet
        self._seen = 0
        self._since = 0.0

    # what a person and the socket say

    def open(self, client: Endpoint | None, server: Endpoint | None) -> list[Line]:
        """A new connection stands: offsets count from 0 again. What only the socket had stays in the pane, faint.

        The capture may have been faster than this word. Answers the lines of this connection that came before it.
        """
        self._place()
        self._begin()
        self._endpoints = client, server
        ours = [known for known in self._known.values() if known.ident > self._claimed and self._is_ours(known)]
        if ours:
            self._claim(ours[-1])
        early = [row for row in self._early if row.conversation == self.conversation]
        self._early.clear()
        return self._take(early)

    def type(self, text: str, *, secret: bool = False) -> Entry:
        """A line was sent: text and CRLF."""
        self._place()
        octets = text.encode("utf-8", "replace") + b"\r\n"
        entry = Entry(Kind.TYPED, octets, self._next_offset, len(octets), secret=secret)
        self._next_offset += len(octets)
        self._typed.append(entry)
        self._starts.append(entry.start)
        self._append(entry)
        return entry

    def retract(self, entry: Entry) -> None:
        """The line could not be sent after all; it was the last one typed."""
        self._typed.remove(entry)
        self._starts.pop()
        self._next_offset -= len(entry.octets)
        self.changed_from = min(self.changed_from, self.entries.index(entry))
        self.entries.remove(entry)

    def receive(self, octets: bytes, now: float) -> None:
        """Octets were read from the socket at ``now`` (s, any clock)."""
        if not self._socket:
            self._since = now
        self._socket += octets
        self._trim()

    def say(self, sentence: str, kind: Kind = Kind.NOTICE) -> None:
        """A notice of the program, not of the wire."""
        self._place()
        self._append(Entry(kind, sentence.encode("utf-8", "replace")))

    # what the wire says

    def apply(self, update: Update) -> list[Line]:
        """Take in captured lines. Answers those of the connection that stands."""
        for conversation in update.conversations:
            if conversation.ident not in self._known and self._is_ours(conversation):
                self._claim(conversation)
            self._known[conversation.ident] = conversation
        rows: tuple[Line | Missing, ...] = (*update.lines, *update.gaps)
        self._early.extend(row for row in rows if row.conversation > self._claimed)
        return self._take([row for row in rows if row.conversation == self.conversation])

    def _take(self, rows: list[Line | Missing]) -> list[Line]:
        for row in rows:
            if isinstance(row, Missing):
                if row.side is Side.SERVER:
                    self._gap(row)
            elif row.side is Side.CLIENT:
                self._client(row)
            else:
                self._server(row)
        return [row for row in rows if isinstance(row, Line)]

    def _claim(self, conversation: Conversation) -> None:
        self.conversation = self._claimed = conversation.ident

    def _is_ours(self, conversation: Conversation) -> bool:
        if self._endpoints is None:
            return False
        client, server = self._endpoints
        return client in (None, conversation.client) and server in (None, conversation.server)

    def _client(self, line: Line) -> None:
        place = bisect_right(self._starts, line.offset) - 1
        entry = self._typed[place] if place >= 0 else None
        if entry is None or not self._agrees(entry, line):
            entry = self._moved(line)
        if entry is None:
            # Octets that nobody typed here: an answer to telnet's IAC, say. They shift what was typed behind them.
            self._append(Entry(Kind.TYPED, line.data, line.offset, 0, line))
            return
        entry.missing = max(0, entry.missing - len(line.data))
        entry.line = entry.line or line
        self._touch(entry)

    @staticmethod
    def _agrees(entry: Entry, line: Line) -> bool:
        begin = line.offset - entry.start
        return 0 <= begin < len(entry.octets) and entry.octets[begin : begin + len(line.data)] == line.data

    def _moved(self, line: Line) -> Entry | None:
        """The first uncaptured entry that reads like the line: from there on, offsets are corrected."""
        for place, entry in enumerate(self._typed):
            if entry.missing == len(entry.octets) and entry.octets.startswith(line.data):
                shift = line.offset - entry.start
                for later in range(place, len(self._typed)):
                    self._typed[later].start += shift
                    self._starts[later] += shift
                self._next_offset += shift
                return entry
        return None

    def _server(self, line: Line) -> None:
        end = line.offset + len(line.data)
        self._seen = max(self._seen, end)
        self._trim()
        covered = [entry for entry in self._placed if entry.start < end and line.offset < entry.end]
        if not covered or line.offset < covered[0].start:
            self._append(Entry(Kind.SERVER, line.data, line.offset, 0, line))
        else:
            entry = covered.pop(0)
            begin = line.offset - entry.start
            entry.missing -= min(entry.end, end) - line.offset
            entry.octets = entry.octets[:begin] + line.data + entry.octets[begin + len(line.data) :]
            entry.line = line
            self._touch(entry)
        for entry in covered:  # a record, say, that the socket's text was not cut like
            entry.octets = entry.octets[end - entry.start :]
            entry.start, entry.missing = end, len(entry.octets)
            self._touch(entry)
            if not entry.octets:
                self.entries.remove(entry)
        self._placed = [entry for entry in self._placed if entry.faint]

    def _place(self) -> None:
        """Give what only the socket has its place, before something comes to stand behind it."""
        for piece in _pieces(self._socket):
            entry = Entry(Kind.SERVER, piece, self._socket_start, len(piece))
            self._socket_start += len(piece)
            self._placed.append(entry)
            self._append(entry)
        self._socket.clear()

    def _gap(self, gap: Missing) -> None:
        begin, end = gap.offset - self._socket_start, gap.offset + gap.length - self._socket_start
        lost = bytes(self._socket[max(0, begin) : max(0, end)])
        for piece in _pieces(lost):
            self._append(Entry(Kind.SERVER, piece, gap.offset, len(piece)))
        self._seen = max(self._seen, gap.offset + gap.length)
        self._trim()

    def _trim(self) -> None:
        covered = min(len(self._socket), self._seen - self._socket_start)
        if covered > 0:
            del self._socket[:covered]
            self._socket_start += covered

    # what the pane asks

    def tail(self, now: float, *, linger: float = LINGER) -> list[bytes]:
        """Lines read from the socket that no captured line covers, once they have waited ``linger`` seconds."""
        if not self._socket or now - self._since < linger:
            return []
        return _pieces(self._socket)

    def settle(self) -> int:
        """The index of the first entry changed since the last call; ``len(entries)`` when none was."""
        first, self.changed_from = self.changed_from, len(self.entries)
        return first

    def unseen(self) -> int:
        """Typed lines that were never captured, over all connections."""
        return sum(entry.kind is Kind.TYPED and entry.faint for entry in self.entries)

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)

    def _touch(self, entry: Entry) -> None:
        # Entries change near the end; searched backwards, a long session costs no more than a short one.
        for index in range(len(self.entries) - 1, -1, -1):
            if self.entries[index] is entry:
                self.changed_from = min(self.changed_from, index)
                return
