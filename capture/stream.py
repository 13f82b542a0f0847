"""Both sides of one conversation, from segments in order of arrival to octets in order of sending.

Claim: any cutting of the same octets into segments, and any reordering and duplication that TCP allows, gives the same
octets and the same gaps, and every chunk of one side comes out after the octets of the other side that it answers.

The rules, and where they come from:

* *Order of cause.* A segment that acknowledges octet n was sent by a host that had octet n (RFC 9293 3.10.7.4). So it
  waits until the other side's octets up to n are out, if the capture shows it first (several queues, several taps).
* *A hole is declared* when an acknowledgement covers it and `PATIENCE_SEGMENTS` further segments of the conversation,
  or `PATIENCE` ns, have passed since: the receiver has the octets, so nobody sends them again, and a frame that was
  only out of order would have come by now (reorderings of 40 frames were tried). At `finish`, all holes are.
* *One-sided captures.* A side of which no frame was seen has no holes, and nothing waits for it.
* *The start.* A SYN says where a stream starts. Without one it starts at the lowest number of the first segments
  (patience as above), or at once where the other side has acknowledged everything before.
* *The end.* One octet acknowledged behind the last one captured is a FIN that was not captured (a FIN takes one number,
  RFC 9293 3.4). Octets in a RST are not the stream's (RFC 9293 3.5.2).

What waits is bounded by `HELD_OCTETS` and `HELD_PIECES`; beyond them the first hole is declared, with a note. What
waits in all conversations together is counted in a `Waiting` that they share; who bounds it calls `relieve`.
"""

from __future__ import annotations

from collections.abc import Iterator

from capture.half import MASK, WINDOW, Cut, Half, Mark, Piece, Waiting
from capture.model import ACK, FIN, RST, SYN, Chunk, Gap, Note, Segment, Side

PATIENCE_SEGMENTS = 64
PATIENCE = 500_000_000  # ns: longer than reordering takes, shorter than a person waits for a reply
HELD_OCTETS = 4 << 20  # what waits of one side; Linux's largest default receive window is 6 MiB, mail's 64 KiB
HELD_PIECES = 8192  # the same octets in small pieces cost more
STEP_BACK = 10_000_000_000  # ns: no reordering is that late, so the capturing host's clock was set back
LATE_SYN = 1 << 20  # a SYN captured behind octets of its own stream: at most so many, else it is another stream's

Item = Chunk | Gap | Note

_CONTROL = SYN | FIN | RST


class Stream:
    """Both sides of one conversation. `feed` a segment and who sent it, get what is in order now."""

    __slots__ = ("_client", "_count", "_now", "_server", "reset")

    def __init__(self, waiting: Waiting | None = None) -> None:
        waiting = waiting or Waiting()
        self._client = Half(Side.CLIENT, waiting)
        self._server = Half(Side.SERVER, waiting)
        self._count = 0
        self._now = 0
        self.reset = False  # a RST was seen

    @property
    def closed(self) -> bool:
        """Both sides said FIN and had it acknowledged, and everything before is out."""
        return self._client.done and self._server.done

    @property
    def octets(self) -> tuple[int, int]:
        """How far each side is, client first; gaps included."""
        return self._client.next, self._server.next

    @property
    def deadline(self) -> int | None:
        """When, in ns, patience in time ends next; None if nothing waits for time to pass."""
        times = []
        for half in (self._client, self._server):
            if half.settled:
                times += [mark.time for mark in half.marks[:1]]
            elif half.since and (half.held or half.cuts or half.marks):  # nothing is declared before its start is known
                times.append(half.since[1])
        return min(times) + PATIENCE if times else None

    @property
    def begun(self) -> bool:
        """Octets have gone out, or are there to go out."""
        return any(h.next or h.held for h in (self._client, self._server))

    @property
    def ended(self) -> bool:
        """Both sides said FIN, or one said RST; octets may still be missing."""
        return self.reset or (self._client.fin >= 0 and self._server.fin >= 0)

    def starts(self, side: Side) -> int | None:
        """The sequence number of this side's offset 0 if a SYN (its own, or the other's SYN ACK) told it."""
        half = self._half(side)
        return half.base if half.synchronised else None

    def admits(self, side: Side, isn: int) -> bool:
        """Whether a SYN with this number can be of this conversation, or must be of a new one on the same ports."""
        half, first = self._half(side), (isn + 1) & MASK
        if half.base < 0 or half.base == first:
            return True
        return not half.settled and (half.base - first) & MASK <= LATE_SYN

    def expects(self, side: Side) -> int:
        """The sequence number this side comes to next, -1 while unknown."""
        return self._half(side).expected

    def swap(self) -> None:
        """Who was taken for the client is the server. Only before anything went out."""
        self._client, self._server = self._server, self._client
        self._client.side, self._server.side = Side.CLIENT, Side.SERVER

    def feed(self, segment: Segment, side: Side) -> list[Item]:
        """What this segment puts in order: chunks, gaps and notes, in order of cause. Notes carry no conversation."""
        self._count += 1
        frame, time, _, _, sequence, acknowledgement, flags, _, payload, at, missing, _ = segment
        # A clock that steps back starts anew: patience must not be over for all that comes.
        self._now = time if self._now - time > STEP_BACK else max(self._now, time)
        mine, other = (self._client, self._server) if side is Side.CLIENT else (self._server, self._client)
        mine.seen = True
        if flags & _CONTROL or not (mine.settled and other.settled):
            self._control(segment, mine, other)
            if flags & RST:
                return self._expired([])
        if not flags & ACK:
            need = 0
        elif acknowledgement == other.expected and other.seen:  # all that is known of the other side
            need = other.next
            other.acked = max(other.acked, need)
        else:
            need = self._acknowledged(segment, other)
        busy = mine.held or mine.cuts or mine.marks or other.held or other.cuts or other.marks
        if sequence == mine.expected and mine.settled and need <= other.next and not (missing or flags & _CONTROL):
            # In order, and nothing is in its way: nearly every segment there is.
            if not busy:
                return [mine.deliver(payload, frame, time, at)] if payload else []
            if payload and not (mine.held or mine.cuts):
                return self._expired(self._released([mine.deliver(payload, frame, time, at)]))
        out: list[Item] = []
        if mine.base >= 0:
            out.extend(self._placed(segment, mine, need))
        if not (busy or mine.held or mine.cuts):
            return out
        return self._expired(self._released(out))

    def halves(self, side: Side) -> tuple[Half, Half]:
        """That side and the other one, for `follows`."""
        return (self._client, self._server) if side is Side.CLIENT else (self._server, self._client)

    def follows(self, mine: Half, other: Half, sequence: int, acknowledgement: int, time: int) -> bool:
        """Whether a segment of ``mine`` without SYN, FIN, RST or cut octets stands in order, with nothing in its way.

        Then it is taken note of, and its octets are the caller's to `Half.deliver`: what `feed` would do. Else nothing
        has happened. Nearly every segment of a capture is one of these.
        """
        if (
            sequence != mine.expected
            or not (mine.settled and other.settled and other.seen)
            or mine.held
            or mine.marks
            or other.held
            or other.marks
            or mine.cuts
            or other.cuts
            or other.fin >= 0
            or other.base < 0
        ):
            return False
        behind = (other.expected - acknowledgement) & MASK
        if behind > MASK >> 1:
            return False  # it acknowledges what was not captured yet
        offset = other.next - behind
        if offset > other.acked:  # noqa: PLR1730  # a call costs more
            other.acked = offset
        self._count += 1
        if time > self._now:  # noqa: PLR1730
            self._now = time
        mine.seen = True
        return True

    def elapse(self, time: int) -> list[Item]:
        """It is ``time`` ns now, and no segment came: what patience has run out for."""
        self._now = max(self._now, time)
        return self._expired([])

    @property
    def held(self) -> int:
        """Octets of both sides that wait behind a hole."""
        return self._client.held_octets + self._server.held_octets

    def forget(self, limit: int) -> None:
        """Of each side's delivered octets, at most so many stay to be compared with later copies."""
        self._client.forget(limit)
        self._server.forget(limit)

    def relieve(self) -> list[Item]:
        """Too much waits in all conversations together: this one's holes are declared, with a note."""
        text = f"{self.held} octets wait for what precedes them, and too many in other conversations: they go on."
        half = self._client if self._client.held_octets >= self._server.held_octets else self._server
        frame = half.held[0].frame if half.held else 0
        return [Note("held-limit", text, frame, 0, half.side, half.next), *self.finish()]

    def finish(self) -> list[Item]:
        """No segment comes any more: every hole is a gap, everything that waits goes out."""
        out: list[Item] = []
        for half in (self._client, self._server):
            half.settled = True
        while True:
            self._released(out)
            hole = self._first_hole()
            if hole is None:
                return out
            self._declare(hole, out)

    def _half(self, side: Side) -> Half:
        return self._client if side is Side.CLIENT else self._server

    def _control(self, segment: Segment, mine: Half, other: Half) -> None:
        """Where the streams start and end: SYN, FIN, RST, and the first segments of a stream without SYN."""
        now = (self._count, self._now)
        flags, sequence = segment.flags, segment.sequence
        if flags & RST:
            self.reset = self.reset or _believed(segment, mine, other)
            return
        if flags & SYN:
            mine.begin((sequence + 1) & MASK, settled=True, since=now)
            mine.synchronised = mine.synchronised or mine.base == (sequence + 1) & MASK
            if flags & ACK and not other.settled:
                other.begin(segment.acknowledgement, settled=True, since=now)
                other.synchronised = True
        elif segment.payload or segment.missing or flags & FIN:
            if mine.base < 0:
                # Everything before was acknowledged: nothing earlier can come.
                mine.begin(sequence, settled=mine.hint == sequence, since=now)
            elif not mine.settled:
                mine.shift(max(0, -mine.offset(sequence)))
        if flags & ACK and other.base < 0:
            if mine.synchronised and not flags & SYN:
                other.begin(segment.acknowledgement, settled=False, since=now)  # the SYN ACK was not captured
            else:
                other.hint = segment.acknowledgement

    def _acknowledged(self, segment: Segment, other: Half) -> int:
        """Note how far the other side was acknowledged; gives the offset that must be out before this segment."""
        if other.base < 0 or not other.seen:
            return 0
        offset = other.offset(segment.acknowledgement)
        if 0 <= other.fin < offset:
            other.fin_acked = other.fin_acked or offset == other.fin + 1
            offset = other.fin
        if offset > other.next + WINDOW:
            return 0
        if offset > other.acked:
            other.acked = offset
            if offset > other.next:
                other.marks.append(Mark(offset, self._count, self._now, segment.frame))
        return offset if offset > other.excused else 0

    def _placed(self, segment: Segment, mine: Half, need: int) -> Iterator[Note]:
        """Put the segment's octets where they belong; notes about what was there already."""
        size = len(segment.payload) + segment.missing
        offset = mine.offset(segment.sequence) + (1 if segment.flags & SYN else 0)
        if not size and not segment.flags & (FIN | SYN):
            if offset == mine.next - 1 and mine.next:
                yield Note("keep-alive", "A keep-alive.", segment.frame, 0, mine.side, offset)
            return
        if abs(offset - mine.next) > WINDOW:
            text = "A sequence number far outside any window; its octets are no part of the stream."
            yield Note("out-of-window", text, segment.frame, 0, mine.side, -1, segment.payload)
            return
        if segment.flags & FIN and mine.fin < 0:
            mine.ends(offset + size)
        if segment.payload:
            piece = Piece(offset, segment.payload, segment.frame, segment.time, segment.at, need)
            yield from mine.place(piece)
            if mine.excused >= 0 and not mine.marks and mine.acked > mine.next:
                # What was taken for an uncaptured FIN has octets behind it: it is a hole.
                mine.marks.append(Mark(mine.acked, self._count, self._now, segment.frame))
                mine.excused = -1
        if segment.missing and offset + size > mine.next:
            if not mine.cut_short:
                mine.cut_short = True
                text = f"The snap length cut off {segment.missing} octets of this segment, the first one of this side."
                yield Note("snaplen", text, segment.frame, 0, mine.side, offset + len(segment.payload))
            start = offset + len(segment.payload)
            mine.cut(Cut(start, offset + size, segment.frame, segment.time, need))

    def _released(self, out: list[Item]) -> list[Item]:
        """Everything that waits for nothing any more goes out, side by side until nobody moves."""
        while True:
            before = len(out)
            for mine, other in ((self._client, self._server), (self._server, self._client)):
                if not mine.settled:
                    continue
                while True:
                    if mine.held and mine.held[0].offset <= mine.next:
                        if _waits(mine.held[0].need, other):
                            break
                        out.append(mine.take())
                    elif mine.cuts and mine.cuts[0].offset <= mine.next:
                        cut = mine.cuts[0]
                        if _waits(cut.need, other):
                            break
                        end = min(cut.end, mine.held[0].offset) if mine.held else cut.end
                        out.append(mine.skip(end, cut.frame, cut.time))
                    else:
                        break
            if len(out) == before:
                return out

    def _expired(self, out: list[Item]) -> list[Item]:
        """What patience has run out for, and what exceeds the bounds."""
        for half in (self._client, self._server):
            if not half.settled and half.since is not None and self._old(*half.since):
                half.settled = True
                self._released(out)
        moved = True
        while moved:
            moved = False
            for half in (self._client, self._server):
                full = half.held_octets > HELD_OCTETS or len(half.held) + len(half.cuts) > HELD_PIECES
                if full or (half.settled and half.marks and self._old(half.marks[0].segments, half.marks[0].time)):
                    if full:
                        half.settled = True
                        out.append(_full(half))
                    self._declare(half, out)
                    self._released(out)
                    moved = True
        return out

    def _old(self, count: int, time: int) -> bool:
        return self._count - count >= PATIENCE_SEGMENTS or self._now - time >= PATIENCE

    def _declare(self, half: Half, out: list[Item]) -> None:
        """Give up what stands first in this side's way: its hole, or the other side's that it waits for."""
        other = self._server if half is self._client else self._client
        half.settled = True
        if half.held and half.held[0].offset <= half.next:
            if other.marks and not (other.held and other.held[0].offset <= other.next):
                self._declare(other, out)
                return
            # Each waits for the other, which no two hosts that speak TCP can do: arrival order it is.
            half.held[0] = half.held[0]._replace(need=0)
            return
        if half.cuts and half.cuts[0].offset <= half.next:
            half.cuts[0] = half.cuts[0]._replace(need=0)
            return
        if not half.held and half.acked == half.next + 1 and half.fin < 0 and not half.cuts:
            half.excused = half.acked
            half.marks.clear()
            return
        ends = [half.acked] if half.acked > half.next else []
        ends += [piece.offset for piece in half.held[:1]] + [cut.offset for cut in half.cuts[:1]]
        end = min(ends)
        proof = half.marks[0] if half.marks else half.held[0] if half.held else half.cuts[0]
        out.append(half.skip(end, proof.frame, proof.time))

    def _first_hole(self) -> Half | None:
        """Whose hole is declared next when nothing more comes: the one that was acknowledged first."""
        halves = [h for h in (self._client, self._server) if h.held or h.cuts or (h.seen and h.marks)]
        return min(halves, key=lambda h: h.marks[0].segments if h.marks else MASK) if halves else None


def _waits(need: int, other: Half) -> bool:
    return need > other.next and need > other.excused and other.seen


def _believed(segment: Segment, mine: Half, other: Half) -> bool:
    """Whether the other host takes this RST: it answers the SYN (RFC 9293 3.10.7.3) or its number is near."""
    if mine.base < 0:
        answers = segment.acknowledgement == other.expected
        return answers or not segment.flags & ACK or other.base < 0 or other.next > 0
    return abs(mine.offset(segment.sequence) - mine.next) <= WINDOW


def _full(half: Half) -> Note:
    text = f"{half.held_octets} octets in {len(half.held)} pieces wait behind a hole; it is declared missing."
    frame = half.held[0].frame if half.held else half.cuts[0].frame
    return Note("held-limit", text, frame, 0, half.side, half.next)
