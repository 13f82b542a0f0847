"""From frames to labelled lines: which conversation a segment belongs to, who opened it, and when it is over.

Claim: `feed` never raises, whatever the octets, and the lines are a function of the frames alone: the same frames, live
or from a file, give the same lines.

The rules:

* *One conversation* is one pair of endpoints in one scope (VLAN tags) from a SYN on. A SYN with another initial number
  on the same ports is a new one: ports are used again all the time. Late FINs and ACKs of an old one do not reopen it.
* *Who is the client*: the sender of the SYN. Without one, a well-known mail port is the server's; else who greets or
  replies like a server, or commands like a client, in the first octets; else the lower port is the server's.
* *The end*: both FINs acknowledged and nothing missing: at once. A RST: after `LINGER`, for a capture may hold the rest
  behind it. FINs with something missing: after `LINGER_FIN`, for it may be sent again. Then half lines come out.
* *Bounds*: at most `OPEN` conversations are open; beyond, those silent longest are finished, with a note. Closed ones
  are remembered (`REMEMBERED`) to know their late segments. What waits behind holes (`WAITING`), what is in no line yet
  (`OWED`) and what is kept to compare copies with (`HISTORIES`) is bounded over all conversations too: beyond, those
  that hold most go on without what they wait for, with a note. The bounds are passed at the same frame however frames
  come together.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain

from capture import exported
from capture.carrier import Carrier
from capture.decode import ORDINARY, PLAIN_IP, TCP, UNFRAGMENTED, decode, ordinary, take
from capture.fragments import Fragments
from capture.half import HISTORY, Half
from capture.links import KNOWN_LINKS
from capture.model import ACK, RST, SYN, Chunk, Conversation, Endpoint, Frame, Gap, Note, Segment, Side, Update
from capture.protocols import registry
from capture.protocols.dialogue import Dialogue
from capture.stream import Stream
from capture.talk import Chooser, News, Talk, Tally

LINGER = 1_000_000_000  # ns after a RST; longer than any reordering
LINGER_FIN = 60_000_000_000  # ns after two FINs with something missing: a host sends again for about so long (RFC 6298)
WAITING = 8 << 20  # octets that wait behind holes, of all conversations; one of them alone may have half of it
HISTORIES = 8 << 20  # delivered octets kept to compare with later copies, of all conversations; see `capture.half`
COPIES_BEHIND_RST = 1 << 10  # of those, of each side of a conversation that a RST ended
OWED = 8 << 20  # octets that are in no line yet, of all conversations; the dialogue bounds each (`LONGEST_WAIT`)
LOOK = 2 << 20  # delivered octets between two looks at how much is owed
STEP_BACK = 10_000_000_000  # ns, as in `capture.stream`
OPEN = 16_384  # conversations; a half-open one costs about 2.5 kB, one with octets in no line yet 8 kB
ALARMS = 1024  # besides four for each open conversation; beyond, those of finished ones are thrown out
REMEMBERED = 8192  # closed ones; their late segments come soon or never
MAIL_PORTS = frozenset({24, 25, 110, 143, 465, 587, 993, 995, 1025, 1110, 1143, 2525, 2526, 8025})

_Key = tuple[Endpoint, Endpoint, tuple[int, ...]]
_Route = tuple[Talk, Stream, Half, Half]  # whose segment it is; its stream; the half that sends, the half that hears
_NOTHING = Update()
_ports = struct.Struct(">HH").pack


class Analyzer:
    """Feed it frames, get `Update`s.

    strict: a defect in a dialogue is raised instead of noted (for tests); runs: plain lines of mail data come as
    `Update.runs` and not as lines.
    """

    _talk_type = Talk  # what a conversation is made of; `capture.survey` has its own

    def __init__(self, *, strict: bool = False, chooser: Chooser | None = None, runs: bool = False) -> None:
        self._strict = strict
        self._runs = runs
        self._chooser = chooser or choose
        self._tally = Tally()
        self._fragments = Fragments()
        self._parts: list[Segment] = []  # of a segment in fragments, behind the first
        self._apart = False  # there are such parts, or notes on fragments
        self._talks: dict[_Key, Talk] = {}  # both directions of each
        self._open: dict[int, Talk] = {}
        self._waiting: dict[int, Talk] = {}  # those that may have octets that are in no line yet
        self._routes: dict[bytes, _Route] = {}  # addresses and ports as they stand in a frame
        self._alarms: list[tuple[int, int, bool, Talk]] = []  # a heap: when, a number, close it or only look, which
        self._alarm_count = 0
        self._forgotten = 0  # how many octets were delivered when histories were last cut
        self._look = LOOK  # how many octets are delivered when it is looked at again how much is owed
        self._remembered: deque[Talk] = deque()
        self._late: dict[int, Talk] = {}
        self._strange: set[int] = set()  # links that were noted
        self._count = 0
        self._now = 0

    def feed(self, frame: Frame) -> Update:
        """What this frame makes known. Frames come in order of capture."""
        return self.feed_all((frame,))

    def feed_all(self, frames: Iterable[Frame]) -> Update:
        """What these frames make known, together: each conversation's newest facts, lines and gaps as if one by one.

        The loop that a whole capture goes through. A segment that is in order, in a conversation under way, takes the
        short way here; the long way is right for all and comes to the same.
        """
        news, facts = News(), list[Conversation]()
        route_of, alarms = self._routes.get, self._alarms
        for frame in frames:
            number, time, data, _, link, _ = frame
            if time > self._now or self._now - time > STEP_BACK:
                self._now = time
            if link == 1 and len(data) >= ORDINARY:
                kind, total, fragment, key, sequence, acknowledgement, words, flags = ordinary(data)
                route = route_of(key)
                if (
                    route is not None
                    and flags & 0x17 == ACK
                    and kind == PLAIN_IP
                    and fragment & UNFRAGMENTED == TCP
                    and (not alarms or alarms[0][0] > self._now)
                ):
                    at, end = 34 + (words >> 4 << 2), 14 + total
                    talk, stream, mine, other = route
                    if 54 <= at <= end <= len(data) and stream.follows(mine, other, sequence, acknowledgement, time):
                        talk.frames += 1
                        if time > talk.end:  # noqa: PLR1730
                            talk.end = time
                        if at < end:
                            self._waiting[talk.ident] = talk
                            try:
                                talk.hear(mine.deliver(data[at:end], number, time, at), news)
                                talk.octets = stream.octets
                                if self._tally.octets >= self._look:
                                    self._hurry(news, facts)
                            except Exception as error:
                                if self._strict:
                                    raise
                                self._defect(error, frame, news)
                        continue
            self._feed(frame, news, facts)
        return self._update(news, facts)

    def _defect(self, error: Exception, frame: Frame, news: News) -> None:
        """A defect of ours is shown, and must not end a live capture."""
        text = f"This frame's segment was lost by a defect: {type(error).__name__}: {error}."
        news.notes.append(Note("internal", text, frame.number))

    def _feed(self, frame: Frame, news: News, facts: list[Conversation]) -> None:
        segment = self._segment(frame)
        self._pass_time(frame.time, news, facts, segment)
        if segment is not None:
            try:
                self._observe(segment, news, facts)
                if self._apart:
                    self._rest(news, facts)
                if self._tally.octets >= self._look:
                    self._hurry(news, facts)
            except Exception as error:
                if self._strict:
                    raise
                self._defect(error, frame, news)
        elif self._apart:
            self._rest(news, facts)
        elif frame.link not in KNOWN_LINKS and frame.link not in self._strange:
            self._strange.add(frame.link)
            text = f"Link type {frame.link} is not one that wiretalk can take apart; its frames are passed over."
            news.notes.append(Note("unknown-link", text, frame.number))

    def elapse(self, time: int) -> Update:
        """No frame with an earlier time than ``time`` (ns) will come: holes and closings whose time is up.

        For a live view, so that a lost frame silences nothing. Frames come to us later than their time stamps say: give
        a time that lies that much in the past, and the lines are those that the recording will give.
        """
        news, facts = News(), list[Conversation]()
        self._pass_time(time, news, facts)
        return self._update(news, facts)

    def finish(self) -> Update:
        """No frame comes any more: what waited comes out, and the last word on every conversation still open."""
        updates = list(self.finishing())
        return Update(*(tuple(chain.from_iterable(parts)) for parts in zip(*map(_parts, updates), strict=True)))

    def finishing(self) -> Iterator[Update]:
        """As `finish`, conversation by conversation, so that not all that waited is in memory at once."""
        while self._open:
            news, facts = News(), list[Conversation]()
            talk = self._open.pop(next(iter(self._open)))
            talk.finish(news)
            talk.changed()
            facts.append(talk.facts())
            yield self._update(news, facts)
        news, facts = News(), [talk.facts() for talk in self._late.values()]
        self._fragments.finish()
        self._rest(news, facts)
        for table in (self._late, self._talks, self._waiting, self._routes):
            table.clear()
        self._alarms.clear()
        self._remembered.clear()
        yield self._update(news, facts)

    @property
    def horizon(self) -> int:
        """Every octet with a lower `Line.order` is in a line that was given out (`capture.record.Ordered`)."""
        return min(self.waiting.values(), default=self._tally.octets)

    @property
    def waiting(self) -> dict[int, int]:
        """The conversations with octets that are in no line yet, or in one that may still change: the first's order."""
        found = {ident: order for ident, talk in self._waiting.items() if (order := talk.pending) is not None}
        self._waiting = {ident: self._waiting[ident] for ident in found}
        return found

    @property
    def delivered(self) -> int:
        """The order that the next octet will have."""
        return self._tally.octets

    def _segment(self, frame: Frame) -> Segment | None:
        if frame.link == exported.LINKTYPE_UPPER_PDU:
            return self._recorded(frame)
        found = take(frame)
        if found is None or isinstance(found, Segment):
            return found
        return self._assembled(frame, found)

    def _assembled(self, frame: Frame, carrier: Carrier) -> Segment | None:
        """What a fragment completes: what the datagram's first one carried of the segment; the rest is in `_parts`."""
        whole = self._fragments.add(frame, carrier)
        self._apart = bool(self._fragments.notes)
        segment = None if whole is None else decode(whole.frame)
        if whole is None or segment is None:
            return None
        parts = whole.split(segment)
        if not parts:
            self._fragments.cut(frame)
            self._apart = True
            return None
        self._parts = parts[1:]
        self._apart = self._apart or bool(self._parts)
        return parts[0]

    def _rest(self, news: News, facts: list[Conversation]) -> None:
        """What fragments left besides the first part of a segment."""
        self._apart = False
        notes, parts = self._fragments.notes, self._parts
        self._fragments.notes, self._parts = [], []
        news.notes += notes
        for part in parts:
            self._observe(part, news, facts)

    def _recorded(self, frame: Frame) -> Segment | None:
        """Octets recorded at a socket have no numbers: they get those that come next, and never wait."""
        record = exported.unpack(frame)
        if record is None:
            return None
        ends = record.source, record.destination
        talk = self._talks.get((*ends, ()))
        if talk is None or talk.stream is None:
            return Segment(frame.number, frame.time, *ends, 0xFFFFFFFF, 0, SYN, 0, record.data, record.at)
        side = Side.CLIENT if talk.client == record.source else Side.SERVER
        number, answer = max(talk.stream.expects(side), 0), max(talk.stream.expects(side.other), 0)
        if not record.data:
            return Segment(frame.number, frame.time, *ends, number, answer, RST, 0, b"", record.at)
        if talk.stream.starts(side) is None:
            return Segment(frame.number, frame.time, *ends, 0xFFFFFFFF, 0, SYN | ACK, 0, record.data, record.at)
        return Segment(frame.number, frame.time, *ends, number, answer, ACK, 0, record.data, record.at)

    def _observe(self, segment: Segment, news: News, facts: list[Conversation]) -> None:
        if self._tally.waiting.octets > WAITING:
            self._relieve(news, facts)
        talk = self._talk(segment, news, facts)
        before = len(news)
        talk.feed(segment, news)
        stream = talk.stream
        if stream is None:
            self._late[talk.ident] = talk
            return
        if stream.ended and (not talk.closing or (stream.reset and not talk.reset)):
            talk.closed = talk.closing = True
            talk.reset = stream.reset
            if stream.reset:
                stream.forget(COPIES_BEHIND_RST)  # most conversations of mail that linger end so
            self._alarm(self._now + (LINGER if stream.reset else LINGER_FIN), talk, close=True)
        if stream.closed:
            self._close(talk, news, facts)
            return
        self._watch(talk)
        self._waiting[talk.ident] = talk
        if talk.changed() or len(news) != before:
            news.talks[talk.ident] = talk
        if self._ordinary(segment, talk):
            mine, other = stream.halves(talk.side(segment))
            self._routes[_route_key(segment.source, segment.destination)] = talk, stream, mine, other

    def _ordinary(self, segment: Segment, talk: Talk) -> bool:
        """Whether the next segment of this side may take the short way, if it stands in order."""
        return talk.oriented and not talk.closing and not segment.scope and len(segment.source.address) == 4

    def _reroute(self, talk: Talk) -> None:
        """Its segments go the long way, until one of them finds the short way again."""
        if not talk.scope:
            self._routes.pop(_route_key(talk.client, talk.server), None)
            self._routes.pop(_route_key(talk.server, talk.client), None)

    def _talk(self, segment: Segment, news: News, facts: list[Conversation]) -> Talk:
        """The conversation this segment belongs to, made if it is new."""
        talk = self._talks.get((segment.source, segment.destination, segment.scope))
        if talk is None:
            return self._begin(segment, news, facts)
        side = talk.side(segment)
        if talk.stream is None:
            return self._begin(segment, news, facts) if _beyond(segment, talk, side) else talk
        if segment.flags & SYN:
            opens = not segment.flags & ACK
            if (side is Side.CLIENT) != opens and not talk.stream.begun and talk.midstream:
                talk.turn()
                self._reroute(talk)
                side = side.other
            if not talk.stream.admits(side, segment.sequence):
                self._close(talk, news, facts)
                return self._begin(segment, news, facts)
            talk.midstream = False
            talk.oriented = True
        elif not talk.oriented and segment.payload:
            talk.oriented = True
            speaker = _speaker(segment.payload)
            if speaker is not None and speaker is not side:
                talk.turn()
        return talk

    def _begin(self, segment: Segment, news: News, facts: list[Conversation]) -> Talk:
        if len(self._open) >= OPEN:
            self._forget(news, facts)
        client, known = _client(segment)
        server = segment.destination if client == segment.source else segment.source
        self._count += 1
        talk = self._talk_type(
            self._count,
            client,
            server,
            segment.scope,
            segment.time,
            midstream=not segment.flags & SYN,
            oriented=known,
            tally=self._tally,
            chooser=self._chooser,
            strict=self._strict,
            in_runs=self._runs,
        )
        if not known and segment.payload:
            talk.oriented = True
            speaker = _speaker(segment.payload)
            if speaker is not None and speaker is not talk.side(segment):
                talk.turn()
        self._open[talk.ident] = talk
        self._talks[segment.source, segment.destination, segment.scope] = talk
        self._talks[segment.destination, segment.source, segment.scope] = talk
        return talk

    def _close(self, talk: Talk, news: News, facts: list[Conversation]) -> None:
        """The last lines of a conversation, and its facts; from now on it is only remembered."""
        talk.finish(news)
        talk.changed()
        facts.append(talk.facts())
        self._open.pop(talk.ident, None)
        self._waiting.pop(talk.ident, None)
        self._reroute(talk)
        self._remembered.append(talk)
        if len(self._remembered) > REMEMBERED:
            old = self._remembered.popleft()
            if self._late.pop(old.ident, None) is not None:
                facts.append(old.facts())
            for key in ((old.client, old.server, old.scope), (old.server, old.client, old.scope)):
                if self._talks.get(key) is old:
                    del self._talks[key]

    def _watch(self, talk: Talk) -> None:
        """Look at this conversation again when its patience ends, if it waits for that."""
        deadline = None if talk.stream is None else talk.stream.deadline
        if deadline is not None and (talk.alarm is None or deadline < talk.alarm):
            talk.alarm = deadline
            self._alarm(deadline, talk, close=False)

    def _update(self, news: News, facts: list[Conversation]) -> Update:
        for talk in news.unsettled.values():
            talk.settle(news)
            if talk.changed():
                news.talks[talk.ident] = talk
        if not (news or facts or news.talks):
            return _NOTHING
        # The newest facts of each conversation, once.
        newest = {fact.ident: fact for fact in facts}
        newest.update((ident, talk.facts()) for ident, talk in news.talks.items())
        return Update(tuple(newest.values()), tuple(news.lines), tuple(news.gaps), tuple(news.notes), tuple(news.runs))

    def _alarm(self, time: int, talk: Talk, *, close: bool) -> None:
        self._alarm_count += 1
        if len(self._alarms) > ALARMS + 4 * len(self._open):
            self._alarms[:] = [alarm for alarm in self._alarms if alarm[3].stream is not None]
            heapify(self._alarms)
        heappush(self._alarms, (time, self._alarm_count, close, talk))

    def _pass_time(self, time: int, news: News, facts: list[Conversation], segment: Segment | None = None) -> None:
        """Everything whose time is up by then, in order of time: a live view and a file come to the same.

        The conversation of the ``segment`` that tells the time is spared: this may be the one it waits for.
        """
        self._now = max(self._now, time)
        if not self._alarms or self._alarms[0][0] > self._now:
            return
        spared = None
        if segment is not None:
            spared = self._talks.get((segment.source, segment.destination, segment.scope))
        while self._alarms and self._alarms[0][0] <= self._now:
            due, _, close, talk = heappop(self._alarms)
            if talk.stream is None:
                continue
            if talk is spared and not close:
                talk.alarm = None  # its stream sees to it when it is fed
                continue
            if close:
                self._close(talk, news, facts)
                continue
            talk.alarm = None
            items = talk.stream.elapse(due)
            self._watch(talk)
            if items:
                talk.take(items, news)
                self._waiting[talk.ident] = talk
                talk.changed()
                facts.append(talk.facts())

    def _relieve(self, news: News, facts: list[Conversation]) -> None:
        """Too much waits behind holes: those conversations of which most waits are gone on with, until half is left."""
        streams = [(talk.stream, talk) for talk in self._open.values() if talk.stream is not None and talk.stream.held]
        for stream, talk in sorted(streams, key=lambda pair: -pair[0].held):
            if self._tally.waiting.octets <= WAITING // 2:
                return
            talk.take(stream.relieve(), news)
            self._waiting[talk.ident] = talk
            talk.changed()
            facts.append(talk.facts())

    def _hurry(self, news: News, facts: list[Conversation]) -> None:
        """Too many octets are in no line: conversations that owe most go on without an answer, until half is left."""
        self._look = self._tally.octets + LOOK
        if self._tally.octets - self._forgotten >= HISTORIES:
            self._forgotten = self._tally.octets
            share = HISTORIES // (2 * len(self._open) + 1)
            for talk in self._open.values() if share < HISTORY else ():
                if talk.stream is not None:
                    talk.stream.forget(share)
        for talk in news.unsettled.values():
            talk.settle(news)  # else what is owed would depend on how frames come together
        debts = [(owed, talk) for talk in self._waiting.values() if (owed := talk.owed)]
        total = sum(owed for owed, _ in debts)
        if total <= OWED:
            return
        for owed, talk in sorted(debts, key=lambda debt: (-debt[0], debt[1].ident)):
            if total <= OWED // 2:
                return
            talk.hurry(news)
            total -= owed
            if talk.owed > owed // 2:
                text = "Too many octets wait in too many conversations; this one is finished."
                news.notes.append(Note("conversation-limit", text, 0, talk.ident))
                self._close(talk, news, facts)
            else:
                news.talks[talk.ident] = talk

    def _forget(self, news: News, facts: list[Conversation]) -> None:
        """Too many are open: a quarter of them, silent longest, are finished."""
        for talk in sorted(self._open.values(), key=lambda t: t.end)[: max(1, len(self._open) // 4)]:
            text = f"More than {OPEN} conversations are open; this one was silent longest and is finished."
            news.notes.append(Note("conversation-limit", text, 0, talk.ident))
            self._close(talk, news, facts)


def _route_key(source: Endpoint, destination: Endpoint) -> bytes:
    return b"".join((source.address, destination.address, _ports(source.port, destination.port)))


def _parts(update: Update) -> tuple[tuple[object, ...], ...]:
    return update.conversations, update.lines, update.gaps, update.notes, update.runs


def _beyond(segment: Segment, talk: Talk, side: Side) -> bool:
    """Whether a segment on a finished conversation's ports begins another one: a SYN, or octets it never had."""
    if segment.flags & SYN:
        return True
    if not segment.payload:
        return False
    expected = talk.expects[0 if side is Side.CLIENT else 1]
    behind = (expected - (segment.sequence + len(segment.payload))) & 0xFFFFFFFF
    return expected < 0 or behind >= 1 << 31


def _client(segment: Segment) -> tuple[Endpoint, bool]:
    """Who opened the conversation, judging by its first segment, and whether that is certain."""
    source, destination = segment.source, segment.destination
    if segment.flags & SYN:
        return (destination if segment.flags & ACK else source), True
    mail = source.port in MAIL_PORTS, destination.port in MAIL_PORTS
    if mail[0] != mail[1]:
        return (destination if mail[0] else source), True
    return (destination if source.port < destination.port else source), False


def _speaker(octets: bytes) -> Side | None:
    """Who says such a thing: a server replies (RFC 5321 4.2, RFC 1939 3, RFC 3501 7), a client commands."""
    if octets.startswith((b"+OK", b"-ERR", b"* ", b"+ ")):
        return Side.SERVER
    if octets[:3].isdigit() and octets[3:4] in (b" ", b"-", b"\r"):
        return Side.SERVER
    word = octets.split(b"\r", 1)[0].split(b" ", 1)[0].upper()
    return Side.CLIENT if word in _COMMANDS else None


_COMMANDS = frozenset(
    b"HELO EHLO LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP AUTH STARTTLS TURN ETRN "
    b"USER PASS APOP STAT LIST RETR DELE TOP UIDL CAPA STLS".split()
)


def choose(facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> Dialogue | None:
    """The dialogue for what was said first (`capture.protocols.registry`), None while that does not tell."""
    first: dict[Side, bytes] = {}
    broken: set[Side] = set()
    for item in opening:
        if isinstance(item, Gap):
            broken.add(item.side)  # what follows is not how this side began
        elif item.side not in broken:
            first[item.side] = first.get(item.side, b"") + item.data
    midstream = facts.midstream or bool(broken)
    protocol = registry.choose(facts.server.port, first, midstream=midstream, final=final)
    return None if protocol is None else registry.make(protocol, facts.ident, facts.midstream)
