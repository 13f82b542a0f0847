"""The pcapng file, block by block: several sections in either byte order, interfaces each with its own clock.

Claim: a frame's time is exact (integers, never floats), it bears the link type of *its* interface, and no block we do
not know ends the file. Source: draft-ietf-opsawg-pcapng; the block types of its section 11.1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from capture.errors import BadCapture
from capture.model import Frame
from capture.sources.findings import BROKEN, CUT, INTERFACES, SKIPPED, TIMELESS, Findings, Interface
from capture.sources.octets import Octets

MAGIC = b"\x0a\x0d\x0d\x0a"
FIRST, LAST = -(1 << 63), (1 << 63) - 1  # ns: the years 1677 to 2262, all that fits 64 bits
MAX_BLOCK = 16 << 20  # as `pcap.MAX_RECORD`; libpcap refuses longer blocks too

_SECTION, _INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
# names, statistics, journal entries, secrets, custom blocks: known, and no frames in them
_FRAMELESS = frozenset({4, 5, 9, 10, 0x0BAD, 0x40000BAD})
_BYTE_ORDER = 0x1A2B3C4D
_MICROSECONDS = 6  # the resolution when if_tsresol is not given
_END, _COMMENT, _NAME, _RESOLUTION, _FCS, _OFFSET = 0, 1, 2, 9, 13, 14


_Unpack = Callable[[bytes, int], tuple[int, ...]]


class _Clock(NamedTuple):
    """How one interface's ticks become nanoseconds, ``ticks * times // by + plus``, and its link type.

    quick: while the upper half of the ticks is at most this, they are ``ticks * times + plus``, and that is in 64 bits;
    -1: it never is.
    """

    times: int
    by: int
    plus: int
    link: int
    quick: int


def _clock(times: int, by: int, plus: int, link: int) -> _Clock:
    quick = min((LAST - plus) // times >> 32, 1 << 32) - 1 if by == 1 and plus >= FIRST else -1
    return _Clock(times, by, plus, link, quick)


def _rate(octet: int) -> tuple[int, int]:
    """if_tsresol as (times, by): 10^-n, or 2^-n when the top bit is set."""
    power = octet & 0x7F
    if octet & 0x80:
        return 1_000_000_000, 1 << power
    return (10 ** (9 - power), 1) if power <= 9 else (1, 10 ** (power - 9))


@dataclass(slots=True)
class _Section:
    """The byte order, and where this section's interfaces begin among all of the file's."""

    order: str = "<"
    first: int = 0
    clocks: list[_Clock] = field(default_factory=list)


class _Walker:
    def __init__(self, source: Octets, findings: Findings, number: int) -> None:
        self.source, self.findings, self.number = source, findings, number
        self.section = _Section()

    def batches(self, data: bytes) -> Iterator[list[Frame]]:
        """Frames by the gulp. A block is looked at only when it is there whole."""
        at = 0
        while True:
            batch: list[Frame] = []
            at, need, going = self._gulp(data, at, batch)
            yield batch
            if not going:
                return
            tail = data[at:]
            data, at = self.source.fill(tail, need), 0
            if len(data) == len(tail):
                if tail or self.source.broken:
                    why = f"the file ends inside a block, {len(tail)} octets into it"
                    self.findings.note(CUT, self.source.broken or why, self.number)
                return

    def _gulp(self, data: bytes, at: int, batch: list[Frame]) -> tuple[int, int, bool]:
        """Walk the whole blocks of ``data``: (where the rest begins, octets needed to go on, whether to go on)."""
        size, number, make, new, add = len(data), self.number, tuple.__new__, Frame, batch.append
        two, seven = self._here()
        last, current = size - 32, -1
        times = plus = link = interface = quick = 0
        while True:
            # Nearly every block of nearly every file: a frame that fills it, no options, of the interface that the
            # last one was of. Only local names here; and what fills its block exactly needs no second opinion from
            # the length at the block's end.
            while at <= last:
                kind, total, which, high, low, captured, length = seven(data, at)
                end = at + total
                if which != current or kind != _ENHANCED or total != captured + 35 & -4 or end > size or high > quick:
                    break
                if captured > length:  # noqa: PLR1730  # max() is a call
                    length = captured
                time = (high << 32 | low) * times + plus
                add(make(new, (number, time, data[at + 28 : at + 28 + captured], length, link, interface)))
                number += 1
                at = end
            if at + 12 > size:
                self.number = number
                return at, 12, True
            kind, total = two(data, at)
            if kind == _ENHANCED and at <= last:
                which = seven(data, at)[2]
                clock = self.section.clocks[which] if which < len(self.section.clocks) else None
                if which != current and clock is not None and clock.quick >= 0:
                    current, interface, (times, _, plus, link, quick) = which, self.section.first + which, clock
                    continue
            self.number = number
            if kind == _SECTION:
                total = self._order(data, at)
            if not 12 <= total <= MAX_BLOCK:
                return self._refuse(f"a block of type {kind:#x} claims {total} octets", at)
            end = at + total + (-total % 4)  # some writers leave the padding out of the length, as Wireshark knows
            if end > size:
                return at, end - at, True
            if kind != _SECTION:
                frames = self._rarer(kind, data[at + 8 : end - 4])
                batch += frames
                number += len(frames)
            elif not self._begin(data[at:end]):
                return self._refuse("a section is of a version that we do not know", at)
            else:
                two, seven = self._here()
                current = -1
            if two(data, end - 8)[1] != total:
                self.findings.once(BROKEN, "a block ends in another length than it began with", number)
            at = end

    def _refuse(self, what: str, at: int) -> tuple[int, int, bool]:
        self.findings.note(BROKEN, f"{what}; nothing behind it can be read", self.number)
        return at, 0, False

    def _here(self) -> tuple[_Unpack, _Unpack]:
        """How to read two and seven words in this section."""
        order = self.section.order
        return struct.Struct(order + "2I").unpack_from, struct.Struct(order + "7I").unpack_from

    def _order(self, data: bytes, at: int) -> int:
        """Set the byte order from a section header's own mark and give its length; 0 when there is no such mark."""
        for order in "<>":
            total, mark = struct.unpack_from(order + "2I", data, at + 4)
            if mark == _BYTE_ORDER:
                self.section = _Section(order, len(self.findings.interfaces))
                return int(total)
        return 0

    def _begin(self, block: bytes) -> bool:
        """Read a section header; False when its major version is not ours."""
        if len(block) < 28:
            self.findings.once(BROKEN, "a section header is shorter than its fixed fields")
            return True
        self._comments(block[24:-4])
        return bool(struct.unpack_from(self.section.order + "H", block, 12)[0] == 1)

    def _rarer(self, kind: int, body: bytes) -> list[Frame]:
        """What a block other than a section header or an enhanced packet block brings: no frame or one."""
        if kind == _INTERFACE:
            self._interface(body)
        elif kind == _OBSOLETE:
            return self._obsolete(body)
        elif kind == _SIMPLE:
            return self._simple(body)
        elif kind == _ENHANCED:
            return self._enhanced(body)
        elif kind not in _FRAMELESS:
            self.findings.once(SKIPPED, f"blocks of the unknown type {kind:#x} are skipped", self.number)
        return []

    def _interface(self, body: bytes) -> None:
        if len(self.findings.interfaces) >= INTERFACES:
            self.findings.once(BROKEN, f"more than {INTERFACES} interfaces are described; the rest is not kept")
            return
        rate, plus, link, snap, fcs, name = _rate(_MICROSECONDS), 0, 0, 0, 0, ""
        if len(body) < 8:
            self.findings.note(BROKEN, "an interface block is too short; its frames have link type 0")
        else:
            link, _, snap = struct.unpack_from(self.section.order + "HHI", body)
            for code, value in self._options(body[8:]):
                if code == _RESOLUTION and value:
                    rate = _rate(value[0])
                elif code == _OFFSET and len(value) == 8:
                    plus = struct.unpack(self.section.order + "q", value)[0] * 1_000_000_000
                elif code == _FCS and value:
                    fcs = value[0]
                elif code == _NAME:
                    name = value.rstrip(b"\0").decode("utf-8", "backslashreplace")
                elif code == _COMMENT:
                    self.findings.comment(value)
        self.section.clocks.append(_clock(*rate, plus, link))
        self.findings.interfaces.append(Interface(link, snap, fcs, name))

    def _enhanced(self, body: bytes) -> list[Frame]:
        if len(body) < 20:
            self.findings.note(BROKEN, "an enhanced packet block is too short; it is skipped", self.number)
            return []
        return self._packet(_ENHANCED, body, *struct.unpack_from(self.section.order + "5I", body))

    def _obsolete(self, body: bytes) -> list[Frame]:
        if len(body) < 20:
            self.findings.note(BROKEN, "an obsolete packet block is too short; it is skipped", self.number)
            return []
        which, _drops, *rest = struct.unpack_from(self.section.order + "HH4I", body)
        return self._packet(_OBSOLETE, body, which, *rest)

    def _packet(
        self, kind: int, body: bytes, which: int, high: int, low: int, captured: int, length: int
    ) -> list[Frame]:
        """The frame of a block whose fixed fields are 20 octets, and the comments behind it."""
        stop = 20 + captured
        if which >= len(self.section.clocks) or stop > len(body):
            self._misfit(kind, which, captured)
            return []
        self._comments(body[stop + (-captured % 4) :], self.number)
        times, by, plus, *_ = self.section.clocks[which]
        time = (high << 32 | low) * times // by + plus
        if not FIRST <= time <= LAST:
            text = "times beyond the years 1677 to 2262 are taken for the nearest in them"
            self.findings.once(TIMELESS, text, self.number)
            time = min(max(time, FIRST), LAST)
        return self._frame(time, body[20:stop], length, which)

    def _simple(self, body: bytes) -> list[Frame]:
        """A frame of the section's first interface, with no time; the snap length says how much of it is here."""
        if len(body) < 4 or not self.section.clocks:
            self._misfit(_SIMPLE, 0, 0)
            return []
        self.findings.once(TIMELESS, "frames of simple packet blocks carry no time", self.number)
        length = struct.unpack_from(self.section.order + "I", body)[0]
        snap = self.findings.interfaces[self.section.first].snap or length
        captured = min(length, snap, len(body) - 4)
        return self._frame(0, body[4 : 4 + captured], length, 0)

    def _frame(self, time: int, data: bytes, length: int, which: int) -> list[Frame]:
        link = self.section.clocks[which].link
        return [Frame(self.number, time, data, max(length, len(data)), link, self.section.first + which)]

    def _misfit(self, kind: int, which: int, captured: int) -> None:
        if which >= len(self.section.clocks):
            text = f"a frame of interface {which}, which was never described, is skipped"
        else:
            text = f"a block of type {kind:#x} claims {captured} octets, more than it holds; it is skipped"
        self.findings.note(BROKEN, text, self.number)

    def _comments(self, options: bytes, frame: int = 0) -> None:
        for code, value in self._options(options):
            if code == _COMMENT:
                self.findings.comment(value, frame)

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(code, value) up to the end mark, which some writers leave out."""
        at, two = 0, struct.Struct(self.section.order + "HH")
        while at + 4 <= len(data):
            code, length = two.unpack_from(data, at)
            if code == _END:
                return
            end = at + 4 + length
            if end > len(data):
                self.findings.once(BROKEN, "an option is longer than its block", self.number)
                return
            yield code, data[at + 4 : end]
            at = end + (-length % 4)


def walk(source: Octets, head: bytes, findings: Findings, number: int) -> Iterator[list[Frame]]:
    """Batches of frames, the first numbered ``number``; ``head`` is what was read already, the magic first.

    Raises `BadCapture` at once when the first section header is cut or has no byte order.
    """
    if len(head) < 28:
        head = source.fill(head, 28)
    if len(head) < 28:
        raise BadCapture(f"{source.name} is cut inside its first section header, after {len(head)} octets.")
    if _BYTE_ORDER not in (int.from_bytes(head[8:12], "little"), int.from_bytes(head[8:12], "big")):
        raise BadCapture(f"{source.name} begins like pcapng but gives no byte order, so it cannot be read.")
    little = int.from_bytes(head[8:12], "little") == _BYTE_ORDER
    if (major := int.from_bytes(head[12:14], "little" if little else "big")) != 1:
        raise BadCapture(f"{source.name} is a pcapng file of version {major}; only version 1 is known.")
    return _Walker(source, findings, number).batches(head)
