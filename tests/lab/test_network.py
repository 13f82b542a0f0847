"""The private wire carries what a cable would: seen by a packet socket on it, not by what was configured."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from lab.laboratory import Lab
from lab.plan import HOSTS, MAILHOST, SHANNON, YOUR_PC

pytestmark = [pytest.mark.lab, pytest.mark.skipif(sys.platform != "linux", reason="the lab needs Linux")]

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
FIN, SYN = 0x01, 0x02
DEADLINE = 10.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(servers=False) as lab:
        yield lab


class Wiretap:
    """Our own raw reading of eth0 on a host: every frame of both directions."""

    def __init__(self, lab: Lab, host: str = "your-pc") -> None:
        self._socket = lab.packet_socket(host)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("eth0", 3))  # ETH_P_ALL
        self._socket.settimeout(DEADLINE)

    def __enter__(self) -> Wiretap:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until_closed(self) -> list[bytes]:
        """Frames up to the second FIN of the conversation."""
        frames: list[bytes] = []
        fins = 0
        while fins < 2:
            frames.append(self._socket.recv(1 << 16))
            fins += _flags(frames[-1]) & FIN
        return frames


def _kind(frame: bytes) -> int:
    return int.from_bytes(frame[12:14])


def _tcp(frame: bytes) -> tuple[bytes, bytes]:
    """The pseudo header (RFC 9293 3.1) and the segment; empty for other frames."""
    if _kind(frame) == IPV4 and frame[23] == 6:
        start, length = 14 + (frame[14] & 15) * 4, int.from_bytes(frame[16:18])
        segment = frame[start : 14 + length]
        return frame[26:34] + struct.pack(">HH", 6, len(segment)), segment
    if _kind(frame) == IPV6 and frame[20] == 6:
        segment = frame[54 : 54 + int.from_bytes(frame[18:20])]
        return frame[22:54] + struct.pack(">LL", len(segment), 6), segment
    return b"", b""


def _flags(frame: bytes) -> int:
    return segment[13] if (segment := _tcp(frame)[1]) else 0


def _sums_up(frame: bytes) -> bool:
    """Whether the TCP checksum is right: with it the ones' complement sum is all ones (RFC 1071)."""
    octets = b"".join(_tcp(frame))
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def carry(lab: Lab, octets: int, family: int = socket.AF_INET) -> None:
    """shannon sends ``octets`` to your-pc over TCP; both close."""
    address = SHANNON.ipv6 if family == socket.AF_INET6 else SHANNON.ipv4
    with lab.socket("shannon", family) as listening, lab.socket("your-pc", family) as caller:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, 25))
        listening.listen()

        def send() -> None:
            with listening.accept()[0] as accepted:
                accepted.sendall(bytes(octets))

        sender = threading.Thread(target=send)
        sender.start()
        caller.settimeout(DEADLINE)
        caller.connect((address, 25))
        got = 0
        while octets_now := caller.recv(1 << 16):
            got += len(octets_now)
        caller.close()
        sender.join()
        assert got == octets


def test_no_frame_exceeds_the_wire_and_every_checksum_is_right_at_both_ends(lab: Lab) -> None:
    with Wiretap(lab, "your-pc") as near, Wiretap(lab, "shannon") as far:
        carry(lab, 1_000_000)
        for frames in (near.until_closed(), far.until_closed()):
            assert max(map(len, frames)) == 1514
            assert [frame for frame in frames if _tcp(frame)[1] and not _sums_up(frame)] == []


def test_a_new_wire_begins_with_arp_and_carries_nothing_that_the_hosts_did_not_say() -> None:
    with Lab(servers=False) as lab, Wiretap(lab) as tap:
        carry(lab, 10)
        frames = tap.until_closed()
    assert [_kind(frame) for frame in frames[:2]] == [ARP, ARP]
    assert frames[0][:12].hex(":") == f"ff:ff:ff:ff:ff:ff:{YOUR_PC.mac}"
    assert frames[1][:12].hex(":") == f"{YOUR_PC.mac}:{SHANNON.mac}"
    assert {_kind(frame) for frame in frames} == {ARP, IPV4}
    assert sum(_flags(frame) == SYN for frame in frames) == 1, "the first SYN was lost"


def test_each_host_has_its_own_mac_and_address_and_reaches_the_others(lab: Lab) -> None:
    for host in HOSTS.values():
        with lab.socket(host.name, socket.AF_INET, socket.SOCK_DGRAM) as asks:
            for other in set(HOSTS.values()) - {host}:
                with lab.socket(other.name, socket.AF_INET, socket.SOCK_DGRAM) as hears:
                    hears.bind((other.ipv4, 53))
                    hears.settimeout(DEADLINE)
                    asks.sendto(b"?", (other.ipv4, 53))
                    assert hears.recvfrom(10)[1][0] == host.ipv4
        devices = lab.run(host.name, ["cat", "/proc/net/dev"]).output.decode().splitlines()[2:]
        assert {line.split(":")[0].strip() for line in devices} == {"lo", "eth0"}


def test_low_ports_are_anybodys(lab: Lab) -> None:
    with lab.socket("mailhost") as smtp, lab.socket("mailhost") as pop3:
        smtp.bind((MAILHOST.ipv4, 25))
        pop3.bind((MAILHOST.ipv4, 110))


def test_by_default_a_host_has_no_ipv6_address(lab: Lab) -> None:
    with (
        lab.socket("your-pc", socket.AF_INET6) as caller,
        pytest.raises(OSError, match=r"assign requested|unreachable"),
    ):
        caller.connect((SHANNON.ipv6, 25))


def test_with_ipv6_the_addresses_work_at_once_over_frames_of_the_same_size() -> None:
    with Lab(servers=False, ipv6=True) as lab, Wiretap(lab) as tap:
        started = time.monotonic()
        carry(lab, 100_000, socket.AF_INET6)
        assert time.monotonic() - started < 0.9, "an address was not usable at once"
        frames = [frame for frame in tap.until_closed() if _tcp(frame)[1]]
        assert max(map(len, frames)) == 1514
        assert all(map(_sums_up, frames))
        assert {_kind(frame) for frame in frames} == {IPV6}


def test_the_machines_own_network_is_out_of_reach(lab: Lab) -> None:
    outside = socket.create_server(("127.0.0.1", 0))
    with outside, lab.socket("your-pc") as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(outside.getsockname())
