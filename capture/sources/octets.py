"""The octets of a file or a pipe, packed or not, a gulp at a time.

Claim: nothing is read whole, a live pipe is passed on as it comes, and a stream that breaks (a gzip cut short)
gives everything in front of the break before it says so.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from pathlib import Path
from typing import Protocol

from capture.errors import UnreadableCapture
from capture.sources.packed import Broken, Unpacking, kinds

GULP = 1 << 20  # octets asked of the system at once: larger gains nothing measurable, smaller costs calls
SIP = 1 << 16  # packed octets at once: each member copies what is left of a sip, so sips are small
_MAGIC = 6  # octets that tell any kind of packing


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...
    def close(self) -> None: ...


class _StandardInput:
    """Standard input, unbuffered: what has come, not what will come. It is not ours to close."""

    def read(self, size: int, /) -> bytes:
        source = sys.stdin.buffer
        return source.read1(size) if isinstance(source, io.BufferedReader | io.BytesIO) else source.read(size)

    def close(self) -> None:
        return


class Octets:
    """A source of octets. ``read()`` gives the next gulp, ``b""`` at the end; ``broken`` then says why, if it broke.

    ``live``: it comes from a pipe, so that what has come may be all for a while. `open_octets` makes one. Raises
    `UnreadableCapture` when the system refuses to read on.
    """

    def __init__(self, source: _Readable, name: str, gulp: int = 0, *, live: bool = False) -> None:
        self.name = name
        self._gulp = gulp or GULP
        self.live = live
        self.broken = ""
        self._source = source
        self._head = b""
        while len(self._head) < _MAGIC and (more := self._pull(self._gulp)):
            self._head += more
        kind = next((kind for kind in kinds() if self._head.startswith(kind.magic)), None)
        self.packed = "" if kind is None else kind.name  # how, or "" for not at all
        self._unpacking = None if kind is None else Unpacking(kind)

    def _pull(self, size: int) -> bytes:
        try:
            return self._source.read(size) or b""
        except OSError as error:
            raise UnreadableCapture(f"{self.name} cannot be read: {_why(error)}.") from error

    def _raw(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head or self._pull(size)

    def read(self) -> bytes:
        """What comes next, at most a gulp; ``b""`` at the end. It may be short of a gulp before the end."""
        if self.broken:
            return b""
        unpacking = self._unpacking
        if unpacking is None:
            return self._raw(self._gulp)
        while True:
            if unpacking.hungry:
                more = self._raw(SIP)
                if not more:
                    return b"" if unpacking.whole else self._break(f"the {self.packed} stream is cut short")
                unpacking.take(more)
            try:
                octets = unpacking.octets(self._gulp)
            except Broken:
                return self._break(f"the {self.packed} stream is damaged, or something else follows it")
            if octets:
                return octets

    def _break(self, why: str) -> bytes:
        self.broken = why
        return b""

    def fill(self, tail: bytes, need: int) -> bytes:
        """``tail`` and what follows it: at least ``need`` octets, less only at the end, as a rule a gulp."""
        parts, have = [tail], len(tail)
        while True:
            more = self.read()
            parts.append(more)
            have += len(more)
            if have >= need or not more:
                return b"".join(parts)

    def close(self) -> None:
        self._source.close()


def open_octets(path: str | Path, gulp: int = 0) -> Octets:
    """Open a file, or standard input for ``-``. gulp: octets read at once, 0: `GULP`. Raises `UnreadableCapture`."""
    if str(path) == "-":
        if sys.stdin is None:
            raise UnreadableCapture("standard input is closed.")
        return Octets(_StandardInput(), "standard input", gulp, live=True)
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115  # Octets closes it
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnreadableCapture(f"{path} cannot be opened: {_why(error)}.", _remedy(error)) from error
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISDIR(mode):  # some systems open a directory and fail on reading it
        file.close()
        raise UnreadableCapture(f"{path} is a directory, not a capture file.")
    try:
        return Octets(file, str(path), gulp, live=not stat.S_ISREG(mode))
    except UnreadableCapture:
        file.close()
        raise


def _why(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "it is a directory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error)


def _remedy(error: Exception) -> str:
    denied = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)
    return "Read it as a user who may, or copy it to a place of your own." if denied else ""
