"""Octets become cells here and nowhere else.

Claim: no captured octet reaches a terminal as a control, a direction mark or an invisible character. Three gates:

1. `visible`: wire and hex views; one octet, one cell, nothing is decoded.
2. `safe_text`: text that had to be decoded (names, sentences, what a person pasted), by Unicode category.
3. `SafeFilter`: a Textual line filter, the last gate of every widget, borders and toasts included, since neither
   Textual nor Rich takes escapes out.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.strip import Strip

PICTURES = "".join(chr(0x2400 + octet) for octet in range(32))
GLYPHS: tuple[str, ...] = (*PICTURES, *map(chr, range(32, 127)), "\u2421", *("·",) * 128)
"""One character, one cell wide, for each octet: control pictures, ASCII, a middle dot for 0x80 and above."""

REPLACEMENT = "\ufffd"
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(octets: bytes) -> str:
    """One cell for each octet, whatever it is."""
    return "".join([GLYPHS[octet] for octet in octets])


def printable(octets: bytes) -> str:
    """As `visible`, for the text column of a hex view: only CR and LF keep their pictures."""
    return "".join([GLYPHS[o] if 32 <= o < 127 or o in (10, 13) else "·" for o in octets])


def safe_text(text: str, *, marks: int = 2) -> str:
    """Text without controls, format characters, surrogates or unassigned code points; NFC; one line.

    C0 becomes its picture, the others U+FFFD; of combining marks in a row at most ``marks`` are kept.
    """
    out: list[str] = []
    run = 0
    for char in unicodedata.normalize("NFC", text):
        category = unicodedata.category(char)
        run = run + 1 if category[0] == "M" else 0
        if run > marks:
            continue
        if category in _UNSEEN:
            out.append(PICTURES[ord(char)] if ord(char) < 32 else REPLACEMENT)
        else:
            out.append(char)
    return "".join(out)


@lru_cache(4096)
def _drop(text: str) -> str:
    # Deleting keeps widths right: all of these measure 0 cells in Rich. The soft hyphen measures 1.
    return "".join(
        " " if char == "\u00ad" else char
        for char in text
        if char == "\u00ad" or unicodedata.category(char) not in _UNSEEN
    )


class SafeFilter(LineFilter):
    """The last gate: takes whatever a terminal could obey out of every finished line."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        del background
        return [
            segment if segment.control or segment.text.isprintable() else Segment(_drop(segment.text), segment.style)
            for segment in segments
        ]


class Cells:
    """Builds one row of a line-API widget from runs of text."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self.width = 0

    def add(self, text: str, style: Style) -> Cells:
        """Append text made of safe characters."""
        if text:
            self._segments.append(Segment(text, style))
            self.width += len(text) if text.isascii() else cell_len(text)
        return self

    def pad(self, width: int, style: Style) -> Cells:
        """Blanks up to column ``width``; nothing when already there."""
        return self.add(" " * (width - self.width), style)

    def crop(self, width: int, style: Style) -> Cells:
        """Cut to ``width`` cells with an ellipsis when longer."""
        if self.width > width > 0:
            self._segments = [*Strip(self._segments, self.width).crop(0, width - 1), Segment("…", style)]
            self.width = width
        return self

    def strip(self, width: int, style: Style) -> Strip:
        """The finished row, exactly ``width`` cells."""
        return Strip(self._segments, self.width).crop_extend(0, max(0, width), style)


def wrap(text: str, width: int, *, limit: int = 0) -> list[str]:
    """Break into rows of at most ``width`` cells, at blanks where one is near the end. Never empty.

    limit: at most so many rows, the last one then ends in an ellipsis; 0 = all.
    """
    width = max(1, width)
    rows: list[str] = []
    while cell_len(text) > width:
        end = _fit(text, width)
        blank = text.rfind(" ", max(1, end // 2), end + 1)
        cut = blank if blank > 0 else end
        if limit and len(rows) == limit - 1:
            rows.append(text[: max(0, end - 1)] + "…")
            return rows
        rows.append(text[:cut])
        text = text[cut + 1 :] if blank > 0 else text[cut:]
    rows.append(text)
    return rows


def _fit(text: str, width: int) -> int:
    """How many characters fill at most ``width`` cells; at least one."""
    if text.isascii():
        return width
    cells = 0
    for index, char in enumerate(text):
        cells += cell_len(char)
        if cells > width:
            return max(1, index)
    return len(text)
