"""The live wire: `Sniffer` hands over every frame of an interface as it comes, through scapy over our packet ring.

Claim: it is listening when `start` returns; what the kernel accepted before `stop` was asked is delivered before
`stop` returns; a loss is counted; and it never dies in silence: whatever ends it is in `failure`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from functools import partial

from capture.errors import SniffError, WiretalkError
from capture.model import Frame
from capture.sources.filter import tcp_ports
from capture.sources.ring import RETIRE_MS, SIZE, Ring, Statistics

__all__ = ["MAIL_PORTS", "Sniffer", "Statistics"]

# SMTP, POP3, IMAP, submission, each with its implicit TLS; LMTP (24) and the two ports people use instead of 25
MAIL_PORTS = frozenset({24, 25, 110, 143, 465, 587, 993, 995, 1025, 2525})
PATIENCE = 10.0  # seconds for a thread to start, or to end once its last frame is delivered
DRAIN = 1.0  # seconds without progress after which counted frames are given up as lost; a block retires in milliseconds


class Sniffer:
    """Listens to ``source``: an interface's name, or a packet socket made elsewhere, ``interface`` in its namespace.

    ports: TCP ports to keep, None for every frame (ARP too); arp: keep ARP beside the ports. ``on_frames`` gets lists
    of frames, numbered from 1, all in one thread; ``on_failure`` is called there, once, when it ends unasked.
    A context manager. Raises `SniffError` from `start`.
    """

    def __init__(
        self,
        source: socket.socket | str,
        interface: str = "eth0",
        ports: Collection[int] | None = MAIL_PORTS,
        on_frames: Callable[[list[Frame]], None] = lambda frames: None,  # noqa: ARG005
        on_failure: Callable[[SniffError], None] | None = None,
        *,
        arp: bool = False,
        size: int = SIZE,
        retire_ms: int = RETIRE_MS,
    ) -> None:
        self.interface = source if isinstance(source, str) else interface
        self.failure: SniffError | None = None
        self._sock = None if isinstance(source, str) else source
        self._program = None if ports is None else partial(tcp_ports, tuple(sorted(ports)), arp=arp)
        self._size, self._retire_ms = size, retire_ms
        self._on_frames, self._on_failure = on_frames, on_failure
        self._ring: Ring | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._given_up = 0

    @property
    def link(self) -> int:
        """LINKTYPE_ of the frames; known after `start`."""
        return self._ring.link if self._ring else 0

    @property
    def running(self) -> bool:
        return self._thread is not None and not self._ended.is_set()

    def start(self) -> None:
        """Return when every frame from now on will be delivered. Raises `SniffError`."""
        if self._ring is not None:
            raise SniffError("A sniffer starts once.")
        self._ring = Ring(self.interface, self._sock, self._program, self._size, retire_ms=self._retire_ms)
        from capture.sources.loop import RingSocket, sniff  # scapy: 0.15 s, paid by those who sniff

        started = threading.Event()
        source = RingSocket(self._ring.wait, self._receive, self._end)
        sniffer = sniff(source, self._deliver, started.set)
        self._thread = sniffer.thread
        if not started.wait(PATIENCE):
            self._ring.close()
            raise SniffError("scapy's sniffer did not start.") from sniffer.exception

    def _receive(self) -> list[Frame]:
        """One block for scapy's loop, in its thread. Raises EOFError: all is delivered, or no more can come."""
        ring = self._ring
        assert ring is not None
        frames = ring.read()
        if not frames and (code := ring.error()) and not self._stopping.is_set():
            self.failure = SniffError(f"{self.interface} stopped: {os.strerror(code).lower()}.")
            ring.wake()  # what is left is read without waiting for more
        if not frames and (self.failure or self._stopping.is_set()):
            return self._rest(ring)
        return frames

    def _rest(self, ring: Ring) -> list[Frame]:
        """The next of what the kernel still holds after `Ring.refuse`. Its last block comes when it retires."""
        deadline = time.monotonic() + DRAIN
        while not (frames := ring.read()):
            behind = ring.behind()
            if behind <= 0 or time.monotonic() > deadline:
                self._given_up = max(0, behind)
                raise EOFError
            time.sleep(self._retire_ms / 5000)
        return frames

    def _deliver(self, frames: list[Frame]) -> None:
        try:
            self._on_frames(frames)
        except Exception as error:  # another's code: it must not end the sniffer unseen
            if isinstance(error, WiretalkError):  # a full disk, say: it has words for that
                self.failure = SniffError(error.sentence, error.remedy)
            else:
                self.failure = SniffError(f"What took the frames failed: {type(error).__name__}: {error}.")
            self.failure.__cause__ = error
            raise EOFError from error  # ends scapy's loop, which closes the socket and so calls `_end`

    def _end(self) -> None:
        """In scapy's thread, last: the ring goes, and an end that nobody asked for is told."""
        assert self._ring is not None
        self._ring.close()
        if self.failure is None and not self._stopping.is_set():
            self.failure = SniffError(f"The sniffer on {self.interface} ended by itself.")
        self._ended.set()
        if self.failure is not None and self._on_failure is not None:
            self._on_failure(self.failure)

    def stop(self) -> None:
        """Deliver what was accepted until now, end the thread, give the interface back. Harmless when it has ended.

        Raises `SniffError` when ``on_frames`` does not return.
        """
        ring, thread = self._ring, self._thread
        if ring is None:
            return
        if not self._stopping.is_set() and not self._ended.is_set():
            ring.refuse()
            self._stopping.set()
            ring.wake()
        if thread is None or thread is threading.current_thread():
            return
        taken = -1
        while thread.is_alive() and taken < ring.taken:  # as long as frames are being taken, there is no hurry
            taken = ring.taken
            thread.join(PATIENCE)
        if thread.is_alive():
            raise SniffError(f"The sniffer on {self.interface} does not end: its last frames are not taken.")

    def statistics(self) -> Statistics:
        """Frames accepted and lost since the start; from any thread, also afterwards."""
        if self._ring is None:
            return Statistics()
        frames, lost = self._ring.statistics()
        return Statistics(frames - self._given_up, lost + self._given_up)

    def __enter__(self) -> Sniffer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
