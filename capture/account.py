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

from collections.abc import Iterable, Iterator

from capture import exported
from capture.analyzer import Analyzer
from capture.carrier import Carrier, carry
from capture.decode import decode
from capture.ledger import OWNERS, Kinds, Ledger, Octets, Parts, Row
from capture.links import packet
from capture.mail import Ended, Messages, Told
from capture.model import FIN, RST, SYN, Endpoint, Frame, Side, Update

__all__ = ["OWNERS", "Account", "Kinds", "Octets", "Row"]

FRAGMENTS = 4096  # frames with fragments whose conversation is not known yet; beyond, the oldest are `elsewhere`

_TCP = 6


class Account(Analyzer):
    """An analyzer that keeps the account. Feed it frames; `rows` says what they came to, after `finish`.

    captured: octets of all frames; elsewhere: of frames of no conversation, and how many these are.
    """

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.captured = 0
        self.frames = 0
        self.elsewhere = self.elsewhere_frames = 0
        self._ledgers: dict[int, Ledger] = {}
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

    def _ledger(self, source: Endpoint, destination: Endpoint, scope: tuple[int, ...]) -> Ledger | None:
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
                ledger = self._ledgers[fact.ident] = Ledger()
            ledger.facts = fact

    def _lines(self, update: Update) -> None:
        for event in self._messages.feed(update):
            self._event(event)
        for line in update.lines:
            self._ledgers[line.conversation].line(line)
        for fact in update.conversations:
            if fact.over:
                self._ledgers[fact.ident].finish()

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


def _whole(frame: Frame, carrier: Carrier) -> Parts | None:
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
    return Parts(start + behind, carrier.body - start, transport, payload, kind, *ends, segment.scope)


def _recorded(frame: Frame) -> Parts | None:
    record = exported.unpack(frame)
    if record is None:
        return None
    return Parts(record.at, 0, 0, len(record.data), "records", record.source, record.destination, ())


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


def _part(frame: Frame, carrier: Carrier, source: Endpoint, destination: Endpoint) -> Parts:
    """A fragment: the first one has the segment's header in front."""
    data, size = frame.data, len(frame.data)
    outer = packet(data, frame.link)
    start = carrier.start if outer is None else outer.at
    body, end = min(carrier.body, size), min(carrier.end, size)
    header = 0
    if carrier.piece == 0 and end >= body + 13:
        header = min(data[body + 12] >> 4 << 2, end - body)
    link, network = start + size - end, body - start
    return Parts(link, network, header, end - body - header, "fragments", source, destination, carrier.scope)


def _joined(updates: list[Update]) -> Update:
    """Several updates as one."""
    facts = {fact.ident: fact for update in updates for fact in update.conversations}
    return Update(
        tuple(facts.values()),
        tuple(line for update in updates for line in update.lines),
        tuple(gap for update in updates for gap in update.gaps),
        tuple(note for update in updates for note in update.notes),
    )
