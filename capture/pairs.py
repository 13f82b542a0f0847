"""Commands and replies, paired by counting, with their times: who waited how long, and what pipelining saved.

Claim: the k-th reply belongs to the k-th unit that asks for one (RFC 2920 3.1: "Matching on the basis of either the
error code value or associated text is expressly forbidden"). A reply of many lines is one unit. A reply that nothing
asked for stays alone, and so does what a gap deprived of its partner; only behind a gap, where counting has lost its
footing, does a code that can answer one thing only help (as in `capture.protocols.smtp`). IMAP is paired by its tags.

Lines must come in the order in which the analyzer gave them: that is the order in which commands and replies were
counted when they were labelled.

* *Latency* of a reply: from the last octet of the unit that asked (the frame that brought it) to the reply's first.
* *Round trips*: how often the client waited. A unit begins one if, when its first octet came, everything asked before
  was answered. Without pipelining (RFC 2920) every unit that is answered costs one; the difference is what it saved.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from capture.model import Conversation, Frame, Line, Missing, Side, Update
from capture.protocols.phases import ONLY

FRAMES = 1 << 20  # times of the last frames, for units that came in several: 8 MiB; an older unit's latency is not told
TEXT = 512  # octets kept of a unit's first line: a whole reply line (RFC 5321 4.5.3.1.5)
OWED = 10_000  # units of one conversation that wait for a reply; who asks more than that is not answered

_UNANSWERED = frozenset({"after-quit", "after-starttls"})
_CUT = frozenset({"cut-by-gap", "incomplete"})
_ASKING = frozenset({"unknown command", "AUTH response", "AUTH cancel"})
_ANSWERING = frozenset({"334 challenge", "+ challenge", "malformed reply", "reply (fragment)"})
_FRAGMENT = "reply (fragment)"
_GREETING_CODES = (b"220", b"421", b"554")


@dataclass(slots=True, eq=False)
class Unit:
    """A PDU as it stands in its stream, growing while its lines come.

    verb: of a command (``MAIL``, ``mail data``, ``SASL``), ``""`` if unknown; code: of a reply (``250``, ``+OK``);
    text: the first octets of its first line; [offset, end): in the stream; begin, finish: ns, of its first and its
    last octet, finish -1 where that frame's time is forgotten; order: of its first octet; last: BDAT LAST.
    """

    side: Side
    name: str
    ident: str
    verb: str
    code: str
    text: bytes
    offset: int
    end: int
    begin: int
    finish: int
    order: int
    frames: tuple[int, int]
    lines: int = 1
    last: bool = False
    owed: bool = False  # a reply was, or is, due
    late: bool = False  # sent behind a gap
    answered: int = -1  # order of the reply's first octet


class Pair(NamedTuple):
    """A unit and its reply, or one of them alone. final: this unit gets no other reply (LMTP gives several)."""

    conversation: int
    command: Unit | None
    reply: Unit | None
    final: bool = True

    @property
    def latency(self) -> int | None:
        """Nanoseconds from the last octet asked to the first one answered.

        None where one of them is not known, or where the reply began before all was asked: then nobody waited.
        """
        if self.command is None or self.reply is None or self.command.finish < 0:
            return None
        waited = self.reply.begin - self.command.finish
        return waited if waited >= 0 else None


@dataclass(slots=True)
class Trips:
    """What a conversation's pairs add up to. Latencies in ns, None when no pair has one.

    commands: units that ask for a reply; replies: of all kinds, the greeting and unsolicited ones too; alone: replies
    without a command, the greeting aside.
    """

    conversation: int
    commands: int = 0
    replies: int = 0
    alone: int = 0
    waited: int = 0
    latencies: int = 0
    total: int = 0
    least: int | None = None
    most: int | None = None

    @property
    def round_trips(self) -> int | None:
        """How often the client waited; None when no reply was captured."""
        return self.waited if self.replies else None

    @property
    def saved(self) -> int | None:
        """Round trips without pipelining, minus those with it."""
        return self.commands - self.waited if self.replies else None

    @property
    def mean(self) -> int | None:
        return self.total // self.latencies if self.latencies else None

    def add(self, pair: Pair) -> None:
        latency = pair.latency
        if latency is None:
            return
        self.latencies += 1
        self.total += latency
        self.least = latency if self.least is None else min(self.least, latency)
        self.most = latency if self.most is None else max(self.most, latency)


class Clock:
    """The times of the last `FRAMES` frames, by number."""

    def __init__(self) -> None:
        self._times = array("q")
        self._newest = 0

    def tell(self, frame: Frame) -> None:
        """Remember when this frame came. Numbers may leave holes, and must grow."""
        number, times = frame.number, self._times
        place = number % FRAMES
        if place >= len(times):
            times.extend([-1] * (min(max(place + 1, 2 * len(times)), FRAMES) - len(times)))
        times[place] = frame.time
        self._newest = number

    def time(self, number: int) -> int:
        """When that frame came, in ns, or -1 when it is forgotten."""
        place = number % FRAMES
        return self._times[place] if self._newest - FRAMES < number <= self._newest and place < len(self._times) else -1


@dataclass(slots=True)
class _Voice:
    """One side: the end of its last line, gaps declared behind that, the unit that is being read."""

    end: int = 0
    gaps: deque[Missing] = field(default_factory=deque)
    unit: Unit | None = None
    open: bool = False  # a reply whose last line was not seen yet
    answers: Unit | None = None  # what that reply answers
    final: bool = True


class Pairing:
    """One conversation. Feed it gaps and lines; it gives pairs as soon as the reply is complete."""

    __slots__ = ("_accepted", "_clock", "_greeted", "_heard", "_latest", "_lost_commands", "_lost_replies", "_owed",
                 "_pipelines", "_voices", "conversation", "facts", "trips")  # fmt: skip

    def __init__(self, conversation: int, clock: Clock | None = None) -> None:
        self.conversation = conversation
        self.facts: Conversation | None = None  # the newest; they tell LMTP and the middle of a session
        self.trips = Trips(conversation)
        self._clock = clock
        self._voices = (_Voice(), _Voice())
        self._owed: deque[Unit] = deque()
        self._latest: Unit | None = None  # the unit asked last
        self._greeted = False
        self._heard = 0  # how far the other side was when the last unit asked
        self._accepted = 0  # recipients of this transaction (RFC 2033 4.2)
        self._lost_commands = self._lost_replies = self._pipelines = False

    @property
    def owing(self) -> bool:
        """Something waits for its reply, or a reply is not complete."""
        return bool(self._owed) or any(voice.open for voice in self._voices)

    def answering(self, side: Side) -> Unit | None:
        """What the unit that this side is saying answers."""
        return self._voice(side).answers

    def saying(self, side: Side) -> Unit | None:
        """The unit that this side is saying, or said last."""
        return self._voice(side).unit

    def gap(self, gap: Missing) -> None:
        """Octets are missing from a side, behind all lines that came."""
        self._voice(gap.side).gaps.append(gap)

    def pass_gaps(self, order: int | None = None) -> None:
        """The gaps right behind the lines, and before ``order``, were passed: nothing is held in front of them."""
        for voice in self._voices:
            while voice.gaps and voice.gaps[0].offset <= voice.end:
                if order is not None and voice.gaps[0].order > order:
                    break
                gap = voice.gaps.popleft()
                voice.end = max(voice.end, gap.offset + gap.length)
                self._passed(voice)

    def line(self, line: Line) -> list[Pair]:
        """The next line of either side; pairs that it completes."""
        voice = self._voice(line.side)
        end = line.offset + len(line.data)
        if self._voices[0].gaps or self._voices[1].gaps:
            self.pass_gaps(line.order)
        if line.offset < voice.end:
            return self._again(line, voice)
        if line.offset > voice.end:
            self._passed(voice)
        voice.end = end
        while voice.gaps and voice.gaps[0].offset < end:
            voice.gaps.popleft()
        name = line.pdu.name
        unit = voice.unit
        if unit is not None and unit.ident == line.pdu.ident:
            self._grow(unit, line)
            return self._ended(line, voice, unit)
        out = self._close(voice)
        if unit is not None and unit.name.endswith(" greeting") and line.offset == unit.end:
            out += self._run_together(unit, line)
        unit = voice.unit = _unit(line, self._finish(line))
        if _answers(name):
            return out + self._reply(line, voice, unit)
        voice.answers = None
        if name.endswith(" command") or name in _ASKING:
            if _UNANSWERED.isdisjoint(line.flags):
                out += self._owe(unit)
        elif name == "mail data":
            out += self._ended(line, voice, unit)
        return out

    def finish(self) -> list[Pair]:
        """Nothing more comes: what has no reply stands alone."""
        out = [pair for voice in self._voices for pair in self._close(voice)]
        return out + self._forget()

    def _voice(self, side: Side) -> _Voice:
        return self._voices[0 if side is Side.CLIENT else 1]

    def _finish(self, line: Line) -> int:
        if len(line.frames) < 2:
            return line.time
        return self._clock.time(line.frames[-1]) if self._clock is not None else -1

    def _passed(self, voice: _Voice) -> None:
        """A gap was passed on this side: which side asks is known from what it said last."""
        unit = voice.unit
        answers = voice is self._voices[1] if unit is None else _answers(unit.name)
        if answers:
            self._lost_replies = True
        elif unit is None or unit.owed or unit.name != "mail data":
            self._lost_commands = True

    def _grow(self, unit: Unit, line: Line) -> None:
        unit.end = line.offset + len(line.data)
        unit.lines += 1
        unit.finish = self._finish(line)
        if line.frames:
            unit.frames = (unit.frames[0], line.frames[-1])

    def _again(self, line: Line, voice: _Voice) -> list[Pair]:
        """A line that came before and has a flag more: the end of the mail data lies in the gap behind it (G5)."""
        unit = voice.unit
        if unit is None or unit.ident != line.pdu.ident or "eod-in-gap" not in line.flags:
            return []
        return self._owe(unit)

    def _ended(self, line: Line, voice: _Voice, unit: Unit) -> list[Pair]:
        """One more line of a unit of several: its last one?"""
        if unit.name == "mail data":
            dot = any(span.field == "eod-dot" for span in line.spans) and _CUT.isdisjoint(line.flags)
            if "eod-in-gap" in line.flags or dot:
                return self._owe(unit)
        elif voice.open and _final(line, unit):
            return self._close(voice)
        return []

    # --- what is asked ------------------------------------------------------------------------------------------

    def _owe(self, unit: Unit) -> list[Pair]:
        """This unit will be answered."""
        out: list[Pair] = []
        if unit.owed:
            return out
        unit.owed = True
        if self._owed and not self._lost_replies:
            self._pipelines = True
        pop3 = self.facts is not None and self.facts.protocol == "pop3"
        heard = self._voice(unit.side.other).end
        if self._lost_replies and (pop3 or not self._pipelines) and heard != self._heard:
            out = self._forget()  # who never pipelines had an answer before going on
        elif len(self._owed) >= OWED:
            out = [Pair(self.conversation, self._owed.popleft(), None)]
        self._heard = heard
        unit.late = self._lost_commands
        before = self._latest
        if before is None or 0 <= before.answered < unit.order:
            self.trips.waited += 1
        self.trips.commands += 1
        self._latest = unit
        self._owed.append(unit)
        return out

    def _forget(self) -> list[Pair]:
        """The replies to all that was asked are not captured."""
        out = [Pair(self.conversation, unit, None) for unit in self._owed if unit.answered < 0]
        self._owed.clear()
        self._latest = None
        return out

    # --- what is answered ---------------------------------------------------------------------------------------

    def _reply(self, line: Line, voice: _Voice, unit: Unit) -> list[Pair]:
        """The first line of a reply: what does it answer?"""
        out: list[Pair] = []
        self.trips.replies += 1
        if unit.name == _FRAGMENT and voice.answers is not None and not voice.final:
            voice.open = False  # the rest of the reply before it
            return out
        voice.answers, voice.final = None, True
        midstream = self.facts is None or self.facts.midstream
        if unit.name.endswith(" greeting"):
            self._greeted = True
        elif unit.name == _FRAGMENT and not (self._greeted or midstream):
            self._greeted = True  # what a gap left of the greeting
        elif "unsolicited" in line.flags:
            self.trips.alone += 1
        else:
            self._greeted = True
            out, voice.answers, voice.final = self._match(unit)
            self.trips.alone += voice.answers is None
        voice.open = True
        if _final(line, unit):
            out += self._close(voice)
        return out

    def _run_together(self, greeting: Unit, line: Line) -> list[Pair]:
        """A greeting without line end has the next reply in its own line; the numbers of the units show it."""
        hidden = int(line.pdu.ident[1:]) - int(greeting.ident[1:]) - 1
        out: list[Pair] = []
        while hidden > 0 and self._owed:
            self.trips.replies += 1
            found, command, final = self._match(greeting)
            out += [*found, Pair(self.conversation, command, greeting, final)]
            hidden -= 1
        return out

    def _match(self, reply: Unit) -> tuple[list[Pair], Unit | None, bool]:
        """Counting; and where a gap made the count uncertain, what a code can only answer."""
        owed, code = self._owed, reply.code.encode()
        out: list[Pair] = []
        if self._lost_replies and owed:
            wanted = ONLY.get(code, "")
            if wanted and owed[0].verb != wanted:
                for place, unit in enumerate(owed):
                    if unit.verb == wanted or (wanted == "AUTH" and unit.verb == "SASL"):
                        out = [Pair(self.conversation, owed.popleft(), None) for _ in range(place)]
                        break
        if self._lost_commands and owed and owed[0].verb == "DATA" and code[:1] == b"2":
            return out, None, True  # no answer to DATA: it answers a command that lies in the gap
        if self.facts is not None and self.facts.protocol == "imap":
            return out, self._tagged(reply), True
        if not owed:
            return out, None, True
        head = owed[0]
        lmtp = self.facts is not None and self.facts.protocol == "lmtp"
        final = not (lmtp and (head.verb == "mail data" or head.last) and self._accepted > 1)
        if final:
            owed.popleft()
        else:
            self._accepted -= 1  # RFC 2033 4.2: one reply for each accepted recipient
        if not owed:
            self._lost_replies = False
            if head.late:
                self._lost_commands = False
        if head.answered < 0:
            head.answered = max(reply.order, head.order)
        return out, head, final

    def _tagged(self, reply: Unit) -> Unit | None:
        """IMAP answers by tag (RFC 9051 2.2); a response without one may come unasked, and stands alone."""
        tag = reply.text.split(b" ", 1)[0]
        for unit in self._owed:
            if unit.text.split(b" ", 1)[0] == tag:
                self._owed.remove(unit)
                unit.answered = max(reply.order, unit.order)
                return unit
        return None

    def _close(self, voice: _Voice) -> list[Pair]:
        """The unit of this side is over; a reply then leaves with what it answers."""
        if not voice.open or voice.unit is None:
            return []
        voice.open = False
        pair = Pair(self.conversation, voice.answers, voice.unit, voice.final)
        self.trips.add(pair)
        self._replied(pair)
        return [pair]

    def _replied(self, pair: Pair) -> None:
        """What a reply changes in the counting of those that follow."""
        if pair.command is None or pair.reply is None:
            return
        verb, good = pair.command.verb, pair.reply.code[:1] == "2"
        if verb == "RCPT":
            self._accepted += good
        elif verb in ("RSET", "MAIL", "HELO", "EHLO", "LHLO"):
            self._accepted = 0 if good else self._accepted
        elif (verb == "mail data" or pair.command.last) and pair.final:
            self._accepted = 0
        elif verb in ("TURN", "ATRN") and pair.reply.code == "250":
            self._owed.clear()  # RFC 821 3.8, RFC 2645 5.2: the sides exchange roles and begin anew
            self._latest, self._greeted, self._accepted = None, False, 0


class Pairs:
    """All conversations of a capture: `tell` it frames (for their times), `feed` it what the analyzer says of them."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._pairings: dict[int, Pairing] = {}

    def tell(self, frame: Frame) -> None:
        """When a frame came; before the update that it leads to is fed."""
        self._clock.tell(frame)

    def feed(self, update: Update) -> Iterator[Pair]:
        """The pairs that became complete."""
        for fact in update.conversations:
            if fact.ident in self._pairings:
                self._pairings[fact.ident].facts = fact
            elif update.lines or update.gaps:
                self._of(fact.ident).facts = fact
        touched = set()
        for gap in update.gaps:
            self._of(gap.conversation).gap(gap)
            touched.add(gap.conversation)
        for line in update.lines:
            yield from self._of(line.conversation).line(line)
        for ident in touched:
            self._of(ident).pass_gaps()

    def finish(self) -> Iterator[Pair]:
        """Nothing more comes."""
        for pairing in self._pairings.values():
            yield from pairing.finish()

    def trips(self) -> Iterable[Trips]:
        """What each conversation comes to, in order of first sight; those that neither asked nor answered left out."""
        for ident in sorted(self._pairings):
            trips = self._pairings[ident].trips
            if trips.commands or trips.replies:
                yield trips

    def _of(self, ident: int) -> Pairing:
        pairing = self._pairings.get(ident)
        if pairing is None:
            pairing = self._pairings[ident] = Pairing(ident, self._clock)
        return pairing


def _answers(name: str) -> bool:
    """Whether a unit of this name is an answer."""
    return name in _ANSWERING or (name.endswith((" reply", " greeting", " response")) and name not in _ASKING)


def _unit(line: Line, finish: int) -> Unit:
    name = line.pdu.name
    code = verb = ""
    if _answers(name):
        code = "" if name in ("malformed reply", "malformed response", _FRAGMENT) else name.split(" ", 1)[0]
    elif name in ("AUTH response", "AUTH cancel"):
        verb = "SASL"
    else:
        verb = "" if name == "unknown command" else name.removesuffix(" command")
    last = name == "BDAT command" and any(span.field == "last" for span in line.spans)
    frames = (line.frames[0], line.frames[-1]) if line.frames else (0, 0)
    return Unit(line.side, name, line.pdu.ident, verb, code, line.data[:TEXT], line.offset,
                line.offset + len(line.data), line.time, finish, line.order, frames, 1, last)  # fmt: skip


def _final(line: Line, unit: Unit) -> bool:
    """Whether a reply ends with this line; the beginning of another unit ends it in any case."""
    if line.whole or unit.name in ("malformed reply", _FRAGMENT):
        return unit.lines == 1
    if unit.code[:1] in "+-":
        return any(span.field == "eod-dot" for span in line.spans) and _CUT.isdisjoint(line.flags)
    data = line.data
    coded = data[:3].isdigit() and (data[3:4] == b" " or data[3:].strip(b"\r\n") == b"")
    return coded and not (len(data) == 3 and not _CUT.isdisjoint(line.flags))
