"""A unit that asks or answers, the pair that two of them make, and what a conversation's pairs come to.

Claim: which units ask and which answer is told by the names that the dialogues give to PDUs, and by nothing else.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import NamedTuple

from capture.model import Frame, Line, Side

FRAMES = 1 << 20  # times of the last frames, for units that came in several: 8 MiB; an older unit's latency is not told
TEXT = 512  # octets kept of a unit's first line: a whole reply line (RFC 5321 4.5.3.1.5)

CUT = frozenset({"cut-by-gap", "incomplete"})  # flags of a line that is not all there
FRAGMENT = "reply (fragment)"
ASKING = frozenset({"unknown command", "AUTH response", "AUTH cancel"})
_ANSWERING = frozenset({"334 challenge", "+ challenge", "malformed reply", FRAGMENT})


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


def answers(name: str) -> bool:
    """Whether a unit of this name is an answer."""
    return name in _ANSWERING or (name.endswith((" reply", " greeting", " response")) and name not in ASKING)


def unit_of(line: Line, finish: int) -> Unit:
    name = line.pdu.name
    code = verb = ""
    if answers(name):
        code = "" if name in ("malformed reply", "malformed response", FRAGMENT) else name.split(" ", 1)[0]
    elif name in ("AUTH response", "AUTH cancel"):
        verb = "SASL"
    else:
        verb = "" if name == "unknown command" else name.removesuffix(" command")
    last = name == "BDAT command" and any(span.field == "last" for span in line.spans)
    frames = (line.frames[0], line.frames[-1]) if line.frames else (0, 0)
    return Unit(line.side, name, line.pdu.ident, verb, code, line.data[:TEXT], line.offset,
                line.offset + len(line.data), line.time, finish, line.order, frames, 1, last)  # fmt: skip


def final(line: Line, unit: Unit) -> bool:
    """Whether a reply ends with this line; the beginning of another unit ends it in any case."""
    if line.whole or unit.name in ("malformed reply", FRAGMENT):
        return unit.lines == 1
    if unit.code[:1] in "+-":
        return any(span.field == "eod-dot" for span in line.spans) and CUT.isdisjoint(line.flags)
    data = line.data
    coded = data[:3].isdigit() and (data[3:4] == b" " or data[3:].strip(b"\r\n") == b"")
    return coded and not (len(data) == 3 and not CUT.isdisjoint(line.flags))
