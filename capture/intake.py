"""Files into a `Front`: the plain pcap file of Ethernet by the gulp, every other one frame by frame.

Claim: which way a file goes can be seen in nothing but the time it takes. The notes are those of its reader.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from capture.front import RECORD, Front, Shape
from capture.model import Frame, Note
from capture.sources.findings import BROKEN, CUT, Findings
from capture.sources.octets import Octets, open_octets
from capture.sources.pcap import HEADER, MAX_RECORD
from capture.sources.several import read_all

_UNITS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # the magic of files of microseconds and nanoseconds
_LOOKED_AT = 1 << 16  # octets in which a file must show that its records are as their magic says: some old ones are not
_ETHERNET = 1
_GULP = 1 << 17  # octets at once: as many as stay in the processor's second cache while they are walked


def _nothing(frames: int, octets: int) -> None: ...


def take_in(
    front: Front, paths: Sequence[str | Path], passed: Callable[[int, int], None] = _nothing, gulp: int = _GULP
) -> list[Note]:
    """Feed a capture in so many files, in order of time, but do not finish. Returns what is odd about the files.

    passed: told now and then how many more frames, and octets of the files, are through; gulp: octets to read at once.
    Raises as `capture.sources.files.read`.
    """
    if len(paths) == 1 and os.path.isfile(paths[0]):
        source = open_octets(paths[0], gulp)
        try:
            head = source.fill(b"", _LOOKED_AT)
            shape = _shape(head)
            if shape is not None:
                return _gulps(front, source, head, shape, passed)
        finally:
            source.close()
    with read_all(paths) as capture:
        for batch in capture.batches():
            front.feed_all(batch)
            passed(len(batch), sum(len(frame.data) for frame in batch) + RECORD * len(batch))
    return capture.notes


def _shape(head: bytes) -> Shape | None:
    """How the records of this file are to be walked; None: its reader must see to it."""
    for order in "<>":
        if len(head) >= HEADER:
            magic, major, minor, _zone, _accuracy, _snap, link = struct.unpack_from(order + "IHHiIII", head)
            if magic in _UNITS and (major, minor, link) == (2, 4, _ETHERNET) and _sensible(head, order):
                return Shape(order, _UNITS[magic])
    return None


def _sensible(head: bytes, order: str) -> bool:
    """Whether the records of the head are read at the right places, as far as numbers can tell."""
    at, unpack = HEADER, struct.Struct(order + "4I").unpack_from
    while at + RECORD <= len(head):
        _, fraction, captured, length = unpack(head, at)
        if fraction >= 1_000_000_000 or captured > length or length > MAX_RECORD:
            return False
        at += RECORD + captured
    return True


def _gulps(front: Front, source: Octets, data: bytes, shape: Shape, passed: Callable[[int, int], None]) -> list[Note]:
    """The records of a file, as `capture.sources.pcap` reads them."""
    findings, unpack = Findings(), struct.Struct(shape.order + "4I").unpack_from
    at, number = HEADER, 1
    while True:
        need, begun, before = RECORD, at, number
        while True:
            at, number = front.walk(data, at, number, shape)
            if at + RECORD > len(data):
                break
            # One that is not wholly here, or odd, or the last of the gulp.
            seconds, fraction, captured, length = unpack(data, at)
            end = at + RECORD + captured
            if end > len(data):
                need = end - at
                break
            time = seconds * 1_000_000_000 + fraction * shape.unit
            front.feed(Frame(number, time, data[at + RECORD : end], max(captured, length)))
            number, at = number + 1, end
        passed(number - before, at - begun)
        if need > RECORD + MAX_RECORD:
            text = f"record {number} claims {need - RECORD} octets; nothing behind it can be read"
            findings.note(BROKEN, text, number)
            break
        tail = data[at:]
        data, at = source.fill(tail, need), 0
        if len(data) == len(tail):
            if tail or source.broken:
                why = source.broken or f"the file ends inside record {number}, {len(tail)} octets into it"
                findings.note(CUT, why, number)
            break
    findings.close()
    return [note._replace(text=f"{source.name}: {note.text}") for note in findings.notes]
