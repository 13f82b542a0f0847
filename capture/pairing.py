"""One conversation's commands and replies, paired as they come (`capture.pairs` has the rules).

Claim: the counting is that of the dialogue that labelled (`capture.protocols.smtp`), made again from its lines.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from capture.model import Conversation, Line, Missing, Side
from capture.protocols.phases import ONLY
from capture.unit import ASKING, CUT, FRAGMENT, Clock, Pair, Trips, Unit, answers, final, unit_of

OWED = 10_000  # units of one conversation that wait for a reply; who asks more than that is not answered

_UNANSWERED = frozenset({"after-quit", "after-starttls"})


@dataclass(slots=True)
class _Voice:
    """One side: the end of its last line, gaps declared behind that, the unit that is being read."""

    end: int = 0
    gaps: deque[Missing] = field(default_factory=deque)
    unit: Unit | None = None
    open: bool = False  # a reply whose last line was not seen yet
    answers: Unit | None = None  # what that reply answers
    final: bool = True
    number: int = 0  # of the last reply


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
        unit = voice.unit = unit_of(line, self._finish(line))
        if answers(name):
            return out + self._reply(line, voice, unit)
        voice.answers = None
        if name.endswith(" command") or name in ASKING:
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
        answering = voice is self._voices[1] if unit is None else answers(unit.name)
        if answering:
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
            dot = any(span.field == "eod-dot" for span in line.spans) and CUT.isdisjoint(line.flags)
            if "eod-in-gap" in line.flags or dot:
                return self._owe(unit)
        elif voice.open and final(line, unit):
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
        number = int(unit.ident[1:])
        if number <= voice.number:
            return out  # a fragment stood in the middle of a reply, which goes on
        voice.number = number
        self.trips.replies += 1
        if unit.name == FRAGMENT and voice.answers is not None and not voice.final:
            voice.open = False  # the rest of the reply before it
            return out
        voice.answers, voice.final = None, True
        midstream = self.facts is None or self.facts.midstream
        if unit.name.endswith(" greeting"):
            self._greeted = True
        elif unit.name == FRAGMENT and not (self._greeted or midstream):
            self._greeted = True  # what a gap left of the greeting
        elif "unsolicited" in line.flags:
            self.trips.alone += 1
        else:
            self._greeted = True
            out, voice.answers, voice.final = self._match(unit)
            self.trips.alone += voice.answers is None
        voice.open = True
        if final(line, unit):
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
