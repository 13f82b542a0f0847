"""What the screen asks of a session, and what a session tells the screen.

Claim: the app knows a session only by this protocol, so the lab, an outside host, a replayed file and the small fake
of the tests look the same to it. Everything that crosses is frozen. Nothing is pushed: the app drains both queues at
20 Hz, because one message per captured line stalls typing at a few thousand lines a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from capture.model import Endpoint, Frame, Update


@dataclass(frozen=True, slots=True)
class Status:
    """How the capture stands. ``source``: interface name, or ``socket``; ``frames``, ``lost``: counts so far.

    live: octets are being observed now. sniffed: they come off the wire; otherwise they were recorded at the socket.
    notice: why not sniffed, and the remedy, as one sentence; recording: the file that frames are written to.
    failure: what died that only a new session brings back; a ``Failed`` tells it as well. Empty: nothing did.
    """

    source: str = "eth0"
    live: bool = False
    frames: int = 0
    lost: int = 0
    sniffed: bool = True
    notice: str = ""
    recording: Path | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection stands. The endpoints tell its conversation from others on the same wire."""

    client: Endpoint | None = None
    server: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """Octets read from the server's socket, in order, with or without telnet's commands."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """A plain notice for the session pane."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over: by the server, by us, or broken. The capture goes on."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something could not be done: no connection, no capture. ``remedy`` is what mends it, or empty."""

    sentence: str
    remedy: str = ""


Event = Opened | Received | Said | Closed | Failed


class Session(Protocol):
    """A hand-driven connection and the capture of it. Every method is called from the app's event loop.

    The coroutines may raise `capture.errors.WiretalkError`; the app shows its sentence and remedy in the session.
    """

    @property
    def title(self) -> str:
        """``shannon:25``."""

    @property
    def status(self) -> Status: ...

    async def open(self) -> None:
        """Connect; again after the connection ended, and then as a new conversation of the same capture.

        The capture listens before the first octet. ``Opened`` then arrives through `events`.
        """

    async def send_line(self, text: str) -> None:
        """Write the line and CRLF, in one write, exactly as typed (UTF-8). Waits for nothing."""

    async def half_close(self) -> None:
        """Send FIN: nothing more to say, still listening."""

    async def close(self) -> None:
        """End the connection, drain and end the capture and its recording. Called once, when the app leaves."""

    def drain(self) -> list[Update]:
        """What was captured since the last call, in order."""

    def events(self) -> list[Event]:
        """What happened at the socket since the last call, in order."""

    def frame(self, number: int) -> Frame | None:
        """The octets of one captured frame, or None when they are no longer kept."""


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """What the app leaves behind. unseen: typed lines that never came off the wire."""

    lines: int = 0
    frames: int = 0
    lost: int = 0
    unseen: int = 0
    recording: Path | None = None
