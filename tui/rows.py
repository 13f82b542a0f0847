"""What the wire pane lists: captured lines, gaps and the places where a conversation begins, in capture order.

Claim: rows are sorted by ``order`` whatever the order in which lines were made, and each row's bracket tells which rows
are one PDU. Adding a line costs the same with a hundred rows as with a million.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from capture.model import Conversation, Line, Missing, Note, Side, Update

NEAR = 64  # rows looked back for a PDU that goes on around a row of the other side


class Boundary(NamedTuple):
    """Here the first line of another conversation stands."""

    conversation: int
    order: int


Row = Line | Missing | Boundary
PduKey = tuple[int, Side, str]


@dataclass(slots=True)
class Extent:
    """Where a PDU's rows are: order of its first and last line, how many, and whether its end was seen."""

    first: int
    last: int
    lines: int
    ended: bool


class Bracket(NamedTuple):
    """A row's place in its PDU: ``╭`` first, ``│`` inside, ``╰`` last, blank alone, ``┆`` passed by another PDU.

    named: this row carries the PDU's name.
    """

    glyph: str
    named: bool


def key(line: Line) -> PduKey:
    """What the lines of one PDU have in common."""
    return line.conversation, line.side, line.pdu.ident


def ends_pdu(line: Line) -> bool:
    """Whether this line is the last of its PDU, by what it says: the lone dot, or a reply's last line."""
    if line.whole:
        return True
    fields = {span.field: span for span in line.spans}
    separator = fields.get("separator")
    if separator is not None and "reply-code" in fields:
        return line.data[separator.start : separator.end] != b"-"
    return "eod-dot" in fields


class Rows:
    """The rows, and what is needed to find a line's neighbours, PDU, conversation and notes."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.conversations: dict[int, Conversation] = {}
        self.notes: list[Note] = []
        self.sides: dict[tuple[int, Side], list[Line]] = {}
        self.start = 0
        """ns: when the first conversation began; times on the screen count from here."""
        self._orders: list[tuple[int, int]] = []
        self._pdus: dict[PduKey, Extent] = {}
        self._newest: dict[tuple[int, Side], str] = {}
        self._boundaries: dict[int, Boundary] = {}
        self._noted: dict[int, list[Note]] = {}
        self.lines = 0

    def __len__(self) -> int:
        return len(self.rows)

    def apply(self, update: Update) -> bool:
        """Take in an update. True when a row came to stand before the end, so that later rows moved."""
        for conversation in update.conversations:
            self.conversations[conversation.ident] = conversation
            if not self.start:
                self.start = conversation.start
        moved = False
        for line in update.lines:
            moved |= self._add_line(line)
        for gap in update.gaps:
            moved |= self._insert(gap)
        for note in update.notes:
            self.notes.append(note)
            self._noted.setdefault(note.frame, []).append(note)
        return moved

    def _add_line(self, line: Line) -> bool:
        if self._replace(line):
            return False
        self.lines += 1
        if not self.start:
            self.start = line.time
        moved = self._bound(line)
        side = self.sides.setdefault((line.conversation, line.side), [])
        if side and side[-1].offset > line.offset:
            insort(side, line, key=lambda other: other.offset)
        else:
            side.append(line)
        extent = self._pdus.get(key(line))
        if extent is None:
            self._pdus[key(line)] = Extent(line.order, line.order, 1, ends_pdu(line))
            self._newest[line.conversation, line.side] = line.pdu.ident
        else:
            extent.first, extent.last = min(extent.first, line.order), max(extent.last, line.order)
            extent.lines += 1
            extent.ended |= ends_pdu(line)
        return self._insert(line) or moved

    def _replace(self, line: Line) -> bool:
        """A line that is handed out again, with a flag more, takes the first one's place (`capture.record`)."""
        side = self.sides.get((line.conversation, line.side), [])
        place = bisect_left(side, line.offset, key=lambda other: other.offset)
        if place == len(side) or (side[place].number, side[place].offset) != (line.number, line.offset):
            return False
        self.rows[self.index(side[place])] = side[place] = line
        return True

    def _bound(self, line: Line) -> bool:
        """Mark where a second or later conversation begins; a line made late may move the mark forward."""
        old = self._boundaries.get(line.conversation)
        if old is not None and old.order <= line.order:
            return False
        if (
            old is None
            and not self._boundaries
            and line.conversation == min(self.conversations, default=line.conversation)
        ):
            self._boundaries[line.conversation] = Boundary(line.conversation, -1)  # the first needs no mark
            return False
        if old is not None:
            place = self.rows.index(old)
            del self.rows[place], self._orders[place]
        boundary = self._boundaries[line.conversation] = Boundary(line.conversation, line.order)
        return self._insert(boundary)

    def _insert(self, row: Row) -> bool:
        order = (row.order, 0 if isinstance(row, Boundary) else 1)
        if not self._orders or order >= self._orders[-1]:
            self.rows.append(row)
            self._orders.append(order)
            return False
        place = bisect_right(self._orders, order)
        self.rows.insert(place, row)
        self._orders.insert(place, order)
        return True

    def index(self, row: Row) -> int:
        """The row's place now; it moves when a held-back line is made."""
        order = (row.order, 0 if isinstance(row, Boundary) else 1)
        first = place = bisect_left(self._orders, order)
        while place < len(self.rows) and self._orders[place] == order:
            if self.rows[place] is row:
                return place
            place += 1
        return max(0, min(first, len(self.rows) - 1))

    def bracket(self, index: int) -> Bracket:
        """How the gutter of a row is drawn."""
        row = self.rows[index]
        if not isinstance(row, Line):
            return Bracket("┆" if self._passed_by(index, None) else " ", False)
        extent = self._pdus[key(row)]
        if extent.lines == 1:
            if self.is_open(row):
                return Bracket("╭", True)
            return Bracket("┆" if self._passed_by(index, key(row)) else " ", True)
        if row.order == extent.first:
            return Bracket("╭", True)
        if row.order == extent.last and not self.is_open(row):
            return Bracket("╰", False)
        return Bracket("│", False)

    def is_open(self, line: Line) -> bool:
        """Whether more lines of the line's PDU may come: its end was not seen and nothing newer began."""
        extent = self._pdus[key(line)]
        conversation = self.conversations.get(line.conversation)
        return (
            not extent.ended
            and self._newest[line.conversation, line.side] == line.pdu.ident
            and not (conversation is not None and conversation.closed)
        )

    def _passed_by(self, index: int, own: PduKey | None) -> bool:
        order = self._orders[index][0]
        for place in range(index - 1, max(-1, index - NEAR), -1):
            row = self.rows[place]
            if isinstance(row, Line) and key(row) != own:
                extent = self._pdus[key(row)]
                if extent.lines > 1 and extent.last > order:
                    return True
        return False

    def overlapping(self, conversation: int, side: Side, start: int, end: int) -> Iterable[Line]:
        """The lines of one side that have octets in ``[start, end)`` of its stream."""
        lines = self.sides.get((conversation, side), [])
        place = max(0, bisect_right(lines, start, key=lambda line: line.offset) - 1)
        for line in lines[place:]:
            if line.offset >= end:
                return
            if line.offset + len(line.data) > start:
                yield line

    def pdu_lines(self, line: Line) -> int:
        """How many lines the line's PDU has so far."""
        return self._pdus[key(line)].lines

    def notes_of(self, line: Line) -> list[Note]:
        """The oddities seen in the line's frames that concern it: its side, and its octets where a place is known."""
        end = line.offset + len(line.data)
        return [
            note
            for frame in line.frames
            for note in self._noted.get(frame, ())
            if note.conversation in (0, line.conversation)
            and note.side in (None, line.side)
            and (note.offset < 0 or line.offset <= note.offset < end)
        ]
