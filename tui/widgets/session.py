"""The session pane: the dialogue as a person has it, and the prompt.

Claim: what stands solid here was captured; what is faint is known only to this program. Typed lines carry a ``»`` and,
once captured, their label.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.style import Style
from textual import events, on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.scrollbar import ScrollDown, ScrollTo, ScrollUp
from textual.strip import Strip
from textual.widgets import Input

from capture.labels import label
from capture.model import Line
from tui.dialog import Dialog, Entry, Kind, hide
from tui.render import Cells, safe_text, visible, wrap
from tui.suggest import GhostText, Suggestion
from tui.widgets.cursored import Cursored
from tui.widgets.wire import WORDS

ROWS = 6  # a longer entry is cut: the wire pane and the inspector have all of it
INDENT = 2
ENDS = b"\r\n"


class Piece(NamedTuple):
    """One row of the pane: the first, the last, or one between, of an entry."""

    entry: Entry
    text: str
    first: bool
    last: bool


class Transcript(Cursored, can_focus=False):
    """The dialogue, wrapped to the pane; it always shows its end unless it was scrolled away from it."""

    def __init__(self, dialog: Dialog, shown: Callable[[Line], bytes], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.dialog = dialog
        self.shown = shown
        self.secrets = False
        self.following = True
        """The end is to be seen; only a person's scrolling changes that."""
        self._tail: list[Entry] = []
        self._tail_at = 0
        self._pieces: list[Piece] = []
        self._firsts: list[int] = []

    def count(self) -> int:
        return len(self._pieces)

    def key(self, index: int) -> Hashable:
        piece = self._pieces[index]
        return piece.entry.kind, piece[1:], piece.entry.faint, self._word(piece.entry)

    @staticmethod
    def _word(entry: Entry) -> str:
        return WORDS[label(entry.line)] if entry.line is not None and entry.kind is Kind.TYPED else ""

    def refill(self, tail: list[bytes]) -> None:
        """Take over what changed in the dialogue; ``tail``: lines that only the socket has so far."""
        first = min(self.dialog.settle(), len(self._firsts))
        keep = self._firsts[first] if first < len(self._firsts) else self._tail_at
        del self._pieces[keep:], self._firsts[first:]
        for entry in self.dialog.entries[first:]:
            self._firsts.append(len(self._pieces))
            self._lay(entry)
        self._tail_at = len(self._pieces)
        self._tail = [Entry(Kind.SERVER, piece, missing=len(piece)) for piece in tail]
        for entry in self._tail:
            self._lay(entry)
        self.grown()
        if self.following:
            self.show_end()

    def show_end(self) -> None:
        """Bring the last row into view, and those that come."""
        self.following = True
        self.scroll_to(y=max(0, self.count() - self.page.height), animate=False, force=True)

    def scroll_pages(self, pages: int) -> None:
        """A person looks back, or forward again."""
        self.scroll_relative(y=pages * max(1, self.page.height - 1), animate=False, force=True)
        self._scrolled()

    @on(events.MouseScrollUp)
    @on(events.MouseScrollDown)
    @on(ScrollTo)
    @on(ScrollUp)
    @on(ScrollDown)
    def _by_hand(self) -> None:
        self.call_later(self._scrolled)  # the handler that scrolls comes behind this one

    def _scrolled(self) -> None:
        self.following = self.scroll_target_y >= self.max_scroll_y

    def rewrap(self) -> None:
        """Lay everything out again: the width or what may be shown has changed. What was in view stays there."""
        top = bisect_right(self._firsts, self.scroll_offset.y) - 1
        self._strips.clear()
        self._pieces.clear()
        self._firsts.clear()
        self._tail_at = 0
        self.dialog.changed_from = 0
        self.refill([entry.octets for entry in self._tail])
        # How far down one can scroll is known when the new size has been laid out.
        if self.following:
            self.call_after_refresh(self.show_end)
        elif 0 <= top < len(self._firsts):
            self.call_after_refresh(self.scroll_to, y=self._firsts[top], animate=False, force=True)

    def resized(self) -> None:
        self.rewrap()

    def _lay(self, entry: Entry) -> None:
        width = max(8, self.page.width - INDENT)
        if entry.kind in (Kind.NOTICE, Kind.TROUBLE):
            rows = wrap(safe_text(entry.octets.decode("utf-8", "replace")), width)
        else:
            rows = wrap(self._text(entry, width * (ROWS + 1)), width, limit=ROWS)
        if (word := self._word(entry)) and cell_len(rows[-1]) + len(word) + 2 > width:
            rows.append("")  # the label has a row of its own where it does not fit behind the line
        for number, text in enumerate(rows):
            self._pieces.append(Piece(entry, text, number == 0, number == len(rows) - 1))

    def _text(self, entry: Entry, limit: int) -> str:
        """As a terminal would show it: without the line end, which the wire pane has; at most ``limit`` characters."""
        octets = self._octets(entry).removesuffix(b"\n").removesuffix(b"\r")
        if entry.kind is Kind.TYPED and not octets.isascii():
            # Typed here, so it is text. The wire pane shows the octets that it became.
            try:
                return safe_text(octets.decode("utf-8")[:limit])
            except UnicodeDecodeError:  # a piece of a line, or telnet's
                pass
        return visible(octets[:limit])

    def _octets(self, entry: Entry) -> bytes:
        octets = entry.octets
        if entry.line is not None and entry.line.data == octets:
            return self.shown(entry.line)
        if self.secrets or entry.kind is not Kind.TYPED:
            return octets
        body = octets.rstrip(ENDS)
        return b"*" * len(body) if entry.secret else hide(octets)

    def line(self, index: int, width: int, *, current: bool) -> Strip:
        del current
        ink = self.ink
        entry, text, first, last = self._pieces[index]
        if entry.kind is Kind.TYPED:
            style = ink.dim if entry.faint else ink.bold
            cells = Cells().add("» " if first else "  ", ink.dim if entry.faint else ink.accent).add(text, style)
            if last and (word := self._word(entry)):
                cells.pad(width - len(word) - 1, ink.base).add(word, ink.dim)
        elif entry.kind is Kind.SERVER:
            cells = Cells().add("  ", ink.base).add(text, ink.dim if entry.faint else ink.base)
        else:
            style = ink.trouble if entry.kind is Kind.TROUBLE else ink.dim + Style(italic=True)
            cells = Cells().add("· " if first else "  ", style).add(text, style)
        return cells.strip(width, ink.base)


class Prompt(Input):
    """One line to type. History with ↑ and ↓; → or Tab takes the grey suggestion; a paste of several lines asks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "recall(-1)", "Earlier line", show=False),
        Binding("down", "recall(1)", "Later line", show=False),
        Binding("tab", "complete", "Accept the suggestion", show=False),
        Binding("ctrl+d", "half_close", "Nothing more to send", show=False),
    ]

    class Pasted(Message):
        """Several lines were pasted; the first continues what stands in the prompt."""

        def __init__(self, lines: list[str]) -> None:
            super().__init__()
            self.lines = lines

    class HalfClose(Message):
        """Ctrl+D: there is nothing more to send."""

    def __init__(self, *, id: str | None = None) -> None:
        self.ghost = GhostText()
        super().__init__(suggester=self.ghost, id=id, compact=True, select_on_focus=False)
        self.history: list[str] = []
        self._recalled = 0
        self._draft = ""

    def suggest(self, suggestion: Suggestion) -> None:
        """What an empty prompt shows in grey."""
        self.placeholder = suggestion.line or ""

    def remember(self, text: str) -> None:
        """Keep a sent line for ↑, unless it is a secret."""
        octets = text.encode("utf-8", "replace")
        guide = self.ghost.guide
        secret = guide.asks_secret or (hide(octets) != octets and bool(guide.verbs))  # no verbs: the text of a message
        if text and not secret and (not self.history or self.history[-1] != text):
            self.history.append(text)
        self._recalled = len(self.history)

    async def _on_key(self, event: events.Key) -> None:
        # A binding would run only after the key has come back from the app, and by then the next characters of a fast
        # typist, or of a terminal that pastes, are in the line already: keys are obeyed in the order they were pressed.
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            if await self.app.run_action(binding.action, self):
                event.stop()
                event.prevent_default()
                return

    async def action_submit(self) -> None:
        """Enter: the line goes, and the prompt is empty for what is typed next."""
        text, self.value, self.placeholder = self.value, "", ""
        self.remember(text)
        self.post_message(self.Submitted(self, text))

    def action_recall(self, step: int) -> None:
        if self._recalled == len(self.history):
            self._draft = self.value
        place = max(0, min(len(self.history), self._recalled + step))
        if place == self._recalled:
            return
        self._recalled = place
        self.value = self.history[place] if place < len(self.history) else self._draft
        self.cursor_position = len(self.value)

    def action_complete(self) -> None:
        """Tab: take the suggestion; with none, go on to the next pane."""
        before = self.value
        if self.cursor_at_end:
            self.action_cursor_right()
        if self.value == before:
            self.screen.focus_next()

    def action_cursor_right(self, select: bool = False) -> None:
        if not self.value and not select and self.placeholder:
            self.value = str(self.placeholder)
            self.cursor_position = len(self.value)
            return
        if not select and self.cursor_at_end and not self._suggestion:
            # The grey text is drawn a moment after the characters were typed; who knows it is faster.
            self._suggestion = self.ghost.complete(self.value) or ""
        super().action_cursor_right(select)

    def action_half_close(self) -> None:
        self.post_message(self.HalfClose())

    def on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self.take_paste(event.text)

    def action_paste(self) -> None:
        self.take_paste(self.app.clipboard)

    def take_paste(self, text: str) -> None:
        """Several lines go to the screen, which asks; a line end at the end of one line is not Enter."""
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if len(lines) > 1 and lines[-1] == "":
            lines.pop()
        if len(lines) > 1:
            start, end = sorted(self.selection)
            lines[0] = self.value[:start] + lines[0]
            lines[-1] += self.value[end:]
            self.post_message(self.Pasted(lines))
        elif lines[0]:
            self.replace(lines[0], *sorted(self.selection))
