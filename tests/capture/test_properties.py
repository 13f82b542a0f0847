"""What must hold of any conversation whatever: the way it was cut, ordered and repeated leaves no trace in its lines.

The conversations are drawn, not chosen: what is said, how it is cut into segments, which arrive again, in which order,
and at which sequence numbers they begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture.analyzer import Analyzer
from capture.decode import decode
from capture.model import Chunk, Frame, Gap, Line, Note, Side
from capture.record import Ordered, Record
from capture.stream import Stream
from tests.capture.forge import C, S, Wire

SAID: list[tuple[Side, bytes]] = [
    (S, b"220-mail.example.org\r\n220 ready\r\n"),
    (C, b"EHLO client.example.net\r\n"),
    (S, b"250-mail.example.org\r\n250-PIPELINING\r\n250 SIZE 1000\r\n"),
    (C, b"MAIL FROM:<alice@example.net>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"),
    (S, b"250 OK\r\n250 OK\r\n354 go on\r\n"),
    (C, b"Subject: x\r\n\r\n..dot\r\nbare\nlf\r\n.\r\n"),
    (S, b"250 queued\r\n"),
    (C, b"VRFY bob\r\nNONSENSE\r\nQUIT\r\n"),
    (S, b"252 maybe\r\n500 what\r\n221 bye\r\n"),
]
isns = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
cuts = st.lists(st.integers(1, 60), max_size=30)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def said_in_pieces(wire: Wire, said: Sequence[tuple[Side, bytes]], sizes: Sequence[int]) -> list[Frame]:
    """The frames of what is said, each turn cut into segments of these sizes, over and over."""
    frames, sizes = [], list(sizes) or [10_000]
    turn = 0
    for side, octets in said:
        at = 0
        while at < len(octets):
            size = sizes[turn % len(sizes)]
            turn += 1
            frames.append(wire.say(side, octets[at : at + size]))
            at += size
    return frames


def lines(frames: Sequence[Frame], **options: Any) -> list[tuple[Any, ...]]:
    """What is said of the lines, without what depends on frames: number, offset, octets, PDU, spans, flags."""
    analyzer, record = Analyzer(strict=True, **options), Record()
    for number, frame in enumerate(frames, 1):
        # Times say in which order frames were captured; a reordered capture has them in the order of its file.
        record.apply(analyzer.feed(frame._replace(number=number, time=frames[0].time + number)))
    record.apply(analyzer.finish())
    return [
        (row.side, row.number, row.offset, row.data, row.pdu, row.spans, row.flags, row.whole)
        for row in sorted(record.lines, key=lambda row: (row.side.value, row.number))
    ]


def plain(said: Sequence[tuple[Side, bytes]] = SAID) -> list[tuple[Any, ...]]:
    wire = Wire()
    return lines([*wire.open(), *said_in_pieces(wire, said, []), *wire.close()])


PLAIN = plain()


def test_the_conversation_of_these_properties_is_understood() -> None:
    assert [row[4].name for row in PLAIN if row[0] is C][:4] == [
        "EHLO command",
        "MAIL command",
        "RCPT command",
        "DATA command",
    ]
    assert len(PLAIN) == 24


@relaxed
@given(cuts, isns)
def test_segmentation_and_sequence_numbers_change_no_line(sizes: list[int], isn: tuple[int, int]) -> None:
    wire = Wire(isn=isn)
    assert lines([*wire.open(), *said_in_pieces(wire, SAID, sizes), *wire.close()]) == PLAIN


def test_one_octet_a_segment_changes_no_line() -> None:
    wire = Wire()
    assert lines([*wire.open(), *said_in_pieces(wire, SAID, [1]), *wire.close()]) == PLAIN


@st.composite
def shuffled(draw: st.DrawFn, frames: list[Frame], far: int) -> list[Frame]:
    """The frames in an order in which none is moved by more than ``far``; some come again, soon or late."""
    again = draw(st.lists(st.sampled_from(range(len(frames))), max_size=5))
    places = [(n + draw(st.integers(0, far)), n, frame) for n, frame in enumerate(frames)]
    # No copy comes before its time: nobody acknowledges what was not sent yet.
    places += [(n + draw(st.integers(0, len(frames))), len(frames) + n, frames[n]) for n in again]
    return [frame for _, _, frame in sorted(places, key=lambda place: place[:2])]


@relaxed
@given(st.data(), cuts, isns)
def test_reordering_and_duplication_change_no_line(data: st.DataObject, sizes: list[int], isn: tuple[int, int]) -> None:
    wire = Wire(isn=isn)
    opening = wire.open()
    frames = [*said_in_pieces(wire, SAID, sizes or [20]), *wire.close()]
    arrived = data.draw(shuffled(frames, 12))
    assert lines([*opening, *arrived]) == PLAIN


@relaxed
@given(st.data(), st.lists(st.integers(5, 60), min_size=1, max_size=10))
def test_reordering_with_the_handshake_among_it_changes_no_line(data: st.DataObject, sizes: list[int]) -> None:
    wire = Wire()
    frames = [*wire.open(), *said_in_pieces(wire, SAID, sizes), *wire.close()]
    places = [(n + data.draw(st.integers(0, 3)), n) for n in range(len(frames))]
    assert lines([frames[n] for _, n in sorted(places)]) == PLAIN


def streamed(frames: Sequence[Frame]) -> dict[Side, tuple[bytes, list[tuple[int, int]]]]:
    """Octets with gaps closed up and gaps with neighbours joined, of each side."""
    stream = Stream()
    items: list[Chunk | Gap | Note] = []
    for frame in frames:
        segment = decode(frame)
        assert segment is not None
        items += stream.feed(segment, S if segment.source.port == 25 else C)
    items += stream.finish()
    found: dict[Side, tuple[bytes, list[tuple[int, int]]]] = {}
    for side in Side:
        octets, gaps, at = b"", [], 0
        for item in items:
            if isinstance(item, Note) or item.side is not side:
                continue
            assert item.offset == at
            if isinstance(item, Chunk):
                octets += item.data
                at += len(item.data)
            else:
                assert item.length > 0
                at += item.length
                if gaps and sum(gaps[-1]) == item.offset:
                    gaps[-1] = (gaps[-1][0], gaps[-1][1] + item.length)
                else:
                    gaps.append((item.offset, item.length))
        found[side] = octets, gaps
    return found


def whole(record: Record) -> None:
    """Lines and gaps tile each side from its first octet to the last one counted."""
    for fact in record.conversations:
        for n, side in enumerate(Side):
            rows = [row for row in record.rows(fact.ident) if row.side is side]
            at = 0
            for row in sorted(rows, key=lambda row: row.offset):
                assert row.offset == at
                at += len(row.data) if isinstance(row, Line) else row.length
            assert at == fact.octets[n]


turns = st.lists(st.tuples(st.sampled_from([C, S]), st.binary(min_size=1, max_size=30), st.booleans()), max_size=25)


@relaxed
@given(st.data(), turns, isns)
def test_octets_and_gaps_are_those_that_were_sent_and_lost(
    data: st.DataObject, told: list[tuple[Side, bytes, bool]], isn: tuple[int, int]
) -> None:
    wire = Wire(isn=isn, step=1)
    opening, frames = wire.open(), []
    sent: dict[Side, bytes] = {C: b"", S: b""}
    lost: dict[Side, list[tuple[int, int]]] = {C: [], S: []}
    at = {C: 0, S: 0}
    for side, octets, dropped in told:
        if dropped:
            wire.lose(side, len(octets))
            gaps = lost[side]
            if gaps and sum(gaps[-1]) == at[side]:
                gaps[-1] = (gaps[-1][0], gaps[-1][1] + len(octets))
            else:
                gaps.append((at[side], len(octets)))
        else:
            frames.append(wire.say(side, octets))
            sent[side] += octets
        at[side] += len(octets)
    frames += wire.close()
    arrived = data.draw(shuffled(frames, 10))
    assert streamed([*opening, *arrived]) == {side: (sent[side], lost[side]) for side in Side}


@relaxed
@given(st.data(), st.binary(min_size=20, max_size=200), isns)
def test_overlapping_retransmissions_of_any_bounds_leave_the_octets_alone(
    data: st.DataObject, octets: bytes, isn: tuple[int, int]
) -> None:
    wire = Wire(isn=isn)
    opening = wire.open()
    first = (isn[0] + 1) & 0xFFFFFFFF
    pieces = data.draw(st.lists(st.tuples(st.integers(0, len(octets) - 1), st.integers(1, 60)), max_size=30))
    covering = [(at, 17) for at in range(0, len(octets), 17)]
    order = data.draw(st.permutations(pieces + covering))
    frames = [wire.segment(C, octets[at : at + size], sequence=(first + at) & 0xFFFFFFFF) for at, size in order]
    assert streamed([*opening, *frames])[C] == (octets, [])


@relaxed
@given(
    st.lists(
        st.tuples(
            st.sampled_from([C, S]),
            st.binary(max_size=20),
            st.integers(0, 255),
            st.integers(-40, 40),
            st.integers(-40, 40),
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_no_segments_whatever_raise_or_lose_an_octet_of_a_line(
    told: list[tuple[Side, bytes, int, int, int]], opened: bool
) -> None:
    wire = Wire()
    frames = wire.open() if opened else []
    for side, octets, flags, seq, ack in told:
        sequence = (1001 if side is C else 5001) + seq
        acknowledgement = (5001 if side is C else 1001) + ack
        frames.append(wire.segment(side, octets, flags, sequence=sequence, acknowledgement=acknowledgement))
    analyzer, record, ordered = Analyzer(strict=True), Record(), Ordered()
    released = []
    for frame in frames:
        update = analyzer.feed(frame)
        record.apply(update)
        released += ordered.add(update, analyzer.horizon)
    update = analyzer.finish()
    record.apply(update)
    released += [*ordered.add(update, analyzer.horizon), *ordered.rest()]
    assert released == record.rows()
    whole(record)


@relaxed
@given(st.lists(st.tuples(st.binary(max_size=90), st.sampled_from([0, 1, 101, 113, 252, 276])), max_size=10))
def test_no_frames_whatever_make_the_analyzer_raise(frames: list[tuple[bytes, int]]) -> None:
    analyzer = Analyzer(strict=True)
    for number, (data, link) in enumerate(frames, 1):
        analyzer.feed(Frame(number, number, data, len(data), link))
    analyzer.finish()


@relaxed
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 300), st.integers(0, 255)), max_size=12),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 120)), max_size=5),
)
def test_no_damage_to_a_session_makes_the_analyzer_raise(
    flips: list[tuple[int, int, int]], cuts_: list[tuple[int, int]]
) -> None:
    wire = Wire()
    frames = [*wire.open(), *said_in_pieces(wire, SAID, [40]), *wire.close()]
    for n, at, octet in flips:
        frame = frames[n % len(frames)]
        octets = bytearray(frame.data)
        octets[at % len(octets)] = octet
        frames[n % len(frames)] = frame._replace(data=bytes(octets))
    for n, kept in cuts_:
        frame = frames[n % len(frames)]
        frames[n % len(frames)] = frame._replace(data=frame.data[:kept])
    analyzer, record = Analyzer(strict=True), Record()
    for frame in frames:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    whole(record)


@pytest.mark.parametrize("dropped", range(3 + len(SAID)))
def test_dropping_any_one_frame_loses_only_its_octets(dropped: int) -> None:
    wire = Wire()
    frames = [*wire.open(), *said_in_pieces(wire, SAID, [])]
    segment = decode(frames[dropped])
    assert segment is not None
    del frames[dropped]
    got = streamed([*frames, *wire.close()])
    expected = {side: b"".join(octets for who, octets in SAID if who is side) for side in Side}
    side = S if segment.source.port == 25 else C
    assert sum(length for _, length in got[side][1]) == len(segment.payload)
    assert got[side.other] == (expected[side.other], [])


@relaxed
@given(cuts)
def test_the_order_of_lines_is_the_order_of_capture(sizes: list[int]) -> None:
    wire = Wire()
    analyzer, record = Analyzer(strict=True), Record()
    for frame in [*wire.open(), *said_in_pieces(wire, SAID, sizes), *wire.close()]:
        record.apply(analyzer.feed(frame))
    rows = record.lines
    assert all(one.order < other.order for one, other in pairwise(rows))
    assert all(one.frames[0] <= other.frames[0] and one.time <= other.time for one, other in pairwise(rows))
    assert [row.side for row in rows] == [side for side, octets in SAID for _ in octets.split(b"\r\n")[:-1]]
