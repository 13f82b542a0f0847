"""Several files that are one capture: `read_all` gives their frames in order of time, numbered on.

Claim: a rotated capture gives the frames of the one that was not rotated, in whatever order its files are named; of
files that overlap in time, frames of equal time keep the order of the files, and frames of one file their own. A file
is opened when its time has come and closed at its end, so the number of files has no bound, only of those that overlap.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain
from operator import itemgetter
from pathlib import Path
from types import TracebackType

from capture.errors import BadCapture, CaptureError
from capture.model import Frame, Note
from capture.sources.files import Capture, read
from capture.sources.findings import Comment, Interface

OPEN = 128  # files that may overlap in time at any moment: half of what the smallest systems let a process open
SMALL_GULP = 1 << 17  # octets read at once of each file that overlaps others: OPEN of them are 16 MiB
RUN = 4096  # frames of a merged batch

_time = itemgetter(1)
_Head = tuple[int, int, "_File"]


class _File:
    """One of the files. ``first``: the time of its first frame, None if it has none; ``place``: among the names."""

    def __init__(self, path: str | Path, place: int) -> None:
        self.path, self.place = path, place
        self.first: int | None = None
        self.capture: Capture | None = None
        self.kept = False  # opened to look for its first frame, and not to be opened again: a pipe
        self.batch: list[Frame] = []
        self.at = 0  # the first frame of the batch that is still here
        self.in_step = False  # its frames are numbered right as they are read
        self.numbers: list[int] = []  # which of all interfaces each of its own is
        self.comments: deque[Comment] = deque()
        self._taken = 0
        self._batches: Iterator[list[Frame]] = iter(())

    def open(self, number: int, gulp: int = 0) -> None:
        self.capture = read(self.path, number, gulp)
        self._batches = self.capture.batches()

    def look(self) -> None:
        """Find the time of the first frame."""
        self.open(1, SMALL_GULP)
        more = self.more()
        self.first = self.batch[0].time if more else None
        self.kept = not os.path.isfile(self.path)
        if not self.kept:
            self.close()

    def more(self) -> bool:
        """Have a batch with a frame in it; False at the end of the file."""
        self.at = 0
        self.batch = next(filter(None, self._batches), [])
        return bool(self.batch)

    def new_comments(self) -> Iterator[Comment]:
        assert self.capture is not None
        while self._taken < len(self.capture.comments):
            yield self.capture.comments[self._taken]
            self._taken += 1

    def close(self) -> None:
        if self.capture is not None:
            self.capture.close()
        self.capture, self._batches, self._taken = None, iter(()), 0


class Captures:
    """Open captures as one, with the same face as `Capture`: iterate it once. A context manager.

    notes: each begins with its file's name; interfaces: of all files, equal ones of different files once.
    """

    def __init__(self, files: list[_File], number: int, refused: Callable[[CaptureError], None] | None = None) -> None:
        self.name = ", ".join(str(file.path) for file in files)
        self.notes: list[Note] = []
        self.comments: list[Comment] = []
        self.interfaces: list[Interface] = []
        self._number = number
        self._waiting: list[_File] = []
        self._heads: list[_Head] = []  # a heap of those that are open: time of the next frame, place, file
        if len(files) == 1:
            self._batches = self._alone(files[0])
            return
        readable: list[_File] = []
        for file in files:
            try:
                file.look()
            except CaptureError as error:
                if refused is None or (file is files[-1] and not readable):
                    raise
                refused(error)
            else:
                readable.append(file)
        files = readable
        # The one whose time comes next stands last; a file without frames comes first, for what it says besides.
        self._waiting = sorted(files, key=lambda file: (file.first is not None, file.first or 0, file.place))[::-1]
        self._open_those_due()
        self._batches = self._merged()

    @property
    def link(self) -> int | None:
        """The LINKTYPE_ of the first interface, None while no interface is known."""
        return self.interfaces[0].link if self.interfaces else None

    def batches(self) -> Iterator[list[Frame]]:
        """The frames as they are read. A batch may be empty. Raises as `Capture.batches`, and `BadCapture` when more
        than `OPEN` files overlap."""
        return self._batches

    def __iter__(self) -> Iterator[Frame]:
        return chain.from_iterable(self._batches)

    def close(self) -> None:
        for file in (*self._waiting, *(head[2] for head in self._heads)):
            file.close()

    def __enter__(self) -> Captures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _alone(self, file: _File) -> Iterator[list[Frame]]:
        """A lone file comes as it comes, for it may be a live pipe: nothing is looked at twice or waited for."""
        file.open(self._number)
        file.in_step = True
        self._heads.append((0, 0, file))
        assert file.capture is not None
        self._adopt(file)

        def batches(capture: Capture) -> Iterator[list[Frame]]:
            for batch in capture.batches():
                self._adopt(file)
                self._tell(file)
                yield batch
            self._heads.clear()
            self._end(file)

        return batches(file.capture)

    def _merged(self) -> Iterator[list[Frame]]:
        while self._waiting or self._heads:
            self._open_those_due()
            if not self._heads:
                return
            _, _, file = self._heads[0]
            until = self._until()
            if file.in_step and not file.at and (until is None or max(map(_time, file.batch)) < until):
                self._number = file.batch[-1].number + 1
                file.at = len(file.batch)
                batch = file.batch
            else:
                batch = self._run(file, until)
            self._tell(file)
            yield batch
            self._advance(file)

    def _open_those_due(self) -> None:
        while self._waiting:
            file = self._waiting[-1]
            if self._heads and file.first is not None and file.first > self._heads[0][0]:
                return
            if len(self._heads) >= OPEN:
                text = f"More than {OPEN} of these files overlap in time: merge them with 'mergecap' first."
                raise BadCapture(text)
            self._waiting.pop()
            if not file.kept:
                file.open(self._number if not self._heads else 1, SMALL_GULP if self._heads else 0)
                file.in_step = not self._heads
                file.more()
            self._adopt(file)
            for other in self._heads:
                other[2].in_step = False
            if not file.batch:
                self._end(file)
                continue
            self._heads.append((file.batch[0].time, file.place, file))
            heapify(self._heads)

    def _until(self) -> int | None:
        """The time at which another file may have its turn, None: never."""
        times = [head[0] for head in self._heads[1:3]]
        if self._waiting and self._waiting[-1].first is not None:
            times.append(self._waiting[-1].first)
        return min(times, default=None)

    def _run(self, file: _File, until: int | None) -> list[Frame]:
        """Frames of this file, numbered on, up to another file's turn; at least one."""
        out: list[Frame] = []
        number, numbers, comments, batch, at = self._number, file.numbers, file.comments, file.batch, file.at
        comments.extend(file.new_comments())
        end = min(len(batch), at + RUN)
        while at < end:
            old, time, data, length, link, interface = batch[at]
            if out and until is not None and time >= until:
                break
            while comments and comments[0].frame <= old:
                comment = comments.popleft()
                self.comments.append(Comment(number if comment.frame else 0, comment.text))
            out.append(Frame(number, time, data, length, link, numbers[interface]))
            number += 1
            at += 1
        file.at, self._number = at, number
        file.in_step = False
        return out

    def _advance(self, file: _File) -> None:
        """This file's next frame takes its place among the others'."""
        if file.at >= len(file.batch):
            if not file.more():
                heappop(self._heads)
                self._end(file)
                return
            self._adopt(file)
        heapreplace(self._heads, (file.batch[file.at].time, file.place, file))

    def _adopt(self, file: _File) -> None:
        """Give the interfaces of this file that became known their numbers among all."""
        assert file.capture is not None
        for interface in file.capture.interfaces[len(file.numbers) :]:
            equal = (n for n, known in enumerate(self.interfaces) if known == interface and n not in file.numbers)
            number = next(equal, len(self.interfaces))
            if number == len(self.interfaces):
                self.interfaces.append(interface)
            if number != len(file.numbers):
                file.in_step = False
            file.numbers.append(number)

    def _tell(self, file: _File) -> None:
        if file.in_step:
            self.comments.extend(file.new_comments())

    def _end(self, file: _File) -> None:
        assert file.capture is not None
        file.comments.extend(file.new_comments())
        self.comments.extend(comment if file.in_step else comment._replace(frame=0) for comment in file.comments)
        for note in file.capture.notes:
            frame = note.frame if file.in_step else 0  # else it is a number of that file's own
            self.notes.append(note._replace(text=f"{file.capture.name}: {note.text}", frame=frame))
        file.close()


def read_all(
    paths: Sequence[str | Path], first_number: int = 1, refused: Callable[[CaptureError], None] | None = None
) -> Captures:
    """Open several captures as one, in order of time; ``-`` is standard input. Frames are numbered from
    ``first_number``.

    Raises as `read`, for any of the files before the first frame is given; `BadCapture` when a file is named twice.
    refused: told of each file that is no capture, and the others are read all the same; when none is left it raises.
    """
    _refuse_twice(paths)
    files = [_File(path, place) for place, path in enumerate(paths)]
    try:
        return Captures(files, first_number, refused)
    except BaseException:
        for file in files:
            file.close()
        raise


def _refuse_twice(paths: Iterable[str | Path]) -> None:
    seen: dict[object, str | Path] = {}
    for path in paths:
        try:
            status = os.stat(path) if str(path) != "-" else None
        except (OSError, ValueError):
            continue  # opening it will say why
        name: object = "-" if status is None else (status.st_dev, status.st_ino)
        if name in seen:
            same = "" if str(seen[name]) == str(path) else f", as {seen[name]} too"
            raise BadCapture(f"{path} is given twice{same}; each of its frames would count twice.")
        seen[name] = path
