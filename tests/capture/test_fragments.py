"""Fragments of IP: every octet keeps its frame and its place there, and what is not whole is told.

Claim: octets named by `Chunk.frame` and `Chunk.at` are found there in the frame, byte for byte, however a datagram was
cut, and in whatever order its fragments came.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import fragments
from capture.analyzer import Analyzer
from capture.carrier import Carrier
from capture.decode import decode, take
from capture.fragments import Fragments
from capture.model import ACK, FIN, PSH, SYN, Frame, Note, Segment
from capture.record import Record
from tests.capture.forge import START, STEP, C, S, Wire, ethernet, ip, tcp

TEXT = bytes(range(1, 120))
MORE = 0x2000


def segment_of(wire: Wire, text: bytes = TEXT, flags: int = ACK | PSH) -> bytes:
    return tcp(wire.client, wire.server, wire.cport, wire.sport, 1001, 5001, flags, text)


def ipv4(octets: bytes, cuts: Iterable[int], ident: int = 7, protocol: int = 6) -> list[bytes]:
    """The Ethernet frames of a datagram with this user data, cut at these places (multiples of 8)."""
    edges = [0, *cuts, len(octets)]
    return [
        ethernet(
            ip(
                "192.0.2.10",
                "192.0.2.25",
                octets[a:b],
                protocol,
                fragment=(MORE if b < len(octets) else 0) | a >> 3,
                identification=ident,
            )
        )
        for a, b in pairwise(edges)
    ]


def ipv6(octets: bytes, cuts: Iterable[int], following: int = 6) -> list[bytes]:
    edges = [0, *cuts, len(octets)]
    return [
        ethernet(
            ip(
                "2001:db8:25::10",
                "2001:db8:25::25",
                struct.pack(">BBHI", following, 0, a | (b < len(octets)), 9) + octets[a:b],
                44,
            )
        )
        for a, b in pairwise(edges)
    ]


def framed(parts: Iterable[bytes], first: int = 4, step: int = STEP) -> list[Frame]:
    return [Frame(n, START + n * step, part, len(part)) for n, part in enumerate(parts, first)]


def fed(frames: Iterable[Frame]) -> tuple[list[Segment], list[Note]]:
    """The parts that come out of these fragments, and the notes at the end."""
    pieces, out = Fragments(), []
    for frame in frames:
        carrier = take(frame)
        assert isinstance(carrier, Carrier)
        whole = pieces.add(frame, carrier)
        if whole is not None:
            segment = decode(whole.frame)
            assert segment is not None
            parts = whole.split(segment)
            if not parts:
                pieces.cut(frame)
            out += parts
    pieces.finish()
    return out, pieces.notes


def placed(parts: list[Segment], frames: list[Frame]) -> None:
    """Every octet is where its part says."""
    data = {frame.number: frame.data for frame in frames}
    for part in parts:
        assert data[part.frame][part.at : part.at + len(part.payload)] == part.payload


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_every_octet_keeps_its_frame_and_its_place_there(order: tuple[int, ...]) -> None:
    parts = ipv4(segment_of(Wire()), (24, 48, 96))
    frames = framed(parts[n] for n in order)
    out, notes = fed(frames)
    placed(out, frames)
    assert b"".join(part.payload for part in out) == TEXT
    assert [part.frame for part in out] == [4 + order.index(n) for n in range(4)]
    assert [(part.sequence - 1001) for part in out] == [0, 4, 28, 76]
    assert notes == []


def test_a_tcp_header_in_two_fragments_is_read() -> None:
    frames = framed(ipv4(segment_of(Wire()), (8, 16)))
    out, _ = fed(frames)
    placed(out, frames)
    assert [(part.frame, part.payload) for part in out] == [(6, TEXT)]


def test_ipv6_headers_behind_the_fragment_header_are_the_datagrams() -> None:
    options = bytes([6, 1, 1, 12]) + bytes(12)  # destination options, 16 octets, then TCP
    wire = Wire(client="2001:db8:25::10", server="2001:db8:25::25")
    frames = framed(ipv6(options + segment_of(wire), (8, 64), following=60))
    out, notes = fed(frames)
    placed(out, frames)
    assert (b"".join(part.payload for part in out), notes) == (TEXT, [])


def test_a_tunnel_in_fragments_is_read() -> None:
    inner = ip("198.51.100.1", "198.51.100.2", tcp("198.51.100.1", "198.51.100.2", 1, 25, 9, 9, ACK, TEXT))
    frames = framed(ipv4(inner, (40, 80), protocol=4))
    out, _ = fed(frames)
    placed(out, frames)
    assert b"".join(part.payload for part in out) == TEXT


def test_syn_stands_at_the_first_part_and_fin_at_the_last() -> None:
    out, _ = fed(framed(ipv4(segment_of(Wire(), flags=SYN | FIN), (32, 64))))
    assert [(part.flags, part.sequence) for part in out] == [(SYN, 1001), (0, 1014), (FIN, 1046)]
    assert b"".join(part.payload for part in out) == TEXT


def test_a_segment_without_user_data_comes_out_once() -> None:
    frames = framed(ipv4(segment_of(Wire(), b""), (8,)))
    out, _ = fed(frames)
    assert [(part.frame, part.payload, part.flags) for part in out] == [(5, b"", ACK | PSH)]


def test_octets_that_the_snap_length_cut_off_a_fragment_are_missing_and_the_rest_is_placed() -> None:
    frames = framed(ipv4(segment_of(Wire()), (64, 96)))
    frames[0] = frames[0]._replace(data=frames[0].data[:70])  # 16 of the fragment's 44 octets of text
    out, notes = fed(frames)
    placed(out, frames)
    assert [(len(part.payload), part.missing) for part in out] == [(16, 28), (32, 0), (43, 0)]
    assert notes == []


def test_a_header_cut_by_the_snap_length_is_a_note() -> None:
    frames = framed(ipv4(segment_of(Wire()), (64,)))
    frames[0] = frames[0]._replace(data=frames[0].data[:50])
    out, notes = fed(frames)
    assert (out, [note.kind for note in notes]) == ([], ["fragment-incomplete"])


@pytest.mark.parametrize("other_cut", [32, 24, 48], ids=["before", "inside", "around"])
def test_the_first_copy_of_an_octet_is_kept_and_the_other_is_in_a_note(other_cut: int) -> None:
    one = segment_of(Wire())
    other = one[:30] + b"XXXX" + one[34:]
    first, second = ipv4(one, (64,)), ipv4(other, (other_cut,))
    out, notes = fed(framed([first[0], second[1] if other_cut <= 32 else second[0], first[1]]))
    assert b"".join(part.payload for part in out) == TEXT
    assert [(note.kind, note.frame) for note in notes] == [("fragment-overlap", 5)]
    assert b"XX" in notes[0].octets


def test_an_overlap_with_equal_octets_is_no_conflict() -> None:
    first, second = ipv4(segment_of(Wire()), (64,)), ipv4(segment_of(Wire()), (32,))
    frames = framed([second[0], second[1], first[0], first[1]])
    out, notes = fed(frames)
    placed(out, frames)
    assert notes == []


def test_a_datagram_that_is_not_whole_at_the_end_is_told_with_its_frames_and_octets() -> None:
    parts = ipv4(segment_of(Wire()), (24, 48))
    out, notes = fed(framed([parts[0], parts[2]]))
    assert out == []
    (note,) = notes
    assert (note.kind, note.frame) == ("fragment-incomplete", 4)
    assert "115 octets of frames 4, 5" in note.text
    assert note.octets == segment_of(Wire())[:24] + segment_of(Wire())[48:]


def test_and_one_that_waits_longer_than_a_minute() -> None:
    parts = ipv4(segment_of(Wire()), (64,))
    late = Frame(5, START + 2 * fragments.PATIENCE, parts[1], len(parts[1]))
    out, notes = fed([Frame(4, START, parts[0], len(parts[0])), late])
    assert out == []
    assert ["60 seconds" in note.text for note in notes] == [True, False]


def test_a_fragment_that_comes_again_when_its_datagram_is_whole_is_no_loss() -> None:
    parts = ipv4(segment_of(Wire()), (64,))
    out, notes = fed(framed([*parts, parts[1]]))
    assert (b"".join(part.payload for part in out), notes) == (TEXT, [])


def test_holes_hidden_by_octets_behind_the_end_are_seen() -> None:
    parts = ipv4(segment_of(Wire()), (24, 48))
    beyond = ethernet(ip("192.0.2.10", "192.0.2.25", bytes(200), fragment=MORE | 20, identification=7))
    out, notes = fed(framed([parts[0], parts[2], beyond]))
    assert (out, len(notes)) == ([], 1)


def test_fragments_of_udp_are_not_kept() -> None:
    out, notes = fed(framed(ipv4(bytes(100), (64,), protocol=17)[:1]))
    assert (out, notes) == ([], [])


def test_a_flood_of_fragments_is_bounded_and_told() -> None:
    pieces, cost = Fragments(), 0
    for number in range(20_000):
        part = ipv4(bytes(1480), (1472,), ident=number & 0xFFFF)[0]
        frame = Frame(number, START, part, len(part))
        carrier = take(frame)
        assert isinstance(carrier, Carrier)
        pieces.add(frame, carrier)
        cost = max(cost, pieces._cost)
    pieces.finish()
    assert cost <= fragments.OCTETS
    kinds = [note.kind for note in pieces.notes]
    assert kinds == ["fragment-incomplete"] * (fragments.NOTES + 1)
    assert pieces.notes[-1].text == f"And {20_000 - fragments.NOTES} more notes of this kind."


def test_a_datagram_in_the_smallest_pieces_is_put_together_in_time() -> None:
    octets = segment_of(Wire(), bytes(40_000))
    frames = framed(ipv4(octets, range(8, len(octets), 8)), step=1)
    out, _ = fed([*frames[1::2], *frames[::2]])
    assert sum(len(part.payload) for part in out) == 40_000


def test_the_line_of_a_conversation_names_all_its_frames() -> None:
    wire = Wire()
    said = b"MAIL FROM:<anna@example.org> BODY=8BITMIME SIZE=12345\r\n"
    parts = ipv4(segment_of(wire, said), (24, 48))
    analyzer, record = Analyzer(strict=True), Record()
    for frame in [*wire.open(), *framed(parts), *framed(ipv4(bytes(48), (40,), ident=8)[:1], 9)]:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    assert [line.data for line in record.lines] == [said]
    assert record.lines[0].frames == (4, 5, 6)
    assert [(note.kind, note.frame) for note in record.notes] == [("fragment-incomplete", 9)]


@given(
    st.sets(st.integers(1, 16), min_size=1), st.randoms(use_true_random=False), st.lists(st.integers(0, 15), max_size=5)
)
def test_however_a_datagram_is_cut_shuffled_and_doubled(cuts: set[int], chance, doubled: list[int]) -> None:
    parts = ipv4(segment_of(Wire()), sorted(cut * 8 for cut in cuts))
    order = [*range(len(parts)), *(n % len(parts) for n in doubled)]
    chance.shuffle(order)
    frames = framed(parts[n] for n in order)
    out, notes = fed(frames)
    placed(out, frames)
    assert b"".join(part.payload for part in out).count(TEXT) >= 1
    assert b"".join(part.payload for part in out)[: len(TEXT)] == TEXT
    assert notes == []


def test_both_sides_in_fragments_are_a_conversation() -> None:
    wire = Wire()
    opening = wire.open()
    greeting = tcp(wire.server, wire.client, 25, wire.cport, 5001, 1001, ACK, b"220 mx.example.org ESMTP ready\r\n")
    edges = [(0, 24, MORE), (24, len(greeting), 3)]
    parts = [ethernet(ip(wire.server, wire.client, greeting[a:b], fragment=f)) for a, b, f in edges]
    analyzer, record = Analyzer(strict=True), Record()
    for frame in [*opening, *framed(reversed(parts)), wire.say(C, b"QUIT\r\n")]:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    assert [(line.side, line.frames) for line in record.lines] == [(S, (5, 4)), (C, (4,))]
