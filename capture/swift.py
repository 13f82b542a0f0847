"""A conversation that has done nothing unusual yet: two sequence numbers, and the octets as they came.

Claim: a `Swift` is a `Flow` whose `Stream` was told nothing yet. While a SYN opened it, every segment stood in order
and acknowledged only what was captured, a stream's whole state follows from what is kept here; `wake` tells it, at the
first segment that is not so, and from then on the analyzer's own way is taken.
"""

from __future__ import annotations

from typing import Any

from capture.analyzer import COPIES_BEHIND_RST
from capture.half import MASK
from capture.model import ACK, FIN, RST, SYN, Endpoint, Gap, Side
from capture.stream import Stream
from capture.survey import Flow, Kept, Store
from capture.talk import News

BEHIND = 1 << 30  # an acknowledgement so far behind is an old one; as `capture.half.WINDOW`
_UNTOLD = Stream()  # stands for one that is still to be made; nothing is ever told to it
_TOLD = SYN | FIN | RST | ACK


class Way:
    """One direction of a swift conversation.

    expected: the sequence number that comes next, -1 when a segment with it needs a closer look; next: that number all
    the same, -1 while unknown; parts: where its octets are put while it is the one who speaks.
    """

    __slots__ = ("base", "expected", "fin", "fin_acked", "flow", "key", "next", "other", "parts", "side")

    flow: Swift
    other: Way

    def __init__(self, side: Side, key: bytes) -> None:
        self.side = side
        self.key = key
        self.base = self.next = self.expected = -1
        self.fin = self.fin_acked = False
        self.parts: list[bytes] = []

    def end(self) -> None:
        """It takes no segment any more. Nothing that refers to itself is left behind."""
        self.expected = -1
        self.parts = []
        del self.other

    def due(self) -> int:
        """The sequence number that comes next."""
        return self.expected if self.expected >= 0 else self.next


class Swift(Flow):
    """ways: both directions, client first; None before it is opened, once it is woken, and when it is over.

    voice: whose octets came last; said: what is kept, while there are ways; broken: a RST was seen,
    behind so many segments with octets: heard_unbroken.

    Most conversations never need what `Talk` makes for one. So it is made when it is needed (`rouse`).
    """

    __slots__ = ("_asleep", "broken", "heard_unbroken", "said", "voice", "ways")

    def __init__(
        self,
        ident: int,
        client: Endpoint,
        server: Endpoint,
        scope: tuple[int, ...],
        start: int,
        *,
        midstream: bool,
        oriented: bool,
        **others: Any,
    ) -> None:
        self.ident, self.client, self.server, self.scope = ident, client, server, scope
        self.start = self.end = start
        self.midstream = midstream
        self.oriented = oriented
        self.frames = 0
        self.octets = (0, 0)
        self.closed = self.closing = self.reset = False
        self.alarm = None
        self.protocol = ""
        self.stream: Stream | None = _UNTOLD
        self.expects = (-1, -1)
        self._shown = ()
        self._asleep: dict[str, Any] | None = others

    def rouse(self) -> None:
        """Have all that a `Talk` has. Does nothing when it is awake."""
        others, self._asleep = self._asleep, None
        if others is None:
            return
        facts = self.frames, self.end, self.closed, self.closing, self.reset, self.alarm, self._shown
        super().__init__(
            self.ident,
            self.client,
            self.server,
            self.scope,
            self.start,
            midstream=self.midstream,
            oriented=self.oriented,
            **others,
        )
        self.frames, self.end, self.closed, self.closing, self.reset, self.alarm, self._shown = facts

    def begin(self, store: Store) -> None:
        super().begin(store)
        self.ways: tuple[Way, Way] | None = None
        self.voice: Way | None = None
        self.said: list[Kept] = []
        self.broken = False
        self.heard_unbroken = 0

    def open(self, sequence: int, keys: tuple[bytes, bytes]) -> tuple[Way, Way]:
        """The client's SYN, which is the conversation's first segment, has this number."""
        client, server = Way(Side.CLIENT, keys[0]), Way(Side.SERVER, keys[1])
        client.other, server.other = server, client
        client.flow = server.flow = self
        client.base = client.next = (sequence + 1) & MASK
        self.frames = 1
        self.ways = client, server
        self.kept = self.said
        return client, server

    def follow(self, way: Way, sequence: int, acknowledgement: int, flags: int, payload: bytes, time: int) -> bool:
        """Take a segment if it is one that may follow here; False: nothing was done, the conversation must be woken."""
        other, told = way.other, flags & _TOLD
        if told & RST:
            # As `capture.stream` believes it; its octets and its acknowledgement count for nothing.
            if told & SYN or way.base < 0 or BEHIND < (sequence - way.due()) & MASK < MASK + 1 - BEHIND:
                return False
            if not self.broken:
                self.broken = True
                self.heard_unbroken = sum(len(item[1]) for item in self.said if not isinstance(item, Gap))
        elif told == SYN | ACK:
            if way.base >= 0 or way.side is Side.CLIENT or payload or acknowledgement != other.base:
                return False
            way.base = way.next = way.expected = (sequence + 1) & MASK
            other.expected = other.next
        elif told in (ACK, FIN | ACK):
            mine, theirs = way.due(), other.due()
            if way.base < 0 or other.base < 0:
                return False
            if way.fin:
                # Behind a FIN only acknowledgements come, which have its number or the next.
                if payload or told & FIN or (sequence - mine) & MASK > 1:
                    return False
            elif sequence != mine or (told & FIN and len(payload) + self.weight > self.limit):
                return False
            if other.fin and acknowledgement == (theirs + 1) & MASK:
                other.fin_acked = True
            elif (theirs - acknowledgement) & MASK > BEHIND:
                return False
            if payload:
                self._say(way, payload)
            if not way.fin:
                way.next = (mine + len(payload)) & MASK
                way.fin = bool(told & FIN)
                way.expected = -1 if way.fin else way.next
        else:
            return False
        self.frames += 1
        self.end = max(self.end, time)
        if self.weight > self.limit:
            self.weigh()
        return True

    def _say(self, way: Way, payload: bytes) -> None:
        if self.voice is not way:
            self.voice, way.parts = way, []
            self.said.append((way.side, way.parts))
        way.parts.append(payload)
        self.weight += len(payload)

    def wake(self) -> None:
        """Tell the stream all that was seen so far. Does nothing when it knows."""
        ways, self.ways = self.ways, None
        if ways is None or self.stream is None:
            return
        self.rouse()
        stream = self.stream
        stream.elapse(self.end)
        stream.reset = self.broken
        for way in ways:
            half = stream.halves(way.side)[0]
            half.seen = way.base >= 0
            if half.seen:
                half.begin(way.base, settled=True, since=(1, self.start))
                half.synchronised = True
            way.end()
        heard = 0
        for item in self.said:
            assert not isinstance(item, Gap)
            half = stream.halves(item[0])[0]
            for octets in item[1]:
                if self.broken and heard == self.heard_unbroken:
                    stream.forget(COPIES_BEHIND_RST)
                half.deliver(octets, 0, 0, 0)
                heard += 1
        if self.broken and heard == self.heard_unbroken:
            stream.forget(COPIES_BEHIND_RST)  # as the analyzer does when the RST comes
        for way in ways:
            half = stream.halves(way.side)[0]
            if way.fin:
                half.fin, half.fin_acked = half.next, way.fin_acked
        self.count_octets()

    def finish(self, news: News) -> None:
        ways, self.ways = self.ways, None
        if ways is None:
            super().finish(news)
            return
        expects = ways[0].due(), ways[1].due()
        for way in ways:
            way.end()
        self.conclude()
        self.said = []
        self.expects = expects

    def conclude(self) -> None:
        super().conclude()
        self._asleep = None

    def release(self) -> None:
        self.wake()  # which needs what is kept
        self.said = []
        self.rouse()
        super().release()
