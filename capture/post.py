"""One conversation's messages, as its lines come (`capture.mail` has the rules).

Claim: an octet is in a message because its line says that it is user data; where a message begins, ends and is broken
is told by the lines and gaps around it, and what they do not tell is not presumed in silence.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from capture.envelope import RECIPIENTS, Envelope, Recipient, chunk, path
from capture.letter import HOLES, Ended, Event, Hole, Message, Piece, Told
from capture.model import Conversation, Line, Missing, Role, Side
from capture.pairing import Pairing
from capture.unit import CUT, Pair, Unit

WAITING = 100  # messages of one conversation that wait for their reply; the others are told without

_UD = Role.USER_DATA
_MAIL = frozenset({"MAIL", "SEND", "SOML", "SAML"})
_HELLO = frozenset({"EHLO", "HELO", "LHLO"})


@dataclass(slots=True)
class _Voice:
    """One side: the end of its last line, gaps behind it, the message under way and the unit it is read from."""

    end: int = 0
    gaps: deque[Missing] = field(default_factory=deque)
    first: int = -1  # order of its first line
    last: str = ""  # the name of the last line's PDU
    message: Message | None = None
    unit: str = ""
    chunk: int = 0  # octets of this BDAT chunk still to come
    final: bool = False  # and it is the last one
    listed: str = ""  # a unit that may be a list or a message
    retrieved: str = ""  # the unit of a response whose lines are a message


class _Doubt(NamedTuple):
    """Orders of the DATA and of the first line that was taken for a message's; behind: that follows the DATA."""

    asked: int
    order: int
    behind: bool


class Post:
    """One conversation's messages."""

    __slots__ = ("answers", "asked", "broken", "doubts", "envelope", "events", "facts", "go_aheads", "ident", "ordinal",
                 "pairing", "previous", "proposed", "undecided", "voices", "waiting")  # fmt: skip

    def __init__(self, ident: int) -> None:
        self.ident, self.ordinal = ident, 0
        self.facts: Conversation | None = None
        self.pairing = Pairing(ident)
        self.voices = (_Voice(), _Voice())
        self.envelope: Envelope | None = None
        self.previous: Envelope | None = None  # in force if the MAIL that was said last is refused
        self.proposed: tuple[Side, str] | None = None  # the unit of that MAIL
        self.waiting: dict[tuple[Side, str], Message] = {}  # ended messages without reply, by the unit that asks for it
        self.answers: dict[tuple[Side, str], Recipient] = {}  # recipients without reply
        self.events: list[Event] = []
        self.asked = -1  # order of the last DATA
        self.go_aheads: deque[int] = deque(maxlen=8)  # orders of the last 354s
        self.broken = False  # a gap was passed
        self.doubts: dict[Message, _Doubt] = {}  # messages of which it is not sure that they begin where they do
        self.undecided: list[Message] = []  # those of them that ended, and wait for no reply

    def line(self, line: Line, octets: bytes | None = None) -> None:
        """The next line; ``octets``: all of it is content, several lines of it."""
        voice = self.voices[0 if line.side is Side.CLIENT else 1]
        again = line.offset < voice.end
        pairs = self.pairing.line(line)
        if again:
            self._again(line, voice)
        else:
            self._next(line, voice, octets)
        for pair in pairs:
            self._paired(pair)

    def finish(self) -> None:
        """Nothing more comes of this conversation."""
        for voice in self.voices:
            if voice.message is not None:
                self._tail(voice, voice.message)
                self._close(voice, told=False)
        for pair in self.pairing.finish():
            self._paired(pair)
        for message in (*self.undecided, *self.waiting.values()):
            self._tell(message)
        self.undecided.clear()
        self.waiting.clear()

    # --- lines --------------------------------------------------------------------------------------------------

    def _again(self, line: Line, voice: _Voice) -> None:
        """The end of the mail data lies in the gap behind this line (rule G5)."""
        message = voice.message
        if message is not None and "eod-in-gap" in line.flags and voice.unit == line.pdu.ident:
            self._tail(voice, message)
            self._close(voice)

    def _next(self, line: Line, voice: _Voice, octets: bytes | None) -> None:
        gap = line.offset - voice.end
        gap_at, voice.end = voice.end, line.offset + len(line.data)
        self.broken = self.broken or gap > 0
        if voice.first < 0:
            voice.first = line.order
        while voice.gaps and voice.gaps[0].offset < line.offset:
            voice.gaps.popleft()
        name = line.pdu.name
        message = voice.message
        if message is not None and line.pdu.ident != voice.unit:
            message = self._other_unit(line, voice, message, gap_at, gap)
        elif message is not None and gap:
            self._hole(message, Hole(message.octets, gap_at, gap, whole=True))
            voice.chunk = max(0, voice.chunk - gap)
        if gap and message is None and self.envelope is not None and name != "mail data":
            self.envelope.whole = False
        if name == "mail data":
            if message is None:
                message = self._begin(line, voice, "DATA", gap_at, gap, voice.last == "DATA command")
            self._content(line, voice, message, octets)
            if _ends(line):
                message.ended = True
                message.ending = "nonstandard" if "nonstandard-eod" in line.flags else "CRLF.CRLF"
                self._close(voice)
            elif "eod-in-gap" in line.flags:
                self._tail(voice, message)
                self._close(voice)
        elif name == "BDAT command":
            self._bdat(line, voice, gap_at, gap)
        elif name == "+OK response":
            self._response(line, voice, octets, gap_at, gap)
        elif name == "354 reply":
            self.go_aheads.append(line.order)
        elif name.endswith(" command"):
            self._command(line, name.removesuffix(" command"))
        voice.last = name

    def _other_unit(self, line: Line, voice: _Voice, message: Message, gap_at: int, gap: int) -> Message | None:
        """A unit begins that the message under way is not read from."""
        bdat = message.command == "BDAT"
        if gap:
            whole = bdat and gap <= voice.chunk
            self._hole(message, Hole(message.octets, gap_at, gap, whole))
            voice.chunk = max(0, voice.chunk - gap)
            if bdat and voice.final and not voice.chunk:
                message.ended, message.ending = whole, "LAST" if whole else ""
                self._close(voice)
                return None
        verb = line.pdu.name.removesuffix(" command")
        if bdat and verb not in _MAIL and verb not in _HELLO and verb not in ("RSET", "mail data"):
            return message
        self._close(voice, told=False)
        return None

    def _begin(self, line: Line, voice: _Voice, command: str, gap_at: int, gap: int, behind: bool) -> Message:
        """A message begins with this line. behind: what stands before the gap, or the line, is what leads to it."""
        self.ordinal += 1
        envelope, self.envelope = self.envelope or Envelope(), None
        self.previous = self.proposed = None
        message = voice.message = Message(
            self.ident, line.side, self.ordinal, command, envelope, line.offset, line.time, _frames(line)
        )
        message.facts = self.facts
        voice.unit = line.pdu.ident
        if gap:
            message.offset = gap_at
            message.began = behind
            self._hole(message, Hole(0, gap_at, gap, whole=behind))
        if "start-missing" in line.flags:
            message.began = False
        if command == "DATA" and "assumed" in line.flags and message.began:
            self.doubts[message] = _Doubt(self.asked, line.order, behind)
        elif command == "BDAT":
            # Earlier chunks may lie in front of the capture, or in a gap behind MAIL.
            lost = self.broken or self.facts is None or self.facts.midstream
            message.presumed = message.began and lost and (envelope.mail_from is None or not envelope.whole)
        return message

    def _doubtful(self, message: Message, doubt: _Doubt) -> bool:
        """Whether nothing shows that an assumed message begins where it does.

        A 354 between the DATA and its first line shows it. Where the other side was not captured at all, it is taken
        as given (rule O1); where it was, only as long as nothing is missing.
        """
        if any(doubt.asked < order < doubt.order for order in self.go_aheads):
            return False
        if not doubt.behind:
            return True
        other = self.voices[1 if message.side is Side.CLIENT else 0]
        if other.first < 0:
            return False
        return self.broken or self.facts is None or self.facts.midstream

    def _tell(self, message: Message) -> None:
        """All that will be known of a message is known."""
        doubt = self.doubts.pop(message, None)
        if doubt is not None:
            message.presumed = self._doubtful(message, doubt)
        self.events.append(Told(message))

    def _content(self, line: Line, voice: _Voice, message: Message, octets: bytes | None = None) -> None:
        """The user data of a line are octets of the message."""
        message.end = voice.end
        if line.frames:
            message.frames = (message.frames[0], line.frames[-1])
        data = user_data(line) if octets is None else octets
        if data:
            message.octets += len(data)
            message.digest.update(data)
            self.events.append(Piece(message, data))

    def _bdat(self, line: Line, voice: _Voice, gap_at: int, gap: int) -> None:
        """A chunk's header line, or octets of the chunk (RFC 3030 2)."""
        if line.spans and line.spans[0].field == "verb":
            size, last = chunk(line)
            if size < 0:
                return  # no chunk follows a line that is no BDAT
            message = voice.message or self._begin(line, voice, "BDAT", gap_at, gap, behind=False)
            voice.unit, voice.chunk, voice.final = line.pdu.ident, size, last
            message.end = voice.end
        elif voice.message is not None and voice.unit == line.pdu.ident:
            message = voice.message
            voice.chunk = max(0, voice.chunk - len(line.data))
            self._content(line, voice, message)
        else:
            return
        if voice.final and not voice.chunk:
            message.ended, message.ending = True, "LAST"
            self._close(voice)

    def _response(self, line: Line, voice: _Voice, octets: bytes | None, gap_at: int, gap: int) -> None:
        """A line of a POP3 response: is it one of a message?"""
        message = voice.message
        asked = self.pairing.answering(line.side)
        if line.spans and line.spans[0].field == "status-indicator":
            voice.retrieved = line.pdu.ident if asked is not None and asked.verb in ("RETR", "TOP") else ""
            return
        content = octets is not None or any(span.role is _UD for span in line.spans)
        if not content and not _ends(line):
            voice.listed = line.pdu.ident  # a list; or, where the command is not known, a line of a message
        if message is None:
            if not content and voice.retrieved != line.pdu.ident:
                return
            command = _words(asked) if asked is not None else "RETR"
            message = self._begin(line, voice, command, gap_at, gap, voice.last == "+OK response")
            status = self.pairing.saying(line.side)
            if status is not None:
                _answer(message, status)
            message.across = asked.end if asked is not None else 0
        message.presumed = message.presumed or voice.listed == line.pdu.ident
        self._content(line, voice, message, octets)
        if _ends(line):
            message.ended = True
            message.ending = "nonstandard" if "nonstandard-eod" in line.flags else "CRLF.CRLF"
            self._close(voice, told=False)

    def _tail(self, voice: _Voice, message: Message) -> None:
        """The gaps behind the last line belong to a message that has not ended there."""
        while voice.gaps:
            gap = voice.gaps.popleft()
            if gap.offset >= voice.end:
                whole = message.command == "BDAT" and gap.length <= voice.chunk
                self._hole(message, Hole(message.octets, gap.offset, gap.length, whole))
                voice.end = gap.offset + gap.length
                voice.chunk = max(0, voice.chunk - gap.length)
                if whole and voice.final and not voice.chunk:
                    message.ended, message.ending = True, "LAST"

    def _hole(self, message: Message, hole: Hole) -> None:
        message.end = max(message.end, hole.offset + hole.octets)
        if len(message.holes) < HOLES:
            message.holes.append(hole)
        else:
            message.more_holes += 1

    def _close(self, voice: _Voice, *, told: bool = True) -> None:
        """No more octets. told: a reply is due."""
        message = voice.message
        if message is None:
            return
        voice.message, voice.final, voice.chunk = None, False, 0
        self.events.append(Ended(message))
        if told and not message.replies and len(self.waiting) < WAITING:
            self.waiting[message.side, voice.unit] = message
        elif message in self.doubts and len(self.undecided) < WAITING:
            self.undecided.append(message)  # what the other side said before it may not have come out yet
        else:
            self._tell(message)

    # --- the envelope -------------------------------------------------------------------------------------------

    def _command(self, line: Line, verb: str) -> None:
        key = line.side, line.pdu.ident
        if verb in _MAIL:
            self.previous = self.envelope
            self.envelope = Envelope(path(line, "reverse-path"))
            self.proposed = key
        elif verb == "RCPT":
            if self.envelope is None:
                self.envelope = Envelope(whole=False)
            address = path(line, "forward-path")
            if address is not None and len(self.envelope.recipients) < RECIPIENTS:
                self.answers[key] = recipient = Recipient(address)
                self.envelope.recipients.append(recipient)
                if len(self.answers) > RECIPIENTS:
                    self.answers.pop(next(iter(self.answers)))
            else:
                self.envelope.more += 1
        elif verb == "RSET":
            self._reset()
        elif verb == "DATA":
            self.asked = line.order

    def _reset(self) -> None:
        self.envelope = self.previous = self.proposed = None
        self.answers.clear()

    def _paired(self, pair: Pair) -> None:
        """A reply: to a recipient, to a MAIL, to a message."""
        command, reply = pair.command, pair.reply
        if command is None:
            return
        key = command.side, command.ident
        recipient = self.answers.pop(key, None)
        if recipient is not None and reply is not None:
            recipient.code = reply.code
        if key == self.proposed and reply is not None and not reply.code.startswith("2"):
            self._refused()
        if command.verb in _HELLO and reply is not None and reply.code.startswith("2"):
            self._reset()
        message = self.waiting.get(key)
        if message is None:
            self._answered_early(pair, command)
            return
        if reply is not None:
            _answer(message, reply)
        if pair.final:
            del self.waiting[key]
            self._tell(message)

    def _answered_early(self, pair: Pair, asked: Unit) -> None:
        """The server need not wait for the octets of the last chunk to refuse it."""
        for voice in self.voices:
            message = voice.message
            if message is not None and asked.last and voice.unit == asked.ident and pair.reply is not None:
                _answer(message, pair.reply)

    def _refused(self) -> None:
        """The MAIL said last is refused: what was in force before it is in force again."""
        if self.previous is not None and self.envelope is not None:
            self.previous.recipients += self.envelope.recipients
            self.envelope = self.previous
        self.previous = self.proposed = None


def user_data(line: Line) -> bytes:
    """The octets of a line that its layer carries for the one above."""
    data, spans = line.data, line.spans
    first = next((place for place, span in enumerate(spans) if span.role is _UD), len(spans))
    if all(span.role is _UD for span in spans[first:]):
        return data if first == 0 else data[spans[first - 1].end :]
    return b"".join(data[span.start : span.end] for span in spans if span.role is _UD)


def _ends(line: Line) -> bool:
    """Whether this is the lone dot; a dot at a gap, or where the capture ends, may have had more behind it."""
    return bool(line.spans) and line.spans[0].field == "eod-dot" and CUT.isdisjoint(line.flags)


def _frames(line: Line) -> tuple[int, int]:
    return (line.frames[0], line.frames[-1]) if line.frames else (0, 0)


def _answer(message: Message, reply: Unit) -> None:
    """One more reply; its first line as one character for each octet."""
    if len(message.replies) < RECIPIENTS:
        message.replies.append(reply.text.rstrip(b"\r\n").decode("latin-1"))
    message.reply = reply.code
    message.across = reply.end


def _words(unit: Unit) -> str:
    return unit.text.strip().decode("latin-1")
