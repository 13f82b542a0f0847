"""The IP packet in a frame: where its header and its user data stand, and what the user data is.

Claim: the end of user data is said by IP (Total Length, RFC 791; Payload Length, RFC 8200), not by the frame: Ethernet
pads to 60 octets. A length of 0 is what a host writes that leaves segmenting to its network card (TSO, BIG TCP): then
the packet ends with the frame. Extension headers are IP's (RFC 8200 4), tunnels are followed to the innermost packet.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from capture.links import packet, tunnelled
from capture.model import Frame

_FRAGMENT = 44
_LENGTH_IN_EIGHTS = frozenset({0, 43, 60, 135, 139, 140})  # RFC 8200 4.3-4.6; mobility, HIP, shim6 alike
_AUTHENTICATION = 51  # RFC 4302 2.2: length in fours, minus 2
_TUNNELS = frozenset({4, 17, 41, 47, 97, 137})
# What TCP may stand in. (A tunnel in UDP may be in fragments too, but so is much else that is UDP.)
TCP_CARRIERS = _TUNNELS - {17} | _LENGTH_IN_EIGHTS | {6, _AUTHENTICATION}
_NESTING = 4  # tunnels in tunnels


class Carrier(NamedTuple):
    """An IP packet's place in a frame: header ``[start, body)``, user data ``[body, end)`` of the *wire's* octets.

    protocol: what the user data is; fragment: it is a part of a datagram; more: and not the last one; piece: where
    it belongs in the datagram's user data; ident: what fragments of one datagram share.
    """

    start: int
    body: int
    end: int
    version: int
    protocol: int
    scope: tuple[int, ...]
    fragment: bool = False
    more: bool = False
    piece: int = 0
    ident: bytes = b""


def carry(frame: Frame) -> Carrier | None:
    """The IP packet of the frame, the innermost where there are tunnels; None when there is none."""
    found = packet(frame.data, frame.link)
    scope: tuple[int, ...] = () if found is None else found.scope
    for _ in range(_NESTING):
        if found is None:
            return None
        made = (_ipv4 if found.version == 4 else _ipv6)(frame, found.at, scope)
        if made is None or made.fragment or made.protocol not in _TUNNELS:
            return made
        inner = tunnelled(frame.data, made.protocol, made.body)
        if inner is None:
            return made
        found = inner
    return None


def _ipv4(frame: Frame, at: int, scope: tuple[int, ...]) -> Carrier | None:
    data = frame.data
    if len(data) < at + 20 or data[at] >> 4 != 4:
        return None
    length = (data[at] & 15) << 2
    total, identification, fragment = struct.unpack_from(">HHH", data, at + 2)
    wire = max(frame.length, len(data))
    end = at + total if total else wire
    if length < 20 or end < at + length:
        return None
    part = bool(fragment & 0x3FFF)
    protocol = data[at + 9]
    ident = data[at + 12 : at + 20] + struct.pack(">HB", identification, protocol) if part else b""
    more, piece = bool(fragment & 0x2000), (fragment & 0x1FFF) << 3
    while protocol == _AUTHENTICATION and not part and at + length + 8 <= min(end, len(data)):
        protocol, length = data[at + length], length + 8 + (data[at + length + 1] << 2)
    if at + length > end:
        return None
    return Carrier(at, at + length, min(end, wire), 4, protocol, scope, part, more, piece, ident)


def _ipv6(frame: Frame, at: int, scope: tuple[int, ...]) -> Carrier | None:
    data = frame.data
    if len(data) < at + 40 or data[at] >> 4 != 6:
        return None
    (length,) = struct.unpack_from(">H", data, at + 4)
    wire = max(frame.length, len(data))
    end = min(at + 40 + length, wire) if length else wire
    kind, body = data[at + 6], at + 40
    fragment, more, piece, ident = False, False, 0, b""
    while body + 8 <= len(data) and body < end:
        if kind in _LENGTH_IN_EIGHTS:
            kind, body = data[body], body + 8 + (data[body + 1] << 3)
        elif kind == _AUTHENTICATION:
            kind, body = data[body], body + 8 + (data[body + 1] << 2)
        elif kind == _FRAGMENT:
            (field,) = struct.unpack_from(">H", data, body + 2)
            ident = data[at + 8 : at + 40] + data[body + 4 : body + 8]
            kind, body = data[body], body + 8
            more, piece = bool(field & 1), field & 0xFFF8
            fragment = more or piece > 0  # else an atomic fragment: a whole packet (RFC 6946)
            if fragment:
                break  # what follows is the datagram's, headers among it (RFC 8200 4.5)
        else:
            break
    if body > end:
        return None
    return Carrier(at, body, end, 6, kind, scope, fragment, more, piece, ident)
