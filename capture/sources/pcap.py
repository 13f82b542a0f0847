"""The classic pcap file, record by record: both byte orders, micro- and nanoseconds, and the variants of old patches.

Claim: every whole record in front of the first break is a `Frame`, times are exact integers of nanoseconds, and a
record cut in its data is a note, never a frame. Source: draft-ietf-opsawg-pcap; libpcap's ``sf-pcap.c`` for what
old writers did, and Wireshark's ``wiretap/libpcap.c`` for the variants.

Some patched writers put more between a record's header and its frame and left the magic as it was. Such a file is told
by its first records: read the usual way they make no sense, read the other way they do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from capture.errors import BadCapture
from capture.model import Frame
from capture.sources.findings import BROKEN, CUT, Findings, Interface
from capture.sources.octets import Octets

MAX_RECORD = 16 << 20  # the largest frame Linux can make is 512 KiB (BIG TCP); libpcap believes no more than this
HEADER = 24

_MICRO, _NANO, _KUZNETZOV, _IXIA_NANO, _IXIA_MICRO = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34, 0x1C0001AC, 0x1C0001AB


class _Kind(NamedTuple):
    """unit: nanoseconds of a unit of the fraction; extras: octets between record header and frame, the usual number
    first; more: octets behind the file header."""

    unit: int
    extras: tuple[int, ...] = (0,)
    more: int = 0


_KINDS = {
    _MICRO: _Kind(1000, (0, 8, 4)),  # 8: the patch of 1999-04-17, in Red Hat 6.1 and SuSE 6.3; 4: Nokia
    _NANO: _Kind(1),
    _KUZNETZOV: _Kind(1000, (8, 12)),  # 12: the patch of 1999-09-15
    _IXIA_NANO: _Kind(1, more=4),  # the size of all records
    _IXIA_MICRO: _Kind(1000, more=4),
}
MAGICS = {struct.pack(order + "I", magic): order for order in "<>" for magic in _KINDS}
_AIX_LINKS = {6: 1, 9: 6, 15: 10, 24: 0}  # AIX writes version 2.2, ifType numbers (RFC 1573) and nanoseconds
_DG_UX = 543  # the version of DG/UX's tcpdump, otherwise as 2.2
_TRIED = 4  # records that tell a variant
_LOOKED_AT = 1 << 16  # octets of the file in which they are


def walk(source: Octets, head: bytes, findings: Findings, number: int) -> Iterator[list[Frame]]:
    """Batches of frames, the first numbered ``number``; ``head`` is what was read already, the magic first.

    Raises `BadCapture` at once when the file header is cut or of an unknown version.
    """
    if len(head) < HEADER:
        head = source.fill(head, HEADER)
    if len(head) < HEADER:
        raise BadCapture(f"{source.name} is cut inside its file header: {len(head)} of {HEADER} octets.")
    order = MAGICS[head[:4]]
    magic, major, minor, _zone, _accuracy, snap, word = struct.unpack_from(order + "IHHiIII", head)
    if major not in (2, _DG_UX):
        raise BadCapture(f"{source.name} is a pcap file of version {major}.{minor}; only version 2 is known.")
    kind = _KINDS[magic]
    link, unit = word & 0xFFFF, kind.unit
    if magic == _MICRO and (major, minor) == (2, 2) and word in _AIX_LINKS:
        link, unit = _AIX_LINKS[word], 1
    fcs = (word >> 28) * 2 if word & 0x04000000 else 0  # bit 26: the top four bits count 16-bit words of FCS
    findings.interfaces.append(Interface(link, snap, fcs))
    record = struct.Struct(order + "4I")
    extra, start = kind.extras[0], HEADER + kind.more
    if len(head) < start:
        head = source.fill(head, start)
    if len(kind.extras) > 1 and (major, minor) == (2, 4):
        if len(head) < _LOOKED_AT and not source.live:  # from a pipe the first frame is wanted before the second comes
            head = source.fill(head, _LOOKED_AT)
        extra = _extra(head, start, record, kind.extras)
    return _records(source, head, start, findings, number, record, unit, extra, minor)


def _extra(data: bytes, start: int, record: struct.Struct, extras: tuple[int, ...]) -> int:
    """How many octets stand between a record's header and its frame: the usual number unless only another makes sense
    of what is here, at least two records."""
    if _sense(data, start, record, extras[0]) is not None:
        return extras[0]
    found = {extra: count for extra in extras[1:] if (count := _sense(data, start, record, extra) or 0) > 1}
    return max(found, key=lambda extra: found[extra], default=extras[0])


def _sense(data: bytes, at: int, record: struct.Struct, extra: int) -> int | None:
    """How many of the first records make sense with so many octets behind each header; None if one does not."""
    count = 0
    while count < _TRIED and at + 16 <= len(data):
        _seconds, fraction, captured, length = record.unpack_from(data, at)
        # Reading at the wrong place gives fractions beyond their second, and frames of which more was captured than
        # there was.
        if fraction >= 1_000_000 or captured > length or length > MAX_RECORD:
            return None
        at += 16 + extra + captured
        count += 1
    return count


def _records(
    source: Octets,
    data: bytes,
    at: int,
    findings: Findings,
    number: int,
    record: struct.Struct,
    unit: int,
    extra: int,
    minor: int,
) -> Iterator[list[Frame]]:
    unpack, skip, link = record.unpack_from, 16 + extra, findings.interfaces[0].link
    make, new, before = tuple.__new__, Frame, number - 1  # the file's own count is what its notes speak of
    while True:
        batch: list[Frame] = []
        add, size, need = batch.append, len(data), skip
        while (body := at + skip) <= size:
            seconds, fraction, captured, length = unpack(data, at)
            if captured > length:
                if minor < 4 and captured <= MAX_RECORD:  # files before 2.4 may have the two the other way round
                    captured, length = length, captured
                else:
                    length = captured
            end = body + captured
            if end > size:
                need = end - at
                break
            # a NamedTuple made past its own __new__: twice as fast, and this is the loop a whole file goes through
            add(make(new, (number, seconds * 1_000_000_000 + fraction * unit, data[body:end], length, link, 0)))
            number += 1
            at = end
        yield batch  # empty when nothing whole has come yet: the reader of a live pipe may breathe
        if need > skip + MAX_RECORD:
            text = f"record {number - before} claims {need - skip} octets; nothing behind it can be read"
            findings.note(BROKEN, text, number)
            return
        tail = data[at:]
        data, at = source.fill(tail, need), 0
        if len(data) == len(tail):
            if tail or source.broken:
                why = source.broken or f"the file ends inside record {number - before}, {len(tail)} octets into it"
                findings.note(CUT, why, number)
            return
