"""The Textual application: owns what was captured, drains the session at 20 Hz, and gives the last gate its place.

Claim: whatever arrives, at whatever rate, the app does one batch of work a tick. All that is shown passes `SafeFilter`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen
from textual.theme import Theme

from capture.errors import WiretalkError
from capture.model import Line, Update
from capture.protocols.secrets import mask
from tui.dialog import Dialog
from tui.messages import ExitInfo, Session
from tui.palette import DARK, LIGHT, Ink, colourless, ink
from tui.render import SafeFilter
from tui.rows import Rows
from tui.screens.help import HelpScreen
from tui.screens.talk import TalkScreen
from tui.widgets.cursored import Cursored
from tui.widgets.status import Place

DRAIN_HZ = 20
BATCH = 2_000  # updates shown in one tick, about 40 ms of work; what is left waits for the next, so typing never does
THEMES = {"dark": DARK.name, "light": LIGHT.name}


class WiretalkApp(App[ExitInfo]):
    """``WiretalkApp(session, theme="dark" | "light" | any Textual theme).run()`` gives an `ExitInfo`, or None."""

    TITLE = "wiretalk"
    CSS_PATH = Path(__file__).with_name("wiretalk.tcss")
    PLACES: ClassVar[tuple[Place, ...]] = (Place("talk", "f2", "Talk"), Place("help", "f1", "Help"))
    MODES = {"talk": TalkScreen, "help": HelpScreen}  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *[Binding(key, f"switch_mode('{mode}')", name, show=False, priority=True) for mode, key, name in PLACES],
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(self, session: Session, *, theme: str | None = None) -> None:
        self._colourless = "NO_COLOR" in os.environ  # Textual takes it out of the environment
        super().__init__(ansi_color=True if self._colourless else None)
        self.session = session
        self.rows = Rows()
        self.dialog = Dialog()
        self.show_secrets = False
        self._updates: deque[Update] = deque()
        self._safe = SafeFilter()
        self._ink: tuple[str, Ink] | None = None
        self._leaving = False
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = "ansi-dark" if self._colourless else THEMES.get(theme or "dark", theme or DARK.name)

    @property
    def ink(self) -> Ink:
        """The styles of the theme in use."""
        if self._ink is None or self._ink[0] != self.theme:
            theme = self.current_theme
            made = colourless() if self._colourless or theme.ansi else ink(self.get_css_variables(), dark=theme.dark)
            self._ink = self.theme, made
        return self._ink[1]

    def shown(self, line: Line) -> bytes:
        """A line's octets as they may be seen: secrets blotted out at the same length, unless they were switched on."""
        return line.data if self.show_secrets else mask(line)

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        self.switch_mode("talk")
        self.set_interval(1 / DRAIN_HZ, self.drain)

    def drain(self) -> None:
        """Take what the session has and show it; one batch a tick."""
        talk = self._talk()
        if talk is None or self._leaving:
            return
        events = self.session.events()
        self._updates.extend(self.session.drain())
        batch = [self._updates.popleft() for _ in range(min(BATCH, len(self._updates)))]
        status = self.session.status
        talk.take(batch, events, status)
        if isinstance(self.screen, HelpScreen):
            self.screen.show_status(status)

    def _talk(self) -> TalkScreen | None:
        for screen in self._screens_of("talk"):
            if isinstance(screen, TalkScreen) and screen.is_mounted and screen.query("#wire"):
                return screen
        return None

    def _screens_of(self, mode: str) -> Sequence[Screen[object]]:
        return self._screen_stacks.get(mode, [])

    def _theme_changed(self, theme: Theme) -> None:
        del theme
        for screen in (*self._screens_of("talk"), *self._screens_of("help")):
            for widget in screen.query(Cursored):
                widget.reset()
        self.screen.refresh(layout=True)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), self._safe]

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        talk = screen if isinstance(screen, TalkScreen) else None
        if talk is not None:
            hidden = "Hide" if self.show_secrets else "Show"
            commands: list[tuple[str, str, Callable[[], object]]] = [
                ("Connect again", "Open a new connection to the same host (Ctrl+R)", talk.action_reconnect),
                ("Nothing more to send", "Half-close the connection: FIN (Ctrl+D)", talk.action_half_close),
                ("Zoom inspector", "Large and small (Ctrl+O)", talk.action_zoom),
                ("Newest line", "Follow what is captured (End)", talk.wire.action_last),
                ("First line", "Go to the first captured line (Home)", talk.wire.action_first),
                ("Previous line", "On the wire (Ctrl+↑)", lambda: talk.action_wire(-1)),
                ("Next line", "On the wire (Ctrl+↓)", lambda: talk.action_wire(1)),
                ("Type", "Back to the prompt (i)", talk.action_type),
                (f"{hidden} secrets", "Passwords and AUTH exchanges, on this screen", self.action_secrets),
            ]
            for title, what, call in commands:
                yield SystemCommand(title, what, call)
        for mode, key, name in self.PLACES:
            yield SystemCommand(name, f"Go there ({key.upper()})", lambda mode=mode: self.switch_mode(mode))
        yield SystemCommand("Dark or light", "Change between the two", self.action_flip)
        yield SystemCommand("Theme", "Choose another", self.action_change_theme)
        yield SystemCommand("Screenshot", "Save the screen as SVG", self.deliver_screenshot)
        yield SystemCommand("Quit", "End the session and the capture (Ctrl+Q)", self.action_quit)

    def action_flip(self) -> None:
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def action_secrets(self) -> None:
        self.show_secrets = not self.show_secrets
        talk = self._talk()
        if talk is not None:
            talk.redraw()

    async def action_quit(self) -> None:
        """End the session, take its last frames in, and leave with what there is to say."""
        if self._leaving:
            return
        sentence = ""
        try:
            await self.session.close()
        except WiretalkError as error:
            sentence = f"{error.sentence} {error.remedy}".strip()
        self.drain()
        self._leaving = True
        status = self.session.status
        info = ExitInfo(self.rows.lines, status.frames, status.lost, self.dialog.unseen(), status.recording)
        self.exit(info, return_code=0, message=sentence or None)
