"""Printed lines on their way out: gathered, and written many at a time.

Claim: what was written stands in the order in which it was added, and every line is whole. A pipe that somebody reads
gets what there is whenever `Sheet.write` is called.
"""

from __future__ import annotations

from typing import TextIO

ENOUGH = 512  # pieces that are written together: some hundred kB


class Sheet:
    """Takes printed pieces, a line or several with line ends between them, and writes them to ``out``.

    lines: how many pieces were written.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._pieces: list[str] = []
        self.lines = 0

    def add(self, text: str) -> None:
        """One more piece, without its last line end."""
        self._pieces.append(text)
        if len(self._pieces) >= ENOUGH:
            self.write()

    def write(self) -> None:
        """Write what was gathered. Raises OSError, BrokenPipeError among them."""
        pieces = self._pieces
        if pieces:
            self.lines += len(pieces)
            pieces.append("")
            text = "\n".join(pieces)
            pieces.clear()
            buffer = getattr(self._out, "buffer", None)
            if buffer is None:
                self._out.write(text)
            else:  # past the text layer, which looks for line ends in it
                self._out.flush()
                buffer.write(text.encode(self._out.encoding, self._out.errors or "strict"))
                buffer.flush()
