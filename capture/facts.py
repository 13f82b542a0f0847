"""What one conversation comes to: the row of ``wiretalk conversations``, and how its lines are counted.

Claim: each figure is defined here once, over labelled lines, so that whoever makes them (`capture.survey`, quickly; the
analyzer, line by line) must come to the same.

* *commands*: PDUs that the asking side sent as commands, known or not; no SASL messages, no pieces behind a gap.
* *messages*: mail data whose end was read (its lone dot), BDAT chunks with LAST whose last octet was reached, and the
  messages that POP3 gave whole. Whether they were accepted is another question.
* *mail_from*, *rcpt_to*: the paths of MAIL and RCPT as they were typed, accepted or refused, without their brackets.
* *last_reply*: the code of the reply whose last line was captured last: 100 to 599; in POP3 ``+OK``,
  ``-ERR`` or ``+``.
"""

from __future__ import annotations

from typing import NamedTuple

from capture.model import Endpoint, Line, Run, Side

_MAIL = ("MAIL command", "SEND command", "SOML command", "SAML command")
_REPLIES = (" reply", " greeting", " response", " challenge")


class Facts(NamedTuple):
    """A conversation as a row. Pairs are of the client and the server, in this order.

    start, end: ns; octets: captured ones, what ``sha256`` (hex) was taken over: a side's octets with gaps closed up;
    gaps: (stream offset, length), neighbours joined; notes: how many of each kind.
    """

    ident: int
    client: Endpoint
    server: Endpoint
    protocol: str
    start: int
    end: int
    frames: int
    octets: tuple[int, int]
    sha256: tuple[str, str]
    gaps: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
    commands: int
    messages: int
    mail_from: tuple[str, ...]
    rcpt_to: tuple[str, ...]
    last_reply: int | str | None
    notes: dict[str, int]


class Sum(NamedTuple):
    """What the lines of a conversation come to; see `Facts`."""

    commands: int = 0
    messages: int = 0
    mail_from: tuple[str, ...] = ()
    rcpt_to: tuple[str, ...] = ()
    last_reply: int | str | None = None


class Count:
    """What the lines of one conversation come to. Lines of a side come in order; one that comes again counts once."""

    __slots__ = (
        "_chunk_ends",
        "_content",
        "_dots",
        "_verbs",
        "commands",
        "last_reply",
        "mail_from",
        "messages",
        "rcpt_to",
    )

    def __init__(self) -> None:
        self.commands = 0
        self.messages = 0
        # With the place of each in the order of capture, for held-back lines are made later than some behind them.
        self.mail_from: list[tuple[int, str]] = []
        self.rcpt_to: list[tuple[int, str]] = []
        self.last_reply: tuple[int, int | str | None] = (-1, None)
        # Identifiers of PDUs: the last command that was counted, the last message, the last content of each side.
        self._verbs: dict[Side, str] = {}
        self._dots: dict[Side, str] = {}
        self._content: dict[Side, str] = {}
        self._chunk_ends: dict[Side, tuple[str, int]] = {}  # a chunk with LAST: its PDU, and where its octets end

    def sum(self) -> Sum:
        """What it came to."""
        senders = tuple(path for _, path in sorted(self.mail_from))
        recipients = tuple(path for _, path in sorted(self.rcpt_to))
        return Sum(self.commands, self.messages, senders, recipients, self.last_reply[1])

    def run(self, run: Run) -> None:
        """Plain lines of content."""
        self._content[run.side] = run.pdu.ident

    def line(self, line: Line) -> None:
        """The next line of either side."""
        name, ident = line.pdu
        if name.endswith(" command"):
            if self._verbs.get(line.side) != ident:
                self._verbs[line.side] = ident
                self._command(line)
            elif (end := self._chunk_ends.get(line.side)) is not None and end == (ident, line.offset + len(line.data)):
                self.messages += 1
        elif name == "mail data" or (line.spans and line.spans[0].field == "eod-dot"):
            self._data(line)
        elif name.endswith(_REPLIES):
            self._reply(line)

    def _command(self, line: Line) -> None:
        self.commands += 1
        name = line.pdu.name
        if name in _MAIL or name == "RCPT command":
            for start, end, _, field in line.spans:
                if field in ("reverse-path", "forward-path"):
                    path = line.data[start:end].decode("latin-1")
                    bare = path[1:-1] if path.startswith("<") and path.endswith(">") else path
                    (self.rcpt_to if field == "forward-path" else self.mail_from).append((line.order, bare))
        elif name == "BDAT command" and any(span.field == "last" for span in line.spans):
            size = next(int(line.data[s.start : s.end]) for s in line.spans if s.field == "chunk-size")
            self._chunk_ends[line.side] = line.pdu.ident, line.offset + len(line.data) + size
            self.messages += size == 0

    def _data(self, line: Line) -> None:
        ident, side = line.pdu.ident, line.side
        if line.spans[0].field != "eod-dot":
            self._content[side] = ident
        elif line.data.endswith(b"\n") and self._dots.get(side) != ident:
            self._dots[side] = ident
            # A listing of POP3 ends in a dot too, and is no message.
            self.messages += line.pdu.name == "mail data" or self._content.get(side) == ident

    def _reply(self, line: Line) -> None:
        code = line.pdu.name.split(" ", 1)[0]
        data = line.data
        if not data.endswith(b"\n"):
            return
        latest = line.order >= self.last_reply[0]
        if code.isdigit():
            if latest and data[:3].isdigit() and data[3:4] != b"-":
                self.last_reply = line.order, int(code)
        elif code in ("+OK", "-ERR", "+"):
            # A line of a message is no status line, whatever it begins with.
            if any(span.field in ("content", "line-end") for span in line.spans):
                self._content[line.side] = line.pdu.ident
            elif data.startswith(code.encode()) and latest:
                self.last_reply = line.order, code
