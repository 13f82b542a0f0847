"""A connection typed by hand: what inetutils telnet puts on the wire on port 25, and nothing else.

Claim: one Enter is one write of the line and CR LF. Nothing waits for a reply, nothing is corrected, nothing is added;
Nagle's algorithm (RFC 896) stays on, as in telnet, so what the kernel merges is real.
Rule: what goes wrong with the connection is a plain sentence in the session, a `Closed`, never an exception.

Differences from telnet, on purpose: a terminal in canonical mode loses all after the 4095th octet of a line
(`TERMINAL_LIMIT`), here the whole line goes out; and every option a server offers or asks for is refused, while telnet
agrees to a few (RFC 854: both are proper).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from capture.errors import WiretalkError
from capture.model import Side
from lab.negotiation import Negotiation

SMTP_PORT = 25
TERMINAL_LIMIT = 4095
CRLF = b"\r\n"
_UNREAD_LIMIT = 1 << 22  # octets that wait for the reader of events before the server must wait too

Address = tuple[str, int]
SocketFactory = Callable[[int], socket.socket]
Resolver = Callable[[str], str]
Observer = Callable[[Side, bytes, int], None]


class Target(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Received(NamedTuple):
    """Octets from the server, without telnet's commands. time: ns since the epoch."""

    octets: bytes
    time: int


class Closed(NamedTuple):
    """The session is over, or never began. kind: ``refused``, ``timeout``, ``unresolvable``, ``unreachable``,
    ``closed`` (by the server), ``reset``, ``left`` (by us); reason: a sentence.
    """

    kind: str
    reason: str


Event = Received | Closed


def resolve_target(text: str, port: int = SMTP_PORT) -> Target:
    """``HOST``, ``HOST:PORT``, ``[v6]``, ``[v6]:PORT`` or a bare IPv6 address. Raises `WiretalkError`."""
    text = text.strip()
    with contextlib.suppress(ValueError):
        return Target(str(ipaddress.IPv6Address(text)), port)
    match = re.fullmatch(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>[^:]*))?", text)
    if match is None:
        raise WiretalkError(f"{text!r} is not a host.", "write HOST, HOST:PORT or [IPv6 address]:PORT")
    if match["v6"] is not None:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError as error:
            raise WiretalkError(f"{match['v6']!r} is not an IPv6 address.", "write [2001:db8::1]:25") from error
    if match["port"] is not None:
        number = match["port"]
        if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536):
            raise WiretalkError(f"{number!r} is not a TCP port.", "a port is a number from 1 to 65535")
        port = int(number)
    return Target(match["v6"] or match["host"], port)


def split_paste(text: str) -> list[str]:
    """The lines of a pasted text: CR LF, CR and LF each end one, and what stands after the last is a line too."""
    lines = re.split(r"\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


class Connection(asyncio.Protocol):
    """One session. Open it with `open`, write with `send_line`, read with ``async for event in connection``.

    local, remote: socket addresses once connected (empty host before). peer: the words for the server in sentences.
    """

    def __init__(self, peer: str, observer: Observer | None = None) -> None:
        self.peer = peer
        self.local: Address = ("", 0)
        self.remote: Address = ("", 0)
        self._observer = observer
        self._transport: asyncio.Transport | None = None
        self._negotiation = Negotiation()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._unread = 0
        self._end_of_line = True
        self._finished = False  # our FIN is sent
        self._left = False

    @classmethod
    async def open(
        cls,
        address: str,
        port: int = SMTP_PORT,
        *,
        socket_factory: SocketFactory | None = None,
        resolver: Resolver | None = None,
        timeout: float = 30,
        on_octets: Observer | None = None,
    ) -> Connection:
        """Connect. Never raises for what the network does: the connection's only event is then its end.

        socket_factory: family → a new TCP socket; of the lab: ``lambda family: lab.socket("your-pc", family)``.
        resolver: name → address, in place of the machine's (`Lab.resolve`); it raises `socket.gaierror`.
        timeout: seconds for the whole of it. on_octets: called with the side, the very octets given to or taken from
        the socket, telnet's included, and the time in ns: a record at the socket, where nothing can be sniffed.
        """
        self = cls(str(Target(address, port)), on_octets)
        try:
            async with asyncio.timeout(timeout):
                await self._connect(address, port, socket_factory, resolver)
        except TimeoutError as error:
            patience = f" within {timeout:g} s" if error.errno is None else ""  # with an errno the kernel gave up
            self._end("timeout", f"No answer from {self.peer}{patience}.")
        except (socket.gaierror, UnicodeError):  # UnicodeError: a label of more than 63 octets, or an empty one
            self._end("unresolvable", f"No address is known for {address}.")
        except OSError as error:
            self._end(*_why_not(error, self.peer))
        return self

    async def _connect(
        self, name: str, port: int, factory: SocketFactory | None, resolver: Resolver | None
    ) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        host = resolver(name) if resolver else name
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        last: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        for family, _, _, _, address in found:
            plug = factory(family) if factory else socket.socket(family, socket.SOCK_STREAM)
            try:
                plug.setblocking(False)
                await loop.sock_connect(plug, address)
                await loop.create_connection(lambda: self, sock=plug)
            except OSError as error:
                plug.close()
                last = error
            except BaseException:
                plug.close()
                raise
            else:
                return
        raise last

    # ── what we do ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def connected(self) -> bool:
        """Whether lines can be sent."""
        return self._transport is not None and not self._transport.is_closing() and not self._finished

    def send_line(self, text: str | bytes, ending: bytes = CRLF) -> bytes:
        """Give the line and its ending to the kernel in one write; return the octets. Nothing if not `connected`.

        Text becomes UTF-8; octet 255 is doubled (RFC 854). ending: another one is an experiment.
        """
        line = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        return self._write(line.replace(b"\xff", b"\xff\xff") + ending)

    def half_close(self) -> None:
        """Ctrl-D: our FIN; the server may still speak."""
        if self._transport is not None and self.connected:
            self._finished = True
            self._transport.write_eof()

    def close(self) -> None:
        """Leave. What was sent still goes out."""
        self._left = True
        if self._transport is not None:
            self._transport.close()

    def _write(self, octets: bytes) -> bytes:
        if self._transport is None or not self.connected:
            return b""
        self._observe(Side.CLIENT, octets)
        self._transport.write(octets)  # tries one send(2) at once; queues only what the kernel would not take
        return octets

    # ── what we hear ──────────────────────────────────────────────────────────────────────────────────────────────

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Every event until and with the `Closed`."""
        while True:
            event = await self._events.get()
            if isinstance(event, Received):
                self._unread -= len(event.octets)
                if self._transport is not None and self._unread <= _UNREAD_LIMIT:
                    self._transport.resume_reading()
            else:
                self._events.put_nowait(event)  # whoever asks again gets the end again
            yield event
            if isinstance(event, Closed):
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        plug = transport.get_extra_info("socket")
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)  # asyncio switches Nagle off, telnet does not
        self.local, self.remote = plug.getsockname()[:2], plug.getpeername()[:2]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = self._observe(Side.SERVER, data)
        octets, answer = self._negotiation.receive(data)
        if answer:
            self._write(answer)
        if octets:
            self._end_of_line = octets.endswith(b"\n")
            self._unread += len(octets)
            if self._unread > _UNREAD_LIMIT and self._transport is not None:
                self._transport.pause_reading()
            self._events.put_nowait(Received(octets, now))

    def eof_received(self) -> bool:
        return False  # as telnet does, we close when the server has

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._left:
            self._end("left", f"You closed the connection to {self.peer}.")
        elif exc is None or isinstance(exc, BrokenPipeError):
            where = "" if self._end_of_line else " in the middle of a line"
            self._end("closed", f"{self.peer} closed the connection{where}.")
        elif isinstance(exc, ConnectionResetError):
            self._end("reset", f"{self.peer} reset the connection.")
        elif isinstance(exc, OSError):
            self._end(*_why_not(exc, self.peer))
        else:
            raise exc

    def _end(self, kind: str, reason: str) -> None:
        self._events.put_nowait(Closed(kind, reason))

    def _observe(self, side: Side, octets: bytes) -> int:
        now = time.time_ns()
        if self._observer is not None:
            self._observer(side, octets, now)
        return now


def _why_not(error: OSError, peer: str) -> tuple[str, str]:
    """The kernel's errno as a kind and a sentence."""
    if error.errno == errno.ECONNREFUSED:
        return "refused", f"{peer} refused the connection: nothing listens on that port."
    if error.errno == errno.ETIMEDOUT:
        return "timeout", f"{peer} does not answer."
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EHOSTDOWN):
        return "unreachable", f"There is no way to {peer}: {(error.strerror or str(error)).lower()}."
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "reset", f"{peer} reset the connection."
    return "unreachable", f"{peer} cannot be reached: {(error.strerror or str(error)).lower()}."
