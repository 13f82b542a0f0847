"""How far a long read is, on a terminal: one line that is written over and erased at the end.

Claim: nothing is written where nobody looks (a file, a pipe), nor before `PATIENCE` seconds have passed; and what was
written is erased, so that what is left on the terminal is what was asked for.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from typing import TextIO

from capture.model import Frame

PATIENCE = 1.0  # seconds before the first word
INTERVAL = 0.2  # seconds between two
_ERASE = "\r\x1b[K"


class Progress:
    """Of the reading of ``files``. Told what passed, says so on ``err`` if that is a terminal.

    A context manager: behind it the terminal is as it was, however it was left.
    """

    def __init__(self, files: Sequence[str], err: TextIO) -> None:
        self._err = err
        self._shows = err.isatty()
        self._size = sum(map(_size, files)) if self._shows else 0
        self._octets = self._frames = 0
        self._began = time.monotonic()
        self._due = self._began + PATIENCE
        self._shown = False

    def passed(self, frames: Sequence[Frame]) -> None:
        """So many more frames are through."""
        if self._shows:
            self.counted(len(frames), sum(len(frame.data) for frame in frames) + 16 * len(frames))

    def counted(self, frames: int, octets: int) -> None:
        """So many more frames are through, and so many octets of their files."""
        if not self._shows:
            return
        self._frames += frames
        self._octets += octets
        now = time.monotonic()
        if now >= self._due:
            self._due = now + INTERVAL
            self._shown = True
            rate = self._frames / max(now - self._began, 1e-3)
            self._err.write(f"{_ERASE}wiretalk: {self._share()}{self._frames:,} frames, {rate:,.0f} a second")
            self._err.flush()

    def _share(self) -> str:
        """Per cent of the files, while the frames say less than their size: a packed file gives more than it holds."""
        return f"{100 * self._octets // self._size} %, " if self._octets <= self._size else ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Everything is through, or nothing more comes: the terminal is as it was."""
        if self._shown:
            self._err.write(_ERASE)
            self._err.flush()
            self._shown = False


def _size(name: str) -> int:
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return 0  # whoever reads it says so
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
