"""The classic pcap file, record by record: both byte orders, micro- and nanoseconds, and Kuznetzov's longer records.

Claim: every whole record in front of the first break is a `Frame`, times are exact integers of nanoseconds, and a
record cut in its data is a note, never a frame. Source: draft-ietf-opsawg-pcap; libpcap's ``sf-pcap.c`` for what
old writers did.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from capture.errors import BadCapture
from capture.model import Frame
from capture.sources.findings import BROKEN, CUT, Findings, Interface
from capture.sources.octets import Octets

MAX_RECORD = 16 << 20  # the largest frame Linux can make is 512 KiB (BIG TCP); libpcap believes no more than this
HEADER = 24

_MICRO, _NANO, _KUZNETZOV = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
# magic -> (nanoseconds of a unit of the fraction, octets between the record header and the frame)
_KINDS = {_MICRO: (1000, 0), _NANO: (1, 0), _KUZNETZOV: (1000, 8)}
MAGICS = {struct.pack(order + "I", magic): order for order in "<>" for magic in _KINDS}


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
    if major != 2:
        raise BadCapture(f"{source.name} is a pcap file of version {major}.{minor}; only version 2 is known.")
    fcs = (word >> 28) * 2 if word & 0x04000000 else 0  # bit 26: the top four bits count 16-bit words of FCS
    findings.interfaces.append(Interface(word & 0xFFFF, snap, fcs))
    return _records(source, head, findings, number, struct.Struct(order + "4I"), *_KINDS[magic], minor)


def _records(
    source: Octets,
    data: bytes,
    findings: Findings,
    number: int,
    record: struct.Struct,
    unit: int,
    extra: int,
    minor: int,
) -> Iterator[list[Frame]]:
    unpack, skip, link = record.unpack_from, 16 + extra, findings.interfaces[0].link
    make, new, at = tuple.__new__, Frame, HEADER
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
            text = f"record {number} claims {need - skip} octets; nothing behind it can be read"
            findings.note(BROKEN, text, number)
            return
        tail = data[at:]
        data, at = source.fill(tail, need), 0
        if len(data) == len(tail):
            if tail or source.broken:
                why = source.broken or f"the file ends inside record {number}, {len(tail)} octets into it"
                findings.note(CUT, why, number)
            return
