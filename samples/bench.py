"""The bench on which samples are made: the lab, a sniffer on one host's wire, and a client that decides its segments.

Claim: one `Client.say` is one segment on the wire (as long as it is shorter than the MSS), and nothing is said before
what is waited for was heard; so a session is the same in every making but for numbers and times.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from capture.analyzer import Analyzer
from capture.errors import WiretalkError
from capture.model import Frame
from capture.record import Record
from capture.sources.sniffer import Sniffer
from lab import plan
from lab.laboratory import Lab

PATIENCE = 30.0  # seconds for anything that is waited for
ROOT = Path(__file__).resolve().parent.parent
_LAST_LINE = re.compile(rb"^\d{3}(?: [^\n]*)?\r?\n", re.MULTILINE)


class Client:
    """A connection from a host of the lab."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._heard = b""

    def say(self, *lines: str | bytes) -> None:
        """These lines in one segment; CRLF is added to text, octets go as they are."""
        self.connection.sendall(b"".join(s if isinstance(s, bytes) else s.encode() + b"\r\n" for s in lines))

    def hear(self, replies: int = 1) -> None:
        """Wait until so many more SMTP replies are complete."""
        while len(ends := list(_LAST_LINE.finditer(self._heard))) < replies:
            self._read(f"{replies} replies")
        self._heard = self._heard[ends[replies - 1].end() :]

    def hear_to(self, ending: bytes) -> None:
        """Wait until these octets were said."""
        while ending not in self._heard:
            self._read(repr(ending))
        self._heard = self._heard[self._heard.index(ending) + len(ending) :]

    def ask(self, *lines: str | bytes) -> None:
        """Each of these lines in a segment of its own, each when the one before was answered."""
        for line in lines:
            self.say(line)
            self.hear()

    def encrypt(self) -> None:
        """TLS from here on (the lab's own certificates prove nothing)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.connection = context.wrap_socket(self.connection)

    def _read(self, wanted: str) -> None:
        octets = self.connection.recv(65536)
        if not octets:
            raise WiretalkError(f"The server closed; waited for {wanted}, heard {self._heard!r}.")
        self._heard += octets


class Bench:
    """The lab and what is heard on ``interface`` of your-pc, on these TCP ports. A context manager; then ``frames``.

    servers: shannon and mailhost serve; without, their ports are free for a `samples.peer`.
    """

    def __init__(self, *ports: int, interface: str = "eth0", servers: bool = True) -> None:
        self.frames: list[Frame] = []
        self.lab = Lab(servers=servers)
        self._ports, self._interface = set(ports), interface
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Bench:
        self._stack.enter_context(self.lab)
        self._sniffer = Sniffer(
            self.lab.packet_socket(plan.YOUR_PC.name), self._interface, self._ports, self.frames.extend
        )
        self._sniffer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._stack:
            if kind is None:
                self._await_end()
            self._sniffer.stop()

    def serve(self, host: str, port: int, *options: str) -> None:
        """Start a `samples.peer` there; returns when it listens."""
        reads, writes = os.pipe()
        with os.fdopen(reads, "rb") as says:
            argv = [sys.executable, "-P", "-m", "samples.peer", str(port), *options]
            self.lab.spawn(host, argv, None, writes, env={"PYTHONPATH": str(ROOT)})
            os.close(writes)
            if says.readline() != b"ready\n":
                raise WiretalkError(f"The peer on {host}:{port} did not start.")

    @contextlib.contextmanager
    def connect(self, address: str, port: int) -> Iterator[Client]:
        """A connection from your-pc to an address or a host's name. Left in good order, the server ends it first."""
        client = Client(self.lab.socket(plan.YOUR_PC.name))
        try:
            client.connection.settimeout(PATIENCE)
            client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            client.connection.connect((self.lab.resolve(address), port))
            yield client
            while client.connection.recv(65536):
                pass
        finally:
            client.connection.close()

    def _await_end(self) -> None:
        """Until both FINs of every conversation are captured, and what acknowledges the last of them."""
        deadline, quiet = time.monotonic() + PATIENCE, 0
        while quiet < 5:
            if time.monotonic() > deadline:
                raise WiretalkError("The end of a conversation was not captured.")
            count = len(self.frames)
            time.sleep(0.02)
            quiet = quiet + 1 if len(self.frames) == count and _all_closed(self.frames) else 0


def _all_closed(frames: list[Frame]) -> bool:
    analyzer, record = Analyzer(strict=True), Record()
    for frame in frames:
        record.apply(analyzer.feed(frame))
    return all(facts.closed for facts in record.conversations)
