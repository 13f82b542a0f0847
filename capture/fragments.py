"""IP fragments put together again (RFC 791 3.2, RFC 8200 4.5), so that the segment inside can be read.

Claim: a datagram comes out once, when all its octets are there, as a frame without link layer (LINKTYPE_RAW) that has
the number and time of the fragment that completed it. The first copy of an octet is kept. What never completes is
forgotten after `PATIENCE`, or when more than `DATAGRAMS` wait; the segment's octets are then missing from its stream.
"""

from __future__ import annotations

import struct

from capture.carrier import Carrier
from capture.model import Frame

DATAGRAMS = 1024  # that wait; each has at most 64 KiB
PATIENCE = 60_000_000_000  # ns; RFC 8200 4.5: 60 seconds
RAW = 101

_Key = tuple[bytes, tuple[int, ...]]


class _Datagram:
    __slots__ = ("header", "pieces", "protocol", "since", "size", "version")

    def __init__(self, since: int) -> None:
        self.since = since
        self.header = b""  # the first fragment's IP header, without extensions
        self.version = 0
        self.protocol = -1
        self.size = -1  # of the user data, once the last fragment came
        self.pieces: dict[int, bytes] = {}


class Fragments:
    """Datagrams in the making."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, _Datagram] = {}

    def add(self, frame: Frame, carrier: Carrier) -> Frame | None:
        """One fragment; the whole datagram as a frame when it was the one that was still missing."""
        key = (carrier.ident, carrier.scope)
        datagram = self._waiting.get(key)
        if datagram is None or frame.time - datagram.since > PATIENCE:
            self._waiting.pop(key, None)
            if len(self._waiting) >= DATAGRAMS:
                self._waiting.pop(next(iter(self._waiting)))
            datagram = self._waiting[key] = _Datagram(frame.time)
        data = frame.data[carrier.body : carrier.end]
        if len(data) < carrier.end - carrier.body or carrier.piece + len(data) > 0xFFFF:
            return None  # cut by the snap length, or more than a datagram can hold: it will never be whole
        datagram.pieces.setdefault(carrier.piece, data)
        if not carrier.more:
            datagram.size = carrier.piece + len(data)
        if carrier.piece == 0:
            datagram.header = frame.data[carrier.start : carrier.start + (20 if carrier.version == 4 else 40)]
            datagram.version, datagram.protocol = carrier.version, carrier.protocol
        whole = _whole(datagram)
        if whole is None:
            return None
        del self._waiting[key]
        packet = _packet(datagram, whole)
        return Frame(frame.number, frame.time, packet, len(packet), RAW, frame.interface)


def _whole(datagram: _Datagram) -> bytes | None:
    if datagram.size < 0 or not datagram.header:
        return None
    octets = b""
    for start in sorted(datagram.pieces):
        if start > len(octets):
            return None
        octets += datagram.pieces[start][len(octets) - start :]
    return octets[: datagram.size] if len(octets) >= datagram.size else None


def _packet(datagram: _Datagram, whole: bytes) -> bytes:
    head = datagram.header
    if datagram.version == 4:
        # Options of the first fragment are left out: nothing behind the header needs them.
        total = struct.pack(">H", min(20 + len(whole), 0xFFFF))
        return b"\x45" + head[1:2] + total + head[4:6] + b"\0\0" + head[8:20] + whole
    return head[:4] + struct.pack(">HB", len(whole), datagram.protocol) + head[7:40] + whole
