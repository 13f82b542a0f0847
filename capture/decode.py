"""From a frame to the TCP segment in it. Floor 1: knows bytes, no streams.

Claim: `decode` is a function of the frame alone, gives a `Segment` exactly when the frame holds a whole TCP header in
an unfragmented IP packet, and never raises. What is cut, malformed or not TCP is ``None``.

Ethernet's padding is no user data; what the snap length cut off is counted in `Segment.missing`. An ICMP error quotes a
TCP header (RFC 792): its protocol is 1, so it is no segment. A fragment is no segment either; `capture.fragments` puts
the packet together, and the whole comes through here.
"""

from __future__ import annotations

import struct

from capture.carrier import Carrier, carry
from capture.headers import headers, spans
from capture.model import Endpoint, Frame, Segment

__all__ = ["decode", "headers", "spans", "take"]

TCP = 6

# Ethernet II, IPv4, TCP, from the frame's first octet on: type with the first octet of IP, total length, fragment with
# protocol, addresses and ports, sequence, acknowledgement, data offset, flags. For `capture.analyzer`, which compares
# the first with `PLAIN_IP`: IPv4 without options; and the bits `UNFRAGMENTED` of the third with TCP's number, 6.
ordinary = struct.Struct(">12x3sxH2xI2x12sIIBB").unpack_from
ORDINARY = 54  # octets it needs
PLAIN_IP = b"\x08\x00\x45"
UNFRAGMENTED = 0x3FFF00FF

# Ethernet II, IPv4 without options, TCP: one unpack tells it and reads it.
_COMMON = struct.Struct(">12xHBxH2xHxB10xHHIIBBH")
_TCP_HEADER = struct.Struct(">HHIIBBH")
_PAIRS = 1 << 13  # remembered endpoint pairs; a capture of more starts the memory anew, and only that

_pairs: dict[bytes, tuple[Endpoint, Endpoint]] = {}


def decode(frame: Frame) -> Segment | None:
    """The segment that the frame carries, or None: no TCP, a fragment, an ICMP quotation, a cut or malformed header."""
    found = take(frame)
    return found if isinstance(found, Segment) else None


def take(frame: Frame) -> Segment | Carrier | None:
    """As `decode`, but a fragment's place is given, for `capture.fragments`."""
    data = frame.data
    if frame.link == 1 and len(data) >= 54:
        kind, first, total, fragment, protocol, sport, dport, seq, ack, offset, flags, window = _COMMON.unpack_from(
            data
        )
        end = 14 + total
        # In the common case nothing is cut; whatever is odd takes the long way.
        if kind == 0x0800 and first == 0x45 and protocol == TCP and not fragment & 0x3FFF and 54 <= end <= len(data):
            at = 34 + (offset >> 4 << 2)
            if at < 54 or at > end:
                return None
            key = data[26:38]
            pair = _pairs.get(key)
            if pair is None:
                pair = _remember(key, Endpoint(data[26:30], sport), Endpoint(data[30:34], dport))
            return Segment(frame.number, frame.time, pair[0], pair[1], seq, ack, flags, window, data[at:end], at)
    carrier = carry(frame)
    if carrier is None or carrier.fragment:
        return carrier
    if carrier.protocol != TCP:
        return None
    return _segment(frame, carrier)


def _segment(frame: Frame, carrier: Carrier) -> Segment | None:
    data, at = frame.data, carrier.body
    if len(data) < at + 20:
        return None
    sport, dport, seq, ack, offset, flags, window = _TCP_HEADER.unpack_from(data, at)
    body = at + (offset >> 4 << 2)
    if body < at + 20 or body > carrier.end:
        return None
    start, size = (carrier.start + 12, 4) if carrier.version == 4 else (carrier.start + 8, 16)
    key = data[start : start + 2 * size] + data[at : at + 4]
    pair = _pairs.get(key)
    if pair is None:
        source, destination = data[start : start + size], data[start + size : start + 2 * size]
        pair = _remember(key, Endpoint(source, sport), Endpoint(destination, dport))
    stop = min(carrier.end, len(data))
    missing = carrier.end - max(stop, body)
    payload = data[body:stop]
    return Segment(
        frame.number,
        frame.time,
        pair[0],
        pair[1],
        seq,
        ack,
        flags,
        window,
        payload,
        min(body, len(data)),
        missing if missing > 0 else 0,
        carrier.scope,
    )


def _remember(key: bytes, source: Endpoint, destination: Endpoint) -> tuple[Endpoint, Endpoint]:
    if len(_pairs) >= _PAIRS:
        _pairs.clear()
    half = (len(key) - 4) // 2
    back = _pairs.get(key[half:-4] + key[:half] + key[-2:] + key[-4:-2])  # the other way round: the same two values
    pair = _pairs[key] = (source, destination) if back is None else (back[1], back[0])
    return pair
