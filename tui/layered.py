"""``wiretalk label --layer`` and ``--reading``: the units of another layer, or lines in another reading.

Claim: what is printed is what the lines of the application say, seen from that layer; passwords are masked in whatever
carries them. Messages and TLS records go through as they come. Frames, packets and segments are printed in a second
pass, when it is known whose they are and where a secret is: files are read twice, a pipe's frames are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TextIO

from capture.analyzer import Analyzer
from capture.errors import ExitCode
from capture.export import FORMATS, views
from capture.labels import Readings
from capture.model import Conversation, Frame, Line, Missing, Update
from capture.places import Places, Secrets
from capture.readings import reread
from capture.record import Ordered
from capture.sources.files import DAMAGE
from capture.sources.several import read_all

Row = Line | Missing


class Condition(Protocol):
    """What ``--filter`` asks for."""

    def meets(self, row: Row, show_secrets: bool) -> bool: ...


class _Files:
    """The files of one capture. damaged: one of them is, as the last reading told."""

    def __init__(self, files: Sequence[str], err: TextIO) -> None:
        self._files, self._err = files, err
        self.damaged = False

    @property
    def again(self) -> bool:
        """Whether they can be read a second time."""
        return all(os.path.isfile(name) for name in self._files)

    def frames(self, *, tell: bool = True) -> Iterator[Frame]:
        """All frames; at the end, what is odd about the files is told."""
        with read_all(self._files) as capture:
            yield from capture
        for note in capture.notes if tell else ():
            self.damaged = self.damaged or note.kind in DAMAGE
            self._err.write(f"wiretalk: {note.text}\n")


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
    capture = _Files(files, err)
    if layer in views.IN_FRAMES:
        rows, start = _below(capture, layer, show_secrets)
    else:
        passing = _Passing(capture)
        rows, start = passing.rows(readings), passing
        if layer == "tls":
            rows = views.records(rows)
        elif layer != "application":
            rows = views.message(rows, mime=layer == "mime", readings=readings)
    if conversation is not None:
        rows = (row for row in rows if row.conversation == conversation)
    if condition is not None:
        rows = (row for row in rows if row.conversation != views.NOBODY and condition.meets(row, show_secrets))
    if layer == "application":
        printed = FORMATS[form](rows, start.conversations, show_secrets=show_secrets)
    else:
        printed = views.FORMATS[form](rows, layer, start.time)
    count = 0
    for text in printed:
        out.write(text + "\n")
        count += 1
    if capture.damaged:
        return ExitCode.USAGE
    if not count:
        asked = " that was asked for" if conversation is not None or condition is not None else ""
        err.write(f"wiretalk: no unit of the layer {layer}{asked} in this capture.\n")
        return ExitCode.NOTHING_FOUND
    return ExitCode.OK


class _Start:
    """When the first conversation began, and what is known of all of them."""

    def __init__(self) -> None:
        self.conversations: dict[int, Conversation] = {}
        self._time: int | None = None

    def apply(self, update: Update) -> None:
        for fact in update.conversations:
            self.conversations[fact.ident] = fact
            self._time = fact.start if self._time is None else min(self._time, fact.start)

    def time(self) -> int | None:
        return self._time


class _Passing(_Start):
    """A capture whose rows are given as they become certain."""

    def __init__(self, capture: _Files) -> None:
        super().__init__()
        self._capture = capture

    def rows(self, readings: Readings) -> Iterator[Row]:
        return reread(self._rows(), readings)

    def _rows(self) -> Iterator[Row]:
        analyzer, ordered = Analyzer(), Ordered()
        for frame in self._capture.frames():
            update = analyzer.feed(frame)
            if update:
                self.apply(update)
                yield from _lines(ordered.add(update, analyzer.horizon))
        update = analyzer.finish()
        self.apply(update)
        yield from _lines(ordered.add(update, analyzer.horizon))
        yield from _lines(ordered.rest())


def _lines(rows: Iterable[object]) -> Iterator[Row]:
    return (row for row in rows if isinstance(row, Line | Missing))


def _below(capture: _Files, layer: str, show_secrets: bool) -> tuple[Iterator[Row], _Start]:
    """Units in frames: whose they are, and what is secret in them, is known when the whole capture was seen."""
    places, secrets, start = Places(), Secrets(), _Start()
    kept: list[Frame] | None = None if capture.again else []
    for frame in capture.frames():
        if kept is not None:
            kept.append(frame)
        _learn(places.feed(frame), secrets, start)
    _learn(places.finish(), secrets, start)
    frames = capture.frames(tell=False) if kept is None else kept
    rows = views.in_frames(frames, views.IN_FRAMES[layer], places, None if show_secrets else secrets)
    return iter(rows), start


def _learn(update: Update, secrets: Secrets, start: _Start) -> None:
    start.apply(update)
    for line in update.lines:
        secrets.add(line)
