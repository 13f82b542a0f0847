"""The first pass over a capture: for each conversation its facts, and no lines.

Claim: the facts are those that the analyzer's lines come to, for every capture whatever. A `Survey` *is* an analyzer:
who talks to whom, what stands in order, what is missing and when a conversation is over is decided by the same code.
What it saves is the dialogue. A conversation that opens with a SYN is kept as octets until it ends; then most are read
at a glance (`capture.glance`), and only those that are not quite plain are gone through line by line.

* What is kept is bounded. A conversation of more than `KEPT` octets goes through its dialogue from then on as its
  octets come. When all together pass `KEPT_IN_ALL`, those that a RST ended are closed without `LINGER`, and if that is
  not enough, those that keep most go through their dialogues too.
* A conversation nobody understands needs no lines: its octets are counted and digested, and that is all.
* A closed conversation is a row as soon as no late segment can be counted to it any more, and is forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from operator import itemgetter

from capture import analyzer
from capture.analyzer import Analyzer
from capture.facts import Count, Facts, Sum
from capture.glance import glance
from capture.model import Chunk, Conversation, Frame, Gap, Line, Note, Run, Segment, Side, Update
from capture.protocols.opaque import OpaqueDialogue, TlsDialogue
from capture.stream import Item
from capture.talk import News, Talk

OPENING = 64  # octets that tell mail from what is none
KEPT = 256 << 10  # octets kept of one conversation; most mail is smaller, and what is larger gains little
KEPT_IN_ALL = 16 << 20  # octets kept of all: what a gigabit of mail brings in an eighth of a second

_CLIENT = Side.CLIENT
_order = itemgetter(-1)  # `order` is the last of a row's values
_GREETINGS = (b"220", b"421", b"554", b"+OK", b"-ER", b"* ")
_ASKED = (b"EHLO", b"HELO", b"LHLO", b"MAIL", b"ehlo", b"helo", b"USER", b"CAPA", b"AUTH", b"APOP")

Kept = tuple[Side, list[bytes]] | Gap  # a run of one side: the octets of each of its segments
Gaps = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
_NO_GAPS: Gaps = ((), ())


class Account:
    """What the octets of both sides come to, client first."""

    __slots__ = ("digests", "gaps", "sizes")

    def __init__(self) -> None:
        self.digests = hashlib.sha256(), hashlib.sha256()
        self.sizes = [0, 0]
        self.gaps: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])

    def octets(self, side: Side, octets: bytes) -> None:
        which = 0 if side is _CLIENT else 1
        self.digests[which].update(octets)
        self.sizes[which] += len(octets)

    def gap(self, gap: Gap) -> None:
        gaps = self.gaps[0 if gap.side is _CLIENT else 1]
        if gaps and sum(gaps[-1]) == gap.offset:
            gaps[-1] = gaps[-1][0], gaps[-1][1] + gap.length
        else:
            gaps.append((gap.offset, gap.length))


class Work:
    """What a conversation needs while it goes through its dialogue. understood: its lines are worth looking at."""

    __slots__ = ("account", "count", "news", "understood")

    def __init__(self) -> None:
        self.account = Account()
        self.count = Count()
        self.news = News()
        self.understood = True

    def read(self) -> list[Note]:
        """Count what the dialogue said. Returns its notes."""
        news, count = self.news, self.count
        rows: list[Line | Run] = [*news.lines, *news.runs]
        if news.runs:
            rows.sort(key=_order)
        for row in rows:
            if isinstance(row, Run):
                count.run(row)
            else:
                count.line(row)
        notes = news.notes[:]
        for table in (news.lines, news.runs, news.gaps, news.notes, news.talks, news.unsettled):
            table.clear()
        return notes


class Flow(Talk):
    """A conversation of a survey.

    kept: what was said, in order of cause: runs of one side and gaps; None: it goes through its dialogue as it comes,
    or is over. weight: octets kept; limit: of the weight, until it is looked at again. noted: how many of each kind.
    """

    __slots__ = ("_sizes", "_sum", "_sums", "_told_gaps", "_work", "kept", "limit", "noted", "store", "weight")

    def begin(self, store: Store) -> None:
        """Behind ``__init__``, which is `Talk`'s."""
        self.store = store
        self.noted: dict[str, int] | None = None
        # Without a SYN, who is the client and where the stream begins may still change.
        self.kept: list[Kept] | None = None if self.midstream else []
        self.weight = 0
        self.limit = OPENING
        self._work: Work | None = None
        # Once it is over:
        self._sum: Sum | None = None
        self._sizes = (0, 0)
        self._sums = (b"", b"")
        self._told_gaps = _NO_GAPS

    # --- what `Analyzer` asks of a talk -------------------------------------------------------------------------

    def hear(self, chunk: Chunk, news: News) -> None:  # noqa: ARG002
        if self.kept is not None:
            self.keep(chunk[0], chunk[2])
        else:
            self._live(chunk)

    def take(self, items: list[Item], news: News) -> None:
        for item in items:
            if isinstance(item, Chunk):
                self.hear(item, news)
            elif isinstance(item, Note):
                self.note(item)
            elif self.kept is not None:
                self.kept.append(item)
            else:
                self._live(item)
        self.count_octets()

    def finish(self, news: News) -> None:
        stream = self.stream
        if stream is None:
            return
        self.take(stream.finish(), news)
        self.expects = (stream.expects(Side.CLIENT), stream.expects(Side.SERVER))
        self.conclude()

    # --- keeping ------------------------------------------------------------------------------------------------

    def keep(self, side: Side, octets: bytes) -> None:
        """The next octets of a side."""
        kept = self.kept
        assert kept is not None
        last = kept[-1] if kept else None
        if last is not None and not isinstance(last, Gap) and last[0] is side:
            last[1].append(octets)
        else:
            kept.append((side, [octets]))
        self.weight += len(octets)
        if self.weight > self.limit:
            self.weigh()

    def weigh(self) -> None:
        """As much is kept as may be: is it worth keeping more?"""
        if self.limit == OPENING and self.weight <= KEPT and self._promising():
            self.limit = KEPT
            self.store.flows[self.ident] = self
        else:
            self.release()

    def _promising(self) -> bool:
        """Whether it begins like mail. Only a saving depends on the answer."""
        for item in (self.kept or ())[:2]:
            if not isinstance(item, Gap) and item[1][0].startswith(_ASKED if item[0] is _CLIENT else _GREETINGS):
                return True
        return False

    def release(self) -> None:
        """What is kept goes through the dialogue, and so does all that follows."""
        kept, self.kept = self.kept or [], None
        self.store.flows.pop(self.ident, None)
        self.weight = 0
        at = {Side.CLIENT: 0, Side.SERVER: 0}
        for item in kept:
            if isinstance(item, Gap):
                at[item.side] += item.length
                self._live(item)
                continue
            side, parts = item
            for octets in parts:
                self._live(Chunk(side, at[side], octets, 0, 0))
                at[side] += len(octets)

    # --- the dialogue -------------------------------------------------------------------------------------------

    def _live(self, item: Chunk | Gap) -> None:
        work = self._work
        if work is None:
            work = self._work = Work()
        if isinstance(item, Chunk):
            work.account.octets(item[0], item[2])
            if not work.understood:
                return
            super().hear(item, work.news)
            if work.news.unsettled:  # it waits for more of the kind
                self.store.unsettled[self.ident] = self
                return
        else:
            work.account.gap(item)
            if not work.understood:
                return
            super().take([item], work.news)
        self.read()

    def read(self) -> None:
        """Have the dialogue say what it can say, and count it."""
        work = self._work
        if work is None or not work.understood:
            return
        self.settle(work.news)
        for note in work.read():
            self.note(note)
        if isinstance(self._dialogue, OpaqueDialogue | TlsDialogue):
            work.understood = False
            self._dialogue = None
            for ear in self._ears:
                ear.heard.clear()
            self._introduce()

    def _introduce(self) -> None:
        """It is no mail."""
        if self.server.port not in analyzer.MAIL_PORTS:
            self.store.strangers.append(self)

    # --- the end ------------------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Nothing more is said."""
        kept = self.kept
        if kept is not None:
            self._sum = glance(self.server.port, kept)
            if self._sum is None:
                self.release()
            else:
                self.protocol = "smtp"
                runs = [item for item in kept if not isinstance(item, Gap)]  # none is one
                sides = [b"".join([part for who, parts in runs if who is side for part in parts]) for side in Side]
                self._sizes = len(sides[0]), len(sides[1])
                self._sums = hashlib.sha256(sides[0]).digest(), hashlib.sha256(sides[1]).digest()
                self.kept = None
                self.store.flows.pop(self.ident, None)
        work = self._work
        if self._sum is None:
            work = work or Work()
            if work.understood:
                super().finish(work.news)
                for note in work.read():
                    self.note(note)
                if self.protocol in ("", "opaque", "tls"):
                    self._introduce()
            self.store.unsettled.pop(self.ident, None)
            account, self._sum = work.account, work.count.sum()
            self._sizes = account.sizes[0], account.sizes[1]
            self._sums = account.digests[0].digest(), account.digests[1].digest()
            if account.gaps[0] or account.gaps[1]:
                self._told_gaps = tuple(account.gaps[0]), tuple(account.gaps[1])
            self._work = None
        self.stream = None

    def note(self, note: Note) -> None:
        if self.noted is None:
            self.noted = {}
        self.noted[note.kind] = self.noted.get(note.kind, 0) + 1

    def row(self) -> Facts:
        """What is known of it, once it is over."""
        assert self._sum is not None
        return Facts(
            self.ident,
            self.client,
            self.server,
            self.protocol,
            self.start,
            self.end,
            self.frames,
            self._sizes,
            (self._sums[0].hex(), self._sums[1].hex()),
            self._told_gaps,
            *self._sum,
            self.noted or {},
        )


class Store:
    """What all flows have together.

    flows: those that keep much; unsettled: whose dialogues were not given all yet; strangers: of which it was just
    found out that nobody understands them.
    """

    def __init__(self) -> None:
        self.flows: dict[int, Flow] = {}
        self.unsettled: dict[int, Flow] = {}
        self.strangers: list[Flow] = []
        self._heard = 0  # octets since the weights were added up; at least as many as were kept

    def grown(self, octets: int) -> bool:
        """So much more of the capture was read: is more kept than may be?"""
        self._heard += octets
        if self._heard <= KEPT_IN_ALL:
            return False
        self._heard = sum(flow.weight for flow in self.flows.values())
        return self._heard > KEPT_IN_ALL

    def settle(self) -> None:
        """All that was heard is counted."""
        while self.unsettled:
            self.unsettled.popitem()[1].read()


class Survey(Analyzer):
    """Feed it a capture's frames (`feed`, `feed_all`, `finish`), and take its `rows`, in between or at the end."""

    _talk_type = Flow

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict, runs=True)
        self._store = Store()
        self._flows: dict[int, Flow] = {}
        self._final: dict[int, Facts] = {}  # rows that nothing can change any more
        self._next = 1  # the row that is given next
        self._finished = False

    def rows(self) -> Iterator[Facts]:
        """The facts of conversations, in order of first sight: of those that nothing can change any more, up to the
        first that something can. After `finish` of all that were not given yet."""
        while self._next <= self._count:
            row = self._final.pop(self._next, None)
            if row is None and self._next in self._flows:
                if not self._finished:
                    return
                row = self._flows.pop(self._next).row()
            self._next += 1
            if row is not None:
                yield row

    def feed_all(self, frames: Iterable[Frame]) -> Update:
        update = self._noted(super().feed_all(frames))
        self._settle(0)
        return update

    def elapse(self, time: int) -> Update:
        return self._noted(super().elapse(time))

    def finish(self) -> Update:
        update = self._noted(super().finish())
        self._finished = True
        return update

    def _noted(self, update: Update) -> Update:
        """Notes on a conversation that its own stream and dialogue did not make."""
        for note in update.notes:
            if note.conversation:
                self._flows[note.conversation].note(note)
        return update

    def _settle(self, octets: int) -> None:
        """So much more of the capture was read: what waits is counted, and what is kept stays bounded."""
        store = self._store
        store.settle()
        strangers, store.strangers = store.strangers, []
        self._meet(strangers)
        if not store.grown(octets):
            return
        for flow in list(store.flows.values()):
            if flow.reset:
                self._close(flow, News(), [])
        heaviest = sorted(store.flows.values(), key=lambda flow: -flow.weight)
        left = sum(flow.weight for flow in heaviest)
        for flow in heaviest:
            if left <= KEPT_IN_ALL // 2:
                break
            left -= flow.weight
            flow.release()

    def _meet(self, strangers: list[Flow]) -> None:
        """Nobody understands what these say."""

    def _begin(self, segment: Segment, news: News, facts: list[Conversation]) -> Talk:
        flow = super()._begin(segment, news, facts)
        assert isinstance(flow, Flow)
        flow.begin(self._store)
        self._flows[flow.ident] = flow
        return flow

    def _close(self, talk: Talk, news: News, facts: list[Conversation]) -> None:
        oldest = self._remembered[0] if len(self._remembered) >= analyzer.REMEMBERED else None
        super()._close(talk, news, facts)
        # It is remembered no longer: a segment that comes now is of another conversation.
        if isinstance(oldest, Flow) and self._flows.pop(oldest.ident, None) is not None:
            self._final[oldest.ident] = oldest.row()
