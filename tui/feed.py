"""From frames to what a screen drains: recorder, analyzer, and a queue between two threads.

Claim: every frame is in the recording before anybody sees a line of it, and nothing but frozen Updates crosses to the
screen. `take` runs in the sniffer's thread, `drain` in the screen's. The queue between them is a deque, whose append
and popleft are atomic: no message per line. `take` feeds the analyzer; `drain` only tells it the time, and only when no
frame is being taken, so the screen never waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from capture.analyzer import Analyzer
from capture.export.pcapng import Recorder
from capture.model import Frame, Update
from capture.sources.files import read

SLACK = 200_000_000
"""ns that the analyzer's clock stays behind: a frame is in the ring for some milliseconds before it is taken."""

KEPT_OCTETS = 64 << 20
"""Frames held in memory for the hex view; older ones are read again from the recording."""


class Feed:
    """One capture: ``take`` frames, ``drain`` what they made known.

    recorder: where every frame is written first. After `finish` no frame is taken.
    """

    def __init__(self, recorder: Recorder, path: Path) -> None:
        self.path = path
        self.frames = 0
        self._recorder = recorder
        self._analyzer = Analyzer()
        self._updates: deque[Update] = deque()
        self._kept: dict[int, Frame] = {}
        self._octets = 0
        self._finished = False
        self._analyzing = threading.Lock()

    def take(self, frames: Sequence[Frame]) -> None:
        """Record, analyse and queue. Raises `CaptureError` when the recording cannot be written (disk full)."""
        self._recorder.write_all(frames)
        with self._analyzing:
            for frame in frames:
                self._keep(frame)
                if update := self._analyzer.feed(frame):
                    self._updates.append(update)
                self.frames += 1

    def drain(self) -> list[Update]:
        """What became known since the last call, in order; also what became known because nothing came for a while."""
        if not self._finished and self._analyzing.acquire(blocking=False):
            try:
                if update := self._analyzer.elapse(time.time_ns() - SLACK):
                    self._updates.append(update)
            finally:
                self._analyzing.release()
        taken = []
        while self._updates:
            taken.append(self._updates.popleft())
        return taken

    def frame(self, number: int) -> Frame | None:
        """One captured frame by number, from memory or from the recording; None when there is none of that number."""
        if (kept := self._kept.get(number)) is not None:
            return kept
        if not 1 <= number <= self.frames:
            return None
        with read(self.path) as capture:
            return next((frame for frame in capture if frame.number == number), None)

    def finish(self) -> None:
        """No more frames: half lines come out, the recording is closed. Only after the last `take`."""
        if self._finished:
            return
        self._finished = True
        if update := self._analyzer.finish():
            self._updates.append(update)
        self._recorder.close()

    def _keep(self, frame: Frame) -> None:
        self._kept[frame.number] = frame
        self._octets += len(frame.data)
        while self._octets > KEPT_OCTETS:
            oldest = next(iter(self._kept))
            self._octets -= len(self._kept.pop(oldest).data)
