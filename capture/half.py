"""What one side sent, put in order: offsets for sequence numbers, pieces that wait, what was delivered lately.

Claim: offsets are 64-bit and never wrap; pieces that wait never overlap; the first copy of an octet is the one that is
kept, whatever a later copy says, and a later copy that differs is a note with its octets.

`Half` decides nothing about *when*; `capture.stream` does, which sees both sides.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from capture.model import Chunk, Gap, Note, Side

MASK = 0xFFFFFFFF
WINDOW = 1 << 30  # RFC 7323 2.3: no window is larger; a number farther off belongs to no octet of this stream
HISTORY = 32 << 10  # delivered octets kept to compare with later copies: a few windows of a mail session
GAPS = 64  # declared gaps kept to recognise octets that come after all
PIECE_OCTETS = 256  # what a waiting piece costs besides its own octets


class Waiting:
    """How much waits behind holes, of all conversations that share this. octets: with `PIECE_OCTETS` for each piece."""

    __slots__ = ("octets",)

    def __init__(self) -> None:
        self.octets = 0


class Piece(NamedTuple):
    """Octets that wait. need: the other side's offset that must be out before them, for they answer it."""

    offset: int
    data: bytes
    frame: int
    time: int
    at: int
    need: int


class Cut(NamedTuple):
    """Octets ``[offset, end)`` that a frame had on the wire and the snap length kept from the capture."""

    offset: int
    end: int
    frame: int
    time: int
    need: int


class Mark(NamedTuple):
    """An acknowledgement that ran ahead of what was captured: up to which offset, and when (segments, ns, frame)."""

    offset: int
    segments: int
    time: int
    frame: int


class Half:
    """One side's octets. base: sequence number of offset 0; next: offset of the first octet not yet delivered."""

    __slots__ = (
        "_gaps",
        "_history",
        "_history_octets",
        "_waiting",
        "acked",
        "base",
        "cut_short",
        "cuts",
        "excused",
        "expected",
        "fin",
        "fin_acked",
        "held",
        "held_octets",
        "hint",
        "marks",
        "next",
        "seen",
        "settled",
        "side",
        "since",
        "synchronised",
    )

    def __init__(self, side: Side, waiting: Waiting) -> None:
        self.side = side
        self._waiting = waiting
        self.base = -1  # unknown
        self.expected = -1  # sequence number of `next`
        self.next = 0
        self.seen = False  # a frame of this side was captured
        self.synchronised = False  # base comes from a SYN
        self.settled = False  # base can move no more: delivery has begun or may begin
        self.since: tuple[int, int] | None = None  # when base was first guessed: segments, ns
        self.hint = -1  # the last number the other side acknowledged while base was unknown
        self.held: list[Piece] = []
        self.held_octets = 0
        self.cuts: list[Cut] = []
        self.cut_short = False  # the snap length cut one of its segments
        self.acked = 0
        self.excused = -1  # up to here an acknowledgement needs no octets (a FIN that was not captured)
        self.marks: list[Mark] = []
        self.fin = -1
        self.fin_acked = False
        self._history: deque[tuple[int, bytes]] | None = None  # made with the first octets: half-open ones are many
        self._history_octets = 0
        self._gaps: list[tuple[int, int]] = []

    @property
    def done(self) -> bool:
        """Everything up to the FIN is out, and the FIN is acknowledged."""
        return self.fin_acked and self.next >= self.fin and not self.held

    def begin(self, sequence: int, *, settled: bool, since: tuple[int, int]) -> None:
        """Offset 0 is this sequence number, for certain (SYN, settled) or until an earlier octet comes."""
        if self.base < 0:
            self.base = self.expected = sequence & MASK
        elif not self.settled:
            self.shift((self.base - sequence) & MASK)
        self.since = self.since or since
        self.settled = self.settled or settled

    def shift(self, octets: int) -> None:
        """An earlier octet came: all offsets move up. Only while nothing is delivered."""
        if not 0 < octets <= WINDOW:
            return
        self.base = self.expected = (self.base - octets) & MASK
        self.held = [piece._replace(offset=piece.offset + octets) for piece in self.held]
        self.cuts = [cut._replace(offset=cut.offset + octets, end=cut.end + octets) for cut in self.cuts]
        self.marks = [mark._replace(offset=mark.offset + octets) for mark in self.marks]
        self.acked += octets if self.acked or self.marks else 0
        self.fin += octets if self.fin >= 0 else 0

    def ends(self, offset: int) -> None:
        """A FIN stands here (RFC 9293 3.4: it takes one number, which an acknowledgement may have covered already)."""
        self.fin = offset
        if self.acked > offset:
            self.fin_acked = self.acked == offset + 1
            self.acked = offset
            while self.marks and self.marks[-1].offset > offset:
                mark = self.marks.pop()
                if offset > self.next and not (self.marks and self.marks[-1].offset >= offset):
                    self.marks.append(mark._replace(offset=offset))

    def offset(self, sequence: int) -> int:
        """The offset of this sequence number, the one nearest to `next` (RFC 9293 3.4: modulo 2**32)."""
        ahead = (sequence - self.expected) & MASK
        return self.next + (ahead - (MASK + 1) if ahead > MASK >> 1 else ahead)

    def place(self, piece: Piece) -> Iterator[Note]:
        """Keep what is new of a piece; what is not new is compared with the first copy and noted."""
        offset, data = piece.offset, piece.data
        if offset < self.next:
            known = self.next - offset
            yield from self._again(piece._replace(data=data[:known]))
            if known >= len(data):
                return
            piece = _from(piece, known)
        at, end = piece.offset, piece.offset + len(piece.data)
        first = self._over(at, end)
        if first:
            yield from self._compared(piece, [(other.offset, other.data) for other in first])
        if self.held and at < self.held[-1].offset and not (first and first[0].offset <= at):
            text = "Arrived after octets that come behind it."
            yield Note("out-of-order", text, piece.frame, 0, self.side, at)
        for other in first:
            if other.offset > at:
                self._keep(_within(piece, at, other.offset))
            at = max(at, other.offset + len(other.data))
        if at < end:
            self._keep(_within(piece, at, end))

    def _keep(self, piece: Piece) -> None:
        insort(self.held, piece)
        self.held_octets += len(piece.data)
        self._waiting.octets += len(piece.data) + PIECE_OCTETS

    def _over(self, start: int, end: int) -> list[Piece]:
        """The waiting pieces that share octets with ``[start, end)``."""
        index = max(bisect_right(self.held, start, key=_offset) - 1, 0)
        found = []
        while index < len(self.held) and self.held[index].offset < end:
            if self.held[index].offset + len(self.held[index].data) > start:
                found.append(self.held[index])
            index += 1
        return found

    def _again(self, piece: Piece) -> Iterator[Note]:
        """A copy of octets that are out already."""
        if len(piece.data) <= 1 and piece.offset == self.next - 1 and not self._same(piece):
            # RFC 9293 3.8.4: a keep-alive has one octet of garbage at SND.NXT-1; it is no octet of the stream.
            yield Note("keep-alive", "A keep-alive.", piece.frame, 0, self.side, piece.offset)
            return
        end = piece.offset + len(piece.data)
        for start, stop in self._gaps:
            low, high = max(start, piece.offset), min(stop, end)
            if low < high:
                late = piece.data[low - piece.offset : high - piece.offset]
                text = f"{high - low} octets came after they had been declared missing."
                yield Note("late-octets", text, piece.frame, 0, self.side, low, late)
        if piece.offset < 0:
            early = piece.data[: -piece.offset]
            text = f"{len(early)} octets from before the place where this stream was picked up."
            yield Note("before-start", text, piece.frame, 0, self.side, -1, early)
        yield from self._compared(piece, list(self._history or ()))

    def _same(self, piece: Piece) -> bool:
        if not self._history or not piece.data:
            return False
        return self._history[-1][1][-1:] == piece.data

    def _compared(self, piece: Piece, first: list[tuple[int, bytes]]) -> Iterator[Note]:
        end = piece.offset + len(piece.data)
        same = conflict = False
        for start, data in first:
            low, high = max(start, piece.offset), min(start + len(data), end)
            if low >= high:
                continue
            copy = piece.data[low - piece.offset : high - piece.offset]
            if copy == data[low - start : high - start]:
                same = True
                continue
            conflict = True
            text = f"{high - low} octets sent again with other values; the first copy is kept."
            yield Note("overlap-conflict", text, piece.frame, 0, self.side, low, copy)
        if same or not conflict:
            text = "Octets sent again." if same else "Octets sent again, too late to be compared with the first copy."
            yield Note("retransmission", text, piece.frame, 0, self.side, piece.offset)

    def take(self) -> Chunk:
        """The first waiting piece, which stands at `next`, goes out."""
        piece = self.held.pop(0)
        self.held_octets -= len(piece.data)
        self._waiting.octets -= len(piece.data) + PIECE_OCTETS
        return self.deliver(piece.data, piece.frame, piece.time, piece.at)

    def deliver(self, data: bytes, frame: int, time: int, at: int) -> Chunk:
        """These octets stand at `next` and go out."""
        offset = self.next
        size = len(data)
        history = self._history
        if history is None:
            history = self._history = deque()
        history.append((offset, data))
        kept = self._history_octets + size
        while kept > HISTORY and len(history) > 1:
            kept -= len(history.popleft()[1])
        self._history_octets = kept
        if self.marks or self.cuts:
            self._advance(offset + size)
        else:
            self.next = offset + size
            self.expected = (self.base + self.next) & MASK
        chunk: Chunk = _chunk(Chunk, (self.side, offset, data, frame, time, at))
        return chunk

    def forget(self, limit: int) -> None:
        """Of the delivered octets that are kept to compare with later copies, at most so many stay."""
        history = self._history
        while history and self._history_octets > limit:
            self._history_octets -= len(history.popleft()[1])

    def cut(self, cut: Cut) -> None:
        """A frame had these octets on the wire and not in the capture. Cuts that touch and waited alike are one."""
        last = self.cuts[-1] if self.cuts else None
        if last is not None and last.offset <= cut.offset <= last.end and last.need >= cut.need:
            if cut.end > last.end:
                self.cuts[-1] = last._replace(end=cut.end)
            return
        insort(self.cuts, cut)

    def skip(self, end: int, frame: int, time: int) -> Gap:
        """The octets up to ``end`` are declared missing."""
        gap = Gap(self.side, self.next, end - self.next, frame, time)
        self._gaps = [*self._gaps[1 - GAPS :], (self.next, end)]
        self._advance(end)
        return gap

    def _advance(self, offset: int) -> None:
        self.next = offset
        self.expected = (self.base + offset) & MASK
        while self.marks and self.marks[0].offset <= offset:
            self.marks.pop(0)
        while self.cuts and self.cuts[0].end <= offset:
            self.cuts.pop(0)


_chunk = tuple.__new__  # this runs for every segment; Chunk(…) checks nothing either


def _offset(piece: Piece) -> int:
    return piece.offset


def _from(piece: Piece, octets: int) -> Piece:
    """The piece without its first octets."""
    return piece._replace(offset=piece.offset + octets, data=piece.data[octets:], at=piece.at + octets)


def _within(piece: Piece, start: int, end: int) -> Piece:
    """The part ``[start, end)`` of a piece, in stream offsets."""
    low, high = start - piece.offset, end - piece.offset
    return piece._replace(offset=start, data=piece.data[low:high], at=piece.at + low)
