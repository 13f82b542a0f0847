"""The books of the overhead account: octets by owner, and a conversation's ledger (`capture.account` has the formula).

Claim: whatever is entered is in exactly one of the owners of exactly one section, so every sum of sections balances.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from capture.model import Conversation, Endpoint, Frame, Layer, Line, Role, Side
from capture.protocols.message import Messages, carried

SECTIONS = 10_000  # messages of one conversation with a row of their own; later ones are in the rest

_UD = Role.USER_DATA


@dataclass(slots=True)
class Octets:
    """Captured octets by owner; see the formula above. frames: how many brought them."""

    link: int = 0
    network: int = 0
    transport: int = 0
    repeated: int = 0
    tls: int = 0
    tls_data: int = 0
    application: int = 0
    other: int = 0
    unknown: int = 0
    message: int = 0
    body: int = 0

    def add(self, more: Octets, sign: int = 1) -> None:
        """Add what ``more`` has, or with ``sign`` -1 take it away."""
        for name in OWNERS:
            setattr(self, name, getattr(self, name) + sign * getattr(more, name))

    @property
    def captured(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in OWNERS)

    @property
    def stream(self) -> int:
        """What TCP delivered: `Layer.TRANSPORT`'s user data without copies."""
        return self.captured - self.link - self.network - self.transport - self.repeated

    def layers(self) -> dict[Layer, tuple[int, int]]:
        """PCI and user data of each layer, bottom up."""
        carries = self.stream + self.repeated
        return {
            Layer.LINK: (self.link, self.network + self.transport + carries),
            Layer.NETWORK: (self.network, self.transport + carries),
            Layer.TRANSPORT: (self.transport, carries),
            Layer.TLS: (self.tls, self.tls_data),
            Layer.APPLICATION: (self.application, self.other + self.message + self.body),
            Layer.MESSAGE: (self.message, self.body),
        }


OWNERS = tuple(one.name for one in fields(Octets))


class Kinds(NamedTuple):
    """How many frames were there for what. fragments: parts of a datagram; records: octets recorded at a socket."""

    handshake: int = 0
    data: int = 0
    acknowledgement: int = 0
    closing: int = 0
    fragments: int = 0
    records: int = 0


class Row(NamedTuple):
    """One line of the account. message: its ordinal in the conversation; 0: the whole conversation; -1: the rest.

    sides: the client's octets and the server's; frames: of each side, by kind (of the whole conversation only);
    wire: octets that these frames had on the wire and the snap length kept from the capture.
    """

    conversation: int
    message: int
    sides: tuple[Octets, Octets]
    frames: tuple[Kinds, Kinds] = (Kinds(), Kinds())
    cut: int = 0
    facts: Conversation | None = None

    @property
    def both(self) -> Octets:
        """Both sides together."""
        total = Octets()
        for side in self.sides:
            total.add(side)
        return total


class Parts(NamedTuple):
    """A frame taken apart: octets below the segment, the segment's header, its user data."""

    link: int
    network: int
    transport: int
    payload: int
    kind: str
    source: Endpoint
    destination: Endpoint
    scope: tuple[int, ...]


@dataclass(slots=True)
class _Section:
    """Octets of one message's share, by the endpoint that sent the frames and by the side that the lines have."""

    frames: dict[Endpoint, Octets] = field(default_factory=dict)
    lines: tuple[Octets, Octets] = field(default_factory=lambda: (Octets(), Octets()))


class Ledger:
    """One conversation's account."""

    __slots__ = ("counted", "cut", "ends", "facts", "kinds", "payload", "sections", "told", "views")

    def __init__(self) -> None:
        self.facts: Conversation | None = None
        self.sections: list[_Section] = [_Section()]
        self.told = 0  # messages of which everything is known: later frames are not theirs
        self.ends: tuple[list[int], list[int]] = ([], [])  # where each message's share ends, on each side
        self.payload: dict[Endpoint, int] = {}
        self.kinds: dict[Endpoint, dict[str, int]] = {}
        self.views: list[Messages | None] = [None, None]  # made when there is a message to look at
        self.counted = [0, 0]  # where the last line of each side ended
        self.cut = 0

    def frame(self, parts: Parts, frame: Frame) -> None:
        """One frame that belongs here."""
        sums = self._section(self.told).frames.setdefault(parts.source, Octets())
        sums.link += parts.link
        sums.network += parts.network
        sums.transport += parts.transport
        self.payload[parts.source] = self.payload.get(parts.source, 0) + parts.payload
        kinds = self.kinds.setdefault(parts.source, {})
        kinds[parts.kind] = kinds.get(parts.kind, 0) + 1
        self.cut += max(0, frame.length - len(frame.data))

    def line(self, line: Line) -> None:
        """One line."""
        place = 0 if line.side is Side.CLIENT else 1
        if line.offset < self.counted[place]:
            return  # it comes again, with a flag more
        self.counted[place] = line.offset + len(line.data)
        sums = self._share(place, line.offset)
        user_data = sum(span.end - span.start for span in line.spans if span.role is _UD)
        control = len(line.data) - user_data
        if line.layer is Layer.TLS:
            sums.tls += control
            sums.tls_data += user_data
        elif line.pdu.name == "unknown":
            sums.unknown += len(line.data)
        else:
            start, end = carried(line)
            sums.application += control
            sums.body += end - start
            sums.other += user_data - (end - start)
            views = self.views[place]
            if views is None and (end > start or line.pdu.name == "BDAT command"):
                views = self.views[place] = Messages()
            if views is not None:
                self._seen_from_above(place, views.feed(line))

    def finish(self) -> None:
        """Nothing more comes."""
        for place, views in enumerate(self.views):
            if views is not None:
                self._seen_from_above(place, views.finish())
                self.views[place] = None

    def ended(self, place: int, end: int) -> None:
        """A message's share of that side's stream ends there."""
        ends = self.ends[place]
        ends.append(max(end, ends[-1] if ends else 0))

    def _seen_from_above(self, place: int, views: Iterable[tuple[Line, Line | None]]) -> None:
        """What looked like a body may be header."""
        for view, _ in views:
            header = sum(span.end - span.start for span in view.spans if span.role is Role.PCI)
            sums = self._share(place, view.offset)
            sums.message += header
            sums.body -= header

    def _share(self, place: int, offset: int) -> Octets:
        return self._section(bisect_right(self.ends[place], offset)).lines[place]

    def _section(self, number: int) -> _Section:
        number = min(number, SECTIONS)
        while len(self.sections) <= number:
            self.sections.append(_Section())
        return self.sections[number]

    def rows(self, ident: int) -> Iterator[Row]:
        """The conversation, its messages, the rest."""
        client = self.facts.client if self.facts is not None else None
        sums = [self._sides(section, client) for section in self.sections]
        rest = [Octets(), Octets()]
        whole = [Octets(), Octets()]
        messages = min(len(self.ends[0]), len(self.ends[1]), SECTIONS)
        for number, sides in enumerate(sums):
            for place in (0, 1):
                whole[place].add(sides[place])
                if number >= messages:
                    rest[place].add(sides[place])
        for source, payload in self.payload.items():
            place = 0 if source == client else 1
            whole[place].repeated += payload
            rest[place].repeated += payload
        for place in (0, 1):
            delivered = whole[place].stream
            whole[place].repeated -= delivered
            rest[place].repeated -= delivered
        kinds = [Kinds(), Kinds()]
        for source, counted in self.kinds.items():
            kinds[0 if source == client else 1] = Kinds(**counted)
        yield Row(ident, 0, (whole[0], whole[1]), (kinds[0], kinds[1]), self.cut, self.facts)
        for number in range(messages):
            sides = sums[number] if number < len(sums) else (Octets(), Octets())
            yield Row(ident, number + 1, sides, facts=self.facts)
        yield Row(ident, -1, (rest[0], rest[1]), facts=self.facts)

    @staticmethod
    def _sides(section: _Section, client: Endpoint | None) -> tuple[Octets, Octets]:
        sides = Octets(), Octets()
        for place in (0, 1):
            sides[place].add(section.lines[place])
        for source, octets in section.frames.items():
            sides[0 if source == client else 1].add(octets)
        return sides
