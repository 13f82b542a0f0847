"""The first pass, straight from the records of a file: what most frames of most captures need, and not a step more.

Claim: a `Front` is a `Survey` that comes to the same rows. `walk` takes the whole records of a gulp of a classic pcap
file of Ethernet frames; a frame that is Ethernet, IPv4 without options and TCP, in a `Swift` conversation, is told by
two unpackings; every other one becomes a `Frame` and goes the long way, which is right for all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from capture import exported
from capture.analyzer import LINGER, LINGER_FIN, STEP_BACK, Analyzer
from capture.decode import decode
from capture.half import MASK
from capture.model import ACK, FIN, RST, SYN, Conversation, Endpoint, Frame, Note, Segment, Side, Update
from capture.survey import Flow, Store, Survey
from capture.swift import BEHIND, Swift, Way
from capture.talk import News, Talk

PASSED = 1 << 16  # conversations that are passed over and remembered, for they may go on; each costs 350 octets
RECORD = 16  # octets of a record header
_ORDINARY = 54  # octets of a frame whose headers have no options
_NEEDED = RECORD + _ORDINARY
_NEVER = 1 << 80  # ns
STRANGERS = 256  # conversations that are no mail and are followed all the same: all there are in most captures of mail

# Ports of other protocols, of which much is captured (IANA service names). Mail that is spoken there is found among the
# first `STRANGERS`.
FOREIGN_PORTS = frozenset(
    {22, 53, 80, 139, 179, 389, 443, 445, 636, 853, 1433, 1521, 3306, 3389, 5432, 6379, 8080, 8443}
)

# Type and first octet of the packet, total length, fragment field, protocol; sequence and acknowledgement, data offset.
_body = struct.Struct(">12x3sxH2xHxB14xIIB").unpack_from
_IPV4 = b"\x08\x00\x45"  # IPv4 without options
_ports = struct.Struct(">HH").unpack_from
_pack_ports = struct.Struct(">HH").pack


def _route_key(source: Endpoint, destination: Endpoint) -> bytes:
    return b"".join((source.address, destination.address, _pack_ports(source.port, destination.port)))


class Shape(NamedTuple):
    """How a pcap file's records are to be read: byte order, ``<`` or ``>``; ns of a unit of the fraction."""

    order: str
    unit: int


_PASSED = Way(Side.CLIENT, b"")  # of conversations that are passed over
_PASSED.flow = Swift(0, Endpoint(b"", 0), Endpoint(b"", 0), (), 0, midstream=False, oriented=True)
_PASSED.flow.begin(Store())


class Front(Survey):
    """As `Survey`; and `walk` for gulps of a file. Frames and gulps may come in any mixture.

    strangers: how many conversations that are no mail are followed; None: all. Those beyond are numbered and counted
    (`passed`), and have no row; so are, from then on, those on `FOREIGN_PORTS`, whatever is said there.
    """

    _talk_type = Swift

    def __init__(self, *, strict: bool = False, strangers: int | None = None) -> None:
        super().__init__(strict=strict)
        self._ways: dict[bytes, Way] = {}  # addresses and ports as they stand in a frame
        self._strangers = strangers
        self._numbers: dict[bytes, int] = {}  # of those that are passed over: the SYN's
        self.passed = 0

    def walk(self, data: bytes, at: int, number: int, shape: Shape) -> tuple[int, int]:
        """Take the whole records of ``data`` from ``at`` on, the first numbered ``number``.

        Returns where the first record begins that is not here whole, or is not to be believed, and its number. The last
        `_NEEDED` octets are left too, whatever they are.
        """
        order, unit = shape
        head = struct.Struct(order + "IIII26x12s9xB").unpack_from
        skim, clock = struct.Struct(order + "8xI30x12s9xB").unpack_from, struct.Struct(order + "II").unpack_from
        body, get, size, passed = _body, self._ways.get, len(data), _PASSED
        now, alarms = self._now, self._alarms
        alarm = alarms[0][0] if alarms else _NEVER
        last, begun = size - _NEEDED, at
        while at <= last:
            seconds, fraction, captured, length, key, flags = head(data, at)
            end = at + 16 + captured
            if end > size:
                break
            way = get(key)
            if way is passed and flags & 0x17 != 0x02:
                # The more of a capture is no mail, the longer it stays in here.
                while True:
                    skipped, at = at, end
                    number += 1
                    if at > last:
                        break
                    captured, key, flags = skim(data, at)
                    end = at + 16 + captured
                    if end > size or get(key) is not passed or flags & 0x17 == 0x02:
                        break
                # The time that passed meanwhile is that of the last of them.
                seconds, fraction = clock(data, skipped)
                time = seconds * 1_000_000_000 + fraction * unit
                if time > now:
                    now = time
                elif now - time > STEP_BACK:
                    now = time
                    self._clock_set_back()
                if alarm <= now:
                    self._time_passed(now)
                    alarm = alarms[0][0] if alarms else _NEVER
                continue
            if captured > length:
                break
            start = at + 16
            time = seconds * 1_000_000_000 + fraction * unit
            if time > now:
                now = time
            elif now - time > STEP_BACK:
                now = time
                self._clock_set_back()
                way = None
            if alarm <= now and way is not None and way.flow.ways is not None:
                # Whose time is up is none of these, or is to be closed: nobody is spared (`Analyzer._pass_time`).
                self._time_passed(now)
                alarm = alarms[0][0] if alarms else _NEVER
                way = get(key)
            if way is not None and captured >= _ORDINARY:
                kind, total, fragment, protocol, sequence, acknowledgement, words = body(data, start)
                a, b = start + 34 + (words >> 4 << 2), start + 14 + total
                plain = kind == _IPV4 and protocol == 6 and not fragment & 0x3FFF
                if plain and start + _ORDINARY <= a <= b <= end:
                    if sequence == way.expected and flags & 0x17 == 0x10:
                        theirs = way.other.expected
                        if acknowledgement == theirs or (
                            (theirs - acknowledgement) & 0xFFFFFFFF <= BEHIND and theirs >= 0
                        ):
                            flow = way.flow
                            flow.frames += 1
                            if time > flow.end:  # noqa: PLR1730
                                flow.end = time
                            if a < b:
                                if flow.voice is way:
                                    way.parts.append(data[a:b])
                                else:
                                    flow.voice = way
                                    way.parts = parts = [data[a:b]]
                                    flow.said.append((way.side, parts))
                                way.expected = (sequence + b - a) & 0xFFFFFFFF
                                flow.weight += b - a
                                if flow.weight > flow.limit:
                                    flow.weigh()
                            at = end
                            number += 1
                            continue
                    flow = way.flow
                    if flow.ways is not None and flow.follow(way, sequence, acknowledgement, flags, data[a:b], time):
                        if flow.ways is not None and (flags & (FIN | RST) or way.other.fin):
                            self._now = now
                            self._ending(flow)
                            alarm = alarms[0][0] if alarms else _NEVER
                        at = end
                        number += 1
                        continue
            self._now = now
            self._one(Frame(number, time, data[start:end], length))
            alarm = alarms[0][0] if alarms else _NEVER
            at = end
            number += 1
        self._now = now
        self._settle(at - begun)
        return at, number

    def _time_passed(self, time: int) -> None:
        news, facts = News(), list[Conversation]()
        self._pass_time(time, news, facts)
        if news or facts or news.talks:
            self._noted(self._update(news, facts))

    def _clock_set_back(self) -> None:
        """Every stream must be told: it counts its patience anew."""
        for talk in self._open.values():
            if isinstance(talk, Swift) and talk.ways is not None:
                self._leave(talk)
                talk.wake()

    def _ending(self, flow: Swift) -> None:
        """A FIN or a RST was seen, or something behind one: as `Analyzer._observe`."""
        ways = flow.ways
        assert ways is not None
        if flow.broken or (ways[0].fin and ways[1].fin):
            if not flow.closing or (flow.broken and not flow.reset):
                flow.closed = flow.closing = True
                flow.reset = flow.broken
                self._alarm(self._now + (LINGER if flow.broken else LINGER_FIN), flow, close=True)
            if ways[0].fin_acked and ways[1].fin_acked:
                self._close(flow, News(), [])

    def feed_all(self, frames: Iterable[Frame]) -> Update:
        """As `Survey.feed_all`; of what it returns, only the notes are whole."""
        notes: list[Note] = []
        octets = 0
        for frame in frames:
            octets += len(frame.data)
            if not self._follows(frame):
                notes += self._one(frame)
        self._settle(octets)
        return Update(notes=tuple(notes))

    def _follows(self, frame: Frame) -> bool:
        """Take a frame of a swift conversation, if it may follow there; as `walk` does."""
        _, time, data, _, link, _ = frame
        if link != 1 or len(data) < _ORDINARY:
            return False
        way = self._ways.get(data[26:38])
        if way is None or way.flow.ways is None:
            return False
        kind, total, fragment, protocol, sequence, acknowledgement, words = _body(data)
        a, b = 34 + (words >> 4 << 2), 14 + total
        if kind != _IPV4 or protocol != 6 or fragment & 0x3FFF or not _ORDINARY <= a <= b <= len(data):
            return False
        if time > self._now:
            self._now = time
        elif self._now - time > STEP_BACK:
            self._clock_set_back()
            return False
        if self._alarms and self._alarms[0][0] <= self._now:
            self._time_passed(self._now)
        flow, flags = way.flow, data[47]
        if flow.ways is None or not flow.follow(way, sequence, acknowledgement, flags, data[a:b], time):
            return False
        if flow.ways is not None and (flags & (FIN | RST) or way.other.fin):
            self._ending(flow)
        return True

    def _one(self, frame: Frame) -> tuple[Note, ...]:
        """A frame that is not as most are; the SYN that opens a conversation is the commonest."""
        data = frame.data
        if frame.link == 1 and len(data) >= _ORDINARY and data[47] & 0x17 == SYN and data[12:15] == _IPV4:
            _, total, fragment, protocol, sequence, _, words = _body(data)
            alone = 34 + (words >> 4 << 2) == 14 + total <= len(data)  # no octets come with it
            if alone and protocol == 6 and not fragment & 0x3FFF and self._opens(frame, sequence):
                return ()
        return self._noted(Analyzer.feed_all(self, (frame,))).notes

    def _opens(self, frame: Frame, sequence: int) -> bool:
        """Take a SYN that opens a conversation on ports where none is open."""
        data = frame.data
        sport, dport = _ports(data, 34)
        source, destination = Endpoint(data[26:30], sport), Endpoint(data[30:34], dport)
        keys = data[26:38], data[30:34] + data[26:30] + data[36:38] + data[34:36]
        if self._ways.get(keys[0]) is _PASSED:
            if self._numbers.get(keys[0]) == sequence:
                return True  # sent again
            self._forget_passed(keys)
        talk = self._talks.get((source, destination, ()))
        if talk is not None and talk.stream is not None:
            return False
        if self._strangers is not None and dport in FOREIGN_PORTS:
            if self._strangers <= 0:
                self._count += 1
                self._pass_over(keys, sequence)
                return True
            self._strangers -= 1
        news, facts = News(), list[Conversation]()
        self._pass_time(frame.time, news, facts)
        segment = Segment(frame.number, frame.time, source, destination, sequence, 0, SYN, 0, b"", len(data))
        flow = super()._begin(segment, news, facts)
        assert isinstance(flow, Swift)
        for way in flow.open(sequence, keys):
            self._ways[way.key] = way
        if news or facts or news.talks:
            self._noted(self._update(news, facts))
        return True

    # --- what is passed over ------------------------------------------------------------------------------------

    def _pass_over(self, keys: tuple[bytes, bytes], sequence: int) -> None:
        if len(self._numbers) >= PASSED:
            oldest = next(iter(self._numbers))
            self._forget_passed((oldest, oldest[4:8] + oldest[:4] + oldest[10:] + oldest[8:10]))
        self._numbers[keys[0]] = sequence
        for key in keys:
            self._ways[key] = _PASSED
        self.passed += 1

    def _forget_passed(self, keys: tuple[bytes, bytes]) -> None:
        for key in keys:
            self._ways.pop(key, None)
            self._numbers.pop(key, None)

    def _meet(self, strangers: list[Flow]) -> None:
        for flow in strangers:
            if self._strangers is None or flow.server.port in FOREIGN_PORTS:
                continue  # those on foreign ports were counted when they opened
            if self._strangers > 0:
                self._strangers -= 1
            elif flow.stream is None:
                self.passed += self._flows.pop(flow.ident, None) is not None
            elif not flow.scope and len(flow.client.address) == 4:
                self._drop(flow)

    def _drop(self, flow: Flow) -> None:
        """Nobody understands it, and too many like it are followed: it was never here, but for its number."""
        first = flow.stream.starts(Side.CLIENT) if flow.stream is not None else None
        flow.stream = None
        for table in (self._open, self._flows, self._waiting):
            table.pop(flow.ident, None)
        for ends in ((flow.client, flow.server), (flow.server, flow.client)):
            self._talks.pop((*ends, ()), None)
        self._reroute(flow)
        keys = _route_key(flow.client, flow.server), _route_key(flow.server, flow.client)
        self._pass_over(keys, -1 if first is None else (first - 1) & MASK)

    # --- what `Analyzer` does, where it must know of ways -------------------------------------------------------

    def _observe(self, segment: Segment, news: News, facts: list[Conversation]) -> None:
        self._wake(segment.source, segment.destination, segment.scope)
        super()._observe(segment, news, facts)

    def _recorded(self, frame: Frame) -> Segment | None:
        record = exported.unpack(frame)
        if record is not None:
            self._wake(record.source, record.destination, ())
        return super()._recorded(frame)

    def _wake(self, source: Endpoint, destination: Endpoint, scope: tuple[int, ...]) -> None:
        flow = self._talks.get((source, destination, scope))
        if isinstance(flow, Swift) and flow.ways is not None:
            self._leave(flow)
            flow.wake()

    def _close(self, talk: Talk, news: News, facts: list[Conversation]) -> None:
        assert isinstance(talk, Swift)
        self._leave(talk)
        super()._close(talk, news, facts)

    def _begin(self, segment: Segment, news: News, facts: list[Conversation]) -> Talk:
        flow = super()._begin(segment, news, facts)
        assert isinstance(flow, Swift)
        flow.rouse()
        return flow

    def _feed(self, frame: Frame, news: News, facts: list[Conversation]) -> None:
        data = frame.data
        if self._numbers and frame.link == 1 and len(data) >= _ORDINARY and self._ways.get(data[26:38]) is _PASSED:
            segment = decode(frame)
            if segment is not None and not segment.scope and len(segment.source.address) == 4:
                if segment.flags & (SYN | ACK) != SYN or self._numbers.get(data[26:38]) == segment.sequence:
                    self._pass_time(frame.time, news, facts)
                    return
                self._forget_passed((data[26:38], _route_key(segment.destination, segment.source)))
        super()._feed(frame, news, facts)

    def _leave(self, flow: Swift) -> None:
        """Its frames go the long way from now on."""
        for way in flow.ways or ():
            if self._ways.get(way.key) is way:
                del self._ways[way.key]
