"""Which frames a packet socket keeps: a classic BPF program for TCP ports, assembled here, run by the kernel.

Claim: no TCP segment of the wanted ports is refused, tagged or not, and nothing is asked of libpcap. It is wider than
``tcp port N`` on purpose, because that loses frames silently: fragments after the first (they have no ports), and
IPv6 packets whose TCP header stands behind extension headers, are kept, for the decoder to judge.

The kernel strips a frame's outer VLAN tag before the filter sees it, so a walk over the tags that are left in the
frame serves untagged, tagged and doubly tagged frames alike. Source: Linux ``Documentation/networking/filter.rst``;
RFC 791, RFC 8200 4, IEEE 802.1Q, RFC 2516.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

ETHERNET, RAW = 1, 101  # LINKTYPE_ numbers
MAX_PORTS = 100  # a conditional jump reaches 255 instructions; each port costs two

_SO_ATTACH_FILTER = getattr(socket, "SO_ATTACH_FILTER", 26)
_KEEP = 0x7FFFFFFF  # octets of a kept frame: all of them

_LOAD_HALF, _LOAD_HALF_X, _LOAD_BYTE, _LOAD_BYTE_X = 0x28, 0x48, 0x30, 0x50
_LOAD_X, _X_TO_A, _A_TO_X = 0x01, 0x87, 0x07
_ADD, _ADD_X, _AND, _SHIFT_LEFT = 0x04, 0x0C, 0x54, 0x64
_JUMP, _EQUAL, _SET, _RETURN = 0x05, 0x15, 0x45, 0x06

_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
_IPV4, _IPV6, _ARP, _PPPOE = 0x0800, 0x86DD, 0x0806, 0x8864
_PPP_IPV4, _PPP_IPV6 = 0x0021, 0x0057
_TCP, _EXTENSIONS = 6, (0, 43, 44, 51, 60)  # hop-by-hop, routing, fragment, authentication, destination


class Instruction(NamedTuple):
    """``struct sock_filter``: code, jump if true, jump if false, constant."""

    code: int
    true: int
    false: int
    k: int


Program = tuple[Instruction, ...]
NOTHING: Program = (Instruction(_RETURN, 0, 0, 0),)


class _Assembly:
    """Instructions with jumps to names; a jump to ``""`` goes on with the next one."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, str, str]] = []
        self._places: dict[str, int] = {}

    def op(self, code: int, k: int = 0, true: str = "", false: str = "") -> None:
        self._code.append((code, k, true, false))

    def any_of(self, values: Collection[int], true: str) -> None:
        for value in values:
            self.op(_EQUAL, value, true)

    def go(self, name: str) -> None:
        self.op(_JUMP, 0, name)

    def place(self, name: str) -> None:
        self._places[name] = len(self._code)

    def program(self) -> Program:
        return tuple(self._one(at, *instruction) for at, instruction in enumerate(self._code))

    def _one(self, at: int, code: int, k: int, true: str, false: str) -> Instruction:
        def distance(name: str) -> int:
            return self._places[name] - at - 1 if name else 0

        if code == _JUMP:
            return Instruction(code, 0, 0, distance(true))
        return Instruction(code, distance(true), distance(false), k)


def tcp_ports(ports: Collection[int], link: int = ETHERNET, arp: bool = False) -> Program:
    """Keeps TCP from or to any of ``ports`` over IPv4 and IPv6 (and ARP, if wanted). X holds the place in the frame.

    Link types: Ethernet, with any of 802.1Q, QinQ and PPPoE; raw IP. Raises ValueError for others and for more than
    `MAX_PORTS` ports.
    """
    if not 0 < len(ports) <= MAX_PORTS:
        raise ValueError(f"a filter takes 1 to {MAX_PORTS} ports, not {len(ports)}")
    a = _Assembly()
    if link == ETHERNET:
        _link_header(a, arp)
    elif link == RAW:
        a.op(_LOAD_X, 0)
        a.op(_LOAD_BYTE, 0)
        a.op(_AND, 0xF0)
        a.op(_EQUAL, 0x40, "ipv4")
        a.op(_EQUAL, 0x60, "ipv6", "refuse")
    else:
        raise ValueError(f"no filter is known for link type {link}")

    a.place("ipv4")
    a.op(_LOAD_BYTE_X, 9)
    a.op(_EQUAL, _TCP, "", "refuse")
    a.op(_LOAD_HALF_X, 6)
    a.op(_SET, 0x1FFF, "keep")  # a fragment after the first
    a.op(_LOAD_BYTE_X, 0)
    a.op(_AND, 0x0F)
    a.op(_SHIFT_LEFT, 2)
    a.op(_ADD_X)
    a.op(_A_TO_X)
    a.go("tcp")

    a.place("ipv6")
    a.op(_LOAD_BYTE_X, 6)
    a.any_of(_EXTENSIONS, "extension")
    a.op(_EQUAL, _TCP, "", "refuse")
    a.op(_X_TO_A)
    a.op(_ADD, 40)
    a.op(_A_TO_X)

    a.place("tcp")
    for at in (0, 2):
        a.op(_LOAD_HALF_X, at)
        a.any_of(ports, "keep")
    a.go("refuse")

    a.place("extension")  # what follows the first one: TCP or one more; multicast listener reports are ICMPv6
    a.op(_LOAD_BYTE_X, 40)
    a.any_of((_TCP, *_EXTENSIONS), "keep")

    a.place("refuse")
    a.op(_RETURN, 0)
    a.place("keep")
    a.op(_RETURN, _KEEP)
    return a.program()


def _link_header(a: _Assembly, arp: bool) -> None:
    """From the frame's first octet to "ipv4" or "ipv6" with X at the packet, over up to three tags and PPPoE."""
    for depth in range(4):
        a.op(_LOAD_X, 14 + 4 * depth)
        a.op(_LOAD_HALF, 12 + 4 * depth)
        if depth < 3:  # the fourth type is taken as it is: a fourth tag is refused with whatever else is unknown
            a.any_of(_TAGS, f"tag {depth}")
        a.go("type")
        a.place(f"tag {depth}")
    a.place("type")
    a.op(_EQUAL, _IPV4, "ipv4")
    a.op(_EQUAL, _IPV6, "ipv6")
    if arp:
        a.op(_EQUAL, _ARP, "keep")
    a.op(_EQUAL, _PPPOE, "", "refuse")
    a.op(_LOAD_HALF_X, 6)
    a.op(_EQUAL, _PPP_IPV6, "ppp ipv6")
    a.op(_EQUAL, _PPP_IPV4, "", "refuse")
    for name, then in (("", "ipv4"), ("ppp ipv6", "ipv6")):
        a.place(name)
        a.op(_X_TO_A)
        a.op(_ADD, 8)
        a.op(_A_TO_X)
        a.go(then)


def attach(receiver: socket.socket, program: Program) -> None:
    """Let the kernel run ``program`` on what ``receiver`` receives from now on. Raises OSError."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))
