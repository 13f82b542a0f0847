"""One line found again in the frames that carried it, octet by octet.

Claim: stream offsets find the place, never a search for equal octets. Offset 0 of a side has a sequence number, known
from the first line of that side; a segment's own sequence number then says which octets of the stream it carried.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from capture.decode import decode, headers
from capture.model import Frame, Header, Layer, Line, Role, Segment
from tui.rows import Rows

WINDOW = 1 << 32


class Octet(NamedTuple):
    """What one captured octet is. layer: whose PCI it is, or APPLICATION; role and field: at SMTP, where it is a line's.

    starts: ``⟦`` a layer begins here, ``⟧`` one ended, ``│`` a field or another line begins, or blank; chosen: it belongs to the line looked
    at; hidden: it is a secret.
    """

    layer: Layer
    role: Role = Role.PCI
    field: str = ""
    starts: str = " "
    chosen: bool = False
    hidden: bool = False


class Dissection(NamedTuple):
    """One frame. octets: as many as ``frame.data``; first: index of the first octet of the line, or -1."""

    frame: Frame
    headers: tuple[Header, ...]
    octets: tuple[Octet, ...]
    first: int


def dissect(line: Line, frame: Frame, base: int | None, rows: Rows, shown: Callable[[Line], bytes]) -> Dissection:
    """Take a frame apart around a line. base: the sequence number of the side's offset 0, None when unknown."""
    layers = headers(frame)
    segment = decode(frame)
    octets = _owners(frame, layers)
    first = -1
    if segment is not None and base is not None:
        start = line.offset + _signed(segment.sequence - base - line.offset)
        end = start + len(segment.payload)
        covered = start
        for other in rows.overlapping(line.conversation, line.side, start, end):
            first = _lay(octets, other, line, segment, start, shown) if other is line else first
            if other is not line:
                _lay(octets, other, line, segment, start, shown)
            covered = other.offset + len(other.data)
        if _keeps_secret(rows, line, covered):
            # Held back behind AUTH until the reply says what it is: not to be shown before it is known.
            for place in range(segment.at + max(0, covered - start), segment.at + len(segment.payload)):
                octets[place] = octets[place]._replace(hidden=True)
    return Dissection(frame, layers, tuple(octets), first)


def first_sequence(line: Line, rows: Rows, frame: Callable[[int], Frame | None]) -> int | None:
    """The sequence number of the side's offset 0: that of the frame that brought the first line known, less its offset."""
    side = rows.sides.get((line.conversation, line.side))
    if not side or not side[0].frames:
        return None
    carried = frame(side[0].frames[0])
    segment = decode(carried) if carried is not None else None
    return None if segment is None else (segment.sequence + (segment.flags >> 1 & 1) - side[0].offset) % WINDOW


def _signed(difference: int) -> int:
    """A difference of sequence numbers as the nearest signed number (RFC 9293 3.4)."""
    return (difference + WINDOW // 2) % WINDOW - WINDOW // 2


def _owners(frame: Frame, layers: tuple[Header, ...]) -> list[Octet]:
    """Whose PCI each octet is; what no layer claims belongs to the application, what stands behind it to the one below."""
    octets = [Octet(layers[0].layer if layers else Layer.APPLICATION)] * len(frame.data)
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


def _lay(
    octets: list[Octet], line: Line, chosen: Line, segment: Segment, start: int, shown: Callable[[Line], bytes]
) -> int:
    """Write a line's spans over the octets of the segment; the index of its first octet there."""
    seen = shown(line)
    ends = [span.end for span in line.spans]
    begin, end = max(line.offset, start), min(line.offset + len(line.data), start + len(segment.payload))
    for offset in range(begin, end):
        within = offset - line.offset
        place = segment.at + offset - start
        span = line.spans[min(bisect_right(ends, within), len(line.spans) - 1)]
        opens = within == span.start and octets[place].starts == " "
        octets[place] = Octet(
            Layer.APPLICATION,
            span.role,
            span.field,
            "│" if opens and (line is chosen or within == 0) else octets[place].starts,
            line is chosen,
            seen[within] != line.data[within],
        )
    return segment.at + begin - start


def _keeps_secret(rows: Rows, line: Line, offset: int) -> bool:
    before = list(rows.overlapping(line.conversation, line.side, max(0, offset - 1), offset))
    return bool(before) and before[-1].data[:5].upper() == b"AUTH "
