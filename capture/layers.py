"""Every octet of a frame at every layer: whose it is, and what it is there.

Claim: going up the stack, an octet is user data of every layer until one layer claims it as PCI, and no layer above
sees it (labels.md 2.1, "owner of a byte"). So the `owners` of a frame tile it: each octet is PCI of exactly one layer,
or user data of the topmost one that has it.

A copy of octets that came before is TCP's user data and nobody's above: in the stream each octet counts once (L1).
A fragment is a whole PDU of the network layer; of the segment in it the octets of its user data are found, its header
is not: that may lie in another frame.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from capture.carrier import carry
from capture.headers import headers, spans
from capture.model import Frame, Header, Layer, Line, Role, Span
from capture.places import Places

PCI, UD = Role.PCI, Role.USER_DATA

# Ethernet II, IPv4 without options, TCP, as in `capture.decode`: what tells that a frame is one of these.
_ORDINARY = struct.Struct(">12xHBxH2xHxB22xB")

BELOW = (Layer.LINK, Layer.NETWORK, Layer.TRANSPORT)  # the layers of which units stand in one frame


class Owner(NamedTuple):
    """A run of a frame's octets with one owner.

    layer: None for what the capturing host put there (a socket record's own header) and no protocol sent. line: of the
    stream, where there is one.
    """

    start: int
    end: int
    layer: Layer | None
    role: Role
    field: str
    line: Line | None = None


class Laid(NamedTuple):
    """The octets ``[first, last)`` of a line that a frame brought; they begin ``at`` in its data."""

    line: Line
    first: int
    last: int
    at: int

    def spans(self) -> Iterator[Span]:
        """Its spans, offsets in the frame."""
        for start, end, role, field in self.line.spans:
            low, high = max(start, self.first), min(end, self.last)
            if low < high:
                yield Span(self.at + low - self.first, self.at + high - self.first, role, field)


class Unit(NamedTuple):
    """A PDU of a layer below TLS in a frame: octets ``[start, end)``, spans with offsets from ``start``.

    name: ``frame``, ``datagram``, ``segment``; protocol: ``Ethernet``, ``IPv4``; whole: nothing of it was cut off.
    """

    layer: Layer
    protocol: str
    name: str
    start: int
    end: int
    spans: tuple[Span, ...]
    whole: bool


class Overlay:
    """The lines of a capture laid over its frames. ``places`` was fed the whole capture.

    Lines of every layer may be added: of TLS and the application, and their views (layer MESSAGE), which lie on top.
    """

    def __init__(self, places: Places, lines: Iterable[Line] = ()) -> None:
        self._places = places
        self._lines: Mapping[int, list[Line]] = defaultdict(list)
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """One more line."""
        for frame in set(line.frames):
            self._lines[frame].append(line)

    def laid(self, frame: int) -> tuple[Laid, ...]:
        """What the frame brought of which line, lower layers first."""
        found = [piece for line in self._lines.get(frame, ()) for piece in self._pieces(line, frame)]
        return tuple(sorted(found, key=lambda piece: (piece.line.layer, piece.at)))

    def _pieces(self, line: Line, frame: int) -> Iterator[Laid]:
        """The octets of a line that this frame brought first."""
        taken: list[tuple[int, int]] = []
        for number in sorted(set(line.frames)):
            for place in self._places.of(number):
                if (place.conversation, place.side) != (line.conversation, line.side):
                    continue
                low, high = place.offset - line.offset, place.offset + place.length - line.offset
                for first, last in _left(max(low, 0), min(high, len(line.data)), taken):
                    taken.append((first, last))
                    if number == frame:
                        yield Laid(line, first, last, place.at + first - low)
            if number == frame:
                return


def owners(frame: Frame, laid: Iterable[Laid] = ()) -> tuple[Owner, ...]:
    """The frame's octets by owner; the runs tile it. laid: `Overlay.laid` of this frame, or nothing. Never raises."""
    cells: list[Owner] = [Owner(0, 0, None, UD, "captured")] * len(frame.data)
    below: Header | None = None
    for header in headers(frame):
        outer = below.body if below is not None else 0
        if outer < header.start:  # tunnels, PPP, and links of which no field is known
            _paint(cells, outer, header.start, _outside(below), PCI, "encapsulation")
        for start, end, role, field in spans(header):
            _paint(cells, start, end, header.layer, role, field)
        below = header
    for piece in laid:
        layer = piece.line.layer
        for start, end, role, field in piece.spans():
            _paint(cells, start, end, layer, role, field, piece.line)
    made, at = [], 0
    for owner, run in groupby(cells, key=id):
        size = sum(1 for _ in run)
        cell = cells[at]
        assert id(cell) == owner
        made.append(cell._replace(start=at, end=at + size))
        at += size
    return tuple(made)


def roles(frame: Frame, layer: Layer, laid: Iterable[Laid] = ()) -> tuple[Span, ...]:
    """What the frame's octets are to one layer: its PCI and its user data, offsets in the frame.

    Octets that belong to a layer below are in no span, nor is what this layer does not see. laid: `Overlay.laid` of
    this frame, needed from TLS up.
    """
    if layer in BELOW:
        return tuple(span for header in headers(frame) if header.layer is layer for span in spans(header))
    return tuple(span for piece in laid if piece.line.layer is layer for span in piece.spans())


def units(frame: Frame) -> tuple[Unit, ...]:
    """The PDUs of LINK, NETWORK and TRANSPORT in a frame, outermost first."""
    data = frame.data
    if frame.link == 1 and len(data) >= 54 and frame.length <= len(data):
        kind, first, total, fragment, protocol, offset = _ORDINARY.unpack_from(data)
        end = 14 + total
        if kind == 0x0800 and first == 0x45 and protocol == 6 and not fragment & 0x3FFF and 34 <= end <= len(data):
            header = offset >> 4 << 2
            if 20 <= header <= end - 34:
                return _shape(len(data), end, header)
    return _units(frame)


def _units(frame: Frame) -> tuple[Unit, ...]:
    carrier = carry(frame)
    captured, cut = len(frame.data), frame.length > len(frame.data)
    made = []
    for header in headers(frame):
        start, end = header.start, header.end
        shifted = tuple(Span(a - start, b - start, role, field) for a, b, role, field in spans(header))
        short = cut if header.layer is Layer.LINK or carrier is None else carrier.end > captured
        made.append(Unit(header.layer, header.name, header.unit, start, end, shifted, not short))
    return tuple(made)


@lru_cache(maxsize=4096)
def _shape(size: int, end: int, header: int) -> tuple[Unit, ...]:
    """The units of an ordinary frame, which follow from three lengths: of the frame, up to the packet's end, of TCP.

    Nearly every frame there is; taken apart once, as a frame of zeros with these lengths.
    """
    packet = struct.pack(">BxHxxxxxB10x", 0x45, end - 14, 6) + bytes(12) + bytes((header << 2,)) + bytes(end - 47)
    data = struct.pack(">12xH", 0x0800) + packet + bytes(size - end)
    return _units(Frame(0, 0, data, size))


def _outside(below: Header | None) -> Layer:
    return Layer.LINK if below is None else Layer.NETWORK


def _paint(
    cells: list[Owner], start: int, end: int, layer: Layer, role: Role, field: str, line: Line | None = None
) -> None:
    start, end = max(start, 0), min(end, len(cells))
    if start < end:
        cells[start:end] = [Owner(start, end, layer, role, field, line)] * (end - start)


def _left(low: int, high: int, taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of ``[low, high)`` is in none of the stretches."""
    left = [(low, high)] if low < high else []
    for start, end in taken:
        left = [part for a, b in left for part in ((a, min(b, start)), (max(a, end), b)) if part[0] < part[1]]
    return left
