"""What the screen tests share: an app on the fake session, its text, and golden files.

``UPDATE_GOLDEN=1`` writes the golden files anew; look at the difference before you commit it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from rich.style import Style
from textual.pilot import Pilot

from tests.tui.fake import FakeSession
from tui.app import WiretalkApp
from tui.messages import ExitInfo
from tui.screens.talk import TalkScreen
from tui.widgets.session import Prompt

GOLDEN = Path(__file__).with_name("golden")
Screened = Pilot[ExitInfo]
Golden = Callable[[str, Screened], Awaitable[None]]
Opener = Callable[..., AbstractAsyncContextManager[Screened]]


def text_of(pilot: Screened) -> str:
    """The screen as text, a row a line, as it would reach the terminal."""
    strips = pilot.app.screen._compositor.render_strips()  # the only way to the finished rows that is not SVG
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"


def style_at(pilot: Screened, text: str) -> Style:
    """The style of the first segment that holds ``text``."""
    for strip in pilot.app.screen._compositor.render_strips():
        for segment in strip:
            if text in segment.text:
                assert segment.style is not None
                return segment.style
    raise AssertionError(f"{text!r} is not on the screen:\n{text_of(pilot)}")


def talk(pilot: Screened) -> TalkScreen:
    screen = pilot.app.screen
    assert isinstance(screen, TalkScreen)
    return screen


async def until(pilot: Screened, condition: Callable[[], object], what: str = "") -> None:
    """Let the app run until the condition holds; a deadline instead of a sleep."""
    for _ in range(200):
        if condition():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError(f"waited in vain {what}:\n{text_of(pilot)}")


async def say(pilot: Screened, *lines: str) -> None:
    """Send lines as if they had been typed, each behind the answer to the one before."""
    app = pilot.app
    assert isinstance(app, WiretalkApp)
    session = app.session
    assert isinstance(session, FakeSession)
    for line in lines:
        count = len(session.sent)
        talk(pilot).say_line(line)
        while len(session.sent) == count:
            await asyncio.sleep(0)
        app.drain()
    await settled(pilot)


async def settled(pilot: Screened) -> None:
    """Everything the session had to give was drained and drawn."""
    app = pilot.app
    assert isinstance(app, WiretalkApp)
    await pilot.pause()
    app.drain()
    await pilot.pause()


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """No blinking, no animation, and no colour setting of the machine that runs the tests."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr(Prompt, "_toggle_cursor", lambda self: None)


@pytest.fixture
def opened() -> Opener:
    """Open the app on a session: ``async with opened(session, size=(80, 24)) as pilot``."""

    @asynccontextmanager
    async def open_app(
        session: FakeSession | None = None, *, size: tuple[int, int] = (120, 36), theme: str = "dark"
    ) -> AsyncIterator[Screened]:
        app = WiretalkApp(session or FakeSession(), theme=theme)
        async with app.run_test(size=size) as pilot:
            await until(
                pilot, lambda: isinstance(app.screen, TalkScreen) and app.screen.query("#hex"), "for the screen"
            )
            await settled(pilot)
            yield pilot

    return open_app


@pytest.fixture
def golden() -> Golden:
    """Compare a screen with ``golden/NAME.txt``: ``await golden(name, pilot)``. It may take a moment to get there."""

    async def compare(name: str, pilot: Screened) -> None:
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("UPDATE_GOLDEN"):
            GOLDEN.mkdir(exist_ok=True)
            await pilot.pause(0.5)
            path.write_text(text_of(pilot))
        wanted = path.read_text()
        for _ in range(50):
            if text_of(pilot) == wanted:
                return
            await pilot.pause(0.05)
        assert text_of(pilot) == wanted, f"{path} differs; UPDATE_GOLDEN=1 writes it anew"

    return compare
