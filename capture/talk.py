"""One conversation being observed: its stream, the dialogue that labels it, and where each octet came from.

Claim: every line that leaves here says which frames carried it, when its first octet came and where that octet stands
in the order of capture; every gap has its place among the lines; and a dialogue that fails is a note and not the end:
what it had not labelled, and all that follows, comes out as plain octets.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, Protocol

from capture.half import Waiting
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
    Run,
    Segment,
    Side,
    Span,
)
from capture.protocols.dialogue import Dialogue, Exchange
from capture.protocols.voice import NOT_UNDERSTOOD
from capture.stream import Item, Stream

TOGETHER = 64  # chunks that a dialogue is given in one


class Chooser(Protocol):
    """Tells from what was said first which dialogue labels a conversation; None: not enough was said yet."""

    def __call__(self, facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> Dialogue | None: ...


class Tally:
    """How many octets the analyzer delivered, of all conversations: the order of capture. A gap counts as one."""

    __slots__ = ("octets", "waiting")

    def __init__(self) -> None:
        self.octets = 0
        self.waiting = Waiting()


class Heard(NamedTuple):
    """Octets that were delivered and may still be in a line that comes."""

    offset: int
    end: int
    order: int
    chunk: Chunk


class Ear:
    """One side as it was heard. labelled: the end of the last line that left; number, pdu: of that line."""

    __slots__ = ("heard", "labelled", "number", "pdu", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.heard: list[Heard] = []
        self.labelled = 0
        self.number = 0
        self.pdu: Pdu | None = None

    def release(self, settled: int) -> None:
        """Octets of which no line can come any more are forgotten."""
        heard = self.heard
        if heard[-1][1] <= settled:
            heard.clear()
        elif heard[0][1] <= settled:
            del heard[: bisect_right(heard, settled, key=_end)]

    def following(self) -> tuple[int, int]:
        """Numbers for one more line and its PDU."""
        return self.number + 1, (1 if self.pdu is None else int(self.pdu.ident[1:]) + 1)


class News:
    """What feeding made known, while it is gathered.

    talks: of whom there is news; their facts are asked at the end. unsettled: who has octets for its dialogue.
    """

    __slots__ = ("gaps", "lines", "notes", "runs", "talks", "unsettled")

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.runs: list[Run] = []
        self.gaps: list[Missing] = []
        self.notes: list[Note] = []
        self.talks: dict[int, Talk] = {}
        self.unsettled: dict[int, Talk] = {}

    def __len__(self) -> int:
        return len(self.lines) + len(self.runs) + len(self.gaps) + len(self.notes)


class Talk:
    """A conversation in the making. `stream` is None once it is finished; then only its facts are left."""

    __slots__ = (
        "_chooser",
        "_dialogue",
        "_ears",
        "_opening",
        "_runs",
        "_shown",
        "_strict",
        "_tally",
        "_undecided",
        "_untold",
        "alarm",
        "client",
        "closed",
        "closing",
        "end",
        "expects",
        "frames",
        "ident",
        "midstream",
        "octets",
        "oriented",
        "protocol",
        "reset",
        "scope",
        "server",
        "start",
        "stream",
    )  # fmt: skip

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
        in_runs: bool,
    ) -> None:
        self.ident, self.client, self.server, self.scope = ident, client, server, scope
        self.start = self.end = start
        self.midstream = midstream
        self.oriented = oriented  # who is the client is known, not guessed
        self.frames = 0
        self.octets = (0, 0)
        self.closed = False
        self.closing = False  # the end was seen, and is waited for
        self.reset = False  # and it was a RST
        self.alarm: int | None = None  # when it is looked at again, ns
        self.protocol = ""
        self.stream: Stream | None = Stream(tally.waiting)
        self.expects = (-1, -1)  # once finished: the sequence numbers that would have come next
        self._tally, self._chooser, self._strict = tally, chooser, strict
        self._runs: list[Run] | None = [] if in_runs else None  # where its dialogue puts them
        self._dialogue: Dialogue | None = None
        self._opening: list[Chunk | Gap] = []
        self._undecided = -1  # order of the first gap that came before the protocol was known
        self._untold: list[Chunk] = []  # chunks of one side that the dialogue was not given yet
        self._ears = (Ear(Side.CLIENT), Ear(Side.SERVER))
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
            self.stream is None,
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
    def waits(self) -> bool:
        """Octets were heard that may still be in a line that comes."""
        client, server = self._ears
        return bool(client.heard or server.heard)

    @property
    def pending(self) -> int | None:
        """The place in the order of capture of the first octet that is in no line yet, None if all are.

        A gap waits too while it is not known which protocol it is a gap of.
        """
        first = [self._undecided] if self._undecided >= 0 else []
        for ear in self._ears:
            settled = self._settled(ear)
            for entry in ear.heard:
                if entry.end > settled:
                    first.append(entry.order + max(0, settled - entry.offset))
                    break
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
                self.hear(item, news)
            elif isinstance(item, Gap):
                place = Missing(self.ident, item.side, item.offset, item.length, item.time, self._tally.octets)
                if not self.protocol and self._undecided < 0:
                    self._undecided = self._tally.octets
                news.gaps.append(place)
                self._tally.octets += 1
                self._pass(item, news)
            else:
                news.notes.append(item._replace(conversation=self.ident))
        self.count_octets()

    def count_octets(self) -> None:
        """Take over how far the stream is."""
        if self.stream is not None:
            self.octets = self.stream.octets

    def hear(self, chunk: Chunk, news: News) -> None:
        """The next octets of a side. Called for nearly every segment with octets; `octets` is the caller's affair.

        The dialogue gets them with those that follow from the same side, when the other side speaks, when much has
        come, or at the end of the feed (`settle`): its lines do not depend on how octets are cut into chunks.
        """
        tally = self._tally
        side, offset, data = chunk[0], chunk[1], chunk[2]
        size = len(data)
        heard = self._ears[0 if side is _CLIENT else 1].heard
        heard.append(_heard(Heard, (offset, offset + size, tally.octets, chunk)))
        tally.octets += size
        if self._dialogue is None:
            self._pass(chunk, news)
            return
        waiting = self._untold
        if waiting:
            if waiting[0][0] is side and len(waiting) < TOGETHER:
                waiting.append(chunk)
                return
            self.settle(news)
            waiting = self._untold
        waiting.append(chunk)
        news.unsettled[self.ident] = self

    def settle(self, news: News) -> None:
        """What was heard goes to the dialogue."""
        chunks = self._untold
        if chunks:
            self._untold = []
            if len(chunks) == 1:
                chunk = chunks[0]
            else:
                last = chunks[-1]
                data = b"".join([chunk[2] for chunk in chunks])
                chunk = Chunk(last.side, chunks[0].offset, data, last.frame, last.time, last.at)
            self._guarded(chunk, news)

    @property
    def owed(self) -> int:
        """How many octets were delivered and are in no line yet, or in one that may still change."""
        return sum(ear.heard[-1].end - max(ear.heard[0].offset, self._settled(ear)) for ear in self._ears if ear.heard)

    def hurry(self, news: News) -> None:
        """Octets wait here for an answer, and in too many other conversations: the dialogue goes on without it."""
        self.settle(news)
        if self._dialogue is None and self._opening:
            self._choose(news, final=True)
        heard = [ear.heard[-1] for ear in self._ears if ear.heard]
        if isinstance(self._dialogue, Exchange) and heard:
            self._dialogue.hurry()
            last = max(heard, key=_order)
            self._guarded(last.chunk._replace(offset=last.end, data=b""), news)

    def finish(self, news: News) -> None:
        """No segment comes any more: holes become gaps, half lines come out; memory is given back."""
        stream = self.stream
        if stream is None:
            return
        self.take(stream.finish(), news)
        self.settle(news)
        self.expects = (stream.expects(Side.CLIENT), stream.expects(Side.SERVER))
        if self._dialogue is None and self._opening:
            self._choose(news, final=True)
        if self._dialogue is not None:
            self._guarded(None, news)
        self.stream = self._dialogue = None
        for ear in self._ears:
            self._plain(ear, news)
        self.forget()

    def forget(self) -> None:
        """It is finished, and remembered for its facts alone: many are."""
        self._ears, self._runs = _SILENT, None
        self._opening = self._untold = _NOTHING

    def _ear(self, side: Side) -> Ear:
        return self._ears[0 if side is Side.CLIENT else 1]

    def _pass(self, item: Chunk | Gap, news: News) -> None:
        if self._untold:
            self.settle(news)
        if self._dialogue is not None:
            self._guarded(item, news)
        elif self.protocol:
            self._plain(self._ear(item.side), news)  # the dialogue failed earlier
        else:
            self._opening.append(item)
            self._choose(news, final=False)

    def _choose(self, news: News, *, final: bool) -> None:
        try:
            dialogue = self._chooser(self.facts(), self._opening, final=final)
        except Exception as error:  # as in _guarded
            if self._strict:
                raise
            self._fail(error, self._opening[-1], news)
            self._opening.clear()
            return
        if dialogue is None:
            return
        self._dialogue, self.protocol = dialogue, dialogue.protocol
        self._undecided = -1
        if self._runs is not None and isinstance(dialogue, Exchange):
            self._runs = dialogue.in_runs()
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
        if lines:
            news.talks[self.ident] = self
            placed = self._placed
            for line in lines:
                news.lines.append(placed(line))
        if self._runs:
            news.talks[self.ident] = self
            for run in self._runs:
                self._place_run(run, news)
            self._runs.clear()
        notes = dialogue.take_notes()
        if notes:
            last = item.frame if item is not None else 0
            frames = [note.frame or self._brought(note) or last for note in notes]
            news.notes += [
                note._replace(conversation=self.ident, frame=frame) for note, frame in zip(notes, frames, strict=True)
            ]
        for ear in self._ears:
            if ear.heard:
                ear.release(dialogue.settled(ear.side))

    def _fail(self, error: Exception, item: Chunk | Gap | None, news: News) -> None:
        """The dialogue has a defect: say so, and go on without it."""
        text = (
            f"The {self.protocol or 'unnamed'} dialogue failed: {type(error).__name__}: {error}. Plain octets follow."
        )
        frame = item.frame if item is not None else 0
        side = item.side if item is not None else None
        news.notes.append(Note("internal", text, frame, self.ident, side, item.offset if item is not None else -1))
        self._dialogue, self.protocol = None, "opaque"
        self._undecided = -1
        if self._runs:
            self._runs.clear()  # their octets come as plain ones
        for ear in self._ears:
            self._plain(ear, news)

    def _plain(self, ear: Ear, news: News) -> None:
        """Whatever no dialogue labels: one line for each chunk, its role unknown to us, hence never a whole PDU."""
        for _, end, _, chunk in ear.heard:
            start = max(chunk.offset, ear.labelled)
            if start >= end:
                continue
            number, ident = ear.following()
            data = chunk.data[start - chunk.offset :]
            pdu, spans = Pdu("unknown", f"{ear.side.value}{ident}"), (Span(0, len(data), Role.PCI, "raw"),)
            line = Line(self.ident, ear.side, number, start, data, pdu, spans, (NOT_UNDERSTOOD,), False)
            news.lines.append(self._placed(line))
        ear.heard.clear()

    def _settled(self, ear: Ear) -> int:
        return ear.labelled if self._dialogue is None else self._dialogue.settled(ear.side)

    def _placed(self, line: Line) -> Line:
        """The line with its frames, time and order. Called for each line of a capture."""
        start = line[3]
        ear = self._ears[0 if line[1] is _CLIENT else 1]
        end = start + len(line[4])
        if end > ear.labelled:  # else it is a line that came before, with a flag more
            ear.labelled, ear.number, ear.pdu = end, line[2], line[5]
        heard = ear.heard
        if not heard:
            return line
        index = 0 if heard[0][1] > start else bisect_right(heard, start, key=_offset) - 1
        offset, stop, order, chunk = heard[index]
        frames = (chunk[3],) if end <= stop else self._frames(heard, index, end)
        return _line(Line, (*line[:10], frames, chunk[4], order + start - offset))

    def _brought(self, note: Note) -> int:
        """The frame that brought the octet that a note is about; 0 when that is not known any more."""
        heard = self._ear(note.side).heard if note.side is not None and note.offset >= 0 else []
        index = bisect_right(heard, note.offset, key=_offset) - 1
        return heard[index].chunk.frame if index >= 0 and note.offset < heard[index].end else 0

    @staticmethod
    def _frames(heard: list[Heard], index: int, end: int) -> tuple[int, ...]:
        """The frames that brought the octets from an entry of ``heard`` on up to ``end``."""
        frames: tuple[int, ...] = (heard[index].chunk.frame,)
        while heard[index].end < end and index + 1 < len(heard):
            index += 1
            number = heard[index].chunk.frame
            if number != frames[-1]:
                frames += (number,)
        return frames

    def _place_run(self, run: Run, news: News) -> None:
        """The run with its frame, time and order; a line that begins in one chunk and ends in another is one by itself.

        Called for each segment of mail data.
        """
        conversation, side, number, start, data, pdu, flags, count, *_ = run
        ear = self._ears[0 if side is _CLIENT else 1]
        end = start + len(data)
        ear.labelled, ear.number, ear.pdu = end, number + count - 1, pdu
        heard = ear.heard
        index = 0 if heard[0][1] > start else bisect_right(heard, start, key=_offset) - 1
        while True:
            offset, stop, order, chunk = heard[index]
            if end <= stop:
                place = order + start - offset
                news.runs.append(
                    _run(
                        Run, (conversation, side, number, start, data, pdu, flags, count, (chunk[3],), chunk[4], place)
                    )
                )
                return
            whole = data.rfind(b"\n", 0, stop - start) + 1
            if whole:  # the lines in front of the one that goes on in the next chunk
                lines = data.count(b"\n", 0, whole)
                front = data[:whole]
                place = order + start - offset
                news.runs.append(
                    _run(
                        Run, (conversation, side, number, start, front, pdu, flags, lines, (chunk[3],), chunk[4], place)
                    )
                )
                number, count, start, data = number + lines, count - lines, start + whole, data[whole:]
            if start < stop:
                size = data.index(b"\n") + 1
                place = order + start - offset
                frames = self._frames(heard, index, start + size)
                news.runs.append(
                    _run(Run, (conversation, side, number, start, data[:size], pdu, flags, 1, frames, chunk[4], place))
                )
                number, count, start, data = number + 1, count - 1, start + size, data[size:]
            if not count:
                return
            while heard[index].end <= start:
                index += 1


_CLIENT = Side.CLIENT
# What all finished conversations share; nothing is added to them, for nothing is heard any more.
_SILENT = Ear(Side.CLIENT), Ear(Side.SERVER)
_NOTHING: list[Any] = []
_offset = itemgetter(0)  # of what was heard
_end = itemgetter(1)
_order = attrgetter("order")
_line = _run = _heard = tuple.__new__  # twice as fast as Line(…), which checks nothing either
