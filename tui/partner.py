"""A second process that makes and prints the lines of a share of the conversations, on a processor of its own.

Claim: what `Shared` gives is, piece for piece, what one process would print. The frames are read here and given to
`capture.shares.Giving`; what it gives away goes through a pipe to the partner, comes back printed, and takes its place
in the order of capture. Who has less to do gets the next conversation. The partner ends when this process does.

Events and results travel by marshal: both ends are the same program.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import queue
import signal
import struct
import sys
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from operator import itemgetter
from typing import Any, BinaryIO

from capture.errors import WiretalkError
from capture.export.jsonl import Printer
from capture.model import Frame
from capture.record import Ordered
from capture.shares import Event, Giving, Taking

AHEAD = 2  # batches of events that the partner may not have answered when it gets one more conversation
PIPE = 1 << 20  # octets; what Linux allows everybody
FAR_AHEAD = 6  # ... when it is waited for: so much is kept in memory
_length = struct.Struct("<Q")

Piece = tuple[int, str]  # the order of its first octet, and the text without its last line end
Result = tuple[int, int, list[Piece]]  # up to which order everything is here; how many rows were hurried; pieces

_END = b""
_order, _text = itemgetter(0), itemgetter(1)


class PartnerLost(WiretalkError):
    """The partner ended before its work did: a defect of ours, or it was killed."""

    def __init__(self) -> None:
        super().__init__("the second process ended before its work was done.", "taskset -c 0 wiretalk … uses only one")


class Partner:
    """The second process, begun by the constructor. A context manager: it is gone behind it, however it ends."""

    def __init__(self, show_secrets: bool) -> None:
        events, to_partner = _pipe()
        from_partner, results = _pipe()
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(to_partner)
            os.close(from_partner)
            _live(events, results, show_secrets)
        os.close(events)
        os.close(results)
        self._sent = self._answered = 0
        self._events: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # A pipe holds less than a batch: threads fill and empty it while this one works.
        self._threads = [
            threading.Thread(target=self._write, args=(os.fdopen(to_partner, "wb", buffering=0),), daemon=True),
            threading.Thread(target=self._read, args=(os.fdopen(from_partner, "rb"),), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def idle(self) -> bool:
        """It has little to do."""
        return self._sent - self._answered - self._results.qsize() <= AHEAD

    def give(self, events: list[Event], delivered: int) -> None:
        """One more batch of events."""
        self._events.put(marshal.dumps((delivered, events)))
        self._sent += 1

    def results(self, allowed: int = FAR_AHEAD) -> Iterator[Result]:
        """What came back; waits until at most ``allowed`` batches are unanswered. Raises `PartnerLost`."""
        while self._sent - self._answered > allowed or not self._results.empty():
            octets = self._results.get()
            if not octets:
                raise PartnerLost
            self._answered += 1
            yield marshal.loads(octets)

    def _write(self, sink: BinaryIO) -> None:
        with suppress(BrokenPipeError), sink:  # the reader hears of its end
            while octets := self._events.get():
                _send(sink, octets)

    def _read(self, source: BinaryIO) -> None:
        with source:
            while octets := _receive(source):
                self._results.put(octets)
        self._results.put(_END)

    def __enter__(self) -> Partner:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(_END)
        os.waitpid(self._pid, 0)
        for thread in self._threads:
            thread.join()


class Shared:
    """A capture labelled by two processes: give it frames, get printed pieces in order of capture."""

    def __init__(self, partner: Partner, show_secrets: bool) -> None:
        self._partner = partner
        self._analyzer = Giving(lambda: partner.idle)
        self._ordered = Ordered()
        self._print = Printer(show_secrets).row
        self._mine: list[Piece] = []
        self._theirs: list[Piece] = []
        self._my_end = self._their_end = 0
        self._hurried = 0

    @property
    def hurried(self) -> int:
        """As `Ordered.hurried`, of both."""
        return self._ordered.hurried + self._hurried

    def feed(self, frames: list[Frame]) -> Iterator[str]:
        """The pieces of which nothing earlier is to come."""
        analyzer = self._analyzer
        update = analyzer.feed_all(frames)
        self._partner.give(analyzer.take_events(), analyzer.delivered)
        waiting = analyzer.waiting
        horizon = min(waiting.values(), default=analyzer.delivered)
        for row in self._ordered.add(update, horizon, waiting):
            self._mine.append((row.order, self._print(row)))
        self._my_end = _reach(self._my_end, horizon, self._mine)
        yield from self._together(self._partner.results())

    def finish(self) -> Iterator[str]:
        """Everything left."""
        analyzer = self._analyzer
        update = analyzer.finish()
        self._partner.give(analyzer.take_events(), analyzer.delivered)
        rows = [*self._ordered.add(update, analyzer.horizon), *self._ordered.rest()]
        self._mine += [(row.order, self._print(row)) for row in rows]
        self._my_end = analyzer.delivered
        yield from self._together(self._partner.results(allowed=0))

    def _together(self, results: Iterator[Result]) -> Iterator[str]:
        for end, hurried, pieces in results:
            self._their_end = _reach(self._their_end, end, pieces)
            self._hurried = hurried
            self._theirs += pieces
        end = min(self._my_end, self._their_end)
        ready = [*_taken(self._mine, end), *_taken(self._theirs, end)]
        ready.sort(key=_order)
        return map(_text, ready)


def _reach(known: int, horizon: int, pieces: list[Piece]) -> int:
    """Up to which order everything is here that will come in order; some may have been hurried beyond the horizon."""
    return max(known, horizon, pieces[-1][0] + 1 if pieces else 0)


def _taken(pieces: list[Piece], end: int) -> list[Piece]:
    """Take those in front of ``end`` away."""
    count = bisect_left(pieces, end, key=_order)
    ready = pieces[:count]
    del pieces[:count]
    return ready


def _live(events: int, results: int, show_secrets: bool) -> None:
    """The partner's life. Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells both; the other one ends this one
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(nowhere, stream)
        with os.fdopen(events, "rb") as source, os.fdopen(results, "wb", buffering=0) as sink:
            _work(source, sink, show_secrets)
        code = 0
    except BrokenPipeError:
        code = 0  # nobody waits for more
    finally:
        os._exit(code)


def _work(source: BinaryIO, sink: BinaryIO, show_secrets: bool) -> None:
    analyzer, ordered, printed = Taking(), Ordered(), Printer(show_secrets).row
    while octets := _receive(source):
        delivered, events = marshal.loads(octets)
        update = analyzer.hear_all(events, delivered)
        waiting = analyzer.waiting
        horizon = min(waiting.values(), default=delivered)
        rows = ordered.add(update, horizon, waiting)
        result = horizon, ordered.hurried, [(row.order, printed(row)) for row in rows]
        _send(sink, marshal.dumps(result))


def _pipe() -> tuple[int, int]:
    """A pipe that holds much, where the system allows: fewer turns for as many octets."""
    ends = os.pipe()
    with suppress(OSError):
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE)
    return ends


def _send(sink: Any, octets: bytes) -> None:
    for part in (_length.pack(len(octets)), octets):
        view = memoryview(part)
        while view:
            view = view[sink.write(view) :]


def _receive(source: BinaryIO) -> bytes:
    """The next message; empty at the end, or where it was cut."""
    head = source.read(_length.size)
    if len(head) < _length.size:
        return b""
    (length,) = _length.unpack(head)
    octets = source.read(length)
    return octets if len(octets) == length else b""
