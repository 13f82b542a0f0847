"""A conversation read another way: the contested readings applied to lines, as far as they need their neighbours.

Claim: `reread` changes PDUs, roles and wholeness, nothing else: the same rows in the same order, the same octets,
fields and flags. With the default readings it gives every row as it is. What it gives is labelled by the one rule
(`capture.labels.label`).

A row waits until what decides about it has come (the reply to DATA, the line behind an AUTH, the dot behind a line of
mail data), and the rows behind it wait with it; at most `WAITING`, then it goes as it stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from capture.errors import WiretalkError
from capture.labels import DEFAULT, Readings, spans
from capture.model import Line, Missing, Pdu, Role, Side, Span

WAITING = 16_384  # rows; a conversation that stops in the middle of AUTH must not hold up the others for ever

FOR_THE_READER = frozenset({"subject", "comments", "keywords"})  # RFC 5322 3.6.5: "informational" fields

Row = Line | Missing

# reading: its values, the default first, and what each sets
CHOICES: dict[str, dict[str, dict[str, object]]] = {
    "C1": {"pci": {"addresses": Role.PCI}, "user-data": {"addresses": Role.USER_DATA}},
    "C2": {"pci": {"reply_text": Role.PCI}, "user-data": {"reply_text": Role.USER_DATA}},
    "C3": {"two": {"data_is_one": False}, "one": {"data_is_one": True}},
    "C4": {
        "per-line": {"auth_is_one": False, "sasl": Role.USER_DATA},
        "one": {"auth_is_one": True, "sasl": Role.USER_DATA},
        "pci": {"auth_is_one": False, "sasl": Role.PCI},
        "one-pci": {"auth_is_one": True, "sasl": Role.PCI},
    },
    "C5": {"content": {"dot_line_end": Role.USER_DATA}, "terminator": {"dot_line_end": Role.PCI}},
    "C6": {"pci": {"for_the_reader": frozenset()}, "user-data": {"for_the_reader": FOR_THE_READER}},
}


def choose(settings: Iterable[str], base: Readings = DEFAULT) -> Readings:
    """Readings from settings like ``C1=user-data``. Raises `WiretalkError`: no such reading or value."""
    for setting in settings:
        name, _, value = setting.partition("=")
        values = CHOICES.get(name.upper(), {})
        if value.lower() not in values:
            known = "; ".join(f"{key}: {', '.join(choices)}" for key, choices in CHOICES.items())
            raise WiretalkError(f"{setting!r} is no reading; say for example C1=user-data.", f"They are {known}.")
        base = replace(base, **values[value.lower()])  # type: ignore[arg-type]  # the table above has the right types
    return base


def reread(rows: Iterable[Row], readings: Readings = DEFAULT) -> Iterator[Row]:
    """The rows, in order of capture, of any conversations, as these readings see them."""
    if readings == DEFAULT:
        yield from rows
        return
    reader = _Reader(readings)
    for row in rows:
        yield from reader.take(row)
    yield from reader.rest()


class _Slot:
    """A row in the queue. waits: something is still to come that decides about it."""

    __slots__ = ("row", "waits")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.waits = False


class _Reader:
    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._queue: deque[_Slot] = deque()
        self._sides: dict[tuple[int, Side], _Side] = {}

    def take(self, row: Row) -> Iterator[Row]:
        slot = _Slot(row)
        if isinstance(row, Line):
            for side in Side:
                self._side(row.conversation, side).hear(row)
            line = row._replace(spans=spans(row, self._readings))
            slot.row = self._side(row.conversation, row.side).read(line, slot)
            for side in Side:
                if self._side(row.conversation, side).idle:
                    del self._sides[row.conversation, side]
        self._queue.append(slot)
        while self._queue and (not self._queue[0].waits or len(self._queue) > WAITING):
            yield self._queue.popleft().row

    def rest(self) -> Iterator[Row]:
        yield from (slot.row for slot in self._queue)
        self._queue.clear()

    def _side(self, conversation: int, side: Side) -> _Side:
        key = conversation, side
        found = self._sides.get(key)
        if found is None:
            found = self._sides[key] = _Side(self._readings)
        return found


class _Side:
    """One side's lines: which of them wait for what."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._command: _Slot | None = None  # DATA or AUTH, of which it is not known yet whether more belongs to it
        self._unit: Pdu | None = None  # what such a command became: more lines join it
        self._content: _Slot | None = None  # a line of content: is the dot the next one?

    @property
    def idle(self) -> bool:
        """Nothing waits, and no line would join another."""
        return self._command is None and self._unit is None and self._content is None

    def hear(self, line: Line) -> None:
        """A line of either side, before it is read: does it decide about one that waits?"""
        if self._content is not None and self._same_side(self._content, line):
            slot, self._content = self._content, None
            slot.waits = False
            if _has(line, "eod-dot"):
                held = slot.row
                assert isinstance(held, Line)
                slot.row = held._replace(spans=_before_dot(held, self._readings))
        if self._command is not None:
            self._decide(self._command, line)

    def read(self, line: Line, slot: _Slot) -> Line:
        """A line of this side: as it joins its PDU."""
        name = line.pdu.name
        if self._unit is not None:
            if self._joins(self._unit, line):
                line = line._replace(pdu=self._unit, whole=False)
            else:
                self._unit = None
        if line.whole and ((self._readings.data_is_one and name == "DATA command") or self._begins_auth(line)):
            self._command, slot.waits = slot, True
        if self._readings.dot_line_end is Role.PCI and _has(line, "content", "line-end") and not _has(line, "chunk"):
            self._content, slot.waits = slot, True
        return line

    def _begins_auth(self, line: Line) -> bool:
        return self._readings.auth_is_one and line.pdu.name in ("AUTH command", "AUTHENTICATE command")

    def _decide(self, slot: _Slot, line: Line) -> None:
        """More belongs to DATA when 354 or mail data comes, to AUTH when a challenge or a response comes."""
        command = slot.row
        assert isinstance(command, Line)
        if line.side is command.side:
            more = self._joins(command.pdu, line)
        elif command.pdu.name == "DATA command":
            more = line.pdu.name == "354 reply"
        else:
            more = line.pdu.name in ("334 challenge", "+ challenge")
        if not more and line.side is not command.side:
            return  # a reply to something else
        self._command, slot.waits = None, False
        if more:
            slot.row = command._replace(whole=False)
            self._unit = command.pdu

    @staticmethod
    def _joins(unit: Pdu, line: Line) -> bool:
        if unit.name == "DATA command":
            return line.pdu.name == "mail data"
        return line.pdu.name in ("AUTH response", "AUTH cancel")

    @staticmethod
    def _same_side(slot: _Slot, line: Line) -> bool:
        return isinstance(slot.row, Line) and slot.row.side is line.side


def _has(line: Line, *fields: str) -> bool:
    return any(span.field in fields for span in line.spans)


def _before_dot(line: Line, readings: Readings) -> tuple[Span, ...]:
    return spans(line, readings, before_dot=True)
