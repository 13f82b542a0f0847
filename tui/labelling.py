"""``wiretalk label``: saved captures to labelled lines on standard output.

Claim: a capture of any size goes through in bounded memory, and what is printed is printed in order of capture; what a
damaged file still holds is printed before its damage is told; several files are one capture in order of time.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from capture import runs
from capture.analyzer import Analyzer
from capture.errors import ExitCode
from capture.export import FORMATS
from capture.model import Conversation, Frame, Line, Missing, Run, Update
from capture.record import WAITING_OCTETS, Ordered, Record
from tui.condition import Condition
from tui.progress import Progress
from tui.reading import Reading
from tui.sheet import Sheet

FRAMES = 512  # that are labelled and printed together
LARGE = 32 << 20  # octets of capture that take longer than a second process takes to start
CLOSED = 4096  # finished conversations of which the facts are kept, for their rows may still wait


class _Facts(dict[int, Conversation]):
    """The newest facts of the conversations that rows may still come of."""

    def __init__(self) -> None:
        super().__init__()
        self._closed: dict[int, None] = {}

    def apply(self, update: Update) -> None:
        for fact in update.conversations:
            self[fact.ident] = fact
            if fact.closed:
                self._closed[fact.ident] = None

    def forget(self, waiting: int) -> None:
        """Finished ones are forgotten when no row is ``waiting`` and they are many."""
        if not waiting and len(self._closed) > CLOSED:
            for ident in self._closed:
                del self[ident]
            self._closed.clear()


class Labelling:
    """One capture on its way from files to rows. Iterate `rows` once; the rest is known at its end."""

    def __init__(self, reading: Reading, sheet: Sheet, progress: Progress) -> None:
        self.conversations = _Facts()
        self._reading, self._sheet, self._progress = reading, sheet, progress
        self._analyzer, self._ordered = Analyzer(runs=True), Ordered()

    @property
    def hurried(self) -> int:
        """Rows that were released before an unfinished line in front of them."""
        return self._ordered.hurried

    def rows(self) -> Iterator[Line | Missing | Run]:
        """Everything that the files hold, in order of capture. What was printed is written out now and then."""
        for batch in _parts(self._reading):
            yield from self._released(self._analyzer.feed_all(batch))
            self._sheet.write()
            self._progress.passed(batch)
        self._progress.end()
        update = self._analyzer.finish()
        self.conversations.apply(update)
        yield from self._ordered.add(update, self._analyzer.horizon)
        yield from self._ordered.rest()

    def _released(self, update: Update) -> Iterator[Line | Missing | Run]:
        self.conversations.apply(update)
        waiting = self._analyzer.waiting
        horizon = min(waiting.values(), default=self._analyzer.delivered)
        yield from self._ordered.add(update, horizon, waiting)
        self.conversations.forget(len(self._ordered))


def label_files(
    files: Sequence[str],
    form: str,
    show_secrets: bool,
    out: TextIO,
    err: TextIO,
    *,
    conversation: int | None = None,
    condition: Condition | None = None,
) -> int:
    """Read ``files``, write them as ``form`` to ``out`` and what was odd about the files to ``err``.

    conversation: only this one's rows; condition: only rows that meet it. Returns an `ExitCode`: OK, NOTHING_FOUND (no
    row), USAGE (a file is damaged). Raises `CaptureError` for a file that is no capture at all.
    """
    sheet, reading = Sheet(out), Reading(files, err)
    if form == "jsonl" and conversation is None and condition is None and _for_two(files):
        return _by_two(reading, sheet, Progress(files, err), show_secrets, err)
    progress = Progress(files, err)
    labelling = Labelling(reading, sheet, progress)
    rows = labelling.rows()
    if conversation is not None:
        rows = (row for row in rows if row.conversation == conversation)
    if condition is not None:
        rows = (row for row in _one_by_one(rows) if condition.meets(row, show_secrets))
    with progress, _no_collection():
        for text in FORMATS[form](rows, labelling.conversations, show_secrets=show_secrets):
            sheet.add(text)
    sheet.write()
    return _verdict(reading, sheet, err, labelling.hurried, _nothing(conversation, condition))


def _by_two(reading: Reading, sheet: Sheet, progress: Progress, show_secrets: bool, err: TextIO) -> int:
    """The same by two processes."""
    from tui.partner import Partner, Shared

    with progress, _no_collection(), Partner(show_secrets) as partner:
        shared = Shared(partner, show_secrets)
        for batch in _parts(reading):
            for text in shared.feed(batch):
                sheet.add(text)
            sheet.write()
            progress.passed(batch)
        progress.end()
        for text in shared.finish():
            sheet.add(text)
    sheet.write()
    return _verdict(reading, sheet, err, shared.hurried, _nothing(None, None))


def _parts(reading: Reading) -> Iterator[list[Frame]]:
    """The frames, as many at once as stay in a processor's cache with what is made of them."""
    for batch in reading.batches():
        for start in range(0, len(batch), FRAMES):
            yield batch[start : start + FRAMES]


def _for_two(files: Sequence[str]) -> bool:
    """Whether a second process is worth its start, and may be started."""
    if sys.platform != "linux" or threading.active_count() > 1 or len(os.sched_getaffinity(0)) < 2:
        return False
    return sum(os.path.getsize(name) for name in files if os.path.isfile(name)) >= LARGE


def _verdict(reading: Reading, sheet: Sheet, err: TextIO, hurried: int, nothing: str) -> int:
    """Tell what is left to tell; the exit code."""
    if hurried:
        err.write(
            f"wiretalk: a line that was never finished held back {WAITING_OCTETS >> 20} MiB of lines; "
            f"{hurried} rows of other conversations were printed before it.\n"
        )
    if reading.damaged:
        return ExitCode.USAGE
    if not sheet.lines:
        err.write(f"wiretalk: {nothing}\n")
        return ExitCode.NOTHING_FOUND
    return ExitCode.OK


def _nothing(conversation: int | None, condition: Condition | None) -> str:
    if condition is not None:
        return "no line meets the condition of --filter."
    if conversation is not None:
        return f"no line of conversation {conversation} in this capture."
    return "no line to label: no TCP octets of a mail session in this capture."


def _one_by_one(rows: Iterator[Line | Missing | Run]) -> Iterator[Line | Missing]:
    for row in rows:
        if isinstance(row, Run):
            yield from runs.lines(row)
        else:
            yield row


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the search for cycles: values make none, and looking for them costs a quarter of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def write(record: Record, form: str, show_secrets: bool, out: TextIO) -> None:
    """What ``record`` holds, as ``form``, in capture order."""
    conversations = {facts.ident: facts for facts in record.conversations}
    for text in FORMATS[form](record.rows(), conversations, show_secrets=show_secrets):
        out.write(text + "\n")
