"""Where the octets of each frame stand in the streams, and which of them are secret.

Claim: a frame's place is told by the stream that took it in, not searched for: equal octets elsewhere do not deceive,
nor does a stream whose beginning was found late. What is asked before the whole capture was fed may still move.

`Places` is an `Analyzer` that remembers; it costs some 25 octets a frame, so it is for the views that show frames.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

from capture.analyzer import Analyzer
from capture.half import MASK
from capture.model import SYN, Conversation, Endpoint, Line, Segment, Side
from capture.protocols.secrets import secret_spans
from capture.talk import News

_HALF = 1 << 31


class Place(NamedTuple):
    """Octets that a frame carried: ``length`` of them, ``at`` in its data, from stream ``offset`` on.

    A segment without user data has a place too, of length 0. A copy has the place of the octets that it repeats.
    """

    conversation: int
    side: Side
    offset: int
    at: int
    length: int


class _Way:
    """One direction of one conversation. Sequence numbers are counted on past 2^32."""

    __slots__ = ("base", "conversation", "latest", "source")

    def __init__(self, conversation: int, source: Endpoint, sequence: int) -> None:
        self.conversation, self.source = conversation, source
        self.latest = self.base = sequence

    def unwrapped(self, sequence: int) -> int:
        """The number nearest to the latest one that is this modulo 2^32 (RFC 9293 3.4)."""
        return self.latest + ((sequence - self.latest + _HALF) & MASK) - _HALF


class Places(Analyzer):
    """An analyzer that also says where each frame's octets stand."""

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._ways: list[_Way] = []
        self._numbers: dict[tuple[int, Endpoint], int] = {}
        self._clients: dict[int, Endpoint] = {}
        self._seen: dict[int, int] = {}  # frame: where in the arrays; filled in order, so mostly consecutive
        self._way, self._first, self._at, self._length = array("I"), array("q"), array("I"), array("I")
        self._more: dict[int, list[int]] = {}  # frames that carried several pieces: where the others are

    def of(self, frame: int) -> tuple[Place, ...]:
        """The places of a frame's octets, by its number; nothing when it belongs to no conversation."""
        first = self._seen.get(frame)
        return () if first is None else tuple(map(self._place, (first, *self._more.get(frame, ()))))

    def _place(self, index: int) -> Place:
        way = self._ways[self._way[index]]
        side = Side.CLIENT if self._clients[way.conversation] == way.source else Side.SERVER
        return Place(way.conversation, side, self._first[index] - way.base, self._at[index], self._length[index])

    # The analyzer's own steps, listened to.

    def _ordinary(self, *_: object) -> bool:
        return False  # every segment goes the long way, past `_observe`

    def _observe(self, segment: Segment, news: News, facts: list[Conversation]) -> None:
        super()._observe(segment, news, facts)
        talk = self._talks.get((segment.source, segment.destination, segment.scope))
        if talk is None:
            return
        self._clients[talk.ident] = talk.client
        first = segment.sequence + (1 if segment.flags & SYN else 0)
        key = talk.ident, segment.source
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._ways)
            self._ways.append(_Way(talk.ident, segment.source, first))
        way = self._ways[number]
        way.latest = first = way.unwrapped(first)
        side = talk.side(segment)
        if talk.stream is not None and (expected := talk.stream.expects(side)) >= 0:
            octets = talk.stream.octets[0 if side is Side.CLIENT else 1]
            way.base = way.unwrapped(expected) - octets
        index = len(self._way)
        self._way.append(number)
        self._first.append(first)
        self._at.append(segment.at)
        self._length.append(len(segment.payload))
        if segment.frame in self._seen:
            self._more.setdefault(segment.frame, []).append(index)
        else:
            self._seen[segment.frame] = index


class Secrets:
    """Stretches of the streams that must not be shown."""

    def __init__(self) -> None:
        self._stretches: dict[tuple[int, Side], list[tuple[int, int]]] = {}

    def add(self, line: Line) -> None:
        """A line of the application, with its flags."""
        for span in secret_spans(line):
            known = self._stretches.setdefault((line.conversation, line.side), [])
            known.append((line.offset + span.start, line.offset + span.end))

    def hide(self, data: bytes, places: tuple[Place, ...]) -> bytes:
        """A frame's octets with those that are secret replaced by ``*``, one by one."""
        shown: bytearray | None = None
        for place in places:
            known = self._stretches.get((place.conversation, place.side))
            if not known or not place.length:
                continue
            known.sort()
            for start, end in known[max(0, bisect_right(known, (place.offset,)) - 1) :]:
                if start >= place.offset + place.length:
                    break
                low, high = max(start, place.offset), min(end, place.offset + place.length)
                if low < high:
                    shown = shown or bytearray(data)
                    at = place.at + low - place.offset
                    shown[at : at + high - low] = b"*" * (high - low)
        return data if shown is None else bytes(shown)
