"""A list with a cursor that costs what its visible page costs.

Claim: no object exists for a row that is not on the screen. A subclass answers `count`, `key` and `line`; strips are
kept in an LRU under everything that changes their look. `grown` changes the virtual size once for a whole batch.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from tui.app import WiretalkApp
    from tui.palette import Ink


def ink_of(widget: Widget) -> Ink:
    """The styles of the theme in use."""
    return cast("WiretalkApp", widget.app).ink


class Cursored(ScrollView, can_focus=True):
    """A line-API list. Rows are drawn by `line`, which never sees more than the width of the page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "first", "First", show=False),
        Binding("end,G", "last", "Last", show=False),
    ]
    # The bar is always there: one that comes and goes with the rows is placed a layout too late.
    DEFAULT_CSS = "Cursored { overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }"

    cursor: reactive[int] = reactive(0, repaint=False, init=False)

    class Moved(Message):
        """The cursor stands on another row. by_hand: a person moved it."""

        def __init__(self, widget: Cursored, index: int, *, by_hand: bool) -> None:
            super().__init__()
            self.widget = widget
            self.index = index
            self.by_hand = by_hand

        @property
        def control(self) -> Cursored:
            return self.widget

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._strips: LRUCache[Hashable, Strip] = LRUCache(1024)

    @property
    def ink(self) -> Ink:
        """The styles of the theme in use."""
        return ink_of(self)

    @property
    def page(self) -> Size:
        """Cells there are for rows: without the scroll bar."""
        return self.scrollable_content_region.size

    # what a subclass gives

    def count(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def key(self, index: int) -> Hashable:
        """What row ``index`` looks like depends on this, besides width, cursor and theme."""
        raise NotImplementedError

    def line(self, index: int, width: int, *, current: bool) -> Strip:
        """Row ``index`` as exactly ``width`` cells."""
        raise NotImplementedError

    # what it does with it

    def reset(self) -> None:
        """Everything may look different now."""
        self._strips.clear()
        self.grown()

    def grown(self) -> None:
        """The number of rows changed, or rows whose `key` changed may be in view."""
        size = Size(max(1, self.page.width), self.count())
        if size != self.virtual_size:
            self.virtual_size = size
        self.refresh()

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        width = self.page.width
        if not 0 <= index < self.count():
            return Strip.blank(width, self.ink.base)
        current = index == self.cursor
        key = (self.key(index), width, current, self.has_focus)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._strips[key] = self.line(index, width, current=current)
        return strip

    def validate_cursor(self, value: int) -> int:
        return max(0, min(self.count() - 1, value))

    def watch_cursor(self, old: int, new: int) -> None:
        self.refresh_line(old)
        self.refresh_line(new)
        self.reveal(new)

    def reveal(self, index: int) -> None:
        """Scroll as little as brings the row into view."""
        top, height = self.scroll_offset.y, self.page.height
        if height <= 0:
            return  # before the first layout; on_resize comes back
        if index < top:
            self.scroll_to(y=index, animate=False, force=True)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False, force=True)

    def place(self, index: int, *, by_hand: bool = True) -> None:
        """Put the cursor on a row and say so."""
        self.cursor = index
        self.post_message(self.Moved(self, self.cursor, by_hand=by_hand))

    def on_resize(self) -> None:
        self.resized()

    def resized(self) -> None:
        """The page has another size. A subclass replaces this; handlers of an event are called one after the other."""
        self.reset()
        self.reveal(self.cursor)

    def notify_style_update(self) -> None:
        self._strips.clear()
        super().notify_style_update()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh()

    def action_move(self, rows: int) -> None:
        self.place(self.cursor + rows)

    def action_page(self, pages: int) -> None:
        self.place(self.cursor + pages * max(1, self.page.height - 1))

    def action_first(self) -> None:
        self.place(0)

    def action_last(self) -> None:
        self.place(self.count() - 1)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.y + self.scroll_offset.y < self.count():
            self.place(offset.y + self.scroll_offset.y)
