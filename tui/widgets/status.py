"""The top bar: the name, the places one can go, and how the capture stands.

Claim: the bar lists exactly the places that exist; it is drawn from a table, so a new screen is one more row of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.style import Style
from textual import events
from textual.strip import Strip
from textual.widget import Widget

from tui.messages import Status
from tui.render import Cells, safe_text
from tui.widgets.cursored import ink_of


class Place(NamedTuple):
    """A screen one can go to. mode: its name to the app; key: which key; name: what the bar calls it."""

    mode: str
    key: str
    name: str


class TopBar(Widget):
    """One row, docked at the top. A click on a name goes there."""

    def __init__(self, places: Sequence[Place], here: str) -> None:
        super().__init__()
        self.places = places
        self.here = here
        self.status = Status()
        self._hits: list[tuple[int, int, str]] = []

    def show(self, status: Status) -> None:
        """Take over how the capture stands."""
        if status != self.status:
            self.status = status
            self.refresh()

    def render_line(self, y: int) -> Strip:
        del y
        width, ground = self.size.width, self.rich_style
        cells = Cells().add(" wiretalk ", ground + Style(bold=True, reverse=True)).add("  ", ground)
        self._hits = []
        for mode, key, name in self.places:
            begin = cells.width
            on = Style(bold=mode == self.here, underline=mode == self.here)
            cells.add(f"{key.upper()} ", ground + Style(dim=True)).add(name, ground + on).add("   ", ground)
            self._hits.append((begin, cells.width - 2, mode))
        return self._state(cells, width, ground)

    def _state(self, cells: Cells, width: int, ground: Style) -> Strip:
        status, ink = self.status, ink_of(self)
        source = safe_text(status.source)
        frames = f"{status.frames} frame{'s' * (status.frames != 1)}"
        lost = f"{status.lost} lost"
        if not status.sniffed:
            head = "○ at the socket, not sniffed"
        else:
            idle = "not listening yet" if not status.frames else f"{source} not live"
            head = f"● live {source}" if status.live else f"○ {idle}"
        for parts in ((head, frames, lost), (head, str(status.frames), lost), (head, lost), (head,)):
            length = sum(map(len, parts)) + 2 * len(parts)
            if cells.width + length <= width:
                break
        alarm = ink.trouble + Style(bgcolor=ground.bgcolor)
        cells.pad(width - length, ground)
        for number, part in enumerate(parts):
            deaf = not status.sniffed or (status.frames > 0 and not status.live)
            bad = (number == 0 and deaf) or (part == lost and status.lost > 0)
            cells.add(part, alarm if bad else ground + Style(bold=True)).add("  ", ground)
        return cells.strip(width, ground)

    async def on_click(self, event: events.Click) -> None:
        for begin, end, mode in self._hits:
            if begin <= event.x < end:
                await self.app.switch_mode(mode)
