"""A server that wants the terminal: nothing it says reaches it alive, on the strips and through a real pty."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from fcntl import ioctl

from capture.model import Pdu, Side
from tests.tui.conftest import Opener, say, settled, talk, text_of, until
from tests.tui.fake import FakeSession
from tui.messages import Closed, Failed, Received, Said, Status

PAYLOADS = {
    "csi": "\x1b[1;1HFORGED",
    "title": "\x1b]2;PWNED\x07",
    "clipboard": "\x1b]52;c;UFdORUQ=\x07",
    "reset": "\x1bc",
    "dcs": "\x1bPq\x1b\\",
    "c1": "\x9b2J\x9d0;x\x9c",
    "shift out": "\x0e\x0f",
    "backspace": "\x08\x7f\x0b\x0c",
    "nul": "\x00",
    "bidi": "\u202egnp\u2066x\u2069",
    "invisible": "\u200b\u200d\ufeff\u2028\u2029\u00ad\U000e0041",
    "surrogate": "\udc9b",
    "markup": "[red]x[/] [@click=app.quit]y[/] :smile:",
    "combining": "z" + "\u0335" * 40,
}
EVERYTHING = "".join(PAYLOADS.values())
FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def alive(text: str) -> set[str]:
    return {char for char in text if char != "\n" and unicodedata.category(char) in FORBIDDEN}


async def test_nothing_hostile_is_on_any_finished_row(opened: Opener) -> None:
    session = FakeSession(answers=False)
    async with opened(session, size=(100, 30)) as pilot:
        for name, payload in PAYLOADS.items():
            octets = payload.encode("utf-8", "surrogatepass")
            session.line(Side.SERVER, b"220 " + octets, Pdu(f"220 {payload}", f"S {name}"), whole=True)
            for event in (Received(b"250 " + octets), Said(payload), Failed(payload, payload), Closed(payload)):
                session.tell(event)
            session._status = Status(payload, notice=payload, sniffed=False)
            session.note(payload)
            talk(pilot).prompt.value = payload
            pilot.app.notify(payload, title=payload, markup=False)
            await settled(pilot)
            assert not alive(text_of(pilot)), name
            assert f"S {name}" in str(talk(pilot).inspector.border_title), name
        await until(pilot, lambda: "connects again · " in text_of(pilot))
        assert not alive(text_of(pilot))


async def test_a_hostile_line_keeps_its_place_octet_for_octet(opened: Opener) -> None:
    session = FakeSession(answers=False)
    async with opened(session) as pilot:
        session.line(Side.SERVER, b"220 \x1b[2J\x00\xff[red]", Pdu("220 greeting", "S1"), whole=True)
        await settled(pilot)
        assert "220 ␛[2J␀·[red]␍␊" in text_of(pilot)
        assert "1b│" not in text_of(pilot)
        assert "1b 5b 32 4a 00 ff" in text_of(pilot)


async def test_a_pasted_escape_is_asked_about_harmlessly_and_sent_as_it_is(opened: Opener) -> None:
    from textual import events

    from tui.screens.question import Question

    async with opened() as pilot:
        talk(pilot).prompt.post_message(events.Paste("\x1b[2J[red]\nNOOP"))
        await until(pilot, lambda: isinstance(pilot.app.screen, Question))
        assert "␛[2J[red]" in text_of(pilot)
        await pilot.press("y")
        session = talk_session(pilot)
        await until(pilot, lambda: len(session.sent) == 2)
        assert session.sent == ["\x1b[2J[red]", "NOOP"]


def talk_session(pilot: object) -> FakeSession:
    session = pilot.app.session  # type: ignore[attr-defined]
    assert isinstance(session, FakeSession)
    return session


async def test_a_line_as_long_as_a_datagram_is_drawn_as_fast_as_a_short_one(opened: Opener) -> None:
    session = FakeSession(answers=False)
    async with opened(session) as pilot:
        await say(pilot, "DATA")
        session.typed(b"\x1b" * 60_000)  # the forge knows no MTU but the datagram's 64 kB
        began = time.perf_counter()
        await settled(pilot)
        assert time.perf_counter() - began < 3
        assert not alive(text_of(pilot))


PROGRAM = """
import os, sys
for name in ("COLUMNS", "LINES", "NO_COLOR"):
    os.environ.pop(name, None)
from capture.model import Pdu, Side
from tests.tui.fake import FakeSession
from tests.tui.test_hostile import EVERYTHING
from tui.app import WiretalkApp
from tui.messages import Said

session = FakeSession()
class App(WiretalkApp):
    def on_mount(self):
        super().on_mount()
        self.set_timer(0.4, self.attack)
    def attack(self):
        octets = EVERYTHING.encode("utf-8", "surrogatepass")
        session.line(Side.SERVER, b"220 MARK1 " + octets, Pdu("220 " + EVERYTHING, "S2"), whole=True)
        session.tell(Said("MARK2 " + EVERYTHING))
        self.notify("MARK3 " + EVERYTHING, markup=False)
        self.set_timer(1.2, self.exit)
App(session).run()
"""
# What Textual itself sends: CSI sequences, a few two-character escapes, and its own OSC and DCS at start and end.
OWN = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[78=>]|\x1b\][0-9]+;[^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\")


def test_through_a_real_terminal_nothing_hostile_comes_out() -> None:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "TEXTUAL_ANIMATIONS": "none", "PYTHONPATH": os.getcwd()}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True
    )
    os.close(slave)
    output = bytearray()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            with contextlib.suppress(OSError):
                data = os.read(master, 65536)
                output += data
                continue
        if process.poll() is not None:
            break
    os.close(master)
    assert process.wait(timeout=10) == 0, output[-2000:].decode("utf-8", "replace")
    for mark in (b"MARK1", b"MARK2", b"MARK3"):
        assert mark in output
    for forged in (b"\x1b[1;1HFORGED", b"PWNED\x07", b"\x1b]52", b"\x1bc", b"\x1bPq"):
        assert forged not in output
    rest = OWN.sub(b"", bytes(output)).decode("utf-8")
    assert not alive(rest) - {"\r"}
