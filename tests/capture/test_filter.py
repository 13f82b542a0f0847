"""The port filter, run by the kernel on whatever frames we like: no privilege, no libpcap, our own idea of the truth.

A filter attached to a datagram socket sees the datagram as it would see a frame, so a socket pair is the laboratory.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterable

import pytest

from capture.sources.filter import MAX_PORTS, NOTHING, RAW, Program, attach, tcp_ports

MACS = b"\x02\0\0\0\0\x25\x02\0\0\0\0\x10"
TCP, UDP, ICMP6 = 6, 17, 58
HOP, ROUTING, FRAGMENT, AUTH, DESTINATION = 0, 43, 44, 51, 60


def kept(program: Program, frames: Iterable[bytes]) -> list[bool]:
    """What the kernel says of each frame."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        attach(receiver, program)
        receiver.setblocking(False)
        answers = []
        for frame in frames:
            sender.send(frame)
            try:
                answers.append(receiver.recv(70000) == frame)
            except BlockingIOError:
                answers.append(False)
        return answers


def one(program: Program, frame: bytes) -> bool:
    return kept(program, [frame])[0]


def tcp(source: int, destination: int) -> bytes:
    return struct.pack(">HHIIBBHHH", source, destination, 1, 1, 0x50, 0x10, 64240, 0, 0) + b"QUIT\r\n"


def ipv4(payload: bytes, protocol: int = TCP, offset: int = 0, options: int = 0) -> bytes:
    words = 5 + options
    return (
        struct.pack(">BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), 1, offset, 64, protocol, 0)
        + bytes(8 + 4 * options)
        + payload
    )


def ipv6(payload: bytes, following: int = TCP) -> bytes:
    return struct.pack(">IHBB", 0x60000000, len(payload), following, 64) + bytes(32) + payload


def extended(following: int, payload: bytes) -> bytes:
    """An IPv6 extension header of 8 octets."""
    return bytes([following, 0, 1, 4, 0, 0, 0, 0]) + payload


def ethernet(kind: int, payload: bytes, *tags: int) -> bytes:
    return MACS + b"".join(struct.pack(">HH", tag, 25) for tag in tags) + struct.pack(">H", kind) + payload


def pppoe(protocol: int, payload: bytes, *tags: int) -> bytes:
    return ethernet(0x8864, struct.pack(">BBHHH", 0x11, 0, 1, len(payload) + 2, protocol) + payload, *tags)


MAIL, WEB = tcp(40000, 25), tcp(40000, 443)
KEPT = {
    "to the port": ethernet(0x800, ipv4(MAIL)),
    "from the port": ethernet(0x800, ipv4(tcp(110, 40000))),
    "IPv4 options": ethernet(0x800, ipv4(MAIL, options=10)),
    "a first fragment": ethernet(0x800, ipv4(MAIL, offset=0x2000)),
    "a later fragment, whose ports are elsewhere": ethernet(0x800, ipv4(WEB, offset=185)),
    "IPv6": ethernet(0x86DD, ipv6(MAIL)),
    "IPv6 behind hop-by-hop options": ethernet(0x86DD, ipv6(extended(TCP, MAIL), HOP)),
    "IPv6 fragment": ethernet(0x86DD, ipv6(extended(TCP, MAIL), FRAGMENT)),
    "IPv6 behind two extension headers": ethernet(0x86DD, ipv6(extended(ROUTING, extended(TCP, MAIL)), DESTINATION)),
    "802.1Q": ethernet(0x800, ipv4(MAIL), 0x8100),
    "802.1Q, IPv6": ethernet(0x86DD, ipv6(MAIL), 0x8100),
    "QinQ": ethernet(0x800, ipv4(MAIL), 0x88A8, 0x8100),
    "QinQ of an old switch": ethernet(0x800, ipv4(MAIL), 0x9100, 0x8100),
    "three tags": ethernet(0x86DD, ipv6(MAIL), 0x88A8, 0x8100, 0x8100),
    "PPPoE": pppoe(0x21, ipv4(MAIL)),
    "PPPoE, IPv6, tagged": pppoe(0x57, ipv6(MAIL), 0x8100),
}
REFUSED = {
    "another port": ethernet(0x800, ipv4(WEB)),
    "another port behind a tag": ethernet(0x800, ipv4(WEB), 0x8100),
    "UDP": ethernet(0x800, ipv4(MAIL, protocol=UDP)),
    "UDP fragment": ethernet(0x800, ipv4(MAIL, protocol=UDP, offset=185)),
    "IPv6 UDP": ethernet(0x86DD, ipv6(MAIL, UDP)),
    "a multicast listener report": ethernet(0x86DD, ipv6(extended(ICMP6, bytes(24)), HOP)),
    "IPv6 UDP fragment": ethernet(0x86DD, ipv6(extended(UDP, MAIL), FRAGMENT)),
    "ARP": ethernet(0x806, bytes(28)),
    "PPPoE, another port": pppoe(0x21, ipv4(WEB)),
    "PPPoE, link control": pppoe(0xC021, bytes(40)),
    "LLC": ethernet(38, b"\x42\x42\x03" + bytes(35)),
    "cut in the Ethernet header": MACS,
    "cut in the IP header": ethernet(0x800, ipv4(MAIL)[:12]),
    "cut before the ports": ethernet(0x800, ipv4(b"")),
    "the port's number in the sequence number": ethernet(0x800, ipv4(struct.pack(">HHII", 1, 2, 25, 25) + bytes(10))),
}


@pytest.mark.parametrize("name", KEPT)
def test_it_keeps(name: str) -> None:
    assert one(tcp_ports({25, 110}), KEPT[name])


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses(name: str) -> None:
    assert not one(tcp_ports({25, 110}), REFUSED[name])


def test_arp_is_kept_when_asked_for() -> None:
    assert one(tcp_ports({25}, arp=True), REFUSED["ARP"])
    assert not one(tcp_ports({25}, arp=True), REFUSED["another port"])


def test_raw_ip_has_no_link_header_to_walk_over() -> None:
    program = tcp_ports({25}, RAW)
    frames = [ipv4(MAIL), ipv6(MAIL), ipv4(WEB), ipv6(WEB), ethernet(0x800, ipv4(MAIL)), b"\x45"]
    assert kept(program, frames) == [True, True, False, False, False, False]


def test_nothing_keeps_nothing() -> None:
    assert not any(kept(NOTHING, KEPT.values()))


@pytest.mark.parametrize("ports", [set(), set(range(1, MAX_PORTS + 2))], ids=["none", "too many"])
def test_a_number_of_ports_that_does_not_fit_is_refused(ports: set[int]) -> None:
    with pytest.raises(ValueError, match="ports"):
        tcp_ports(ports)


def test_a_link_type_without_a_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="link type 127"):
        tcp_ports({25}, 127)


def test_the_most_ports_that_fit_are_all_kept_and_no_other() -> None:
    ports = set(range(2000, 2000 + MAX_PORTS))
    frames = {port: ethernet(0x800, ipv4(tcp(1, port))) for port in range(1990, 2010 + MAX_PORTS)}
    answers = dict(zip(frames, kept(tcp_ports(ports), frames.values()), strict=True))
    assert {port for port, yes in answers.items() if yes} == ports


def test_a_random_crowd_of_frames_is_judged_as_the_rule_says() -> None:
    dice, ports = random.Random(821), {25, 110, 587}
    frames, truth = [], []
    for _ in range(3000):
        source, destination = (dice.choice((25, 26, 110, 443, 587, 40000)) for _ in range(2))
        protocol, later = dice.choice((TCP, TCP, UDP)), dice.choice((False, False, True))
        wanted = protocol == TCP and bool({source, destination} & ports)
        tags = [dice.choice((0x8100, 0x88A8, 0x9100)) for _ in range(dice.randrange(4))]
        if dice.random() < 0.5:
            packet = ipv4(tcp(source, destination), protocol, offset=100 if later else 0, options=dice.randrange(11))
            kind, wanted = 0x800, wanted or (later and protocol == TCP)
        elif later:
            following = dice.choice((HOP, ROUTING, FRAGMENT, AUTH, DESTINATION))
            packet = ipv6(extended(protocol, tcp(source, destination)), following)
            kind, wanted = 0x86DD, protocol == TCP
        else:
            packet, kind = ipv6(tcp(source, destination), protocol), 0x86DD
        frames.append(ethernet(kind, packet, *tags))
        truth.append(wanted)
    assert kept(tcp_ports(ports), frames) == truth
    assert 500 < sum(truth) < 2500
