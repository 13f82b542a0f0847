"""The Talk screen: type on the left, see the wire on the right, and below what the chosen line is made of.

Claim: the screen owns no truth. It hands typed lines to the session, and shows what the app drained from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from capture.errors import WiretalkError
from capture.exported import NOT_SNIFFED
from capture.model import Line, Update
from tui.dialog import Kind
from tui.messages import Closed, Event, Failed, Opened, Received, Said, Status
from tui.render import safe_text
from tui.screens.base import Place
from tui.screens.question import Question
from tui.suggest import OVER, Guide, Suggestion
from tui.widgets.cursored import Cursored
from tui.widgets.inspector import HexView, Inspector
from tui.widgets.session import Prompt, Transcript
from tui.widgets.wire import WireList, line_count

PREVIEW = 6  # lines of a paste that the question shows
LAST_WORDS = 0.5  # s that the word of the end waits for the last lines still on their way from the capture
AGAIN = "Ctrl+R connects again · Ctrl+Q quits"
NEVER_AGAIN = "Ctrl+Q quits; then start wiretalk again"


class TalkScreen(Place):
    """The main screen."""

    MODE = "talk"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave_prompt", "Wire lines"),
        Binding("i,enter", "type", "Type", show=False),
        Binding("ctrl+up", "wire(-1)", "Choose line", key_display="^↑↓", priority=True),
        Binding("ctrl+down", "wire(1)", "Next line", show=False, priority=True),
        Binding("ctrl+o", "zoom", "Zoom", priority=True),
        Binding("ctrl+r", "reconnect", "Reconnect", priority=True),
        Binding("pageup", "scroll_session(-1)", "Earlier", show=False),
        Binding("pagedown", "scroll_session(1)", "Later", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._connected = False
        self._connecting = False
        self._ending: list[tuple[float, str]] = []
        self._tail: list[bytes] = []
        self._early: list[Line] = []
        self._status = Status()

    def body(self) -> Iterable[Widget]:
        app = self.wiretalk
        transcript = Transcript(app.dialog, app.shown, id="transcript")
        session = Vertical(transcript, Static(id="hint"), Prompt(id="prompt"), id="session", classes="panel")
        session.border_title = Content(f"Session · {safe_text(app.session.title)}")
        yield Horizontal(session, WireList(app.rows, app.shown, id="wire"), id="top")
        yield Inspector(app.rows, app.session.frame, app.shown, id="inspector")

    def on_mount(self) -> None:
        self.prompt.focus()
        self.connect()
        self.typist()
        self._advise()

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    @property
    def wire(self) -> WireList:
        return self.query_one(WireList)

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    @property
    def inspector(self) -> Inspector:
        return self.query_one(Inspector)

    # what comes in, twenty times a second

    def take(self, updates: list[Update], events: list[Event], status: Status) -> None:
        """Show what one drain brought."""
        now = time.monotonic()
        if status != self._status:
            self._show_state(status)
        for event in events:
            self._happened(event, now)
        chosen = self.wire.selected()
        ours, self._early = self._early, []
        moved = False
        for update in updates:
            moved |= self.wiretalk.rows.apply(update)
            ours += self.wiretalk.dialog.apply(update)
        for line in ours:
            self.prompt.ghost.guide.feed(line)
        self._say_ends(now)
        tail = self.wiretalk.dialog.tail(now)
        if (
            updates
            or events
            or tail != self._tail
            or self.wiretalk.dialog.changed_from < len(self.wiretalk.dialog.entries)
        ):
            self._refill()
            self._advise()
        if updates:
            self.wire.took(line_count(updates), ours, moved=moved, chosen=chosen)

    def _refill(self) -> None:
        self._tail = self.wiretalk.dialog.tail(time.monotonic())
        self.transcript.refill(self._tail)

    def _happened(self, event: Event, now: float) -> None:
        dialog = self.wiretalk.dialog
        match event:
            case Opened(client, server):
                self._say_ends(now, at_once=True)
                if dialog.entries:
                    dialog.say(f"Connected to {self.wiretalk.session.title}.")
                self._early += dialog.open(client, server)
                self.prompt.ghost.guide = Guide()
                self._connected = True
            case Received(octets):
                dialog.receive(octets, now)
            case Said(sentence):
                dialog.say(sentence)
            case Closed(sentence):
                self._connected = False
                self._ending.append((now, sentence))
            case Failed(sentence, remedy):
                self._trouble(sentence, remedy)

    def _say_ends(self, now: float, *, at_once: bool = False) -> None:
        """Say that the connection is over, behind its last captured lines and not before them."""
        while self._ending and (at_once or now - self._ending[0][0] >= LAST_WORDS):
            _, sentence = self._ending.pop(0)
            self.wiretalk.dialog.say(sentence)
            if not at_once and not self._status.failure:  # which was told already
                self.wiretalk.dialog.say(AGAIN)

    def _trouble(self, sentence: str, remedy: str) -> None:
        dialog = self.wiretalk.dialog
        dialog.say(sentence, Kind.TROUBLE)
        if remedy:
            dialog.say(remedy)
        if not self._connected and not (remedy and self._status.failure):
            dialog.say(NEVER_AGAIN if self._status.failure else AGAIN)

    def _show_state(self, status: Status) -> None:
        unsniffed = "" if status.sniffed else NOT_SNIFFED
        if status.notice and status.notice != self._status.notice:
            self.wiretalk.dialog.say(status.notice)
            self._refill()
        failed = status.failure != self._status.failure
        self._status = status
        if failed:
            self._advise()
        self.show_status(status)
        self.query_one("#session").border_subtitle = "" if status.sniffed else "socket, not sniffed"  # narrow
        self.wire.warning = unsniffed
        self.wire.caption()
        self.inspector.warn(unsniffed)

    def _advise(self) -> None:
        """Show the next sensible line, grey in the empty prompt, and in words above it."""
        guide = self.prompt.ghost.guide
        advice = guide.next
        if self._connecting:
            advice = Suggestion(None, "connecting …")
        elif not self._connected or advice is OVER:
            advice = Suggestion(None, NEVER_AGAIN if self._status.failure else "Ctrl+R connects again")
        self.prompt.suggest(advice)
        self.prompt.password = guide.asks_secret and not self.wiretalk.show_secrets
        keys = "Enter sends it" if advice.line == "" else "→ takes the grey line, Enter sends" if advice.line else ""
        self.query_one("#hint", Static).update(
            Content.assemble(("Next ", "bold"), advice.why, "\n", (keys, "dim")) if keys else Content(advice.why)
        )

    # what a person does

    @on(Input.Submitted, "#prompt")
    def submitted(self, event: Input.Submitted) -> None:
        self._outgoing.put_nowait(event.value)

    def say_line(self, text: str) -> None:
        """Send a line, as if typed."""
        self.prompt.remember(text)
        self._outgoing.put_nowait(text)

    @work(group="typist", exit_on_error=True)
    async def typist(self) -> None:
        """Sends the lines one by one, in order, each in one write; says what cannot be sent."""
        dialog, session = self.wiretalk.dialog, self.wiretalk.session
        while True:
            text = await self._outgoing.get()
            if not self._connected:
                self._trouble("Not connected: the line was not sent.", "")
            else:
                entry = dialog.type(text, secret=self.prompt.ghost.guide.asks_secret)
                try:
                    await session.send_line(text)
                except WiretalkError as error:
                    dialog.retract(entry)
                    self._trouble(error.sentence, error.remedy)
            self._refill()
            self.transcript.show_end()

    @work(group="connection", exclusive=True)
    async def connect(self) -> None:
        """Open the connection, or say why it cannot be had."""
        self._connecting = True
        self._advise()
        try:
            await self.wiretalk.session.open()
        except WiretalkError as error:
            self._trouble(error.sentence, error.remedy)
            self._refill()
        finally:
            self._connecting = False
        self._advise()

    @on(Prompt.HalfClose)
    @work(group="half-close")
    async def half_close(self) -> None:
        """Send FIN."""
        try:
            await self.wiretalk.session.half_close()
        except WiretalkError as error:
            self._trouble(error.sentence, error.remedy)
        else:
            self.wiretalk.dialog.say("You said that nothing more will come (FIN).")
        self._refill()

    @on(Prompt.Pasted)
    @work(group="paste", exclusive=True)
    async def pasted(self, event: Prompt.Pasted) -> None:
        """Several lines were pasted: ask, then send each as if it had been typed."""
        count = len(event.lines)
        detail = [safe_text(line)[:70] for line in event.lines[:PREVIEW]]
        if count > PREVIEW:
            detail.append(f"… and {count - PREVIEW} more")
        question = Question(f"Send {count} lines?", detail, yes="send, one after the other", no="send nothing")
        if await self.app.push_screen_wait(question):
            for line in event.lines:
                self.say_line(line)
            self.prompt.value = ""

    @work(group="reconnect", exclusive=True)
    async def action_reconnect(self) -> None:
        if self._connected:
            question = Question(
                "Connect again?",
                ["This connection still stands. It will be closed."],
                yes="connect again",
                no="keep it",
            )
            if not await self.app.push_screen_wait(question):
                return
        self.connect()
        self.prompt.focus()

    def action_half_close(self) -> None:
        self.half_close()

    def action_leave_prompt(self) -> None:
        if self.has_class("-zoomed"):
            self.action_zoom()
        else:
            self.wire.focus()

    def action_type(self) -> None:
        self.remove_class("-zoomed")
        self.prompt.focus()

    def action_zoom(self) -> None:
        self.toggle_class("-zoomed")
        if self.has_class("-zoomed"):
            self.query_one(HexView).focus()
        else:
            self.prompt.focus()

    def action_wire(self, step: int) -> None:
        self.wire.action_move(step)

    def action_scroll_session(self, pages: int) -> None:
        self.transcript.scroll_pages(pages)

    @on(Cursored.Moved, "#wire")
    def chosen(self) -> None:
        """Another line was chosen, by hand or by following."""
        self.inspector.show(self.wire.selected())

    def redraw(self) -> None:
        """The theme changed, or what may be shown did."""
        self.transcript.secrets = self.wiretalk.show_secrets
        self.transcript.rewrap()
        self.wire.reset()
        self.inspector.show(self.wire.selected())
        self._advise()
