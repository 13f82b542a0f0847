"""What leaves the house: a module for each format, and the formats that print labelled lines by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from capture.export import jsonl, text
from capture.model import Conversation, Line, Missing, Run


class Format(Protocol):
    """Rows in capture order (`Line.order`), the conversations by ident, and whether passwords show, to printed lines.

    The printed lines come without line ends and hold no character that a terminal would obey. What is printed of a
    `Run` may come in one piece, with line ends inside.
    """

    def __call__(
        self,
        rows: Iterable[Line | Missing | Run],
        conversations: Mapping[int, Conversation],
        show_secrets: bool = False,
    ) -> Iterator[str]: ...


FORMATS: dict[str, Format] = {"text": text.lines, "jsonl": jsonl.lines}
