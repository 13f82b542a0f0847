"""What unpacks a compressed capture: gzip, bzip2 and xz by the standard library, zstd where there is a library for it.

Claim: every kind is unpacked as it comes, never more at once than asked for, and member after member, for files are
packed by being appended to each other. Whatever a damaged stream makes a library raise is `Broken`.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, Protocol

LOST = 1 << 16  # octets unpacked at once, but for gzip: so much in front of a damage may be lost with it
XZ_MEMORY = 256 << 20  # octets an xz stream may ask for; `xz -9` needs 65 MiB, and a hostile header could ask for 4 GiB
ZSTD = ("compression.zstd", "backports.zstd")  # Python's own from 3.14 on, and the same for those before


class Broken(Exception):
    """The packed stream is damaged."""


class Unpacker(Protocol):
    """As the decompressors of `bz2` and `lzma`: one member of a stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Gunzip:
    """`zlib` in the shape of the others. A damaged stream gives every octet in front of the damage, then its error."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)  # a gzip wrapper round a 32 KiB window
        self._tail = b""
        self._behind = b""  # what was not given to zlib when the member ended
        self._step = 1 << 30  # packed octets at once; fewer when damage was met

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._tail and not self.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data + self._behind

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        packed = self._tail + data
        while True:
            before = self._zlib.copy()
            try:
                octets = self._zlib.decompress(packed[: self._step], max_length)
            except zlib.error:
                # What this call unpacked in front of the damage is lost: again, and less of it, down to one octet.
                if self._step == 1:
                    raise
                self._zlib, self._step = before, max(min(self._step, len(packed)) // 2, 1)
                continue
            self._tail = self._zlib.unconsumed_tail
            if not self._zlib.eof:
                self._tail += packed[self._step :]
            elif len(packed) > self._step:
                self._behind = packed[self._step :]
            return octets


def _unxz() -> Unpacker:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


class Kind(NamedTuple):
    """A way of packing. ``make`` gives an unpacker for one member, ``errors`` are what it raises; exact: only at the
    damage itself."""

    name: str
    magic: bytes
    make: Callable[[], Unpacker]
    errors: tuple[type[Exception], ...]
    exact: bool = False


def kinds() -> tuple[Kind, ...]:
    """The ways that can be unpacked here."""
    known = (
        Kind("gzip", b"\x1f\x8b", _Gunzip, (zlib.error,), exact=True),
        Kind("bzip2", b"BZh", bz2.BZ2Decompressor, (OSError, ValueError)),
        Kind("xz", b"\xfd7zXZ\0", _unxz, (lzma.LZMAError,)),
    )
    for name in ZSTD:
        try:
            library = import_module(name)
        except ImportError:
            continue
        return (*known, Kind("zstd", b"\x28\xb5\x2f\xfd", library.ZstdDecompressor, (library.ZstdError,)))
    return known


class Unpacking:
    """A stream of members of one kind: `take` packed octets, then `octets` until it gives none."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._member = kind.make()
        self._packed = b""  # read and not yet given to the member

    @property
    def hungry(self) -> bool:
        """Nothing more comes without more packed octets."""
        return not self._packed and (self._member.eof or self._member.needs_input)

    @property
    def whole(self) -> bool:
        """The last member that began has ended."""
        return self._member.eof

    def take(self, packed: bytes) -> None:
        self._packed += packed

    def octets(self, size: int) -> bytes:
        """At most ``size`` unpacked octets, which may be none. Raises `Broken`."""
        if self._member.eof:
            self._packed = self._packed.lstrip(b"\0")  # padding between and behind members
            if not self._packed:
                return b""
            self._member = self.kind.make()
        packed, self._packed = self._packed, b""
        try:
            octets = self._member.decompress(packed, size if self.kind.exact else min(size, LOST))
        except self.kind.errors as error:
            raise Broken(str(error)) from error
        if self._member.eof:
            self._packed = self._member.unused_data
        return octets
