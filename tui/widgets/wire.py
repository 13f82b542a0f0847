"""The wire pane: what was captured, line by line, each labelled, the lines of one PDU joined by a bracket.

Claim: every row is drawn from a captured line and from nothing else. Roles are told apart by solidity and underline,
labels by words, PDUs by brackets; colour only helps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from rich.style import Style
from textual.strip import Strip

from capture.labels import label
from capture.model import Label, Line, Missing, Side, Update
from tui.render import Cells, safe_text, visible
from tui.rows import Boundary, Bracket, Row, Rows
from tui.widgets.cursored import Cursored

WIDE = 62  # cells from which times, both ends of the arrow and the names of PDUs of one line are shown
WORDS = {Label.PDU: "PDU", Label.PCI: "PCI", Label.USER_DATA: "user data"}
MEANING = frozenset({"verb", "keyword", "reply-code", "eod-dot", "stuffed-dot", "ehlo-keyword", "status"})
"""Fields drawn bold, so that a row of solid PCI can still be read from afar."""


class WireList(Cursored):
    """The list. ``shown``: a line's octets as they may be seen, secrets blotted out unless they are switched on."""

    def __init__(self, rows: Rows, shown: Callable[[Line], bytes], *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.rows = rows
        self.shown = shown
        self.following = True
        self.unread = 0
        self.warning = ""
        self.border_title = "On the wire"
        self._digits = 3

    # the list

    def count(self) -> int:
        return len(self.rows)

    def key(self, index: int) -> Hashable:
        row = self.rows.rows[index]
        if isinstance(row, Boundary):
            return "boundary", row.conversation
        if isinstance(row, Missing):
            return "missing", row.conversation, row.side, row.offset, row.length
        joined = self.rows.pdu_lines(row) > 1
        return row.conversation, row.side, row.offset, self.rows.bracket(index), joined, self._digits, row.flags

    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self.rows.rows[self.cursor] if self.rows.rows else None

    def took(self, update_lines: int, ours: list[Line], *, moved: bool, chosen: Row | None) -> None:
        """Rows came. While following, the cursor rests on what the client said last and the end stays in view.

        chosen: the row that was under the cursor before; it keeps the cursor where rows moved.
        """
        newest = self.rows.rows[-1] if self.rows.rows else None
        if isinstance(newest, Line):
            self._digits = max(self._digits, len(str(newest.frames[-1] if newest.frames else 0)))
        self.grown()
        if self.following:
            said = next((line for line in reversed(ours) if line.side is Side.CLIENT), None)
            stays = (
                isinstance(chosen, Line)
                and chosen.side is Side.CLIENT
                and said is None
                and all(line.conversation == chosen.conversation for line in ours)
            )
            target = chosen if stays else said or newest
            if target is not None:
                self.place(self.rows.index(target), by_hand=False)
            self.show_end()
        else:
            self.unread += update_lines
            if moved and chosen is not None:
                self.cursor = self.rows.index(chosen)
        self.caption()

    def show_end(self) -> None:
        """Bring the newest row into view."""
        self.scroll_to(y=max(0, self.count() - self.page.height), animate=False, force=True)

    def resized(self) -> None:
        super().resized()
        if self.following:
            self.call_after_refresh(self.show_end)

    def place(self, index: int, *, by_hand: bool = True) -> None:
        if by_hand:
            self.following = index >= self.count() - 1
            if self.following:
                self.unread = 0
            self.caption()
        super().place(index, by_hand=by_hand)

    def caption(self) -> None:
        """The border says how many lines there are and whether the list follows, or that nothing is sniffed."""
        lines = f"{self.rows.lines} line{'s' * (self.rows.lines != 1)}"
        new = f"+{self.unread} new · " if self.unread else ""
        state = "following" if self.following else f"{new}End follows"
        self.border_subtitle = self.warning or f"{lines} · {state}"

    # a row

    def line(self, index: int, width: int, *, current: bool) -> Strip:
        ink = self.ink
        row = self.rows.rows[index]
        over = ink.cursor if current else Style()
        base = ink.base + over
        cells = Cells().add("▌" if current else " ", ink.accent + over)
        if isinstance(row, Boundary):
            return cells.add(f"── {self._named(row.conversation)} ", ink.dim + over).strip(width, base)
        if isinstance(row, Missing):
            side = "client" if row.side is Side.CLIENT else "server"
            cells.add(f" … {row.length} octets of the {side} not captured …", ink.trouble + over)
            return cells.strip(width, base)
        bracket, joined = self.rows.bracket(index), self.rows.pdu_lines(row) > 1
        self._head(cells, row, bracket, width, over)
        name = self._pdu_name(row) if bracket.named and (joined or width >= WIDE) else ""
        room = width - (len(name) + 1 if name and joined else 0)
        for start, end, role, field in row.spans:
            if cells.width >= room:
                break
            text = visible(self.shown(row)[start : min(end, start + width)])
            style = ink.role(role, strong=field in MEANING)
            cells.add(text, style)
        cells.crop(room, base)
        if name and cells.width < width - len(name):
            cells.pad(width - len(name), base).add(name, ink.dim + over)
        return cells.strip(width, base)

    def _head(self, cells: Cells, row: Line, bracket: Bracket, width: int, over: Style) -> None:
        ink = self.ink
        frame = f"{row.frames[0] if row.frames else 0:>{self._digits}}" + ("+" if len(row.frames) > 1 else " ")
        words = label(row)
        chip = ink.label(words) + over
        if width >= WIDE:
            seconds = max(0, row.time - self.rows.start) / 1e9
            way = "C▶S" if row.side is Side.CLIENT else "S▶C"
            cells.add(f"{frame}{seconds:8.3f} ", ink.dim + over).add(f"{way} ", ink.base + over)
            cells.add(f"{WORDS[words]:<9} ", chip).add(f"{bracket.glyph} ", ink.base + over)
        else:
            way = "C▶" if row.side is Side.CLIENT else "S▶"
            cells.add(frame, ink.dim + over).add(f"{way} ", ink.base + over)
            cells.add(f"{WORDS[words]:<9} ", chip).add(bracket.glyph, ink.base + over)

    def _pdu_name(self, row: Line) -> str:
        several = len(self.rows.conversations) > 1
        ident = f"{row.conversation}:{row.pdu.ident}" if several else row.pdu.ident
        return f" {safe_text(row.pdu.name)} {ident}"

    def _named(self, ident: int) -> str:
        conversation = self.rows.conversations.get(ident)
        if conversation is None:
            return f"conversation {ident}"
        return f"conversation {ident} · {conversation.client} ▶ {conversation.server}"


def line_count(updates: list[Update]) -> int:
    """How many lines some updates bring."""
    return sum(len(update.lines) for update in updates)
