"""What is kept of an observation: conversations, lines, gaps, notes, put together from `Update`s.

Claim: a record says the same whenever it is asked, however the updates were cut: rows stand in order of capture, and
the newest facts of a conversation are the true ones.

`Ordered` is for those who keep nothing: it takes updates and gives rows as soon as no earlier one can come any more.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from capture.model import Conversation, Line, Missing, Note, Update

Row = Line | Missing


def _order(row: Row) -> int:
    return row.order


class Record:
    """Everything an analyzer said. Not shared between threads: updates cross, records stay."""

    def __init__(self) -> None:
        self._conversations: dict[int, Conversation] = {}
        self._rows: dict[int, list[Row]] = {}
        self._sorted: list[Row] | None = []
        self.gaps: list[Missing] = []
        self.notes: list[Note] = []

    def apply(self, update: Update) -> None:
        """Add what became known."""
        for fact in update.conversations:
            self._conversations[fact.ident] = fact
        self.gaps += update.gaps
        self.notes += update.notes
        for row in _rows(update):
            rows = self._rows.get(row.conversation)
            if rows is None:
                rows = self._rows[row.conversation] = []
            _insert(rows, row)
            self._sorted = None

    @property
    def lines(self) -> list[Line]:
        """All lines, in order of capture."""
        return [row for row in self.rows() if isinstance(row, Line)]

    @property
    def conversations(self) -> list[Conversation]:
        """The newest facts of each, in order of first sight."""
        return sorted(self._conversations.values(), key=lambda fact: fact.ident)

    def conversation(self, ident: int) -> Conversation | None:
        """The newest facts of this one."""
        return self._conversations.get(ident)

    def rows(self, conversation: int | None = None) -> list[Row]:
        """Lines and gaps in order of capture, of one conversation or of all."""
        if conversation is not None:
            return list(self._rows.get(conversation, ()))
        if self._sorted is None:
            self._sorted = sorted((row for rows in self._rows.values() for row in rows), key=_order)
        return list(self._sorted)


class Ordered:
    """Rows in order of capture, released as early as the updates allow.

    A row can be released when no line with an earlier octet can come: when every octet before it, of every
    conversation, is in a line. `horizon`, from `Analyzer.horizon`, says up to where that is so.
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, update: Update, horizon: int) -> Iterator[Row]:
        """Take an update; gives the rows of which nothing earlier is to come."""
        for row in _rows(update):
            _insert(self._rows, row)
        count = 0
        while count < len(self._rows) and self._rows[count].order < horizon:
            count += 1
        ready, self._rows = self._rows[:count], self._rows[count:]
        return iter(ready)

    def rest(self) -> Iterator[Row]:
        """Everything left, at the end."""
        ready, self._rows = self._rows, []
        return iter(ready)


def _insert(rows: list[Row], row: Row) -> None:
    """Put a row in its place. A line that comes a second time (with a flag more) takes the first one's."""
    if not rows or rows[-1].order < row.order:
        rows.append(row)
        return
    index = bisect_right(rows, row.order, key=_order) - 1
    old = rows[index] if index >= 0 else None
    if isinstance(old, Line) and isinstance(row, Line) and _same(old, row):
        rows[index] = row
    else:
        insort(rows, row, key=_order)


def _same(one: Line, other: Line) -> bool:
    return (one.conversation, one.side, one.number, one.offset) == (
        other.conversation,
        other.side,
        other.number,
        other.offset,
    )


def _rows(update: Update) -> Iterator[Row]:
    yield from update.gaps
    yield from update.lines
