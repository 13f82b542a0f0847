"""What every screen of the app has: the top bar, the footer, and a word when the window is too small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from tui.messages import Status
from tui.widgets.status import TopBar

if TYPE_CHECKING:
    from tui.app import WiretalkApp

SMALLEST = (60, 18)


class Place(Screen[None]):
    """A screen of the top bar. ``MODE`` is its name there; `body` gives what stands between bar and footer."""

    MODE: ClassVar[str] = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (SMALLEST[0], "-narrow"), (100, "-wide"), (140, "-broad")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (SMALLEST[1], "-short"), (32, "-tall"), (44, "-high")]  # noqa: RUF012

    @property
    def wiretalk(self) -> WiretalkApp:
        """The app, by its own type."""
        return cast("WiretalkApp", self.app)

    def compose(self) -> ComposeResult:
        yield TopBar(self.wiretalk.PLACES, self.MODE)
        yield from self.body()
        yield Footer(compact=True, show_command_palette=True)
        wide, high = SMALLEST
        yield Static(Content(f"Please make the window larger:\nat least {wide} x {high}"), id="too-small")

    def body(self) -> Iterable[Widget]:
        """The widgets of this screen."""
        raise NotImplementedError

    def show_status(self, status: Status) -> None:
        """Hand the state of the capture to the bar."""
        for bar in self.query(TopBar):
            bar.show(status)
