"""One line found again in the frames that carried it, octet by octet.

Claim: stream offsets find the place, never a search for equal octets. Offset 0 of a side has a sequence number, known
from the first line of that side; a segment's own sequence number then says which octets of the stream it carried.
Octets recorded at a socket have no sequence numbers, but no holes either: there the lengths add up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from capture.decode import decode, headers
from capture.exported import LINKTYPE_UPPER_PDU, unpack
from capture.model import SYN, Frame, Header, Layer, Line, Role
from tui.rows import Rows

WINDOW = 1 << 32


class Octet(NamedTuple):
    """What one captured octet is.

    layer: whose PCI it is, or APPLICATION; None for what was never on a wire. role, field: a line's, at SMTP.
    starts: ``⟦`` a layer begins here, ``⟧`` one ended, ``│`` a field or another line begins, or blank.
    chosen: it belongs to the line looked at. hidden: it is a secret.
    """

    layer: Layer | None
    role: Role = Role.PCI
    field: str = ""
    starts: str = " "
    chosen: bool = False
    hidden: bool = False


class Carried(NamedTuple):
    """Which octets of a side's stream a frame carried. offset: of the first; at: its place in the frame's data."""

    offset: int
    at: int
    length: int


class Dissection(NamedTuple):
    """One frame. octets: as many as ``frame.data``; first: index of the first octet of the line, or -1."""

    frame: Frame
    headers: tuple[Header, ...]
    octets: tuple[Octet, ...]
    first: int


FrameGetter = Callable[[int], Frame | None]


def dissect(
    line: Line, rows: Rows, frame: FrameGetter, shown: Callable[[Line], bytes], *, limit: int
) -> list[Dissection]:
    """Take apart the first ``limit`` frames of a line, those that are still kept."""
    base = _first_sequence(line, rows, frame)
    kept = [carrier for number in line.frames[:limit] if (carrier := frame(number)) is not None]
    return [_dissect(line, carrier, _carried(line, carrier, base, rows, frame), rows, shown) for carrier in kept]


def _dissect(
    line: Line, frame: Frame, carried: Carried | None, rows: Rows, shown: Callable[[Line], bytes]
) -> Dissection:
    layers = headers(frame)
    octets = _owners(frame, layers)
    first = -1
    if carried is not None:
        end = carried.offset + carried.length
        covered = carried.offset
        for other in rows.overlapping(line.conversation, line.side, carried.offset, end):
            place = _lay(octets, other, carried, shown, chosen=other is line)
            first = place if other is line else first
            covered = other.offset + len(other.data)
        if _keeps_secret(rows, line, covered):
            # Held back behind AUTH until the reply says what it is: not to be shown before it is known.
            for index in range(carried.at + max(0, covered - carried.offset), carried.at + carried.length):
                octets[index] = octets[index]._replace(hidden=True)
    return Dissection(frame, layers, tuple(octets), first)


def _carried(line: Line, frame: Frame, base: int | None, rows: Rows, getter: FrameGetter) -> Carried | None:
    segment = decode(frame)
    if segment is not None and base is not None:
        offset = line.offset + _signed(segment.sequence - base - line.offset)
        return Carried(offset, segment.at, len(segment.payload))
    record = unpack(frame) if frame.link == LINKTYPE_UPPER_PDU else None
    if record is None:
        return None
    offset, number = _begins_frame(line, rows)
    while number < frame.number:
        earlier = getter(number)
        octets = unpack(earlier) if earlier is not None else None
        if octets is not None and octets.source == record.source and octets.destination == record.destination:
            offset += len(octets.data)
        number += 1
    return Carried(offset, record.at, len(record.data))


def _begins_frame(line: Line, rows: Rows) -> tuple[int, int]:
    """Offset and frame of the nearest line, this one or one before it, that no earlier line shares its frame with."""
    lines = rows.sides[line.conversation, line.side]
    place = bisect_right(lines, line.offset, key=lambda other: other.offset) - 1
    while place > 0 and lines[place - 1].frames[-1:] == lines[place].frames[:1]:
        place -= 1
    return lines[place].offset, (lines[place].frames or line.frames or (0,))[0]


def _first_sequence(line: Line, rows: Rows, frame: FrameGetter) -> int | None:
    """The sequence number of the side's offset 0: of the frame that brought its first known line, less its offset."""
    side = rows.sides.get((line.conversation, line.side))
    carried = frame(side[0].frames[0]) if side and side[0].frames else None
    segment = decode(carried) if carried is not None else None
    if side is None or segment is None:
        return None
    return (segment.sequence + bool(segment.flags & SYN) - side[0].offset) % WINDOW


def _signed(difference: int) -> int:
    """A difference of sequence numbers as the nearest signed number (RFC 9293 3.4)."""
    return (difference + WINDOW // 2) % WINDOW - WINDOW // 2


def _owners(frame: Frame, layers: tuple[Header, ...]) -> list[Octet]:
    """Whose PCI each octet is. What no layer claims is the application's; what stands behind, the layer's below."""
    octets = [Octet(layers[0].layer if layers else None)] * len(frame.data)
    for header in layers:
        for place in range(header.start, min(header.body, len(octets))):
            octets[place] = Octet(header.layer)
        for place in range(header.body, min(header.end, len(octets))):
            octets[place] = Octet(Layer.APPLICATION)
        for start, end, *_ in header.fields:
            if start >= header.body and start < len(octets):  # Ethernet's pad: here ends what the layer carried
                octets[start:end] = [Octet(header.layer)] * (min(end, len(octets)) - start)
                octets[start] = Octet(header.layer, starts="⟧")
        for place in (header.start, header.body):
            if place < len(octets):
                octets[place] = octets[place]._replace(starts="⟦")
    return octets


def _lay(octets: list[Octet], line: Line, carried: Carried, shown: Callable[[Line], bytes], *, chosen: bool) -> int:
    """Write a line's spans over the octets of a frame; the index of its first octet there."""
    seen = shown(line)
    ends = [span.end for span in line.spans]
    begin = max(line.offset, carried.offset)
    for offset in range(begin, min(line.offset + len(line.data), carried.offset + carried.length)):
        within = offset - line.offset
        place = carried.at + offset - carried.offset
        span = line.spans[min(bisect_right(ends, within), len(line.spans) - 1)]
        opens = octets[place].starts == " " and within == (span.start if chosen else 0)
        octets[place] = Octet(
            Layer.APPLICATION,
            span.role,
            span.field,
            "│" if opens else octets[place].starts,
            chosen,
            seen[within] != line.data[within],
        )
    return carried.at + begin - carried.offset


def _keeps_secret(rows: Rows, line: Line, offset: int) -> bool:
    before = list(rows.overlapping(line.conversation, line.side, max(0, offset - 1), offset))
    return bool(before) and before[-1].data[:5].upper() == b"AUTH "
