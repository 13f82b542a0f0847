"""One conversation being observed: its stream, the dialogue that labels it, and where each octet came from.

Claim: every line that leaves here says which frames carried it, when its first octet came and where that octet stands
in the order of capture; every gap has its place among the lines; and a dialogue that fails is a note and not the end:
what it had not labelled, and all that follows, comes out as plain octets.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import NamedTuple, Protocol

from capture.model import (
    Chunk,
    Conversation,
    Endpoint,
    Gap,
    Line,
    Missing,
    Note,
    Pdu,
    Role,
    Segment,
    Side,
    Span,
)
from capture.protocols.dialogue import Dialogue
from capture.stream import Item, Stream


class Chooser(Protocol):
    """Tells from what was said first which dialogue labels a conversation; None: not enough was said yet."""

    def __call__(self, facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> Dialogue | None: ...


class Tally:
    """How many octets the analyzer delivered, of all conversations: the order of capture. A gap counts as one."""

    __slots__ = ("octets",)

    def __init__(self) -> None:
        self.octets = 0


class Heard(NamedTuple):
    """Octets that were delivered and may still be in a line that comes."""

    offset: int
    end: int
    order: int
    chunk: Chunk


class News:
    """What one feed made known, while it is gathered."""

    __slots__ = ("gaps", "lines", "notes")

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.gaps: list[Missing] = []
        self.notes: list[Note] = []

    def __bool__(self) -> bool:
        return bool(self.lines or self.gaps or self.notes)


class Talk:
    """A conversation in the making. `stream` is None once it is finished; then only its facts are left."""

    __slots__ = ("_chooser", "_dialogue", "_heard", "_labelled", "_lines", "_opening", "_pdus",
                 "_shown", "_strict", "_tally", "client", "closed", "closing", "end", "expects", "frames", "ident",
                 "midstream", "octets", "oriented", "protocol", "scope", "server", "start", "stream")  # fmt: skip

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
        tally: Tally,
        chooser: Chooser,
        strict: bool,
    ) -> None:
        self.ident, self.client, self.server, self.scope = ident, client, server, scope
        self.start = self.end = start
        self.midstream = midstream
        self.oriented = oriented  # who is the client is known, not guessed
        self.frames = 0
        self.octets = (0, 0)
        self.closed = False
        self.closing = False
        self.protocol = ""
        self.stream: Stream | None = Stream()
        self.expects = (-1, -1)  # once finished: the sequence numbers that would have come next
        self._tally, self._chooser, self._strict = tally, chooser, strict
        self._dialogue: Dialogue | None = None
        self._opening: list[Chunk | Gap] = []
        self._heard: dict[Side, list[Heard]] = {Side.CLIENT: [], Side.SERVER: []}
        self._lines = {Side.CLIENT: 0, Side.SERVER: 0}
        self._labelled = {Side.CLIENT: 0, Side.SERVER: 0}
        self._pdus = {Side.CLIENT: 0, Side.SERVER: 0}
        self._shown: tuple[object, ...] = ()

    def facts(self) -> Conversation:
        """The conversation as it stands."""
        return Conversation(
            self.ident,
            self.client,
            self.server,
            self.protocol,
            self.start,
            self.end,
            self.frames,
            self.octets,
            self.midstream,
            self.closed,
        )

    def changed(self) -> bool:
        """Whether the facts, counters aside, are other ones than when this was last asked."""
        now = (self.client, self.protocol, self.midstream, self.closed)
        if now == self._shown:
            return False
        self._shown = now
        return True

    def side(self, segment: Segment) -> Side:
        return Side.CLIENT if segment.source == self.client else Side.SERVER

    def turn(self) -> None:
        """Who was taken for the client is the server; only before any octet was seen."""
        self.client, self.server = self.server, self.client
        if self.stream is not None:
            self.stream.swap()

    @property
    def pending(self) -> int | None:
        """The place in the order of capture of the first octet that is in no line yet, None if all are."""
        first = [
            heard[0].order + max(0, self._settled(side) - heard[0].offset)
            for side, heard in self._heard.items()
            if heard and heard[-1].end > self._settled(side)
        ]
        return min(first, default=None)

    def feed(self, segment: Segment, news: News) -> None:
        """One more segment of this conversation."""
        self.frames += 1
        self.end = max(self.end, segment.time)
        if self.stream is None:
            return
        items = self.stream.feed(segment, self.side(segment))
        if items:
            self.take(items, news)

    def take(self, items: list[Item], news: News) -> None:
        """What the stream put in order goes to the dialogue."""
        for item in items:
            if isinstance(item, Chunk):
                size = len(item.data)
                self._heard[item.side].append(Heard(item.offset, item.offset + size, self._tally.octets, item))
                self._tally.octets += size
                self._pass(item, news)
            elif isinstance(item, Gap):
                place = Missing(self.ident, item.side, item.offset, item.length, item.time, self._tally.octets)
                news.gaps.append(place)
                self._tally.octets += 1
                self._pass(item, news)
            else:
                news.notes.append(item._replace(conversation=self.ident))
        if self.stream is not None:
            self.octets = self.stream.octets

    def finish(self, news: News) -> None:
        """No segment comes any more: holes become gaps, half lines come out; memory is given back."""
        stream = self.stream
        if stream is None:
            return
        self.take(stream.finish(), news)
        self.expects = (stream.expects(Side.CLIENT), stream.expects(Side.SERVER))
        if self._dialogue is None and self._opening:
            self._choose(news, final=True)
        if self._dialogue is not None:
            self._guarded(None, news)
        self.stream = self._dialogue = None
        for side in Side:
            self._plain(side, news)
            self._heard[side].clear()
        self._opening.clear()

    def _pass(self, item: Chunk | Gap, news: News) -> None:
        if self._dialogue is not None:
            self._guarded(item, news)
        elif self.protocol:
            self._plain(item.side, news)  # the dialogue failed earlier
        else:
            self._opening.append(item)
            self._choose(news, final=False)

    def _choose(self, news: News, *, final: bool) -> None:
        dialogue = self._chooser(self.facts(), self._opening, final=final)
        if dialogue is None:
            return
        self._dialogue, self.protocol = dialogue, dialogue.protocol
        opening, self._opening = self._opening, []
        for item in opening:
            self._pass(item, news)

    def _guarded(self, item: Chunk | Gap | None, news: News) -> None:
        dialogue = self._dialogue
        assert dialogue is not None
        try:
            if item is None:
                lines = dialogue.finish()
            elif isinstance(item, Chunk):
                lines = dialogue.feed(item)
            else:
                lines = dialogue.gap(item)
            self.protocol = dialogue.protocol
        except Exception as error:  # a defect of ours, shown, that must not end a live capture
            if self._strict:
                raise
            self._fail(error, item, news)
            return
        for line in lines:
            news.lines.append(self._placed(line))
        for note in dialogue.take_notes():
            frame = note.frame or (item.frame if item is not None else 0)
            news.notes.append(note._replace(conversation=self.ident, frame=frame))
        for side, heard in self._heard.items():
            if heard:
                self._release(heard, dialogue.settled(side))

    def _fail(self, error: Exception, item: Chunk | Gap | None, news: News) -> None:
        """The dialogue has a defect: say so, and go on without it."""
        text = (
            f"The {self.protocol or 'unnamed'} dialogue failed: {type(error).__name__}: {error}. Plain octets follow."
        )
        frame = item.frame if item is not None else 0
        side = item.side if item is not None else None
        news.notes.append(Note("internal", text, frame, self.ident, side, item.offset if item is not None else -1))
        self._dialogue, self.protocol = None, "opaque"
        for side in Side:
            self._plain(side, news)

    def _plain(self, side: Side, news: News) -> None:
        """Whatever no dialogue labels: one line for each chunk, its role unknown to us, hence never a whole PDU."""
        for _, end, _, chunk in self._heard[side]:
            start = max(chunk.offset, self._labelled[side])
            if start >= end:
                continue
            self._pdus[side] += 1
            pdu = Pdu("unknown", f"{side.value}{self._pdus[side]}")
            data = chunk.data[start - chunk.offset :]
            spans = (Span(0, len(data), Role.PCI, "raw"),)
            number = self._lines[side] + 1
            news.lines.append(self._placed(Line(self.ident, side, number, start, data, pdu, spans, (), False)))
        self._heard[side].clear()

    def _settled(self, side: Side) -> int:
        return self._labelled[side] if self._dialogue is None else self._dialogue.settled(side)

    def _release(self, heard: list[Heard], settled: int) -> None:
        """Octets of which no line can come any more are forgotten."""
        count = 0
        for entry in heard:
            if entry.end > settled:
                break
            count += 1
        if count:
            del heard[:count]

    def _placed(self, line: Line) -> Line:
        """The line with its frames, time and order."""
        side, start = line.side, line.offset
        end = start + len(line.data)
        if end > self._labelled[side]:  # else it is a line that came before, with a flag more
            self._lines[side], self._labelled[side] = line.number, end
            self._pdus[side] = int(line.pdu.ident[1:])
        heard = self._heard[side]
        if not heard:
            return line
        index = 0 if heard[0].end > start else bisect_right(heard, start, key=_offset) - 1
        offset, stop, order, chunk = heard[index]
        frames: tuple[int, ...] = (chunk.frame,)
        while stop < end and index + 1 < len(heard):
            index += 1
            stop = heard[index].end
            number = heard[index].chunk.frame
            if number != frames[-1]:
                frames += (number,)
        return _line(Line, (*line[:10], frames, chunk.time, order + start - offset))


_offset = attrgetter("offset")
_line = tuple.__new__  # twice as fast as Line(…), and made for each line of a capture
