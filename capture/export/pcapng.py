"""Frames as they come, into a pcapng file that is readable at every moment.

Claim: after each call of `Recorder.write` the file holds whole blocks only, times to the nanosecond, and what is read
back equals what was written. The file is its owner's alone (0600): what was typed is in it, passwords too.
Source: draft-ietf-opsawg-pcapng 4.1 to 4.3.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from capture.errors import CaptureError
from capture.model import Frame

_SECTION, _INTERFACE, _ENHANCED = 0x0A0D0D0A, 1, 6
_COMMENT, _APPLICATION, _NAME, _RESOLUTION = 1, 4, 2, 9
_NANOSECONDS = b"\x09"
_enhanced = struct.Struct("<IIIIIII").pack  # type, length, interface, time high and low, captured, original length
_word = struct.Struct("<I").pack


class Recorder:
    """Writes frames to ``target``: a path, or a file open for writing bytes. A context manager.

    interfaces: (name, LINKTYPE_) in order of `Frame.interface`; comment: about the whole recording.
    Raises `CaptureError` when the file cannot be made or written on.
    """

    def __init__(
        self,
        target: str | Path | IO[bytes],
        interfaces: Sequence[tuple[str, int]] = (("eth0", 1),),
        comment: str = "",
    ) -> None:
        self.frames = 0
        self._failed = False
        self._links = [link for _, link in interfaces]
        if isinstance(target, str | Path):
            self.name, self._ours = str(target), True
            self._file: IO[bytes] = _private_file(target)
        else:
            self.name, self._ours = str(getattr(target, "name", "the recording")), False
            self._file = target
        head = [_section(comment), *(_interface(name, link) for name, link in interfaces)]
        try:
            self._put(b"".join(head))
        except CaptureError:
            self.close()
            raise

    def write(self, frame: Frame, comment: str = "") -> None:
        """Record one frame, with words about it if wanted. Raises `CaptureError`; ValueError: of no such interface."""
        self._put(self._block(frame, comment))
        self.frames += 1

    def write_all(self, frames: Iterable[Frame]) -> None:
        """Record a drain's worth of frames in one go."""
        blocks = [self._block(frame) for frame in frames]
        if blocks:
            self._put(b"".join(blocks))
            self.frames += len(blocks)

    def _block(self, frame: Frame, comment: str = "") -> bytes:
        number, time, data, length, link, interface = frame
        if not 0 <= interface < len(self._links) or self._links[interface] != link:
            raise ValueError(f"frame {number} is of link type {link}, interface {interface}: no such interface here")
        options = _options((_COMMENT, comment.encode())) if comment else b""
        captured, padding = len(data), -len(data) % 4
        total = 32 + captured + padding + len(options)
        head = _enhanced(_ENHANCED, total, interface, time >> 32, time & 0xFFFFFFFF, captured, length)
        return b"".join((head, data, bytes(padding), options, _word(total)))

    def _put(self, octets: bytes) -> None:
        """Write and flush: a program that is killed now leaves a readable file."""
        try:
            self._file.write(octets)
            self._file.flush()
        except OSError as error:
            self._failed = True
            raise CaptureError(f"{self.name} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """End the recording. A file that was given open stays open. Raises `CaptureError`, if no write did."""
        if not self._ours:
            return
        try:
            self._file.close()  # tries again what a full disk refused
        except OSError as error:
            if not self._failed:
                raise CaptureError(f"{self.name} cannot be written: {error.strerror}.") from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _private_file(path: str | Path) -> IO[bytes]:
    """Made for its owner only; one that exists is narrowed to its owner if it is ours."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CaptureError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        os.fchmod(descriptor, 0o600)
    return open(descriptor, "wb")


def _wrap(kind: int, body: bytes) -> bytes:
    total = 12 + len(body)
    return struct.pack("<II", kind, total) + body + _word(total)


def _options(*options: tuple[int, bytes]) -> bytes:
    """Options and their end mark. Raises ValueError: one is longer than its length field can say."""
    parts = []
    for code, value in options:
        if len(value) > 0xFFFF:
            raise ValueError(f"an option has room for 65535 octets, not {len(value)}")
        parts.append(struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4))
    return b"".join(parts) + bytes(4)


def _section(comment: str) -> bytes:
    told = [(_COMMENT, comment.encode())] if comment else []
    header = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)  # byte order, version 1.0, a length not known in advance
    return _wrap(_SECTION, header + _options(*told, (_APPLICATION, b"wiretalk")))


def _interface(name: str, link: int) -> bytes:
    options = _options((_NAME, name.encode()), (_RESOLUTION, _NANOSECONDS))
    return _wrap(_INTERFACE, struct.pack("<HHI", link, 0, 0) + options)
