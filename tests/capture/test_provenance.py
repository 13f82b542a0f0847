"""Where each octet came from: the frame that a chunk names holds the chunk's octets at the place that it names.

Claim: that is so however segments are cut, overlapped, shuffled and doubled, in VLANs, tunnels and fragments of IP, and
each octet of a side comes out once, in order, from the first frame that brought it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from capture.analyzer import Analyzer
from capture.decode import decode
from capture.model import ACK, Chunk, Frame, Gap, Segment, Side
from capture.stream import Stream
from tests.capture.forge import START, STEP, C, S, Wire, ethernet, ip, tcp

TEXT = bytes(range(256)) * 2
ISN = 0xFFFFFF00  # the numbers wrap inside the text

CUTS = st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 120)), max_size=12)


def frame_of(number: int, payload: bytes, offset: int, tags: tuple[int, ...] = ()) -> Frame:
    octets = tcp("192.0.2.10", "192.0.2.25", 49152, 25, ISN + 1 + offset, 5001, ACK, payload)
    data = ethernet(ip("192.0.2.10", "192.0.2.25", octets), tags=tags)
    return Frame(number, START + number * STEP, data, len(data))


def opened(stream: Stream) -> None:
    for frame, side in zip(Wire(isn=(ISN, 5000)).open(), (C, S, C), strict=True):
        segment = decode(frame)
        assert segment is not None
        stream.feed(segment, side)


def delivered(frames: Iterable[Frame]) -> list[Chunk | Gap]:
    stream, items = Stream(), []
    opened(stream)
    for frame in frames:
        segment = decode(frame)
        assert segment is not None
        items += stream.feed(segment, C)
    items += stream.finish()
    return [item for item in items if isinstance(item, Chunk | Gap)]


@given(CUTS, st.randoms(use_true_random=False), st.sampled_from([(), (5,), (7, 5)]))
def test_each_octet_is_where_its_chunk_says_and_comes_from_the_first_frame_that_brought_it(
    pieces: list[tuple[int, int]], chance, tags: tuple[int, ...]
) -> None:
    pieces = [*pieces, *((start, 64) for start in range(0, len(TEXT), 64))]
    chance.shuffle(pieces)
    frames = {
        number: frame_of(number, TEXT[start : start + size], start, tags)
        for number, (start, size) in enumerate(pieces, 4)
    }
    first: dict[int, int] = {}
    for number, (start, size) in enumerate(pieces, 4):
        for offset in range(start, min(start + size, len(TEXT))):
            first.setdefault(offset, number)
    at = 0
    for item in delivered(frames.values()):
        assert isinstance(item, Chunk)
        assert item.offset == at
        assert item.data == TEXT[at : at + len(item.data)]
        assert frames[item.frame].data[item.at : item.at + len(item.data)] == item.data
        assert item.time == frames[item.frame].time
        assert {first[offset] for offset in range(at, at + len(item.data))} == {item.frame}
        at += len(item.data)
    assert at == len(TEXT)


@given(st.sets(st.integers(1, 11)), st.integers(3, 60), st.booleans())
def test_and_in_fragments_of_segments_too(cuts: set[int], size: int, backwards: bool) -> None:
    """Segments of ``size`` octets, each in fragments, through the analyzer: the lines name every frame there was."""
    wire = Wire()
    analyzer, frames = Analyzer(strict=True), []
    for frame in wire.open():
        analyzer.feed(frame)
    number, said = 4, b"NOOP " + TEXT[65:91] * 3 + b"\r\n"
    for start in range(0, len(said), size):
        octets = tcp("192.0.2.10", "192.0.2.25", 49152, 25, 1001 + start, 5001, ACK, said[start : start + size])
        edges = [0, *(8 * cut for cut in sorted(cuts) if 8 * cut < len(octets)), len(octets)]
        parts = [
            ethernet(
                ip(
                    "192.0.2.10",
                    "192.0.2.25",
                    octets[a:b],
                    fragment=(0x2000 if b < len(octets) else 0) | a >> 3,
                    identification=start,
                )
            )
            for a, b in itertools.pairwise(edges)
        ]
        for part in parts[::-1] if backwards else parts:
            frames.append(Frame(number, START + number * STEP, part, len(part)))
            number += 1
    lines = [line for frame in frames for line in analyzer.feed(frame).lines]
    lines += analyzer.finish().lines
    assert [line.data for line in lines] == [said]
    with_text = {frame.number for frame in frames if carries(frame)}
    assert set(lines[0].frames) == with_text


def carries(frame: Frame) -> bool:
    """Whether the fragment holds octets behind the TCP header, which is 20 octets."""
    offset = int.from_bytes(frame.data[20:22], "big") << 3 & 0xFFFF
    total = int.from_bytes(frame.data[16:18], "big") - 20
    return offset + total > 20


def test_a_cut_segment_gives_what_was_captured_and_a_gap_for_the_rest() -> None:
    whole = frame_of(4, TEXT[:100], 0)
    cut = whole._replace(data=whole.data[:94])
    items = delivered([cut, frame_of(5, TEXT[100:150], 100)])
    assert [(type(item), item.offset) for item in items] == [(Chunk, 0), (Gap, 40), (Chunk, 100)]
    assert isinstance(items[0], Chunk)
    assert cut.data[items[0].at :] == items[0].data == TEXT[:40]


def test_segments_keep_the_side_that_sent_them() -> None:
    wire, stream = Wire(), Stream()
    said: dict[Side, bytes] = {C: b"", S: b""}
    for side, frame in [
        *zip((C, S, C), wire.open(), strict=True),
        (S, wire.say(S, b"220 hi\r\n")),
        (C, wire.say(C, b"QUIT\r\n")),
    ]:
        segment = decode(frame)
        assert isinstance(segment, Segment)
        for item in stream.feed(segment, side):
            assert isinstance(item, Chunk)
            said[item.side] += frame.data[item.at : item.at + len(item.data)]
    assert said == {C: b"QUIT\r\n", S: b"220 hi\r\n"}
