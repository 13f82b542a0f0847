"""An analyzer in two halves, so that two processors can share a capture.

Claim: who talks to whom, what stands in order, what is missing, when a conversation is over and where each octet stands
in the order of capture is decided in one place, by `Giving`, which is an analyzer. Some of its conversations it gives
away: what was heard of them leaves as events, plain values that pass through a pipe, and `Taking` makes their lines.
The lines of both together are those of one analyzer. (Only `capture.analyzer.OWED`, the bound on octets that wait for
an answer in all conversations together, is each half's own.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from capture.analyzer import Analyzer
from capture.model import Chunk, Conversation, Endpoint, Gap, Segment, Side, Update
from capture.stream import Item
from capture.talk import News, Talk

_CLIENT = Side.CLIENT
_BEGIN, _CHUNK, _GAP, _END = range(4)

# (what, conversation, …): begin: endpoints, scope, time; chunk: place in the order, midstream, side, and the rest of a
# `Chunk`; gap: the same of a `Gap`; end.
Event = tuple[Any, ...]


class Given(Talk):
    """A conversation that is given away: it makes events and no lines. events: where they go."""

    __slots__ = ("_began", "events")

    def begin(self, events: list[Event]) -> None:
        """Behind ``__init__``, which is `Talk`'s."""
        self._began = False
        self.events = events

    def hear(self, chunk: Chunk, news: News) -> None:  # noqa: ARG002
        tally = self._tally
        self._begin()
        side, offset, data, frame, time, at = chunk
        event = _CHUNK, self.ident, tally.octets, self.midstream, side is _CLIENT, offset, data, frame, time, at
        self.events.append(event)
        tally.octets += len(data)

    def take(self, items: list[Item], news: News) -> None:
        for item in items:
            if isinstance(item, Chunk):
                self.hear(item, news)
            elif isinstance(item, Gap):
                self._begin()
                side, offset, length, frame, time = item
                event = (
                    _GAP,
                    self.ident,
                    self._tally.octets,
                    self.midstream,
                    side is _CLIENT,
                    offset,
                    length,
                    frame,
                    time,
                )
                self.events.append(event)
                self._tally.octets += 1
            else:
                news.notes.append(item._replace(conversation=self.ident))
        self.count_octets()

    def finish(self, news: News) -> None:
        stream = self.stream
        if stream is None:
            return
        self.take(stream.finish(), news)
        self.expects = (stream.expects(Side.CLIENT), stream.expects(Side.SERVER))
        self.stream = None
        self.forget()
        if self._began:
            self.events.append((_END, self.ident))

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            ends = *self.client, *self.server
            self.events.append((_BEGIN, self.ident, *ends, self.scope, self.start))


class Giving(Analyzer):
    """The half that sees the frames. ``gives`` is asked whenever a conversation begins: is it given away?

    Its updates hold the lines of what it keeps; of what it gives away they hold notes and facts without a protocol.
    """

    def __init__(self, gives: Callable[[], bool], *, strict: bool = False) -> None:
        super().__init__(strict=strict, runs=True)
        self._gives = gives
        self._events: list[Event] = []

    def take_events(self) -> list[Event]:
        """What happened in the conversations given away since this was last asked."""
        events = self._events[:]
        self._events.clear()
        return events

    def _begin(self, segment: Segment, news: News, facts: list[Conversation]) -> Talk:
        self._talk_type = Given if self._gives() else Talk
        talk = super()._begin(segment, news, facts)
        if isinstance(talk, Given):
            talk.begin(self._events)
        return talk


class Taking(Analyzer):
    """The half that makes the lines of conversations given away."""

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict, runs=True)

    def hear_all(self, events: Sequence[Event], delivered: int) -> Update:
        """What these events make known. delivered: `Giving.delivered` behind the last of them."""
        news, facts = News(), list[Conversation]()
        tally, talks = self._tally, self._open
        for event in events:
            what, ident = event[0], event[1]
            if what == _CHUNK:
                _, _, tally.octets, midstream, client, *rest = event
                talk = talks[ident]
                talk.midstream = midstream
                talk.hear(Chunk(_CLIENT if client else Side.SERVER, *rest), news)
                self._waiting[ident] = talk
            elif what == _GAP:
                _, _, tally.octets, midstream, client, *rest = event
                talk = talks[ident]
                talk.midstream = midstream
                talk.take([Gap(_CLIENT if client else Side.SERVER, *rest)], news)
                self._waiting[ident] = talk
            elif what == _BEGIN:
                talks[ident] = self._taken(event)
            else:
                talks.pop(ident).finish(news)
                self._waiting.pop(ident, None)
            if tally.octets >= self._look:
                self._hurry(news, facts)
        tally.octets = delivered
        return self._update(news, facts)

    def _taken(self, event: Event) -> Talk:
        _, ident, *ends, scope, start = event
        client, server = Endpoint(*ends[:2]), Endpoint(*ends[2:])
        return Talk(ident, client, server, scope, start, midstream=False, oriented=True, tally=self._tally,
                    chooser=self._chooser, strict=self._strict, in_runs=True)  # fmt: skip
