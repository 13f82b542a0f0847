"""The whole thing in a real terminal: tmux types, the lab answers, and the screen says what came off the wire."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.lab,
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

DEADLINE = 30.0
COLOUR = re.compile(r"\x1b\[[0-9;]*\b(?:3[0-7]|38|4[0-7]|48|9[0-7]|10[0-7])[0-9;]*m")


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, place: Path, size: tuple[int, int], **environment: str) -> None:
        self._tmux = ["tmux", "-S", str(place / "tmux"), "-f", "/dev/null"]
        self.ended = place / "ended"
        settings = {"XDG_STATE_HOME": str(place / "state"), "PYTHONPATH": str(ROOT), **environment}
        told = " ".join(f"{name}={value}" for name, value in settings.items())
        command = f"env -u COLUMNS -u LINES {told} {sys.executable} -m tui.cli; echo status $? > {self.ended}; sleep 60"
        self._run("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), command)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", text)
        self._run("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def screen(self, *, colours: bool = False) -> str:
        return self._run("capture-pane", "-p", *(["-e"] if colours else []))

    def until(self, pattern: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while not re.search(pattern, shown := self.screen()):
            assert time.monotonic() < deadline, f"never seen: {pattern}\n{shown}"
            time.sleep(0.05)
        return shown

    def status(self) -> int:
        deadline = time.monotonic() + DEADLINE
        while not (self.ended.exists() and (told := self.ended.read_text().split())):
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.05)
        return int(told[1])

    def program(self) -> int:
        """The process id of wiretalk: the child of the window's shell."""
        shell = self._run("display-message", "-p", "#{pane_pid}").strip()
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", shell], capture_output=True, text=True, check=True)
        return int(found.stdout.split()[0])

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture(params=[(80, 24), (120, 36)], ids=["80x24", "120x36"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, request.param)
    yield opened
    opened.close()


def test_a_session_typed_by_hand_appears_labelled(terminal: Terminal) -> None:
    terminal.until(r"S▶C? PDU +220 shannon")
    for text, label in (
        ("HELO me", "PDU"),
        ("MAIL FROM:<a@student.example>", "PDU"),
        ("RCPT TO:<student@student.example>", "PDU"),
        ("DATA", "PDU"),
        ("From: You'll-never-know-for-sure", "user data"),
        (".", "PCI"),
    ):
        terminal.type(text)
        terminal.until(rf"C▶S? {label} +[╭│╰ ]*{re.escape(text[:12])}")
    terminal.until(r"S▶C? PDU +250 2\.0\.0 OK, queued")
    terminal.type("QUIT")
    terminal.until(r"S▶C? PDU +221 ")
    terminal.press("C-q")
    assert terminal.status() == 0


def test_a_reconnected_session_goes_on_in_the_same_capture(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, (120, 36))
    try:
        terminal.until(r"PDU +220 shannon")
        terminal.type("QUIT")
        terminal.until(r"PDU +221 ")
        terminal.press("C-r")
        terminal.until(r"(?s)PDU +220 shannon.*PDU +220 shannon")
        os.kill(terminal.program(), signal.SIGTERM)
        assert terminal.status() == 0
        recordings = list((tmp_path / "state" / "wiretalk" / "recordings").glob("*.pcapng"))
        assert len(recordings) == 1
    finally:
        terminal.close()


def test_no_color_sends_no_colour_at_all(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, (80, 24), NO_COLOR="1")
    try:
        terminal.until(r"PDU +220 shannon")
        assert not COLOUR.search(terminal.screen(colours=True))
    finally:
        terminal.close()
