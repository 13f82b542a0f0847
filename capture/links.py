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
_ERSPAN_2, _ERSPAN_3, _WCCP = 0x88BE, 0x22EB, 0x883E  # in GRE
# Tags of 4 octets and an EtherType that hold nothing for us: IEEE 802.1CB, IEC 62439-3 (HSR), Cisco's VN-Tag.
_TAGS = (0xF1C1, 0x892F, 0x8926)
_LLC = -1  # no EtherType says so: the length field of IEEE 802.3 does
_NIBBLE = -2  # the first nibble of what follows is the IP version
_LABELLED = -3  # what stands behind the last MPLS label

# LINKTYPE_ numbers of https://www.tcpdump.org/linktypes.html; 12 and 14 are what BSDs write for DLT_RAW.
ETHERNET, NULL, LOOP, SLL, SLL2, NFLOG = 1, 0, 108, 113, 276, 239
_RAW = (101, 12, 14, 228, 229)
# Links of PPP, and the octets in front: LINKTYPE_PPP, PPP_HDLC, PPP_PPPD, PPP_WITH_DIR. Address and control may follow.
_PPP_LINKS = {9: 0, 50: 0, 166: 0, 204: 1}
# Links whose header has one length: (that length, what follows; at which place its EtherType stands).
_FIXED = {
    6: (14, _LLC),  # IEEE 802.5; see `_ring`
    8: (16, _NIBBLE),  # SLIP
    10: (13, _LLC),  # FDDI
    100: (0, _LLC),  # ATM, RFC 2684
    109: (12, _NIBBLE),  # OpenBSD's ENC
    122: (16, _LLC),  # IP over Fibre Channel
    219: (0, _MPLS[0]),
    240: (4, _BRIDGED),  # NetAnalyzer
    241: (12, _BRIDGED),  # the same with the preamble
    274: (8, _BRIDGED),  # the preamble of IEEE 802.3br
}
_TYPED = {104: (2, 4), 138: (16, 18)}  # Cisco HDLC, IP over IEEE 1394: where the EtherType stands, and what follows
_FRAME_RELAY, _PFLOG, _PKTAP, _PPI = 107, 117, (258, 149), 192
_WIRELESS, _RADIOTAP, _PRISM, _AVS = 105, 127, 119, 163
# 51: PPPoE without Ethernet; 252: upper PDUs, which have no packet and which `capture.exported` reads.
KNOWN_LINKS = frozenset(
    {ETHERNET, NULL, LOOP, SLL, SLL2, NFLOG, 51, 252, *_RAW, *_PPP_LINKS, *_FIXED, *_TYPED}
    | {_FRAME_RELAY, _PFLOG, *_PKTAP, _PPI, _WIRELESS, _RADIOTAP, _PRISM, _AVS}
)

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
        return _walk(data, _first(data, link))
    except (dpkt.UnpackError, struct.error, IndexError):
        return None  # a header cut short


def _walk(data: bytes, step: _Step | None) -> Packet | None:
    """From header to header until the network layer is there."""
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
    return None


def tunnelled(data: bytes, protocol: int, at: int) -> Packet | None:
    """The packet that an IP packet carries as its user data: IP in IP (4), IPv6 in IP (41), GRE (47), EtherIP (97),
    MPLS (137); in UDP (17) at their ports GTP-U, VXLAN, VXLAN-GPE, Geneve, MPLS, and Teredo."""
    if protocol in (4, 41):
        return Packet(at, 4 if protocol == 4 else 6, ())
    try:
        if protocol == 47:
            return _walk(data, _gre(data, at))
        if protocol == 97:  # RFC 3378
            return _walk(data, _ethernet(data, at + 2) if data[at] >> 4 == 3 else None)
        if protocol == 137:  # RFC 4023
            return _walk(data, _Step(_MPLS[0], at))
        if protocol == 17:
            port = struct.unpack_from(">H", data, at + 2)[0]
            return _walk(data, _UDP[port](data, at + 8)) if port in _UDP else None
    except (dpkt.UnpackError, struct.error, IndexError):
        pass  # a header cut short
    return None


def _gre(data: bytes, at: int) -> _Step | None:
    flags, kind = struct.unpack_from(">HH", data, at)
    if flags & 7 > 1:
        return None
    # RFC 2784, 2890: checksum, key and sequence number are there by flag, 4 octets each; RFC 2637: so is, in version
    # 1, the acknowledgement number.
    length = 4 + 4 * bool(flags & 0xC000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
    if flags & 7 == 1:
        return _hdlc(data, at + length + 4 * bool(flags & 0x0080)) if kind == _PPP else None
    if kind == _ERSPAN_2:
        return _Step(_BRIDGED, at + length + (8 if flags & 0x1000 else 0))  # type I has no header of its own
    if kind == _ERSPAN_3:
        return _Step(_BRIDGED, at + length + (20 if data[at + length + 11] & 1 else 12))
    if kind == _WCCP:
        return _Step(_NIBBLE, at + length + (0 if data[at + length] >> 4 == 4 else 4))
    return _Step(kind, at + length)


def _vxlan(data: bytes, at: int) -> _Step | None:
    return _Step(_BRIDGED, at + 8) if data[at] == 0x08 else None  # RFC 7348 5


def _vxlan_gpe(data: bytes, at: int) -> _Step | None:
    kind = {1: IPV4, 2: IPV6, 3: _BRIDGED}.get(data[at + 3]) if data[at] & 0x0C == 0x0C else None
    return None if kind is None else _Step(kind, at + 8)


def _geneve(data: bytes, at: int) -> _Step | None:
    """RFC 8926 3.4: options in fours."""
    (kind,) = struct.unpack_from(">H", data, at + 2)
    return _Step(kind, at + 8 + ((data[at] & 0x3F) << 2)) if data[at] >> 6 == 0 else None


def _gtp(data: bytes, at: int) -> _Step | None:
    """3GPP TS 29.281 5.1: a G-PDU of version 1, with extension headers in fours."""
    if data[at] >> 4 != 3 or data[at + 1] != 255:
        return None
    if not data[at] & 7:
        return _Step(_NIBBLE, at + 8)
    kind, at = data[at + 11] if data[at] & 4 else 0, at + 12
    for _ in range(DEPTH):
        if not kind:
            return _Step(_NIBBLE, at)
        if not data[at]:
            return None
        at += data[at] << 2
        kind = data[at - 1]
    return None


def _teredo(data: bytes, at: int) -> _Step | None:
    """RFC 4380 5.1.1: an authentication and an origin indication may stand in front."""
    if data[at : at + 2] == b"\0\1":
        at += 13 + data[at + 2] + data[at + 3]
    if data[at : at + 2] == b"\0\0":
        at += 8
    return _Step(IPV6, at) if data[at] >> 4 == 6 else None


def _mpls_in_udp(data: bytes, at: int) -> _Step | None:
    return _Step(_MPLS[0], at) if len(data) > at else None  # RFC 7510


_UDP: dict[int, Callable[[bytes, int], _Step | None]] = {
    2152: _gtp,
    3544: _teredo,
    4789: _vxlan,
    4790: _vxlan_gpe,
    6081: _geneve,
    6635: _mpls_in_udp,
    8472: _vxlan,  # what Linux took before there was a number
}


def _first(data: bytes, link: int) -> _Step | None:
    if link == ETHERNET:
        return _ethernet(data, 0)
    if link in _FIXED:
        length, kind = _FIXED[link]
        return _Step(kind, _ring(data) if link == 6 else length)
    if link in _TYPED:
        place, length = _TYPED[link]
        return _Step(struct.unpack_from(">H", data, place)[0], length)
    if link in (NULL, LOOP):
        return _Step(_NIBBLE, 4)  # the family's number and byte order differ by system; the version nibble does not
    if link in _RAW:
        return _Step(_NIBBLE, 0)
    if link == SLL:
        kind = sll.SLL(data[:16]).ethtype
        return _Step(_LLC if kind == 4 else kind, 16)  # 4: ETH_P_802_2
    if link == SLL2:
        kind = sll2.SLL2(data[:20]).ethtype
        return _Step(_LLC if kind == 4 else kind, 20)
    if link == NFLOG:
        return _nflog(data)
    if link in _PPP_LINKS:
        return _hdlc(data, _PPP_LINKS[link])
    if link == 51:  # LINKTYPE_PPP_ETHER
        return _pppoe(data, 0)
    return _odd(data, link)


def _odd(data: bytes, link: int) -> _Step | None:
    """Links whose header tells its own length."""
    if link == _PFLOG:
        return _Step(_NIBBLE, data[0] + 3 & ~3)
    if link == _FRAME_RELAY:
        at = next((n + 1 for n in range(4) if data[n] & 1), 0)  # Q.922: the last octet of the address is odd
        if not at:
            return None
        at += 2 if data[at + 1] == 0 else 1  # RFC 2427: control, and a pad perhaps
        kind = {0xCC: IPV4, 0x8E: IPV6}.get(data[at])
        if kind is None and data[at : at + 4] == b"\x80\0\0\0":
            return _Step(struct.unpack_from(">H", data, at + 4)[0], at + 6)
        return None if kind is None else _Step(kind, at + 1)
    if link in (*_PKTAP, _PPI):
        # The length of what stands in front, and the link type of what follows; little-endian both.
        length, inner = struct.unpack_from("<I4xI" if link in _PKTAP else "<2xHI", data)
        if inner in (*_PKTAP, _PPI) or length < 8:
            return None
        step = _first(data[length:], inner)
        return None if step is None else step._replace(at=step.at + length)
    if link == _RADIOTAP:
        return _wireless(data, struct.unpack_from("<H", data, 2)[0], _padded(data))
    if link in (_PRISM, _AVS):
        size = 144 if link == _PRISM and data[:1] == b"\x44" else struct.unpack_from(">I", data, 4)[0]
        return _wireless(data, size)
    return _wireless(data, 0) if link == _WIRELESS else None


def _ethernet(data: bytes, at: int) -> _Step:
    (kind,) = struct.unpack_from(">H", data, at + 12)
    return _Step(_LLC if kind <= 1500 else kind, at + 14)


def _tag(data: bytes, at: int) -> _Step:
    tci, kind = struct.unpack_from(">HH", data, at)
    number = tci & 0x0FFF  # IEEE 802.1Q 9.6: 0 names no VLAN; hosts tag so for the priority, and are answered without
    return _Step(_LLC if kind <= 1500 else kind, at + 4, (number,) if number else ())


def _backbone(data: bytes, at: int) -> _Step:
    """IEEE 802.1ah: a 4-octet service tag, then the customer's frame."""
    (service,) = struct.unpack_from(">I", data, at)
    inner = _ethernet(data, at + 4)
    return inner._replace(scope=(service & 0x00FFFFFF,))


def _empty_tag(data: bytes, at: int) -> _Step:
    return _Step(struct.unpack_from(">H", data, at + 4)[0], at + 6)


def _ring(data: bytes) -> int:
    """The length of a token ring header, with the route that the source may give (IEEE 802.5)."""
    return 14 + (data[14] & 0x1F if data[8] & 0x80 else 0)


def _mpls(data: bytes, at: int) -> _Step:
    label = ethernet.MPLSlabel(data[at : at + 4])
    return _Step(_LABELLED if label.s else _MPLS[0], at + 4)


def _labelled(data: bytes, at: int) -> _Step:
    """RFC 4928 3: 4 and 6 are IP; RFC 4385: 0 is the control word of a pseudowire, mostly Ethernet's."""
    return _ethernet(data, at + 4) if data[at] >> 4 == 0 else _Step(_NIBBLE, at)


def _padded(data: bytes) -> bool:
    """Whether a radiotap header says that the 802.11 header is padded to fours (flags, bit 5)."""
    present, at = struct.unpack_from("<I", data, 4)[0], 8
    word = present
    while word & 0x80000000:
        (word,) = struct.unpack_from("<I", data, at)
        at += 4
    if not present & 2:
        return False
    return bool(data[(at + 7 & ~7) + 8 if present & 1 else at] & 0x20)  # the time in front of it is aligned to eights


def _wireless(data: bytes, at: int, padded: bool = False) -> _Step | None:
    """A data frame of IEEE 802.11 that is not encrypted, of one MSDU."""
    kind, flags = data[at], data[at + 1]
    if kind & 0x4C != 0x08 or flags & 0x40:
        return None  # management, control, no data in it; or encrypted
    length = 30 if flags & 3 == 3 else 24  # from one access point to another: four addresses
    if kind & 0x80:  # quality of service
        if data[at + length] & 0x80:
            return None  # several MSDUs
        length += 6 if flags & 0x80 else 2
    return _Step(_LLC, at + (length + 3 & ~3 if padded else length))


def _pppoe(data: bytes, at: int) -> _Step | None:
    header = pppoe.PPPoE(data[at : at + 6])
    return _ppp(data, at + 6) if header.code == pppoe.PPPoE_SESSION else None


def _ppp(data: bytes, at: int) -> _Step | None:
    header = pppoe.PPP(data[at : at + 2])  # the form without address and control
    kind = {ppp.PPP_IP: IPV4, ppp.PPP_IP6: IPV6, 0x0281: _MPLS[0]}.get(header.p)
    return None if kind is None else _Step(kind, at + (1 if data[at] & 1 else 2))


def _hdlc(data: bytes, at: int) -> _Step | None:
    """PPP with address and control in front, or without them (RFC 1662 3.1)."""
    return _ppp(data, at + 2 if data[at : at + 2] == b"\xff\x03" else at)


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
    if data[at : at + 4] in (b"\xfe\xfe\x03\xcc", b"\xfe\xfe\x03\x8e"):  # RFC 2684 4.1: NLPID
        return _Step(IPV4 if data[at + 3] == 0xCC else IPV6, at + 4)
    if data[at : at + 6] == b"\xaa\xaa\x03\x00\x80\xc2" and data[at + 7] in (1, 7):  # RFC 2684 5.2: bridged Ethernet
        return _Step(_BRIDGED, at + 10)
    if not header.is_snap:
        return _Step(IPV4, at + 3) if header.dsap == header.ssap == 0x06 else None
    return _Step(header.type, at + 8) if header.oui in (0, 0x0000F8) else None


_NEXT: dict[int, Callable[[bytes, int], _Step | None]] = {
    **dict.fromkeys(VLANS, _tag),
    **dict.fromkeys(_TAGS, _empty_tag),
    **dict.fromkeys(_MPLS, _mpls),
    _LABELLED: _labelled,
    _PPPOE: _pppoe,
    _PPP: _ppp,
    _LLC: _llc,
    _BRIDGED: _ethernet,
    _PROVIDER_BACKBONE: _backbone,
}
