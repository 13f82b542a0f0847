"""The overhead account: what every captured octet was for, by layer, side, conversation and message.

Claim: the account balances. Every captured octet of every frame is counted once, under its owner: going up the stack it
is user data of each layer until one claims it as PCI (labels.md 2.1), or nobody does. So for each side, each
conversation and the whole capture, in octets:

    captured = link.pci + link.user_data
      link.user_data      = network.pci + network.user_data
      network.user_data   = transport.pci + transport.user_data
      transport.user_data = repeated + tls.pci + tls.user_data + application.pci + application.user_data + unknown
      application.user_data = message.pci + message.user_data + other

and the octets of the whole file's frames = the sum over all conversations + `elsewhere` (frames of no conversation).

* *link.pci*: everything in front of the IP packet and behind it: headers, tags, cooked headers, padding, a check
  sequence. *network.pci*: IP headers with options and extensions, those of tunnels too. *transport.pci*: TCP headers;
  handshake, pure acknowledgements and retransmissions are frames like all others.
* *repeated*: user data of TCP that brought no octet of the stream: sent again, keep-alives, outside the window.
* *tls.user_data*: what TLS records carry, encrypted. *other*: what SMTP or POP3 carries for SASL. *unknown*: octets of
  a conversation whose protocol is not known. *message*: header fields and the empty line are PCI, the body is user
  data (RFC 5322 2.1).

A *message*'s share of its conversation: the frames behind the reply to the message before it, up to the reply to this
one, and on both sides the octets that led to it, were it, and answered it. What stands behind the last message, and all
that was repeated, is the *rest*; so the messages and the rest add up to the conversation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from capture import exported
from capture.analyzer import Analyzer
from capture.carrier import Carrier, carry
from capture.decode import decode
from capture.links import packet
from capture.mail import Ended, Messages, Told
from capture.model import FIN, RST, SYN, Conversation, Endpoint, Frame, Layer, Line, Role, Side, Update
from capture.protocols.message import Messages as Views
from capture.protocols.message import carried

FRAGMENTS = 4096  # frames with fragments whose conversation is not known yet; beyond, the oldest are `elsewhere`
SECTIONS = 10_000  # messages of one conversation with a row of their own; later ones are in the rest

_TCP = 6
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


class _Parts(NamedTuple):
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


class _Ledger:
    """One conversation's account."""

    __slots__ = ("counted", "cut", "ends", "facts", "kinds", "payload", "sections", "told", "views")

    def __init__(self) -> None:
        self.facts: Conversation | None = None
        self.sections: list[_Section] = [_Section()]
        self.told = 0  # messages of which everything is known: later frames are not theirs
        self.ends: tuple[list[int], list[int]] = ([], [])  # where each message's share ends, on each side
        self.payload: dict[Endpoint, int] = {}
        self.kinds: dict[Endpoint, dict[str, int]] = {}
        self.views = (Views(), Views())
        self.counted = [0, 0]  # where the last line of each side ended
        self.cut = 0

    def frame(self, parts: _Parts, frame: Frame) -> None:
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
            self._seen_from_above(place, self.views[place].feed(line))

    def finish(self) -> None:
        for place, views in enumerate(self.views):
            self._seen_from_above(place, views.finish())

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


class Account(Analyzer):
    """An analyzer that keeps the account. Feed it frames; `rows` says what they came to, after `finish`.

    captured: octets of all frames; elsewhere: of frames of no conversation, and how many these are.
    """

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.captured = 0
        self.frames = 0
        self.elsewhere = self.elsewhere_frames = 0
        self._ledgers: dict[int, _Ledger] = {}
        self._messages = Messages()
        self._fragmented: dict[tuple[bytes, tuple[int, ...]], list[tuple[Carrier, Frame]]] = {}
        self._assigned: dict[tuple[bytes, tuple[int, ...]], tuple[int, Endpoint, Endpoint]] = {}
        self._pending = 0

    def feed_all(self, frames: Iterable[Frame]) -> Update:
        """As `Analyzer.feed_all`, and every frame is counted."""
        made = []
        for frame in frames:
            update = super().feed_all((frame,))
            self._facts(update)
            self._enter(frame)
            self._lines(update)
            made.append(update)
        return made[0] if len(made) == 1 else _joined(made)

    def finish(self) -> Update:
        update = super().finish()
        self._facts(update)
        self._lines(update)
        for event in self._messages.finish():
            self._event(event)
        for ledger in self._ledgers.values():
            ledger.finish()
        for frames in self._fragmented.values():
            for _, frame in frames:
                self._nowhere(frame)
        self._fragmented.clear()
        return update

    def rows(self, conversation: int | None = None) -> Iterator[Row]:
        """For each conversation in order of first sight: itself, its messages, the rest."""
        for ident in sorted(self._ledgers):
            if conversation is None or ident == conversation:
                yield from self._ledgers[ident].rows(ident)

    # --- frames -------------------------------------------------------------------------------------------------

    def _enter(self, frame: Frame) -> None:
        self.captured += len(frame.data)
        self.frames += 1
        if frame.link == exported.LINKTYPE_UPPER_PDU:
            parts = _recorded(frame)
        else:
            carrier = carry(frame)
            if carrier is not None and carrier.fragment:
                self._fragment(frame, carrier)
                return
            parts = None if carrier is None else _whole(frame, carrier)
        ledger = None if parts is None else self._ledger(parts.source, parts.destination, parts.scope)
        if parts is None or ledger is None:
            self._nowhere(frame)
        else:
            ledger.frame(parts, frame)

    def _ledger(self, source: Endpoint, destination: Endpoint, scope: tuple[int, ...]) -> _Ledger | None:
        talk = self._talks.get((source, destination, scope))
        return None if talk is None else self._ledgers.get(talk.ident)

    def _nowhere(self, frame: Frame) -> None:
        self.elsewhere += len(frame.data)
        self.elsewhere_frames += 1

    def _fragment(self, frame: Frame, carrier: Carrier) -> None:
        """A part of a datagram: its ports, and so its conversation, are in the first part only (RFC 791 3.2)."""
        key = carrier.ident, carrier.scope
        waiting = self._fragmented.setdefault(key, [])
        waiting.append((carrier, frame))
        self._pending += 1
        ends = self._assigned.get(key)
        if ends is None:
            first = next((one for one in waiting if one[0].piece == 0), None)
            found = None if first is None else _ends(*first)
            talk = None if found is None else self._talks.get((*found, carrier.scope))
            if found is not None and talk is not None:
                if len(self._assigned) >= FRAGMENTS:
                    self._assigned.pop(next(iter(self._assigned)))
                ends = self._assigned[key] = talk.ident, *found
        ledger = self._ledgers.get(ends[0]) if ends is not None else None
        if ends is not None and ledger is not None:
            for one, held in self._fragmented.pop(key):
                self._pending -= 1
                ledger.frame(_part(held, one, *ends[1:]), held)
        while self._pending > FRAGMENTS:
            oldest = self._fragmented.pop(next(iter(self._fragmented)))
            self._pending -= len(oldest)
            for _, held in oldest:
                self._nowhere(held)

    # --- what they said -----------------------------------------------------------------------------------------

    def _facts(self, update: Update) -> None:
        for fact in update.conversations:
            ledger = self._ledgers.get(fact.ident)
            if ledger is None:
                ledger = self._ledgers[fact.ident] = _Ledger()
            ledger.facts = fact

    def _lines(self, update: Update) -> None:
        for event in self._messages.feed(update):
            self._event(event)
        for line in update.lines:
            ledger = self._ledgers[line.conversation]
            ledger.line(line)

    def _event(self, event: object) -> None:
        if isinstance(event, Ended):
            message = event.message
            place = 0 if message.side is Side.CLIENT else 1
            self._ledgers[message.conversation].ended(place, message.end)
        elif isinstance(event, Told):
            message = event.message
            ledger = self._ledgers[message.conversation]
            ledger.told += 1
            ledger.ended(1 if message.side is Side.CLIENT else 0, message.across)


def _whole(frame: Frame, carrier: Carrier) -> _Parts | None:
    """A frame with a whole segment in it; None when there is none."""
    segment = decode(frame)
    if segment is None:
        return None
    outer = packet(frame.data, frame.link)
    start = carrier.start if outer is None else outer.at
    size, payload = len(frame.data), len(segment.payload)
    transport = segment.at - carrier.body
    behind = size - segment.at - payload
    kind = _kind(segment.flags, payload + segment.missing)
    ends = segment.source, segment.destination
    return _Parts(start + behind, carrier.body - start, transport, payload, kind, *ends, segment.scope)


def _recorded(frame: Frame) -> _Parts | None:
    record = exported.unpack(frame)
    if record is None:
        return None
    return _Parts(record.at, 0, 0, len(record.data), "records", record.source, record.destination, ())


def _kind(flags: int, payload: int) -> str:
    if flags & SYN:
        return "handshake"
    if payload:
        return "data"
    return "closing" if flags & (FIN | RST) else "acknowledgement"


def _ends(carrier: Carrier, frame: Frame) -> tuple[Endpoint, Endpoint] | None:
    """The endpoints of the segment that begins in this first fragment."""
    data, at = frame.data, carrier.body
    if carrier.protocol != _TCP or len(data) < at + 4:
        return None
    start, size = (carrier.start + 12, 4) if carrier.version == 4 else (carrier.start + 8, 16)
    source = Endpoint(data[start : start + size], int.from_bytes(data[at : at + 2], "big"))
    return source, Endpoint(data[start + size : start + 2 * size], int.from_bytes(data[at + 2 : at + 4], "big"))


def _part(frame: Frame, carrier: Carrier, source: Endpoint, destination: Endpoint) -> _Parts:
    """A fragment: the first one has the segment's header in front."""
    data, size = frame.data, len(frame.data)
    outer = packet(data, frame.link)
    start = carrier.start if outer is None else outer.at
    body, end = min(carrier.body, size), min(carrier.end, size)
    header = 0
    if carrier.piece == 0 and end >= body + 13:
        header = min(data[body + 12] >> 4 << 2, end - body)
    link, network = start + size - end, body - start
    return _Parts(link, network, header, end - body - header, "fragments", source, destination, carrier.scope)


def _joined(updates: list[Update]) -> Update:
    """Several updates as one."""
    facts = {fact.ident: fact for update in updates for fact in update.conversations}
    return Update(
        tuple(facts.values()),
        tuple(line for update in updates for line in update.lines),
        tuple(gap for update in updates for gap in update.gaps),
        tuple(note for update in updates for note in update.notes),
    )
