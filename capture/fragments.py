"""IP fragments put together again (RFC 791 3.2, RFC 8200 4.5), so that the segment inside can be read.

Claim: a datagram comes out once, when all its octets were on the wire, and knows for each of them the frame that
carried it and its place there: `Whole.split` cuts the segment inside where the fragments were cut. The first copy of
an octet is kept, another one is noted. What never completes is noted and forgotten, after `PATIENCE` or when `OCTETS`
wait.

A fragment that the snap length cut counts as far as it was captured; the rest of it is `Segment.missing`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from capture.carrier import TCP_CARRIERS, Carrier
from capture.model import FIN, RST, SYN, Frame, Note, Segment

OCTETS = 4 << 20  # that wait, with PIECE for each piece; Linux keeps as much (ip-sysctl, ipfrag_high_thresh)
PIECE = 256  # octets that a datagram, and each waiting piece of it, costs besides its own
PATIENCE = 60_000_000_000  # ns; RFC 8200 4.5: 60 seconds
FINISHED = 256  # datagrams remembered when they are whole, to know a fragment that comes twice
NOTES = 100  # of a kind; the rest is a count
SHOWN = 8  # frames of one datagram, in a note
RAW = 101

_LARGEST = {4: 0xFFFF - 20, 6: 0xFFFF}  # user data of one datagram
_Key = tuple[bytes, tuple[int, ...]]


class _Piece(NamedTuple):
    """User data ``[start, end)`` of a datagram, of which ``data`` was captured, ``at`` in its frame's data."""

    start: int
    end: int
    data: bytes
    frame: int
    time: int
    at: int


class _Datagram:
    __slots__ = ("again", "cost", "covered", "frames", "header", "pieces", "protocol", "since", "size", "version")

    def __init__(self, frame: Frame, again: bool) -> None:
        self.since = frame.time
        self.again = again  # a whole one of the same name came before
        self.frames: list[int] = []  # the first of them
        self.header = b""  # the first fragment's IP header, without options and extensions
        self.version = self.protocol = -1
        self.size = -1  # of the user data, once the last fragment came
        self.pieces: list[_Piece] = []  # no two share an octet; by start
        self.covered = 0
        self.cost = PIECE

    @property
    def whole(self) -> bool:
        """Every octet was on the wire, as far as the last fragment says, and the first fragment's header is here."""
        if self.size < 0 or self.covered < self.size or not self.header:
            return False
        end = 0
        for piece in self.pieces:
            if piece.start != end:
                break
            end = piece.end
        return end >= self.size


class Whole:
    """A datagram that is whole. ``frame`` is its packet without link layer (LINKTYPE_RAW), IP options and extension
    headers in front left out, with number and time of the fragment that completed it; octets that a snap length cut
    are zero there. Decode it, and give the segment to `split`."""

    def __init__(self, datagram: _Datagram, last: Frame, scope: tuple[int, ...]) -> None:
        self._pieces, self._scope = datagram.pieces, scope
        octets = b"".join(piece.data.ljust(piece.end - piece.start, b"\0") for piece in datagram.pieces)
        octets, head = octets[: datagram.size], datagram.header
        if datagram.version == 4:
            head = b"\x45" + head[1:2] + struct.pack(">H", 20 + len(octets)) + head[4:6] + b"\0\0" + head[8:20]
        else:
            head = head[:4] + struct.pack(">HB", len(octets), datagram.protocol) + head[7:40]
        self._front = len(head)
        self.frame = Frame(last.number, last.time, head + octets, len(head) + len(octets), RAW, last.interface)
        self._at = len(last.data)

    def split(self, segment: Segment) -> list[Segment]:
        """One segment for each fragment that carried some of the user data; SYN and FIN stay at its ends.

        Empty when the snap length cut the TCP header, so that the user data has no place in the stream.
        """
        body = segment.at - self._front  # where the user data begins in that of the datagram
        if any(piece.start + len(piece.data) < min(piece.end, body) for piece in self._pieces):
            return []
        parts = list(self._parts(segment, body)) if not segment.flags & RST else []  # a RST's octets are no stream's
        # Without user data no place in the frame is anything's.
        return parts or [segment._replace(at=self._at, scope=self._scope)]

    def _parts(self, segment: Segment, body: int) -> Iterator[Segment]:
        end = body + len(segment.payload)
        pieces = [piece for piece in self._pieces if piece.end > body and piece.start < end]
        for piece in pieces:
            low, high = max(piece.start, body), min(piece.end, end)
            data = piece.data[low - piece.start : high - piece.start]
            sequence, flags = segment.sequence + low - body, segment.flags
            if piece is not pieces[0]:
                sequence += 1 if flags & SYN else 0
                flags &= ~SYN
            if piece is not pieces[-1]:
                flags &= ~FIN
            yield segment._replace(
                frame=piece.frame,
                time=piece.time,
                sequence=sequence & 0xFFFFFFFF,
                flags=flags,
                payload=data,
                at=piece.at + low - piece.start,
                missing=high - low - len(data),
                scope=self._scope,
            )


class Fragments:
    """Datagrams in the making. `notes` grows; who feeds takes them away."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._waiting: dict[_Key, _Datagram] = {}
        self._cost = 0
        self._finished: dict[_Key, int] = {}
        self._told: dict[str, int] = {}

    def add(self, frame: Frame, carrier: Carrier) -> Whole | None:
        """One fragment; its datagram when it was the one that was still missing."""
        if carrier.protocol not in TCP_CARRIERS:
            return None  # another protocol's, which nobody here reads
        self._expire(frame.time)
        key = (carrier.ident, carrier.scope)
        datagram = self._waiting.get(key)
        if datagram is None:
            again = frame.time - self._finished.get(key, -PATIENCE) < PATIENCE
            datagram = self._waiting[key] = _Datagram(frame, again)
            self._cost += datagram.cost
        self._place(datagram, frame, carrier)
        if not datagram.whole:
            self._bound()
            return None
        self._drop(key)
        self._finished.pop(key, None)
        self._finished[key] = frame.time
        if len(self._finished) > FINISHED:
            del self._finished[next(iter(self._finished))]
        return Whole(datagram, frame, carrier.scope)

    def finish(self) -> None:
        """No fragment comes any more: a note for each datagram that is not whole."""
        for key in list(self._waiting):
            self._give_up(key, "the capture ends before the rest of it")
        for kind, told in self._told.items():
            if told > NOTES:
                self.notes.append(Note(kind, f"And {told - NOTES} more notes of this kind."))
        self._told.clear()

    def cut(self, frame: Frame) -> None:
        """Note that the header of the segment in a whole datagram was not captured."""
        text = "The snap length cut the TCP header in a fragment, so its octets have no place in a stream."
        self._note("fragment-incomplete", text, frame.number)

    def _place(self, datagram: _Datagram, frame: Frame, carrier: Carrier) -> None:
        """Keep what is new of this fragment."""
        start, end = carrier.piece, carrier.piece + max(carrier.end - carrier.body, 0)
        if end > _LARGEST[carrier.version]:
            self._note("fragment-incomplete", "This fragment lies beyond the end of any datagram.", frame.number)
            return
        if len(datagram.frames) <= SHOWN:
            datagram.frames.append(frame.number)
        if not carrier.more and datagram.size < 0:
            datagram.size = end
        if start == 0 and not datagram.header:
            datagram.header = frame.data[carrier.start : carrier.start + (20 if carrier.version == 4 else 40)]
            datagram.version, datagram.protocol = carrier.version, carrier.protocol
        data, pieces = frame.data[carrier.body : carrier.end], datagram.pieces
        fresh, at, conflict = [], start, False
        for known in pieces[max(bisect_right(pieces, start, key=_start) - 1, 0) :]:
            if known.start >= end:
                break
            if known.end <= start:
                continue
            low, high = max(known.start, start), min(known.end, end)
            one, other = known.data[low - known.start : high - known.start], data[low - start : high - start]
            shared = min(len(one), len(other))
            conflict = conflict or one[:shared] != other[:shared]
            if at < known.start:
                fresh.append((at, known.start))
            at = known.end
        if at < end:
            fresh.append((at, end))
        if conflict:
            text = "Octets of a fragment came again with other values; the first copy is kept."
            self._note("fragment-overlap", text, frame.number, data)
        for low, high in fresh:
            part = data[low - start : high - start]
            place = min(carrier.body + low - start, len(frame.data))
            insort(pieces, _Piece(low, high, part, frame.number, frame.time, place))
            datagram.covered += high - low
            datagram.cost += len(part) + PIECE
            self._cost += len(part) + PIECE

    def _expire(self, time: int) -> None:
        while self._waiting:
            key, datagram = next(iter(self._waiting.items()))
            if time - datagram.since <= PATIENCE:
                return
            self._give_up(key, "the rest of it did not come in 60 seconds")

    def _bound(self) -> None:
        while self._cost > OCTETS:
            self._give_up(next(iter(self._waiting)), "too many others wait")

    def _give_up(self, key: _Key, why: str) -> None:
        datagram = self._drop(key)
        if datagram.again or not datagram.frames:
            return  # fragments of a datagram that came whole before, or none at all
        have = b"".join(piece.data for piece in datagram.pieces)
        frames = ", ".join(map(str, datagram.frames[:SHOWN])) + (", …" if len(datagram.frames) > SHOWN else "")
        text = f"A datagram is given up, for {why}: {len(have)} octets of frames {frames} are in no stream."
        self._note("fragment-incomplete", text, datagram.frames[0], have)

    def _drop(self, key: _Key) -> _Datagram:
        datagram = self._waiting.pop(key)
        self._cost -= datagram.cost
        return datagram

    def _note(self, kind: str, text: str, frame: int, octets: bytes = b"") -> None:
        told = self._told[kind] = self._told.get(kind, 0) + 1
        if told <= NOTES:
            self.notes.append(Note(kind, text, frame, octets=octets))


_start = attrgetter("start")
