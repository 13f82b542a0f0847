"""Where scapy sniffs: its AsyncSniffer loop over our ring.

Claim: the loop dissects nothing. What it takes for one packet is the batch of frames of one ring block, so its cost is
paid per block, and it ends only through `RingSocket.close`, whatever the reason.

Importing this is importing scapy, and is done so that scapy neither writes caches into the user's home nor reads the
machine's routes: we send nothing through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import scapy.main
from scapy.config import conf

from capture.model import Frame

scapy.main.SCAPY_CACHE_FOLDER = None  # must stand before scapy.data is loaded
conf.route_autoload = conf.route6_autoload = False

from scapy.sendrecv import AsyncSniffer  # noqa: E402

if TYPE_CHECKING:  # to a strict checker scapy's classes have no type that may be inherited from

    class SuperSocket: ...

    class DefaultSession: ...
else:
    from scapy.sessions import DefaultSession
    from scapy.supersocket import SuperSocket


class Batch(list[Frame]):
    """Frames of one ring block; scapy writes on it where it was sniffed."""

    sniffed_on: object = None


class RingSocket(SuperSocket):
    """What scapy takes for a socket. ``wait`` returns when ``receive`` is worth calling; ``ended`` is the last call."""

    desc = "TPACKET_V3 ring"
    nonblocking_socket = True  # our select blocks and can be woken: scapy needs no control pipe of its own

    def __init__(self, wait: Callable[[], None], receive: Callable[[], list[Frame]], ended: Callable[[], None]) -> None:
        self.ins = self.outs = None
        self.closed = False
        self.wait, self.receive, self._ended = wait, receive, ended

    @staticmethod
    def select(sockets: list[RingSocket], remain: float | None = None) -> list[RingSocket]:  # noqa: ARG004
        sockets[0].wait()
        return sockets

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._ended()


class RingSession(DefaultSession):
    """One receive is one block."""

    def recv(self, sock: RingSocket) -> Iterator[Batch]:
        batch = sock.receive()
        if batch:
            yield Batch(batch)


def sniff(socket: RingSocket, deliver: Callable[[list[Frame]], None], started: Callable[[], None]) -> Any:
    """Start scapy's thread and give the AsyncSniffer; ``started`` is called in the thread when the loop is entered.

    ``socket.receive`` and ``deliver`` end the loop by raising EOFError, and may raise nothing else.
    """
    sniffer = AsyncSniffer(
        opened_socket=socket, session=RingSession, store=False, quiet=True, prn=deliver, started_callback=started
    )
    sniffer.start()
    return sniffer
