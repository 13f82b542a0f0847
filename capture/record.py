"""What is kept of an observation: conversations, lines, gaps, notes, put together from `Update`s.

Claim: a record says the same whenever it is asked, however the updates were cut: rows stand in order of capture, and
the newest facts of a conversation are the true ones.

`Ordered` is for those who keep nothing: it takes updates and gives rows as soon as no earlier one can come any more.
What waits there is bounded, for a line that is never finished must not hold back the rest of a capture.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from operator import itemgetter

from capture import runs
from capture.model import Conversation, Line, Missing, Note, Run, Update

Row = Line | Missing

WAITING_OCTETS = 16 << 20  # what may wait in an `Ordered`: a few seconds of a busy line, and no burden for a small host
NOTES = 100  # of a kind, in one conversation: a million retransmissions are one finding and a count
ROW_OCTETS = 512  # what a row costs besides its octets


def _order(row: Row) -> int:
    return row.order


class Record:
    """Everything an analyzer said. Not shared between threads: updates cross, records stay.

    notes: of each kind the first `NOTES` of each conversation; `noted` counts them all.
    """

    def __init__(self) -> None:
        self._conversations: dict[int, Conversation] = {}
        self._rows: dict[int, list[Row]] = {}
        self._sorted: list[Row] | None = []
        self.gaps: list[Missing] = []
        self.notes: list[Note] = []
        self.noted: Counter[tuple[int, str]] = Counter()  # by conversation and kind: kept or not

    def apply(self, update: Update) -> None:
        """Add what became known."""
        for fact in update.conversations:
            self._conversations[fact.ident] = fact
        self.gaps += update.gaps
        for note in update.notes:
            told = self.noted[note.conversation, note.kind] = self.noted[note.conversation, note.kind] + 1
            if told <= NOTES:
                self.notes.append(note)
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

    When more than ``limit`` octets wait, the later half is kept and the earlier half released all the same, but for
    the rows of the conversations whose octets are waited for: within a conversation the order always holds. Only when
    these alone pass the limit, they go too. `hurried` counts the rows that were released before their time.
    """

    def __init__(self, limit: int = WAITING_OCTETS) -> None:
        self._limit = limit
        self._rows: list[Row | Run] = []
        self.hurried = 0

    def add(self, update: Update, horizon: int, waiting: Mapping[int, int] | None = None) -> Iterator[Row | Run]:
        """Take an update; gives the rows of which nothing earlier is to come. Runs only if the update has some.

        waiting: `Analyzer.waiting`, whose least is ``horizon``. Without it nothing is released before its time.
        """
        rows = self._rows
        if update.lines or update.runs or update.gaps:
            rows += update.lines
            rows += update.runs
            rows += update.gaps
            rows.sort(key=_place)
            for line in update.lines:
                if line.flags and "eod-in-gap" in line.flags:  # the only lines that may come again
                    _replace(rows, line)
        count = bisect_left(rows, horizon, key=_place)
        if count and isinstance(run := rows[count - 1], Run) and run.order + len(run.data) > horizon:
            rows[count - 1 : count] = runs.cut(run, run.data.count(b"\n", 0, horizon - run.order - 1) + 1)
            if not rows[count].data:  # type: ignore[union-attr]
                del rows[count]
        ready, self._rows = rows[:count], rows[count:]
        if waiting is not None:
            ready += self._hurry(waiting)
        return iter(ready)

    def __len__(self) -> int:
        """How many rows wait; a run counts as one."""
        return len(self._rows)

    def rest(self) -> Iterator[Row | Run]:
        """Everything left, at the end."""
        ready, self._rows = self._rows, []
        return iter(ready)

    def _hurry(self, waiting: Mapping[int, int]) -> list[Row | Run]:
        """What is released although something earlier is to come; nothing while the limit is kept."""
        if _cost(self._rows) <= self._limit:
            return []
        ready: list[Row | Run] = []
        for spared in (waiting, {}):
            kept, cost = [], _cost(self._rows)
            for row in self._rows:
                # A row behind one that its own conversation still waits for keeps its place behind it.
                if cost > self._limit // 2 and spared.get(row.conversation, row.order + 1) > row.order:
                    ready.append(row)
                    cost -= _cost([row])
                else:
                    kept.append(row)
            self._rows = kept
            if cost <= self._limit:
                break
        ready.sort(key=_place)
        self.hurried += len(ready)
        return ready


_place = itemgetter(-1)  # `order` is the last of a row's values


def _cost(rows: list[Row | Run]) -> int:
    return len(rows) * ROW_OCTETS + sum(len(row.data) for row in rows if not isinstance(row, Missing))


def _replace(rows: list[Row | Run], line: Line) -> None:
    """A line that comes a second time, with a flag more, takes the place of the first one."""
    index = bisect_right(rows, line.order, key=_place) - 1
    while index >= 0:
        old = rows[index]
        if isinstance(old, Run) and old.conversation == line.conversation and old.side is line.side:
            before = line.number - old.number
            if 0 <= before < old.total:
                front, rest = runs.cut(old, before)
                rows[index : index + 1] = [part for part in (front, runs.cut(rest, 1)[1]) if part.total]
                rows.sort(key=_place)
                return
        elif isinstance(old, Line) and old is not line and _same(old, line):
            del rows[index]
            return
        if old.order < line.order:
            return
        index -= 1


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
    for run in update.runs:
        yield from runs.lines(run)
