"""The inspector: the chosen line's octets in its frames, and the reason for each of its fields.

Claim: one octet is one pair of digits and one glyph, in place; nothing is decoded. The octets of the chosen line carry
their roles at SMTP, everything else in the frame is dim; the letters E I T A name the layers of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.strip import Strip
from textual.widget import Widget

from capture.glossary import explain, flag
from capture.labels import label
from capture.model import Frame, Label, Layer, Line, Role, Span
from capture.protocols.voice import NOT_UNDERSTOOD
from tui.dissect import Dissection, Octet, dissect
from tui.palette import LETTERS
from tui.render import Cells, printable, safe_text, visible, wrap
from tui.rows import Row, Rows
from tui.widgets.cursored import Cursored, ink_of
from tui.widgets.wire import MEANING, WORDS

LABELLED = {
    Label.PDU: ("one whole PDU: {pdu}", "X.200 5.6.1.3"),
    Label.PCI: ("part of {pdu}: control information only", "X.200 5.6.1.1"),
    Label.USER_DATA: ("part of {pdu}: carries octets for the layer above", "X.200 5.6.1.2"),
}
UNKNOWN = ("part of {pdu}: unknown here; PCI by rule only", "ours")
SHOWN_FRAMES = 64  # of a line spread over more, the first ones: each is taken apart anew
ROOMY = 40  # cells from which a field's role is written out
SIXTEEN = 73  # cells that a row of sixteen octets needs


class Encapsulation(Widget):
    """The frame in one row: ``Ethernet⟦14 B IPv4⟦20 B TCP⟦32 B SMTP⟦QUIT␍␊⟧⟧⟧⟧``."""

    def __init__(self) -> None:
        super().__init__()
        self._line: Line | None = None
        self._seen = b""
        self._parts: Sequence[Dissection] = ()
        self._protocol = ""

    def show(self, line: Line | None, seen: bytes, parts: Sequence[Dissection], protocol: str) -> None:
        """seen: the line's octets, secrets blotted out."""
        self._line, self._seen, self._parts, self._protocol = line, seen, parts, protocol
        self.refresh()

    def render_line(self, y: int) -> Strip:
        ink, width = ink_of(self), self.size.width
        if self._line is None or y:
            return Strip.blank(width, ink.base)
        headers = self._parts[0].headers if self._parts else ()
        cells = Cells().add(" ", ink.base)
        for header in headers:
            cells.add(safe_text(header.name), ink.text[header.layer]).add("⟦", ink.base)
            cells.add(f"{header.body - header.start} B ", ink.dim)
        cells.add(self._protocol, ink.text[Layer.APPLICATION]).add("⟦", ink.base)
        close = "⟧" * (len(headers) + 1)
        room = max(0, width - cells.width - len(close))
        for start, end, role, field in self._line.spans:
            text = visible(self._seen[start : min(end, start + room + 1)])
            cells.add(text, ink.role(role, strong=field in MEANING))
            if cells.width > width:
                break
        return cells.crop(width - len(close), ink.base).add(close, ink.base).strip(width, ink.base)


class Dump(NamedTuple):
    """A row of the hex view: octets ``[start, end)`` of a frame; a heading when ``end`` is 0."""

    part: int
    start: int
    end: int


class HexView(Cursored):
    """Offset, letters of the layers, octets with ⟦ where a layer starts and │ where a field starts, and their text."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts: Sequence[Dissection] = ()
        self._rows: list[Dump] = []
        self._version = 0

    def show(self, parts: Sequence[Dissection]) -> None:
        """Dump these frames and bring the first octet of the line into view."""
        self._parts = parts
        self._version += 1
        self._dump()
        self._to_line()

    def count(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> Hashable:
        return self._version, self._rows[index]

    def resized(self) -> None:
        self._dump()
        self._to_line()

    @property
    def per_row(self) -> int:
        """Octets in a row."""
        return 16 if self.page.width >= SIXTEEN else 8

    def _dump(self) -> None:
        per, rows = self.per_row, []
        for part, (frame, _, octets, _) in enumerate(self._parts):
            if len(self._parts) > 1:
                rows.append(Dump(part, 0, 0))
            rows += [Dump(part, at, min(at + per, len(frame.data))) for at in range(0, len(octets), per)]
        self._rows = rows
        self.reset()

    def _to_line(self) -> None:
        first = next(
            (place for place, row in enumerate(self._rows) if self._parts[row.part].first in range(row.start, row.end)),
            0,
        )
        self.set_reactive(Cursored.cursor, first)
        # The line itself is looked for; the headers before it stay in view where there is room for both.
        last = first + (self._length() + self.per_row - 1) // self.per_row
        top = max(0, min(first, last - self.page.height + 1))
        self.scroll_to(y=top, animate=False, force=True)

    def _length(self) -> int:
        return sum(octet.chosen for octet in self._parts[0].octets) if self._parts else 0

    def line(self, index: int, width: int, *, current: bool) -> Strip:
        ink, row = self.ink, self._rows[index]
        frame, _, octets, _ = self._parts[row.part]
        if not row.end:
            of = f"{row.part + 1} of {len(self._parts)}"
            return Cells().add(f"── frame {frame.number} ({of}) ", ink.dim).strip(width, ink.base)
        here = octets[row.start : row.end]
        cells = Cells().add(f"{row.start:04x} ", ink.accent if current and self.has_focus else ink.dim)
        letters = "".join(dict.fromkeys(LETTERS[octet.layer] for octet in here if octet.layer is not None))
        cells.add(f"{letters[:3]:<3}", ink.bold)
        before: Octet | None = None
        for place, octet in enumerate(here, row.start):
            style = self._style(octet)
            joined = before is not None and octet.starts == " " and self._style(before) == style
            cells.add(octet.starts, style if joined else ink.base)
            cells.add("**" if octet.hidden else f"{frame.data[place]:02x}", style)
            before = octet
        cells.add("⟧" if row.end == len(frame.data) else " ", ink.base).pad(8 + self.per_row * 3 + 2, ink.base)
        for place, octet in enumerate(here, row.start):
            cells.add("*" if octet.hidden else printable(frame.data[place : place + 1]), self._style(octet))
        return cells.strip(width, ink.base)

    def _style(self, octet: Octet) -> Style:
        if not octet.chosen:
            return self.ink.dim
        return self.ink.role(octet.role, strong=octet.field in MEANING)


class Reason(NamedTuple):
    """A row of the explanation. span: the head row of a field; otherwise text beneath it."""

    span: Span | None
    head: str
    text: str


class Reasons(Cursored):
    """Each field of the line: its place, role, name and octets, and below it the sentence and where it is written."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._line: Line | None = None
        self._seen = b""
        self._notes: list[str] = []
        self._rows: list[Reason] = []
        self._version = 0

    def show(self, line: Line | None, seen: bytes, notes: list[str]) -> None:
        """seen: the line's octets, secrets blotted out; notes: oddities seen in its frames."""
        self._line, self._seen, self._notes = line, seen, notes
        self._version += 1
        self._lay()
        self.set_reactive(Cursored.cursor, 0)
        self.scroll_to(y=0, animate=False, force=True)

    def count(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> Hashable:
        return self._version, index

    def resized(self) -> None:
        self._lay()

    def _lay(self) -> None:
        rows: list[Reason] = []
        line = self._line
        if line is not None:
            words = label(line)
            sentence, citation = UNKNOWN if NOT_UNDERSTOOD in line.flags else LABELLED[words]
            pdu = f"{line.pdu.name} {line.pdu.ident}"
            rows += self._under(sentence.format(pdu=pdu), citation, head=WORDS[words])
            told: set[str] = set()
            for span in line.spans:
                rows.append(Reason(span, "", ""))
                if span.field not in told:
                    told.add(span.field)
                    entry = explain(span.field)
                    rows += self._under(entry.sentence, entry.citation)
            for word in line.flags:
                entry = flag(word)
                rows += self._under(entry.sentence, entry.citation, head=f"! {safe_text(word)}")
            for note in self._notes:
                rows += self._under(note, "", head="!")
        self._rows = rows
        self.reset()

    def _under(self, sentence: str, citation: str, head: str = "") -> list[Reason]:
        text = safe_text(f"{sentence} [{citation}]" if citation else sentence)
        indent = len(head) + 1 if head else 8
        lines = wrap(" " * indent + text if head else text, max(8, self.page.width - (1 if head else 9)))
        if head:
            return [
                Reason(None, head if n == 0 else " ", part.lstrip() if n == 0 else part) for n, part in enumerate(lines)
            ]
        return [Reason(None, "", part) for part in lines]

    def line(self, index: int, width: int, *, current: bool) -> Strip:
        ink, row = self.ink, self._rows[index]
        cells = Cells().add("▌" if current and self.has_focus else " ", ink.accent)
        if row.span is not None:
            start, end, role, field = row.span
            place = f"{start}" if end == start + 1 else f"{start}–{end - 1}"
            cells.add(f"{place:<7} ", ink.dim)
            room = 10 if width >= ROOMY else 4
            word = "PCI" if role is Role.PCI else "user data" if width >= ROOMY else "UD"
            cells.add(f"{word:<{room}}", ink.bold if role is Role.PCI else ink.base)
            cells.add(f"{safe_text(field):<13} ", ink.text[Layer.APPLICATION])
            cells.add(visible(self._seen[start : min(end, start + width)]), ink.role(role, strong=field in MEANING))
        elif row.head:
            style = ink.trouble if row.head.startswith("!") else ink.bold
            cells.add(row.head, style).add(" " if row.head.strip() else "", ink.base).add(row.text, ink.base)
        else:
            cells.pad(9, ink.base).add(row.text, ink.dim)
        return cells.crop(width, ink.base).strip(width, ink.base)


class Inspector(Vertical):
    """The three of them, for one row of the wire pane."""

    def __init__(
        self, rows: Rows, frame: Callable[[int], Frame | None], shown: Callable[[Line], bytes], *, id: str | None = None
    ) -> None:
        super().__init__(id=id, classes="panel")
        self.rows = rows
        self.frame = frame
        self.shown = shown
        self.border_title = "Inspector"
        self._warning = ""
        self._lost = False

    def compose(self) -> ComposeResult:
        yield Encapsulation()
        with Horizontal():
            yield HexView(id="hex")
            yield Reasons(id="reasons")

    def show(self, row: Row | None) -> None:
        """Take apart the frames of a row, or show nothing."""
        line = row if isinstance(row, Line) else None
        seen = self.shown(line) if line is not None else b""
        parts = dissect(line, self.rows, self.frame, self.shown, limit=SHOWN_FRAMES) if line is not None else []
        self.query_one(Encapsulation).show(line, seen, parts, self._protocol(row))
        self.query_one(HexView).show(parts)
        notes = [note.text for note in self.rows.notes_of(line)] if line is not None else []
        self.query_one(Reasons).show(line, seen, notes)
        self.border_title = self._title(line) if line is not None else "Inspector"
        self._lost = line is not None and not parts
        self.warn(self._warning)

    def warn(self, warning: str) -> None:
        """What the border has to say besides: where the octets were taken, when not off the wire."""
        self._warning = warning
        self.border_subtitle = "these frames are no longer kept" if self._lost else warning

    def _protocol(self, row: Row | None) -> str:
        known = self.rows.conversations.get(row.conversation) if row is not None else None
        return (known.protocol if known is not None else "").upper() or "data"

    def _title(self, line: Line) -> str:
        frames = line.frames
        carried = f"frame {frames[0]}" if len(frames) == 1 else f"frames {frames[0]}–{frames[-1]}" if frames else ""
        way = "C▶S" if line.side.value == "C" else "S▶C"
        return f"Inspector · {safe_text(line.pdu.name)} {line.pdu.ident} · {carried} · {len(line.data)} octets · {way}"
