"""A live session: a hand-typed connection and the capture of it, in the lab or to any host.

Claim: the capture listens before the connection opens and drains after it has closed. Where nothing may be sniffed, the
octets are recorded at the socket instead, the status says so, and nothing pretends otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path

from capture import exported
from capture.errors import LabError, SniffError, WiretalkError
from capture.export.pcapng import Recorder
from capture.model import Endpoint, Frame, Side, Update
from capture.sources.sniffer import Sniffer
from lab import plan
from lab.connection import Closed, Connection, Received, Target, resolve_target
from lab.laboratory import Lab
from lab.route import interface_towards
from tui import messages, recordings
from tui.feed import Feed
from tui.socketrecord import SocketRecord

LAB_INTERFACE = "eth0"  # what every host of the lab calls its end of the wire
SNIFFING = "capture.sources.loop"  # the one module that imports scapy
START_AGAIN = "leave with Ctrl+Q and start wiretalk again"
SETTLE = 0.5  # seconds that the frames of the connection's end may take to come; a few milliseconds do as a rule


class LiveSession:
    """A `tui.messages.Session`. target: ``HOST[:PORT]``, a host of the lab or any other; None: shannon.

    record: the file for the capture, or None: a new one in the user's state directory. interface: sniff this one
    instead of the one that leads to the host. Methods may raise `WiretalkError` (no lab, a bad target, no room).
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        record: Path | None = None,
        interface: str | None = None,
        ipv6: bool = False,
        vrfy: bool = True,
    ) -> None:
        self._target = Target(plan.SHANNON.name, plan.SMTP) if target is None else resolve_target(target)
        self._in_lab = plan.is_of_the_lab(self._target.host)
        if self._in_lab and interface is not None:
            raise WiretalkError("--interface is for hosts outside the lab.", "leave it out: the lab's wire is sniffed")
        self.lab: Lab | None = Lab(ipv6=ipv6, vrfy=vrfy) if self._in_lab else None
        self._lab_is_up = False
        self._lab_is_lost = False
        self._record = record
        self._interface = interface
        self._feed: Feed | None = None
        self._sniffer: Sniffer | None = None
        self._socket_record: SocketRecord | None = None
        self._notice = ""
        self._connection: Connection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._events: deque[messages.Event] = deque()
        self._over = False

    # ── what the screen asks ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def title(self) -> str:
        return str(self._target)

    @property
    def status(self) -> messages.Status:
        lost = self._sniffer.statistics().lost if self._sniffer is not None else 0
        return messages.Status(
            source=self._source(),
            live=self._feed is not None and not self._over and self._hears(),
            frames=self._feed.frames if self._feed is not None else 0,
            lost=lost,
            sniffed=self._sniffer is not None or self._feed is None,
            notice=self._notice,
            recording=self._feed.path if self._feed is not None else None,
            failure=self.lab.failure if self.lab is not None and self._lab_is_up and not self._over else "",
        )

    def drain(self) -> list[Update]:
        return self._feed.drain() if self._feed is not None else []

    def events(self) -> list[messages.Event]:
        taken = []
        if self._lab_is_up and not self._over and not self._lab_is_lost and self.lab is not None and self.lab.failure:
            self._lab_is_lost = True
            self._events.append(messages.Failed(self.lab.failure, START_AGAIN))
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def frame(self, number: int) -> Frame | None:
        return self._feed.frame(number) if self._feed is not None else None

    # ── what the screen does ─────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Start the lab and the capture if need be, then connect; again for a new connection in the same capture."""
        await self._leave()
        if self._lab_is_lost and self.lab is not None:
            raise LabError("servers", self.lab.failure, START_AGAIN)
        try:
            address = await self._address()
        except (OSError, UnicodeError):  # UnicodeError: a label of more than 63 octets
            self._events.append(messages.Failed(f"No address is known for {self._target.host}."))
            return
        if self._feed is None:
            await asyncio.to_thread(self._listen, address)
        if self._socket_record is not None:
            self._socket_record.begin()
        connection = await Connection.open(
            self._target.host,
            self._target.port,
            socket_factory=self._socket if self._in_lab else None,
            resolver=lambda _: address,
            on_octets=self._socket_record.octets if self._socket_record is not None else None,
        )
        self._connection = connection
        if connection.local[0]:
            client, server = (Endpoint(ip_address(h).packed, port) for h, port in (connection.local, connection.remote))
            if self._socket_record is not None:
                self._socket_record.opened(client, server)
            self._events.append(messages.Opened(client, server))
        self._reading = asyncio.create_task(self._read(connection))

    async def send_line(self, text: str) -> None:
        if self._connection is None or not self._connection.send_line(text):
            self._events.append(messages.Said("There is no connection: the line was not sent."))

    async def half_close(self) -> None:
        if self._connection is not None:
            self._connection.half_close()

    async def close(self) -> None:
        try:
            await self._leave()
            self._over = True
            if self._sniffer is not None:
                await self._settle()
                await asyncio.to_thread(self._sniffer.stop)
        finally:
            try:
                if self._feed is not None:
                    self._feed.finish()
            finally:
                if self.lab is not None:
                    await asyncio.to_thread(self.lab.close)

    def turn_to(self, host: str, port: int) -> None:
        """The next `open` connects there, in the same capture. Raises `WiretalkError`: out of the lab, or into it."""
        if plan.is_of_the_lab(host) is not self._in_lab:
            raise WiretalkError(
                "One capture is of the lab or of the world, not of both.", f"wiretalk talk {host}:{port}"
            )
        self._target = Target(host, port)

    # ── the capture ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _address(self) -> str:
        if self.lab is not None:
            if not self._lab_is_up:
                # The lab is two other Pythons that start; meanwhile this one reads scapy in.
                await asyncio.gather(asyncio.to_thread(self.lab.start), asyncio.to_thread(import_module, SNIFFING))
                self._lab_is_up = True
            return self.lab.resolve(self._target.host)
        found = await asyncio.get_running_loop().getaddrinfo(
            self._target.host, self._target.port, type=socket.SOCK_STREAM
        )
        return str(found[0][4][0])

    def _listen(self, address: str) -> None:
        """Sniff, or find out why not; either way there is a recording from now on."""
        path = self._record or recordings.new_path(self.title)
        if self._in_lab:
            assert self.lab is not None
            name: str | None = LAB_INTERFACE
            source: socket.socket | str = self.lab.packet_socket(plan.YOUR_PC.name)
            ports = {plan.SMTP, plan.POP3, self._target.port}
        else:
            name = self._interface or interface_towards(address)
            source, ports = name or "", {self._target.port}
        if name is None:
            self._notice = f"No interface leads to {address}."
        else:
            ready = threading.Event()

            def take(frames: list[Frame]) -> None:
                # The link type, which the recording begins with, is known only when the sniffer listens already.
                ready.wait()
                if self._feed is not None:
                    self._feed.take(frames)

            sniffer = Sniffer(source, name, ports, take, on_failure=self._deaf)
            try:
                sniffer.start()
            except SniffError as error:
                if self._in_lab or self._interface is not None:
                    raise  # a wire of our own, or one that was asked for, must be heard
                self._notice = f"{error.sentence} {error.remedy}".strip()
            else:
                try:
                    self._feed = Feed(Recorder(path, ((name, sniffer.link),)), path)
                    self._sniffer = sniffer
                finally:
                    ready.set()
                    if self._feed is None:
                        sniffer.stop()
                return
        recorder = Recorder(path, (("socket", exported.LINKTYPE_UPPER_PDU),), exported.NOT_SNIFFED)
        self._feed = Feed(recorder, path)
        self._socket_record = SocketRecord(self._feed)

    def _deaf(self, error: SniffError) -> None:
        # Called from the sniffer's thread; a deque takes it.
        self._events.append(messages.Failed(f"The capture ended: {error.sentence}", error.remedy))

    def _hears(self) -> bool:
        return self._sniffer is None or self._sniffer.failure is None

    def _source(self) -> str:
        if self._feed is not None and self._sniffer is None:
            return "socket"
        return LAB_INTERFACE if self._in_lab else self._sniffer.interface if self._sniffer is not None else "…"

    async def _settle(self) -> None:
        """Give the last frames (FIN, ACK) the time to cross: until none came for a while."""
        assert self._feed is not None
        deadline, quiet, seen = asyncio.get_running_loop().time() + SETTLE, 0, self._feed.frames
        while quiet < 4 and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
            quiet = quiet + 1 if self._feed.frames == seen else 0
            seen = self._feed.frames

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────────────────

    def _socket(self, family: int) -> socket.socket:
        assert self.lab is not None
        return self.lab.socket(plan.YOUR_PC.name, family)

    async def _read(self, connection: Connection) -> None:
        async for event in connection:
            match event:
                case Received(octets, _):
                    self._events.append(messages.Received(octets))
                case Closed(kind, reason):
                    if self._socket_record is not None:
                        self._socket_record.ended(Side.CLIENT if kind == "left" else Side.SERVER)
                    began = bool(connection.local[0])
                    self._events.append(messages.Closed(reason) if began else messages.Failed(reason))

    async def _leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._reading is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
            self._reading = None
