"""Capture files on their way through a command, and what a command prints on its way out.

Claim: several files are one capture, in order of time; what is odd about them is told on standard error behind what
they held; and a reader that goes away (``| head``) ends a command without a word.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TextIO

from capture.errors import CaptureError
from capture.exported import NOT_SNIFFED
from capture.model import Frame, Note
from capture.sources.files import DAMAGE
from capture.sources.several import read_all
from tui.progress import Progress


class Reading:
    """Iterate `batches` once; ``damaged`` and ``notes`` (on the files themselves) are known at its end.

    progress: told what passed, and erased at the end.
    """

    def __init__(self, files: Sequence[str], err: TextIO, progress: Progress | None = None) -> None:
        self._files, self._err, self._progress = files, err, progress
        self.damaged = False
        self.notes: list[Note] = []

    def batches(self) -> Iterator[list[Frame]]:
        """The frames, many at a time. Raises `CaptureError` when no file is a capture; one that is none is told."""
        with read_all(self._files, refused=self._refused) as capture:
            begun = False
            for batch in capture.batches():
                if not begun and any(comment.text == NOT_SNIFFED for comment in capture.comments):
                    self._err.write(f"wiretalk: {NOT_SNIFFED}: the numbers are of reads and writes, not of frames.\n")
                begun = True  # the comment on a whole section stands in front of its frames
                yield batch
                if self._progress is not None:
                    self._progress.passed(batch)
        if self._progress is not None:
            self._progress.end()
        self.notes = capture.notes
        for note in self.notes:
            self.damaged = self.damaged or note.kind in DAMAGE
            self._err.write(f"wiretalk: {note.text}\n")

    def _refused(self, error: CaptureError) -> None:
        self.damaged = True
        self._err.write(f"wiretalk: {error.sentence}\n")


def beside(out: TextIO, files: Sequence[str], err: TextIO) -> Progress | None:
    """The progress of a command that prints while it reads: not where its rows would stand between."""
    return None if out.isatty() else Progress(files, err)


def end(work: Callable[[], int]) -> NoReturn:
    """Do the work of a command that prints, and end the process with its exit code."""
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (| head): nothing to say, and nothing more to write at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    raise SystemExit(code)
