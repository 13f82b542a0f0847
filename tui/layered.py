"""``wiretalk label --layer`` and ``--reading``: the units of another layer, or lines in another reading.

Claim: what is printed is what the lines of the application say, seen from that layer; passwords are masked in whatever
carries them. Messages and TLS records go through as they come. Frames, packets and segments are printed in a second
pass, when it is known whose they are and where a secret is: files are read twice, a pipe's frames are kept.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import chain
from typing import TextIO

from capture import runs
from capture.errors import ExitCode
from capture.export import FORMATS, views
from capture.labels import Readings
from capture.model import Conversation, Frame, Line, Missing, Run, Update
from capture.places import Places, Secrets
from capture.readings import reread
from tui.condition import Condition
from tui.labelling import Labelling
from tui.progress import Progress
from tui.reading import Reading
from tui.sheet import Sheet

Row = Line | Missing


def label_layer(
    files: Sequence[str],
    form: str,
    show_secrets: bool,
    out: TextIO,
    err: TextIO,
    *,
    layer: str,
    readings: Readings,
    conversation: int | None = None,
    condition: Condition | None = None,
) -> int:
    """As `tui.labelling.label_files`, for one of `capture.export.views.LAYERS` and any readings."""
    sheet, reading = Sheet(out), Reading(files, err)
    if layer in views.IN_FRAMES:
        below = _Below(files, reading, Progress(files, err))
        rows, start = below.rows(layer, show_secrets), below.start
        facts: Mapping[int, Conversation] = {}
    else:
        labelling = Labelling(reading, sheet, Progress(files, err))
        facts = labelling.conversations
        rows, start = _above(labelling, layer, readings), _Start(facts)
    if conversation is not None:
        rows = (row for row in rows if row.conversation == conversation)
    if condition is not None:
        rows = (row for row in rows if row.conversation != views.NOBODY and condition.meets(row, show_secrets))
    if layer == "application":
        printed = FORMATS[form](rows, facts, show_secrets=show_secrets)
    else:
        printed = views.FORMATS[form](rows, layer, start)
    for text in printed:
        sheet.add(text)
    sheet.write()
    if reading.damaged:
        return ExitCode.USAGE
    if not sheet.lines:
        asked = " that was asked for" if conversation is not None or condition is not None else ""
        err.write(f"wiretalk: no unit of the layer {layer}{asked} in this capture.\n")
        return ExitCode.NOTHING_FOUND
    return ExitCode.OK


class _Start:
    """When the first conversation began, as far as is known when the first row is printed."""

    def __init__(self, conversations: Mapping[int, Conversation]) -> None:
        self._conversations = conversations

    def __call__(self) -> int | None:
        return min((fact.start for fact in self._conversations.values()), default=None)


def _above(labelling: Labelling, layer: str, readings: Readings) -> Iterator[Row]:
    """TLS records, lines of the application, lines of messages: as the capture goes through."""
    rows = reread(_one_by_one(labelling.rows()), readings)
    if layer == "application":
        return rows
    return views.records(rows) if layer == "tls" else views.message(rows, mime=layer == "mime", readings=readings)


def _one_by_one(rows: Iterable[Row | Run]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, Run):
            yield from runs.lines(row)
        else:
            yield row


class _Below:
    """Units in frames. Whose they are, and what is secret in them, is known when the whole capture was seen."""

    def __init__(self, files: Sequence[str], reading: Reading, progress: Progress) -> None:
        self._files, self._reading, self._progress = files, reading, progress
        self._places, self._secrets = Places(), Secrets()
        self._began: int | None = None
        self._times = array("q")

    @property
    def start(self) -> Callable[[], int | None]:
        """When the first conversation began; to be asked when the first row is there."""
        return lambda: self._began

    def rows(self, layer: str, show_secrets: bool) -> Iterator[Row]:
        again = all(os.path.isfile(name) for name in self._files)
        kept: list[Frame] = []
        for batch in self._reading.batches():
            self._learn(self._places.feed_all(batch))
            self._times.extend(frame.time for frame in batch)
            self._progress.passed(batch)
            if not again:
                kept += batch
        self._learn(self._places.finish())
        self._progress.end()
        # What is odd about the files was told the first time.
        frames = self._same(chain.from_iterable(Reading(self._files, StringIO()).batches())) if again else kept
        secrets = None if show_secrets else self._secrets
        yield from views.in_frames(frames, views.IN_FRAMES[layer], self._places, secrets)

    def _same(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames of the first pass. A file that grew has more, of which nobody knows what is secret in them."""
        for frame, time in zip(frames, self._times, strict=False):
            if frame.time != time:
                return  # a file that grew in the middle of the others
            yield frame

    def _learn(self, update: Update) -> None:
        for fact in update.conversations:
            self._began = fact.start if self._began is None else min(self._began, fact.start)
        for line in update.lines:
            self._secrets.add(line)
