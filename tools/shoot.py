"""Pictures of the Talk screen for the documentation, from a session that plays lines: ``tools/shoot.py OUT.png``.

The app runs without a terminal, the lines are typed in, and the screen is exported as SVG; a browser (chromium) or
rsvg-convert makes the PNG of it, whichever is there. ``shoot`` takes any `tui.messages.Session`; run as a program it
uses the lab, so what the picture shows was on a wire.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from textual.pilot import Pilot

from tui.app import WiretalkApp
from tui.messages import ExitInfo, Session
from tui.screens.talk import TalkScreen
from tui.suggest import OVER
from tui.widgets.session import Prompt

PATIENCE = 400  # looks at the screen, 50 ms apart, before a line counts as unanswered
SCALE = 1.5


async def shoot(
    session: Session,
    lines: Sequence[str],
    *,
    size: tuple[int, int] = (120, 36),
    theme: str = "dark",
    keys: Sequence[str] = (),
) -> str:
    """Type the lines, each once the screen advises what comes next, press the keys, and give the screen as SVG.

    Raises RuntimeError when the session does not go on.
    """
    app = WiretalkApp(session, theme=theme)
    async with app.run_test(size=size) as pilot:
        for line in lines:
            await _ready(pilot)
            talk = app.screen
            assert isinstance(talk, TalkScreen)
            talk.say_line(line)
            await pilot.pause(0.2)
        await _ready(pilot)
        await pilot.press(*keys)
        app.screen.query_one(Prompt).cursor_blink = False
        await pilot.pause(0.3)
        svg = app.export_screenshot(title="wiretalk", simplify=True)
        await session.close()
    return svg


async def _ready(pilot: Pilot[ExitInfo]) -> None:
    """Until the server has answered: there is something to type again, or nothing more."""
    for _ in range(PATIENCE):
        screen = pilot.app.screen
        advice = screen.prompt.ghost.guide.next if isinstance(screen, TalkScreen) and screen.query(Prompt) else None
        if advice is OVER or (advice is not None and advice.line is not None):
            return
        await pilot.pause(0.05)
    raise RuntimeError("the server did not answer")


def to_png(svg: str, target: Path) -> None:
    """Draw an SVG. Raises RuntimeError when neither chromium nor rsvg-convert is there."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if box is None:
        raise RuntimeError("this is no screen")
    width, height = (round(float(side)) for side in box.groups())
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "screen.svg")
        source.write_text(svg)
        if browser := shutil.which("chromium") or shutil.which("chromium-browser"):
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--force-device-scale-factor={SCALE}", f"--window-size={width},{height}"]
            command += [f"--screenshot={target.resolve()}", source.as_uri()]
        elif drawer := shutil.which("rsvg-convert"):
            command = [drawer, "--zoom", str(SCALE), str(source), "-o", str(target)]
        else:
            raise RuntimeError("install chromium or rsvg-convert to draw pictures")
        subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the Talk screen of a session in the lab.")
    parser.add_argument("out", type=Path, help="PNG to write; the SVG is written beside it")
    parser.add_argument("--theme", default="dark")
    parser.add_argument("--size", default="120x36", help="cells, columns x rows")
    parser.add_argument("--lines", type=int, default=11, help="how many lines of the exercise are typed")
    parser.add_argument("--keys", default="", help="keys pressed at the end, as Textual names them, comma-separated")
    options = parser.parse_args()
    from lab.exercise import SMTP_LINES
    from tui.live import LiveSession

    columns, rows = map(int, options.size.split("x"))
    lines = SMTP_LINES[: options.lines]
    keys = [key for key in options.keys.split(",") if key]
    svg = asyncio.run(shoot(LiveSession(), lines, size=(columns, rows), theme=options.theme, keys=keys))
    options.out.with_suffix(".svg").write_text(svg)
    to_png(svg, options.out)


if __name__ == "__main__":
    main()
