"""A packet ring (TPACKET_V3) in pure Python: frames with the kernel's own time stamps, and its count of losses.

Claim: every frame that the kernel accepted since `Ring` was made comes out of `read` once, whole, in order, or is in
`Statistics.lost`. No libpcap; the ring is not bounded by net.core.rmem_max and works in an unprivileged user namespace.
Source: Linux ``Documentation/networking/packet_mmap.rst`` and ``include/uapi/linux/if_packet.h``.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from capture.errors import SniffError
from capture.model import Frame
from capture.sources.filter import ETHERNET, NOTHING, RAW, Program, attach

SIZE = 64 << 20  # octets: 256 blocks, so a reader that is held up for a second loses nothing even at a trickle
BLOCK = 256 << 10  # holds the largest frame of BIG TCP that has been seen (184 kB); a longer one is cut, never lost
RETIRE_MS = 5  # a block is handed over after this time even if not full: what a person sees as "at once"

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _IGNORE_OUTGOING = 1, 5, 6, 10, 23
_V3, _PROMISCUOUS, _FRAME_ROOM = 2, 1, 2048
_ETH_P_ALL = 3
_SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8927, 0x8933
_LINKS = {
    1: ETHERNET,
    772: ETHERNET,
    65534: RAW,
}  # ARPHRD_ETHER, _LOOPBACK (framed as Ethernet), _NONE (tun, wireguard)
_LOOPBACK = 772
_USER, _TAGGED, _TAG_TYPE_GIVEN = 0x01, 0x10, 0x40  # of tp_status

_status = struct.Struct("I").unpack_from
_block = struct.Struct("II").unpack_from  # num_pkts, offset_to_first_pkt
_header = struct.Struct("6IH").unpack_from  # next, sec, nsec, snaplen, len, status, mac of struct tpacket3_hdr
_tag = struct.Struct("IH").unpack_from  # vlan_tci, vlan_tpid, 32 octets in


class Statistics(NamedTuple):
    """Since the start. frames: accepted by the kernel for us; lost: for want of room in the ring."""

    frames: int = 0
    lost: int = 0


class Ring:
    """Frames of one interface, from a packet socket of our own or one made elsewhere (``sock``), which it takes over.

    A socket given must be AF_PACKET, SOCK_RAW, protocol 0; it may belong to another network namespace, where
    ``interface`` is then looked up. ``program`` is asked for the filter once the link type is known; None keeps all.
    Raises `SniffError`: no such interface, no permission, link down, a link type that is not understood.
    """

    def __init__(
        self,
        interface: str,
        sock: socket.socket | None = None,
        program: Callable[[int], Program] | None = None,
        size: int = SIZE,
        block: int = BLOCK,
        retire_ms: int = RETIRE_MS,
        promiscuous: bool = True,
    ) -> None:
        self.interface = interface
        self._sock = sock if sock is not None else _packet_socket(interface)
        self._wake = -1
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()
        self._accepted = self._lost = 0
        self.taken = 0  # frames that `read` has given
        self._block, self._next = block, 0
        try:
            self._open(program, size, retire_ms, promiscuous)
        except BaseException:
            self.close()
            raise

    def _open(self, program: Callable[[int], Program] | None, size: int, retire_ms: int, promiscuous: bool) -> None:
        index, hardware = self._look_up()
        if hardware not in _LINKS:
            raise SniffError(f"{self.interface} is of hardware type {hardware}, whose frames are not understood.")
        self.link = _LINKS[hardware]
        try:
            # The order matters: nothing may come in before the filter is in place, and nothing does before the binding.
            if program is not None:
                attach(self._sock, program(self.link))
            if hardware == _LOOPBACK:  # else every frame is seen twice, going out and coming in
                self._sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
            self._sock.setsockopt(_SOL_PACKET, _VERSION, _V3)
            self._map_ring(max(2, size // self._block), retire_ms)
            self._count()
            self._accepted = self._lost = 0
            self._sock.bind((self.interface, _ETH_P_ALL))
            if promiscuous and hardware != _LOOPBACK:
                self._sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8s", index, _PROMISCUOUS, 0, b""))
        except OSError as error:
            raise SniffError(f"{self.interface} cannot be listened to: {error.strerror or error}.") from error
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENETDOWN:
            raise SniffError(f"{self.interface} is down.", f"ip link set {self.interface} up")
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN | select.POLLERR)
        self._poll.register(self._wake, select.POLLIN)

    def _look_up(self) -> tuple[int, int]:
        """The interface's index and hardware type, in the network namespace of the socket."""
        from fcntl import ioctl

        name = self.interface.encode()
        if not 0 < len(name) < 16:
            raise SniffError(f"{self.interface!r} is no interface name.")
        try:
            index = struct.unpack_from("i", ioctl(self._sock, _SIOCGIFINDEX, struct.pack("16s24x", name)), 16)[0]
            hardware = struct.unpack_from("H", ioctl(self._sock, _SIOCGIFHWADDR, struct.pack("16s24x", name)), 16)[0]
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise SniffError(
                    f"There is no interface {self.interface}.", "ip link shows which there are."
                ) from error
            raise SniffError(f"{self.interface} cannot be looked up: {error.strerror}.") from error
        return index, hardware

    def _map_ring(self, blocks: int, retire_ms: int) -> None:
        while True:
            frames = blocks * self._block // _FRAME_ROOM
            request = struct.pack("7I", self._block, blocks, _FRAME_ROOM, frames, retire_ms, 0, 0)
            try:
                self._sock.setsockopt(_SOL_PACKET, _RX_RING, request)
                break
            except OSError as error:
                if error.errno != errno.ENOMEM or blocks <= 8:
                    raise
                blocks //= 2
        self._blocks = blocks
        self._map = mmap.mmap(self._sock.fileno(), blocks * self._block, mmap.MAP_SHARED)

    def wait(self) -> None:
        """Return when a block is ready, the link failed, or `wake` was called."""
        if not self._ready():
            self._poll.poll()

    def wake(self) -> None:
        """Make `wait` return at once, from any thread, from now on."""
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _ready(self) -> bool:
        return self._map is not None and bool(_status(self._map, self._next * self._block + 8)[0] & _USER)

    def read(self) -> list[Frame]:
        """The frames of one ready block, numbered on from 1; empty when none is ready."""
        if self._map is None or not self._ready():
            return []
        m, base, number, link = self._map, self._next * self._block, self.taken, self.link
        count, first = _block(m, base + 12)
        at = base + first
        frames: list[Frame] = []
        for _ in range(count):
            step, seconds, nanoseconds, kept, length, status, mac = _header(m, at)
            start = at + mac
            data = m[start : start + kept]
            if status & _TAGGED and link == ETHERNET:
                data, length = self._tagged(at, status, data), length + 4
            number += 1
            frames.append(Frame(number, seconds * 1_000_000_000 + nanoseconds, data, length, link))
            at += step
        m[base + 8 : base + 12] = bytes(4)  # TP_STATUS_KERNEL: the block may be filled again
        self.taken = number
        self._next = (self._next + 1) % self._blocks
        return frames

    def error(self) -> int:
        """The errno of what befell the link since the last call, 0 = nothing; frames from before may still be read."""
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def _tagged(self, at: int, status: int, data: bytes) -> bytes:
        """The frame as it was on the wire: the kernel takes the outer VLAN tag out of it and notes it beside."""
        assert self._map is not None
        tag, kind = _tag(self._map, at + 32)
        return data[:12] + struct.pack(">HH", kind if status & _TAG_TYPE_GIVEN else 0x8100, tag & 0xFFFF) + data[12:]

    def refuse(self) -> None:
        """Take nothing new: what the kernel accepted until now is still to be read, nothing else will be."""
        with self._lock:
            # a filter locked by whoever opened the socket stays: then a little more is read than was asked for
            if self._sock.fileno() >= 0:
                with contextlib.suppress(PermissionError):
                    attach(self._sock, NOTHING)

    def behind(self) -> int:
        """How many frames the kernel has accepted that `read` has not given yet."""
        return self.statistics().frames - self.taken

    def statistics(self) -> Statistics:
        """From any thread, also after `close`."""
        self._count()
        return Statistics(self._accepted, self._lost)

    def _count(self) -> None:
        """Add the kernel's counters, which begin again at each reading, to ours."""
        with self._lock:
            if self._sock.fileno() >= 0:
                packets, drops, _ = struct.unpack("3I", self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 12))
                self._accepted += packets - drops
                self._lost += drops

    def close(self) -> None:
        """Give the interface and the memory back. The statistics stay."""
        if self._map is not None:
            self._count()
            self._map.close()
            self._map = None
        with self._lock:
            self._sock.close()
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1


def _packet_socket(interface: str) -> socket.socket:
    if not hasattr(socket, "AF_PACKET"):
        raise SniffError("Listening to an interface needs Linux.", "Open a saved capture instead.")
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError as error:
        raise SniffError(
            f"Listening to {interface} needs the right to open packet sockets (CAP_NET_RAW).",
            "Run it with sudo, give that right to a Python of its own with setcap cap_net_raw+ep, "
            "or use the lab, which needs no rights.",
        ) from error
