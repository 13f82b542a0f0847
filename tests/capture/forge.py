"""A forge for frames: Ethernet, IPv4 or IPv6, TCP, with right checksums, made from a conversation written as a table.

Claim: what comes out is what a capture would hold: `Wire` keeps both sides' sequence numbers, so each segment has the
sequence and acknowledgement numbers that RFC 9293 gives it, and a lost segment is a number that moved without a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from capture.model import ACK, FIN, PSH, RST, SYN, Frame, Side

START = 1_756_713_600_000_000_000  # 2025-09-01T08:00:00Z, in ns
STEP = 1_000_000  # 1 ms from one frame to the next
MASK = 0xFFFFFFFF

C, S = Side.CLIENT, Side.SERVER


def checksum(octets: bytes) -> int:
    """RFC 1071."""
    if len(octets) % 2:
        octets += b"\0"
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp(
    source: str,
    destination: str,
    sport: int,
    dport: int,
    sequence: int,
    acknowledgement: int,
    flags: int,
    payload: bytes = b"",
    *,
    window: int = 64240,
    options: bytes = b"",
) -> bytes:
    """A segment (RFC 9293 3.1), its checksum over the pseudo-header of either IP version."""
    assert len(options) % 4 == 0
    a, b = ip_address(source).packed, ip_address(destination).packed
    head = struct.pack(
        ">HHIIBBHHH",
        sport,
        dport,
        sequence & MASK,
        acknowledgement & MASK,
        (20 + len(options)) // 4 << 4,
        flags,
        window,
        0,
        0,
    )
    segment = head + options + payload
    pseudo = a + b + (struct.pack(">BBH", 0, 6, len(segment)) if len(a) == 4 else struct.pack(">I3xB", len(segment), 6))
    return segment[:16] + struct.pack(">H", checksum(pseudo + segment)) + segment[18:]


def ip(
    source: str,
    destination: str,
    body: bytes,
    protocol: int = 6,
    *,
    options: bytes = b"",
    fragment: int = 0,
    identification: int = 1,
    total: int | None = None,
) -> bytes:
    """A datagram: IPv4 (RFC 791) or IPv6 (RFC 8200), by the addresses. fragment: flags and offset field, IPv4 only."""
    a, b = ip_address(source).packed, ip_address(destination).packed
    if len(a) == 16:
        return struct.pack(">IHBB", 6 << 28, len(body) if total is None else total, protocol, 64) + a + b + body
    length = 20 + len(options) + len(body) if total is None else total
    first = 4 << 4 | (20 + len(options)) // 4
    head = struct.pack(">BBHHHBBH4s4s", first, 0, length & 0xFFFF, identification, fragment, 64, protocol, 0, a, b)
    head += options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body


def ethernet(packet: bytes, *, tags: Iterable[int] = (), pad: bool = True) -> bytes:
    """A frame without FCS, padded to 60 octets; each of ``tags`` becomes an 802.1Q tag with that VLAN number."""
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    head = bytes.fromhex("020000000025 020000000010")
    for tag in tags:
        head += struct.pack(">HH", 0x8100, tag)
    made = head + struct.pack(">H", kind) + packet
    return made.ljust(60, b"\0") if pad else made


@dataclass
class Wire:
    """One conversation on a wire. Every call gives the `Frame`s it put there; numbers and times go on by themselves."""

    client: str = "192.0.2.10"
    server: str = "192.0.2.25"
    cport: int = 49152
    sport: int = 25
    isn: tuple[int, int] = (1000, 5000)
    tags: tuple[int, ...] = ()
    number: int = 0
    time: int = START
    step: int = STEP
    sequence: dict[Side, int] = field(init=False)
    known: dict[Side, int] = field(init=False)

    def __post_init__(self) -> None:
        self.sequence = {C: self.isn[0], S: self.isn[1]}  # next to be sent
        self.known = {C: self.isn[0], S: self.isn[1]}  # what the other side has acknowledged of this one

    def segment(
        self,
        side: Side,
        payload: bytes = b"",
        flags: int = ACK,
        *,
        sequence: int | None = None,
        acknowledgement: int | None = None,
        window: int = 64240,
    ) -> Frame:
        """One frame with these very numbers; moves nothing but the frame number and the clock."""
        here, there = (self.client, self.server) if side is C else (self.server, self.client)
        ports = (self.cport, self.sport) if side is C else (self.sport, self.cport)
        seq = self.sequence[side] if sequence is None else sequence
        ack = (self.known[side.other] if flags & ACK else 0) if acknowledgement is None else acknowledgement
        data = ethernet(
            ip(here, there, tcp(here, there, *ports, seq, ack, flags, payload, window=window)), tags=self.tags
        )
        self.number += 1
        self.time += self.step
        return Frame(self.number, self.time, data, len(data))

    def open(self) -> list[Frame]:
        """SYN, SYN ACK, ACK."""
        frames = [self.segment(C, flags=SYN)]
        self.sequence[C] = self.known[C] = (self.isn[0] + 1) & MASK
        frames.append(self.segment(S, flags=SYN | ACK))
        self.sequence[S] = self.known[S] = (self.isn[1] + 1) & MASK
        return [*frames, self.segment(C)]

    def pick_up(self) -> None:
        """What stands when a capture begins in the middle: both sides know each other's numbers, no frame says so."""
        self.sequence = {C: (self.isn[0] + 1) & MASK, S: (self.isn[1] + 1) & MASK}
        self.known = dict(self.sequence)

    def say(self, side: Side, payload: bytes, flags: int = PSH | ACK) -> Frame:
        """One segment of new data, which the other side will acknowledge with its next frame."""
        frame = self.segment(side, payload, flags)
        self.sequence[side] = self.known[side] = (self.sequence[side] + len(payload)) & MASK
        return frame

    def lose(self, side: Side, octets: int) -> None:
        """The other side got these octets, the capture did not."""
        self.sequence[side] = self.known[side] = (self.sequence[side] + octets) & MASK

    def close(self) -> list[Frame]:
        """FIN, FIN, ACK."""
        frames = []
        for side in (C, S):
            frames.append(self.segment(side, flags=FIN | ACK))
            self.sequence[side] = self.known[side] = (self.sequence[side] + 1) & MASK
        return [*frames, self.segment(C)]

    def reset(self, side: Side) -> Frame:
        return self.segment(side, flags=RST | ACK)


def capture_of(
    exchange: Iterable[Mapping[str, Any]],
    *,
    midstream: bool = False,
    sides: Iterable[str] = ("C", "S"),
    close: bool = True,
    wire: Wire | None = None,
) -> Iterator[Frame]:
    """The frames of an exchange as in vectors.json: ``{"dir": "C"|"S", "bytes": latin-1}`` or ``{"dir": …, "gap": n}``.

    ``midstream``: no handshake. ``sides``: only the frames these sent are given (numbered without holes). ``close``:
    FIN at the end, when the exchange is not cut. After each gap, the other side acknowledges past the hole.
    """
    wire = wire or Wire()
    kept = set(sides)
    number = 0

    def given(frames: Iterable[tuple[Side, Frame]]) -> Iterator[Frame]:
        nonlocal number
        for side, frame in frames:
            if side.value in kept:
                number += 1
                yield frame._replace(number=number)

    if midstream:
        wire.pick_up()
    else:
        yield from given(zip((C, S, C), wire.open(), strict=True))
    for said in exchange:
        side = Side(said["dir"])
        if "gap" in said:
            wire.lose(side, int(said["gap"]))
            yield from given([(side.other, wire.segment(side.other))])
        else:
            yield from given([(side, wire.say(side, said["bytes"].encode("latin-1")))])
    if close:
        yield from given(zip((C, S, C), wire.close(), strict=True))
