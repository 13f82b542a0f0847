"""What must hold for any octets at all: no exception, I1 to I3 and I6 of the labelling scheme."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.labels import label
from capture.model import Chunk, Gap, Label, Line, Role, Side
from capture.protocols.registry import PROTOCOLS, make
from capture.protocols.voice import INCOMPLETE

Event = tuple[Side, bytes | int]

# What moves a dialogue; any of it may come in any order, from either side, whole or in pieces.
WORDS = [
    b"220 mx ready\r\n", b"220-mx\r\n", b"250 ok\r\n", b"250-mx hi\r\n", b"250", b"354 go\r\n", b"334 \r\n",
    b"334 VXNlcg==\r\n", b"235 2.7.0 ok\r\n", b"421 bye\r\n", b"503 no\r\n", b"221 bye\r\n", b"nonsense\r\n",
    b"454 no\r\n", b"EHLO c\r\n", b"HELO c\n", b"LHLO c\r\n",
    b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<a@b> BODY=BINARYMIME SMTPUTF8\r\n",
    b"RCPT TO:<b@c>\r\n", b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 9 LAST\r\n", b"BDAT 0 LAST\r\n", b"AUTH PLAIN AHQ=\r\n",
    b"AUTH LOGIN\r\n", b"AHQ=\r\n", b"*\r\n", b"STARTTLS\r\n", b"TURN\r\n", b"QUIT\r\n", b"RSET\r\n", b"FOO bar\r\n",
    b"\x16\x03\x01\x00\x02\x01\x00", b"\x17\x03\x03\x00\x01x", b"\x00\x00\x00\x02ab", b".\r\n", b"..x\r\n", b".\n",
    b"\n", b"\r\n", b"\r", b".", b" ", b"\0", b"\xff", b"Subject: x\r\n", b"a\nb\r\n", b"text\n", b"a\rb\r\n",
    b"+OK\r\n", b"+OK 1 msg\r\n", b"-ERR no\r\n", b"+ \r\n", b"USER a\r\n", b"PASS b c\r\n", b"LIST\r\n", b"RETR 1\r\n",
    b"* OK IMAP4rev1\r\n", b"a LOGIN u p\r\n", b"a LOGIN {3}\r\n", b"a APPEND x {9+}\r\n", b"a APPEND x {5}\r\n",
    b"a AUTHENTICATE PLAIN\r\n", b"a OK done\r\n", b"a NO\r\n", b"* 1 FETCH (BODY[] {7}\r\n", b")\r\n",
    b"a STARTTLS\r\n", b"a IDLE\r\n", b"DONE\r\n", b"a COMPRESS DEFLATE\r\n", b"* LIST () {4}\r\n", b"a LOGOUT\r\n",
    b"* BYE\r\n", b"CAPA\r\n", b"STLS\r\n", b"AUTH\r\n", b"TOP 1 2\r\n", b"1 120\r\n",
]  # fmt: skip

octets = st.one_of(st.sampled_from(WORDS), st.binary(min_size=1, max_size=12))
events = st.lists(
    st.tuples(st.sampled_from(Side), st.one_of(octets, octets, octets, octets, st.integers(1, 12))), max_size=40
)
protocols = st.sampled_from(sorted(PROTOCOLS))


def lines_of(exchange: list[Event], protocol: str, midstream: bool) -> list[Line]:
    """All lines, the later of two with the same number, by side and number."""
    dialogue = make(protocol, conversation=1, midstream=midstream)
    at = {Side.CLIENT: 0, Side.SERVER: 0}
    made: list[Line] = []
    for side, data in exchange:
        if isinstance(data, int):
            made += dialogue.gap(Gap(side, at[side], data, 1, 1))
            at[side] += data
        else:
            made += dialogue.feed(Chunk(side, at[side], data, 1, 1))
            at[side] += len(data)
    made += dialogue.finish()
    newest = {(line.side, line.number): line._replace(order=0) for line in made}  # order is the analyzer's affair
    return sorted(newest.values(), key=lambda line: (line.side.value, line.number))


def cut(exchange: list[Event], sizes: list[int]) -> list[Event]:
    """The same octets in the same causal order, in other pieces."""
    pieces: list[Event] = []
    turn = 0
    for side, data in exchange:
        if isinstance(data, int):
            pieces.append((side, data))
            continue
        start = 0
        while start < len(data):
            size = sizes[turn % len(sizes)]
            turn += 1
            pieces.append((side, data[start : start + size]))
            start += size
    return pieces


def merge(exchange: list[Event]) -> list[Event]:
    runs: list[Event] = []
    for side, data in exchange:
        if runs and runs[-1][0] is side and isinstance(data, bytes) and isinstance(last := runs[-1][1], bytes):
            runs[-1] = (side, last + data)
        else:
            runs.append((side, data))
    return runs


@settings(max_examples=400, deadline=None)
@given(events, protocols, st.booleans())
def test_every_captured_octet_is_in_exactly_one_line(exchange: list[Event], protocol: str, midstream: bool) -> None:
    lines = lines_of(exchange, protocol, midstream)
    for side in Side:
        sent: list[tuple[int, bytes]] = []
        at = 0
        for who, data in exchange:
            if who is side:
                if isinstance(data, bytes):
                    sent.append((at, data))
                    at += len(data)
                else:
                    at += data
        of_side = [line for line in lines if line.side is side]
        assert [line.number for line in of_side] == list(range(1, len(of_side) + 1))
        told = {line.offset + i: octet for line in of_side for i, octet in enumerate(line.data)}
        assert sum(len(line.data) for line in of_side) == len(told)
        assert told == {place + i: octet for place, data in sent for i, octet in enumerate(data)}


@settings(max_examples=400, deadline=None)
@given(events, protocols, st.booleans())
def test_spans_tile_every_line_and_the_label_follows_from_them(
    exchange: list[Event], protocol: str, midstream: bool
) -> None:
    for line in lines_of(exchange, protocol, midstream):
        assert line.data
        assert [s.start for s in line.spans] == [0, *(s.end for s in line.spans[:-1])]
        assert line.spans[-1].end == len(line.data)
        assert all(s.start < s.end for s in line.spans)
        assert list(line.flags) == sorted(set(line.flags))
        carries = any(s.role is Role.USER_DATA for s in line.spans)
        expected = Label.PDU if line.whole else Label.USER_DATA if carries else Label.PCI
        assert label(line, line.layer) is expected
        assert not (line.whole and INCOMPLETE & set(line.flags))


@settings(max_examples=600, deadline=None)
@given(events, protocols, st.booleans(), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_cutting_the_same_octets_otherwise_changes_nothing(
    exchange: list[Event], protocol: str, midstream: bool, sizes: list[int]
) -> None:
    lines = lines_of(exchange, protocol, midstream)
    assert lines_of(cut(exchange, sizes), protocol, midstream) == lines
    assert lines_of(merge(exchange), protocol, midstream) == lines


@settings(max_examples=200, deadline=None)
@given(events, protocols, st.booleans())
def test_what_is_settled_was_handed_out_and_does_not_change(
    exchange: list[Event], protocol: str, midstream: bool
) -> None:
    dialogue = make(protocol, conversation=1, midstream=midstream)
    at = {Side.CLIENT: 0, Side.SERVER: 0}
    given_out: dict[tuple[Side, int], Line] = {}
    steps: list[list[Line]] = []
    floors: list[dict[Side, int]] = []
    for side, data in exchange:
        length = data if isinstance(data, int) else len(data)
        steps.append(
            dialogue.gap(Gap(side, at[side], data, 1, 1))
            if isinstance(data, int)
            else dialogue.feed(Chunk(side, at[side], data, 1, 1))
        )
        at[side] += length
        floors.append({s: dialogue.settled(s) for s in Side})
    steps.append(dialogue.finish())
    floor = {Side.CLIENT: 0, Side.SERVER: 0}
    for lines, following in zip(steps, [*floors, floors[-1] if floors else floor], strict=True):
        for line in lines:
            assert line.offset >= floor[line.side], "a settled place was written again"
            given_out[line.side, line.offset] = line
        floor = {s: max(floor[s], following[s]) for s in Side}


@pytest.mark.parametrize("protocol", ["smtp", "pop3", "imap", "opaque", "tls"])
def test_a_stream_without_a_line_end_is_given_out_in_pieces(protocol: str) -> None:
    dialogue = make(protocol, conversation=1)
    lines = list(dialogue.feed(Chunk(Side.SERVER, 0, b"220 mx\r\n", 1, 1)))
    given_out, at = 0, 0
    for _ in range(700):
        made = dialogue.feed(Chunk(Side.CLIENT, at, b"x" * 1460, 1, 1))
        at += 1460
        given_out += sum(len(line.data) for line in made)
        assert at - given_out <= 300 * 1024
    lines += dialogue.finish()
    assert given_out > 500 * 1024
