"""The first pass over a capture: for each conversation its facts, and no lines.

Claim: the facts are those that the analyzer's lines come to, for every capture whatever. A `Survey` *is* an analyzer:
who talks to whom, what stands in order, what is missing and when a conversation is over is decided by the same code.
What it saves is the dialogue. A conversation that opens with a SYN is kept as octets until it ends; then most are read
at a glance (`capture.glance`), and only those that are not quite plain are gone through line by line.

* What is kept is bounded. A conversation of more than `KEPT` octets goes through its dialogue from then on as its
  octets come. When all together pass `KEPT_IN_ALL`, those that a RST ended are closed without `LINGER`, and if that is
  not enough, those that keep most go through their dialogues too.
* A conversation nobody understands needs no lines: its octets are counted and digested, and that is all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from operator import itemgetter

from capture.analyzer import Analyzer
from capture.facts import Count, Facts
from capture.glance import glance
from capture.model import Chunk, Conversation, Frame, Gap, Line, Note, Run, Segment, Side, Update
from capture.protocols.opaque import OpaqueDialogue, TlsDialogue
from capture.stream import Item
from capture.talk import News, Talk

OPENING = 64  # octets that tell mail from what is none
KEPT = 256 << 10  # octets kept of one conversation; most mail is smaller, and what is larger gains little
KEPT_IN_ALL = 48 << 20  # octets kept of all: what a gigabit of mail brings in half a second
_CLIENT = Side.CLIENT
_order = itemgetter(-1)  # `order` is the last of a row's values

_GREETINGS = (b"220", b"421", b"554", b"+OK", b"-ER", b"* ")
_ASKED = (b"EHLO", b"HELO", b"LHLO", b"MAIL", b"ehlo", b"helo", b"USER", b"CAPA", b"AUTH", b"APOP")

Kept = tuple[Side, list[bytes]] | Gap  # a run of one side: the octets of each of its segments


class Flow(Talk):
    """A conversation of a survey.

    kept: what was said, in order of cause: runs of one side (side, [octets of each segment]) and gaps; None: it goes
    through its dialogue as it comes. weight: octets kept; limit: of the weight, until it is looked at again.
    """

    __slots__ = ("_count", "_digests", "_gaps", "_news", "_sizes", "_store", "_understood", "kept", "limit", "noted",
                 "weight")  # fmt: skip

    def begin(self, store: Store) -> None:
        """Behind ``__init__``, which is `Talk`'s."""
        self._store = store
        self.noted: dict[str, int] = {}
        # Without a SYN, who is the client and where the stream begins may still change.
        self.kept: list[Kept] | None = None if self.midstream else []
        self.weight = 0
        self.limit = OPENING
        self._count = Count()
        self._news = News()
        self._understood = True  # its lines are worth looking at
        self._sizes = [0, 0]
        self._gaps: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        self._digests = hashlib.sha256(), hashlib.sha256()

    # --- what `Analyzer` asks of a talk -------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        return False

    def hear(self, chunk: Chunk, news: News) -> None:  # noqa: ARG002
        if self.kept is not None:
            self.keep(chunk[0], chunk[2])
        else:
            self._digest(chunk[0], chunk[2])
            self._live(chunk)

    def take(self, items: list[Item], news: News) -> None:
        for item in items:
            if isinstance(item, Chunk):
                self.hear(item, news)
            elif isinstance(item, Gap):
                self._gap(item)
            else:
                self.note(item)
        self.count_octets()

    def finish(self, news: News) -> None:
        stream = self.stream
        if stream is None:
            return
        self.take(stream.finish(), news)
        self.expects = (stream.expects(Side.CLIENT), stream.expects(Side.SERVER))
        self.conclude()

    def conclude(self) -> None:
        """Nothing more is said."""
        kept = self.kept
        if kept is not None:
            seen = glance(self.server.port, kept)
            if seen is None:
                self.release()
            else:
                self.protocol, self._count = "smtp", seen
                for item in kept:
                    assert not isinstance(item, Gap)
                    for octets in item[1]:
                        self._digest(item[0], octets)
                self.kept = None
                self._store.let_go(self)
                self._understood = False
        if self._understood:
            super().finish(self._news)
            self._read()
        self._store.unsettled.pop(self.ident, None)
        self.stream = None

    def row(self) -> Facts:
        """What is known of it, once it is over."""
        count, (client, server) = self._count, self._digests
        return Facts(
            self.ident,
            self.client,
            self.server,
            self.protocol,
            self.start,
            self.end,
            self.frames,
            (self._sizes[0], self._sizes[1]),
            (client.hexdigest(), server.hexdigest()),
            (tuple(self._gaps[0]), tuple(self._gaps[1])),
            count.commands,
            count.messages,
            tuple(count.mail_from),
            tuple(count.rcpt_to),
            count.last_reply,
            self.noted,
        )

    # --- keeping ------------------------------------------------------------------------------------------------

    def keep(self, side: Side, octets: bytes) -> None:
        """The next octets of a side."""
        kept = self.kept
        assert kept is not None
        last = kept[-1] if kept else None
        if last is not None and last[0] is side and not isinstance(last, Gap):
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
            self._store.flows[self.ident] = self
        else:
            self.release()

    def _promising(self) -> bool:
        """Whether it begins like mail. Only a saving depends on the answer."""
        first: dict[Side, bytes] = {}
        for item in self.kept or ():
            if not isinstance(item, Gap):
                first.setdefault(item[0], item[1][0])
        client, server = first.get(Side.CLIENT, b""), first.get(Side.SERVER, b"")
        return server.startswith(_GREETINGS) or client.startswith(_ASKED)

    def release(self) -> None:
        """What is kept goes through the dialogue, and so does all that follows."""
        kept, self.kept = self.kept or [], None
        self._store.let_go(self)
        self.weight = 0
        at = {Side.CLIENT: 0, Side.SERVER: 0}
        for item in kept:
            if isinstance(item, Gap):
                at[item.side] += item.length
                self._live(item)
                continue
            side, parts = item
            for octets in parts:
                self._digest(side, octets)
                self._live(Chunk(side, at[side], octets, 0, 0))
                at[side] += len(octets)

    # --- the dialogue -------------------------------------------------------------------------------------------

    def _live(self, item: Chunk | Gap) -> None:
        if not self._understood:
            return
        if isinstance(item, Chunk):
            super().hear(item, self._news)
            if self._news.unsettled:  # it waits for more of the kind
                self._store.unsettled[self.ident] = self
                return
        else:
            super().take([item], self._news)
        self.read()

    def read(self) -> None:
        """Have the dialogue say what it can say, and count it."""
        if not self._understood:
            return
        self.settle(self._news)
        self._read()
        if isinstance(self._dialogue, OpaqueDialogue | TlsDialogue):
            self._understood = False
            self._dialogue = None
            for ear in self._ears:
                ear.heard.clear()
            self._store.strange(self)

    def _read(self) -> None:
        """Count what the dialogue said."""
        news, count = self._news, self._count
        rows: list[Line | Run] = [*news.lines, *news.runs]
        if news.runs:
            rows.sort(key=_order)
        for row in rows:
            if isinstance(row, Run):
                count.run(row)
            else:
                count.line(row)
        for note in news.notes:
            self.note(note)
        for table in (news.lines, news.runs, news.gaps, news.notes, news.talks, news.unsettled):
            table.clear()

    # --- the account --------------------------------------------------------------------------------------------

    def _digest(self, side: Side, octets: bytes) -> None:
        which = 0 if side is _CLIENT else 1
        self._digests[which].update(octets)
        self._sizes[which] += len(octets)

    def _gap(self, gap: Gap) -> None:
        gaps = self._gaps[0 if gap.side is _CLIENT else 1]
        if gaps and sum(gaps[-1]) == gap.offset:
            gaps[-1] = gaps[-1][0], gaps[-1][1] + gap.length
        else:
            gaps.append((gap.offset, gap.length))
        if self.kept is not None:
            self.kept.append(gap)
        else:
            self._live(gap)

    def note(self, note: Note) -> None:
        self.noted[note.kind] = self.noted.get(note.kind, 0) + 1


class Store:
    """How much all flows keep together. unsettled: flows whose dialogues were not given all yet."""

    def __init__(self) -> None:
        self.flows: dict[int, Flow] = {}
        self.unsettled: dict[int, Flow] = {}
        self.strangers: list[Flow] = []  # of which it was just found out that nobody understands them
        self._heard = 0  # octets since the weights were added up; at least as many as were kept

    def grown(self, octets: int) -> bool:
        """So much more of the capture was read: is more kept than may be?"""
        self._heard += octets
        if self._heard <= KEPT_IN_ALL:
            return False
        self._heard = sum(flow.weight for flow in self.flows.values())
        return self._heard > KEPT_IN_ALL

    def strange(self, flow: Flow) -> None:
        """Nobody understands it."""
        self.strangers.append(flow)

    def settle(self) -> None:
        """All that was heard is counted."""
        while self.unsettled:
            self.unsettled.popitem()[1].read()

    def let_go(self, flow: Flow) -> None:
        """It keeps nothing any more."""
        self.flows.pop(flow.ident, None)


class Survey(Analyzer):
    """Feed it a capture's frames (`feed`, `feed_all`, `finish`), then ask for `rows`."""

    _talk_type = Flow

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict, runs=True)
        self._store = Store()
        self._flows: dict[int, Flow] = {}

    def rows(self) -> Iterator[Facts]:
        """The facts of every conversation, in order of first sight. After `finish`."""
        for ident in sorted(self._flows):
            yield self._flows[ident].row()

    def feed_all(self, frames: Iterable[Frame]) -> Update:
        update = self._noted(super().feed_all(frames))
        self._settle(0)
        return update

    def elapse(self, time: int) -> Update:
        return self._noted(super().elapse(time))

    def finish(self) -> Update:
        return self._noted(super().finish())

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
        store.strangers.clear()
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

    def _begin(self, segment: Segment, news: News, facts: list[Conversation]) -> Talk:
        talk = super()._begin(segment, news, facts)
        assert isinstance(talk, Flow)
        talk.begin(self._store)
        self._flows[talk.ident] = talk
        return talk
