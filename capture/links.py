"""The rarer ways a frame carries an IP packet: where it begins, told one header at a time.

Claim: each encapsulation is one step ``(data, at) -> (what comes next, where)``; `dpkt` reads the header, this table
says what follows it. A header that is cut or that nobody knows ends the walk with ``None``: no packet, no exception.

Ethernet with 802.1Q tags is here too (by struct: it is what nearly every capture holds), so that one walk serves all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import dpkt
from dpkt import ethernet, llc, ppp, pppoe, sll, sll2

IPV4, IPV6, VLANS = 0x0800, 0x86DD, (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
_MPLS = (0x8847, 0x8848)
_PPPOE, _PPP, _BRIDGED, _PROVIDER_BACKBONE = 0x8864, 0x880B, 0x6558, 0x88E7
_LLC = -1  # no EtherType says so: the length field of IEEE 802.3 does
_NIBBLE = -2  # the first nibble of what follows is the IP version

# LINKTYPE_ numbers of https://www.tcpdump.org/linktypes.html; 12 and 14 are what BSDs write for DLT_RAW.
ETHERNET, NULL, LOOP, SLL, SLL2, NFLOG = 1, 0, 108, 113, 276, 239
_RAW = (101, 12, 14, 228, 229)
_PPP_LINKS = {9: 2, 50: 2}  # LINKTYPE_PPP, PPP_HDLC: address and control may stand in front of the protocol
# 51: PPPoE without Ethernet; 252: upper PDUs, which have no packet and which `capture.exported` reads.
KNOWN_LINKS = frozenset({ETHERNET, NULL, LOOP, SLL, SLL2, NFLOG, 51, 252, *_RAW, *_PPP_LINKS})

DEPTH = 16  # headers in front of one packet; MPLS stacks and tag stacks in the wild stay far below


class Packet(NamedTuple):
    """Where the network layer begins in the frame's data, which version it has, and the VLAN numbers on the way."""

    at: int
    version: int
    scope: tuple[int, ...]


class _Step(NamedTuple):
    kind: int
    at: int
    scope: tuple[int, ...] = ()


def packet(data: bytes, link: int) -> Packet | None:
    """The network-layer packet in a frame of this LINKTYPE_, or None when it holds none or its headers are cut."""
    try:
        step = _first(data, link)
        scope: tuple[int, ...] = ()
        for _ in range(DEPTH):
            if step is None:
                return None
            scope += step.scope
            kind, at = step.kind, step.at
            if kind == _NIBBLE:
                kind = {4: IPV4, 6: IPV6}.get(data[at] >> 4, 0)
            if kind in (IPV4, IPV6):
                return Packet(at, 4 if kind == IPV4 else 6, scope)
            step = _NEXT[kind](data, at) if kind in _NEXT else None
    except (dpkt.UnpackError, struct.error, IndexError):
        return None  # a header cut short
    return None


def tunnelled(data: bytes, protocol: int, at: int) -> Packet | None:
    """The packet that an IP packet carries as its user data: IP in IP (4), IPv6 in IP (41), GRE (47)."""
    if protocol in (4, 41):
        return Packet(at, 4 if protocol == 4 else 6, ())
    try:
        flags, kind = struct.unpack_from(">HH", data, at)
    except struct.error:
        return None
    # RFC 2784, 2890: checksum, key and sequence number are there by flag, 4 octets each.
    length = 4 + 4 * bool(flags & 0xC000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
    if flags & 7 or kind not in (IPV4, IPV6):
        return None  # version 1 is PPTP's; other user data is no IP packet
    return Packet(at + length, 4 if kind == IPV4 else 6, ())


def _first(data: bytes, link: int) -> _Step | None:
    if link == ETHERNET:
        return _ethernet(data, 0)
    if link in (NULL, LOOP):
        return _Step(_NIBBLE, 4)  # the family's number and byte order differ by system; the version nibble does not
    if link in _RAW:
        return _Step(_NIBBLE, 0)
    if link == SLL:
        return _Step(sll.SLL(data[:16]).ethtype, 16)
    if link == SLL2:
        return _Step(sll2.SLL2(data[:20]).ethtype, 20)
    if link == NFLOG:
        return _nflog(data)
    if link in _PPP_LINKS:
        return _ppp(data, 2 if data[:2] == b"\xff\x03" else 0)
    if link == 51:  # LINKTYPE_PPP_ETHER
        return _pppoe(data, 0)
    return None


def _ethernet(data: bytes, at: int) -> _Step:
    (kind,) = struct.unpack_from(">H", data, at + 12)
    return _Step(_LLC if kind <= 1500 else kind, at + 14)


def _tag(data: bytes, at: int) -> _Step:
    tci, kind = struct.unpack_from(">HH", data, at)
    return _Step(_LLC if kind <= 1500 else kind, at + 4, (tci & 0x0FFF,))


def _backbone(data: bytes, at: int) -> _Step:
    """IEEE 802.1ah: a 4-octet service tag, then the customer's frame."""
    (service,) = struct.unpack_from(">I", data, at)
    inner = _ethernet(data, at + 4)
    return inner._replace(scope=(service & 0x00FFFFFF,))


def _mpls(data: bytes, at: int) -> _Step:
    label = ethernet.MPLSlabel(data[at : at + 4])
    return _Step(_NIBBLE if label.s else _MPLS[0], at + 4)


def _pppoe(data: bytes, at: int) -> _Step | None:
    header = pppoe.PPPoE(data[at : at + 6])
    return _ppp(data, at + 6) if header.code == pppoe.PPPoE_SESSION else None


def _ppp(data: bytes, at: int) -> _Step | None:
    header = pppoe.PPP(data[at : at + 2])  # the form without address and control
    kind = {ppp.PPP_IP: IPV4, ppp.PPP_IP6: IPV6}.get(header.p)
    return None if kind is None else _Step(kind, at + (1 if data[at] & 1 else 2))


def _nflog(data: bytes) -> _Step | None:
    """LINKTYPE_NFLOG: a 4-octet header, then attributes (length, type, value, padded to 4) in the host's byte order."""
    at = 4
    order = "<" if data[at] and not data[at + 1] else ">"  # the first attribute is short
    while True:
        length, kind = struct.unpack_from(order + "HH", data, at)
        if kind & 0x7FFF == 9:  # NFULA_PAYLOAD
            return _Step(_NIBBLE, at + 4)
        if length < 4:
            return None
        at += (length + 3) & ~3


def _llc(data: bytes, at: int) -> _Step | None:
    header = llc.LLC(data[at : at + 8])
    if not header.is_snap:
        return _Step(IPV4, at + 3) if header.dsap == header.ssap == 0x06 else None
    return _Step(header.type, at + 8) if header.oui in (0, 0x0000F8) else None


_NEXT: dict[int, Callable[[bytes, int], _Step | None]] = {
    **dict.fromkeys(VLANS, _tag),
    **dict.fromkeys(_MPLS, _mpls),
    _PPPOE: _pppoe,
    _PPP: _ppp,
    _LLC: _llc,
    _BRIDGED: _ethernet,
    _PROVIDER_BACKBONE: _backbone,
}
