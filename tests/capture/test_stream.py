"""Conversations of segments, as tables: what arrives on the left, what comes out on the right."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from capture import stream as limits
from capture.decode import decode
from capture.model import ACK, FIN, PSH, RST, SYN, Chunk, Frame, Gap, Note, Segment, Side
from capture.stream import PATIENCE, PATIENCE_SEGMENTS, Stream
from tests.capture.forge import C, S, Wire


def segment_of(frame: Frame) -> Segment:
    segment = decode(frame)
    assert segment is not None
    return segment


def side_of(segment: Segment) -> Side:
    return S if segment.source.port == 25 else C


class Observed:
    """A stream being fed, and everything that came out of it."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.items: list[Chunk | Gap | Note] = []

    def see(self, *frames: Frame | Iterable[Frame]) -> Observed:
        for frame in frames:
            for one in [frame] if isinstance(frame, Frame) else frame:
                segment = segment_of(one)
                self.items += self.stream.feed(segment, side_of(segment))
        return self

    def end(self) -> Observed:
        self.items += self.stream.finish()
        return self

    def said(self, side: Side) -> bytes:
        """The side's octets in order; a gap of n shows as ``<n>``."""
        out = b""
        for item in self.items:
            if isinstance(item, Note) or item.side is not side:
                continue
            out += item.data if isinstance(item, Chunk) else b"<%d>" % item.length
        return out

    @property
    def order(self) -> list[str]:
        return [f"{i.side.value}:{i.data.decode()}" for i in self.items if isinstance(i, Chunk)]

    @property
    def notes(self) -> list[str]:
        return [item.kind for item in self.items if isinstance(item, Note)]


def test_octets_in_order_go_straight_through_with_their_provenance() -> None:
    wire = Wire()
    seen = Observed().see(wire.open())
    frame = wire.say(S, b"220 hello\r\n")
    seen.see(frame)
    assert seen.items == [Chunk(S, 0, b"220 hello\r\n", 4, frame.time, frame.data.index(b"220"))]
    assert seen.stream.deadline is None


def test_a_segment_out_of_order_waits_for_the_one_before_it() -> None:
    wire = Wire()
    seen = Observed().see(wire.open())
    first, second, third = (wire.say(C, octets) for octets in (b"one ", b"two ", b"three"))
    seen.see(third, second)
    assert seen.said(C) == b""
    seen.see(first)
    assert seen.said(C) == b"one two three"
    assert seen.notes == ["out-of-order", "out-of-order"]
    assert [item.frame for item in seen.items if isinstance(item, Chunk)] == [4, 5, 6]


def test_a_retransmission_is_noted_and_adds_nothing() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.say(C, b"QUIT\r\n"))
    again = wire.segment(C, b"QUIT\r\n", sequence=1001)
    assert seen.see(again).said(C) == b"QUIT\r\n"
    assert seen.notes == ["retransmission"]


def test_a_retransmission_with_other_bounds_adds_only_what_is_new() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.say(C, b"MAIL "))
    seen.see(wire.segment(C, b"IL FROM:<>", sequence=1003))
    assert seen.said(C) == b"MAIL FROM:<>"
    last = seen.items[-1]
    assert isinstance(last, Chunk)
    assert (last.offset, last.data) == (5, b"FROM:<>")
    assert segment_of(wire.segment(C, b"")).payload == b""


def test_the_first_copy_of_an_octet_is_kept_and_the_other_one_noted() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.say(C, b"RCPT TO:<a>"))
    seen.see(wire.segment(C, b"RCPT TO:<b>\r\n", sequence=1001))
    assert seen.said(C) == b"RCPT TO:<a>\r\n"
    (conflict,) = [item for item in seen.items if isinstance(item, Note)]
    assert (conflict.kind, conflict.offset, conflict.octets, conflict.side) == (
        "overlap-conflict",
        0,
        b"RCPT TO:<b>",
        C,
    )


def test_the_first_copy_is_kept_among_octets_that_wait_too() -> None:
    wire = Wire()
    seen = Observed().see(wire.open())
    seen.see(wire.segment(C, b"first", sequence=1006))
    seen.see(wire.segment(C, b"..OTHER..", sequence=1004))
    assert seen.notes == ["overlap-conflict", "out-of-order"]
    seen.see(wire.segment(C, b"abc", sequence=1001))
    assert seen.said(C) == b"abc..first.."


def test_a_segment_that_fills_a_hole_and_overlaps_on_both_sides_is_cut_to_the_hole() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.say(C, b"aaa"))
    seen.see(wire.segment(C, b"ccc", sequence=1007))
    seen.see(wire.segment(C, b"abbbc", sequence=1003))
    assert seen.said(C) == b"aaabbbccc"


@pytest.mark.parametrize("isn", [0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFF8, 0x7FFFFFFF, 0])
def test_the_sequence_number_wraps_and_the_offset_does_not(isn: int) -> None:
    wire = Wire(isn=(isn, isn))
    seen = Observed().see(wire.open())
    frames = [wire.say(C, b"%02d" % n) for n in range(10)]
    seen.see(frames[1::2], frames[0::2]).see(wire.close())
    assert seen.said(C) == b"00010203040506070809"
    assert seen.stream.octets == (20, 0)
    assert seen.stream.closed


def test_a_syn_may_carry_data() -> None:
    wire = Wire()
    syn = wire.segment(C, b"EHLO x\r\n", SYN)
    again = wire.segment(C, b"EHLO x\r\n", PSH | ACK, sequence=1001)
    assert Observed().see(syn, again).said(C) == b"EHLO x\r\n"


def test_a_keep_alive_is_not_an_octet_of_the_stream() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.say(C, b"NOOP\r\n"))
    seen.see(wire.segment(C, b"\0", sequence=1006), wire.segment(C, b"", sequence=1006), wire.say(C, b"QUIT\r\n"))
    assert seen.said(C) == b"NOOP\r\nQUIT\r\n"
    assert seen.notes == ["keep-alive", "keep-alive"]


def test_a_zero_window_probe_brings_its_octet_once() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.segment(S, window=0))
    seen.see(wire.segment(C, b"Q", sequence=1001), wire.segment(S, window=0), wire.segment(C, b"QUIT", sequence=1001))
    assert seen.said(C) == b"QUIT"


def test_octets_of_a_reset_are_not_the_streams() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.segment(S, b"go away", RST | ACK))
    assert seen.said(S) == b""
    assert seen.stream.reset


def test_a_reset_far_from_the_expected_number_is_not_believed() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.segment(S, flags=RST, sequence=5001 + (1 << 31)))
    assert not seen.stream.reset


def test_a_fin_closes_only_when_everything_before_it_is_there() -> None:
    wire = Wire()
    seen = Observed().see(wire.open())
    late = wire.say(C, b"QUIT\r\n")
    fins = wire.close()
    seen.see(fins)
    assert not seen.stream.closed
    seen.see(late)
    assert seen.stream.closed
    assert seen.said(C) == b"QUIT\r\n"


def test_a_fin_may_carry_data() -> None:
    wire = Wire()
    seen = Observed().see(wire.open(), wire.segment(S, b"421 bye\r\n", FIN | PSH | ACK))
    assert seen.said(S) == b"421 bye\r\n"


class TestHoles:
    def test_a_hole_that_is_acknowledged_becomes_a_gap_when_patience_in_segments_ends(self) -> None:
        wire = Wire(step=1)
        seen = Observed().see(wire.open(), wire.say(C, b"EHLO x\r\n"))
        wire.lose(C, 17)
        seen.see(wire.say(C, b"RCPT TO:<b>\r\n"), wire.segment(S))
        for _ in range(PATIENCE_SEGMENTS - 1):
            assert seen.said(C) == b"EHLO x\r\n"
            seen.see(wire.segment(S))
        assert seen.see(wire.segment(S)).said(C) == b"EHLO x\r\n<17>RCPT TO:<b>\r\n"

    def test_or_when_patience_in_time_ends(self) -> None:
        wire = Wire(step=PATIENCE // 2)
        seen = Observed().see(wire.open())
        wire.lose(C, 8)
        seen.see(wire.segment(S), wire.segment(C))
        assert seen.said(C) == b""
        assert seen.see(wire.segment(C)).said(C) == b"<8>"

    def test_or_when_time_passes_and_nothing_comes(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open())
        wire.lose(C, 8)
        seen.see(wire.say(S, b"250 x\r\n"))
        assert seen.stream.deadline == wire.time + PATIENCE
        assert seen.stream.elapse(wire.time + PATIENCE - 1) == []
        seen.items += seen.stream.elapse(wire.time + PATIENCE)
        assert (seen.said(C), seen.said(S)) == (b"<8>", b"250 x\r\n")
        assert seen.stream.deadline is None

    def test_a_hole_nobody_acknowledged_stays_open_until_the_end(self) -> None:
        wire = Wire(step=PATIENCE)
        seen = Observed().see(wire.open())
        wire.sequence[C] += 5
        seen.see(*[wire.segment(C, b"tail", sequence=1006) for _ in range(3 * PATIENCE_SEGMENTS)])
        assert seen.said(C) == b""
        assert seen.end().said(C) == b"<5>tail"

    def test_acknowledged_octets_behind_the_last_one_are_a_gap_at_the_end(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open(), wire.say(C, b"DATA\r\n"))
        wire.lose(C, 100)
        assert seen.see(wire.segment(S)).end().said(C) == b"DATA\r\n<100>"

    def test_one_acknowledged_octet_at_the_end_is_a_fin_that_was_not_captured(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open(), wire.say(C, b"QUIT\r\n"))
        wire.lose(C, 1)
        assert seen.see(wire.say(S, b"221 bye\r\n")).end().said(C) == b"QUIT\r\n"
        assert seen.said(S) == b"221 bye\r\n"

    def test_but_a_gap_when_octets_come_behind_it(self) -> None:
        wire = Wire(step=PATIENCE)
        seen = Observed().see(wire.open(), wire.say(C, b"x"))
        wire.lose(C, 1)
        seen.see(wire.segment(S), wire.segment(S), wire.segment(S), wire.say(C, b"y"), wire.segment(S), wire.segment(S))
        assert seen.said(C) == b"x<1>y"

    def test_octets_that_come_after_they_were_declared_missing_are_in_a_note(self) -> None:
        wire = Wire(step=PATIENCE)
        seen = Observed().see(wire.open())
        wire.lose(C, 4)
        seen.see(wire.segment(S), wire.segment(S), wire.segment(C, b"late", sequence=1001))
        assert seen.said(C) == b"<4>"
        assert seen.notes[:1] == ["late-octets"]
        (note, *_) = [item for item in seen.items if isinstance(item, Note)]
        assert (note.offset, note.octets) == (0, b"late")

    def test_octets_cut_by_the_snap_length_are_a_gap_at_once(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open())
        frame = wire.say(C, b"MAIL FROM:<a@b>\r\n")
        seen.see(frame._replace(data=frame.data[:-10]), wire.say(C, b"DATA\r\n"))
        assert seen.said(C) == b"MAIL FR<10>DATA\r\n"

    def test_a_whole_copy_of_a_cut_segment_that_comes_in_time_fills_it(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open())
        first, cut = wire.say(C, b"one "), wire.say(C, b"two three")
        seen.see(cut._replace(data=cut.data[:-5]), cut, first)
        assert seen.said(C) == b"one two three"

    def test_a_side_that_was_never_seen_has_no_gaps(self) -> None:
        wire = Wire(step=PATIENCE)
        wire.open()
        seen = Observed().see(wire.say(C, b"EHLO x\r\n"))
        for text in (b"MAIL\r\n", b"QUIT\r\n"):
            wire.lose(S, 50)
            seen.see(wire.say(C, text))
        assert seen.end().said(S) == b""
        assert seen.said(C) == b"EHLO x\r\nMAIL\r\nQUIT\r\n"

    def test_nor_if_only_its_syn_was_told_by_the_other_side(self) -> None:
        wire = Wire()
        syn, _, ack = wire.open()
        seen = Observed().see(syn, ack)
        wire.lose(S, 50)
        assert seen.see(wire.say(C, b"EHLO x\r\n")).end().said(S) == b""
        assert seen.said(C) == b"EHLO x\r\n"

    def test_a_lost_greeting_is_a_gap(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open())
        wire.lose(S, 63)
        seen.see(wire.say(C, b"EHLO x\r\n"), wire.say(S, b"250 y\r\n")).end()
        assert seen.said(S) == b"<63>250 y\r\n"
        assert seen.said(C) == b"EHLO x\r\n"


class TestCause:
    def test_a_reply_captured_before_its_command_comes_out_after_it(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open())
        command, reply = wire.say(C, b"DATA"), wire.say(S, b"354")
        assert seen.see(reply).order == []
        assert seen.see(command).order == ["C:DATA", "S:354"]

    def test_the_whole_dialogue_comes_out_in_order_of_cause_when_captured_backwards(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open())
        frames = [wire.say(side, octets) for side, octets in ((S, b"220"), (C, b"HELO"), (S, b"250"), (C, b"DATA"))]
        seen.see(reversed(frames))
        assert seen.order == ["S:220", "C:HELO", "S:250", "C:DATA"]
        assert "keep-alive" not in seen.notes

    def test_a_reply_to_a_lost_command_comes_out_behind_the_gap(self) -> None:
        wire = Wire(step=PATIENCE)
        seen = Observed().see(wire.open())
        wire.lose(C, 4)
        seen.see(wire.say(S, b"354"), wire.segment(C), wire.segment(C))
        assert [type(item) for item in seen.items] == [Gap, Chunk]

    def test_a_cut_segment_waits_for_its_cause_too(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open())
        command, reply = wire.say(C, b"DATA"), wire.say(S, b"354")
        seen.see(reply._replace(data=reply.data[:54]))
        assert seen.notes == ["snaplen"]
        assert len(seen.items) == 1
        seen.see(command)
        assert (seen.said(C), seen.said(S)) == (b"DATA", b"<3>")
        assert [item.side for item in seen.items if not isinstance(item, Note)] == [C, S]

    def test_but_not_for_ever(self) -> None:
        wire = Wire(step=PATIENCE)
        seen = Observed().see(wire.open())
        cut = wire.segment(S, b"354", acknowledgement=1002)
        seen.see(cut._replace(data=cut.data[:54]), wire.segment(C, b"a", acknowledgement=5004))
        seen.see(wire.segment(S, sequence=5004, acknowledgement=1002), wire.segment(C, sequence=1002))
        assert (seen.said(C), seen.said(S)) == (b"a", b"<3>")

    def test_two_hosts_that_each_answer_the_other_first_do_not_silence_the_view(self) -> None:
        wire = Wire(step=PATIENCE)
        seen = Observed().see(wire.open())
        seen.see(wire.segment(C, b"a", acknowledgement=5002), wire.segment(S, b"b", acknowledgement=1002))
        seen.see(wire.segment(C, sequence=1002, acknowledgement=5002))
        seen.see(wire.segment(C, sequence=1002, acknowledgement=5002))
        assert sorted(seen.order) == ["C:a", "S:b"]


class TestStart:
    def test_a_stream_without_syn_starts_at_once_where_the_other_side_acknowledged(self) -> None:
        wire = Wire()
        wire.pick_up()
        assert Observed().see(wire.segment(S), wire.say(C, b"DATA\r\n")).said(C) == b"DATA\r\n"

    def test_and_else_at_the_lowest_number_of_the_first_segments(self) -> None:
        wire = Wire()
        wire.pick_up()
        first, second = wire.say(C, b"one "), wire.say(C, b"two")
        seen = Observed().see(second, first)
        assert seen.said(C) == b""
        assert seen.end().said(C) == b"one two"

    def test_which_patience_ends(self) -> None:
        wire = Wire(step=PATIENCE)
        wire.pick_up()
        seen = Observed().see(wire.say(C, b"one "))
        assert seen.see(wire.say(C, b"two")).said(C) == b"one two"

    def test_octets_from_before_the_start_are_in_a_note(self) -> None:
        wire = Wire(step=PATIENCE)
        wire.pick_up()
        early = wire.say(C, b"early")
        seen = Observed().see(wire.say(C, b"one"), wire.segment(S), early)
        assert seen.said(C) == b"one"
        assert [(n.kind, n.octets) for n in seen.items if isinstance(n, Note)][:1] == [("before-start", b"early")]

    def test_a_syn_that_comes_late_tells_the_start(self) -> None:
        wire = Wire()
        syn, synack, ack = wire.open()
        first, second = wire.say(C, b"one "), wire.say(C, b"two")
        seen = Observed().see(second, syn, first, synack, ack)
        assert seen.said(C) == b"one two"
        assert seen.stream.starts(C) == 1001

    def test_a_syn_ack_tells_both_starts(self) -> None:
        wire = Wire()
        _, synack, _ = wire.open()
        seen = Observed().see(synack)
        assert (seen.stream.starts(C), seen.stream.starts(S)) == (1001, 5001)
        wire.lose(C, 3)
        assert seen.see(wire.say(C, b"x"), wire.segment(S)).end().said(C) == b"<3>x"


class TestBounds:
    def test_too_many_waiting_octets_declare_the_hole_with_a_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "HELD_OCTETS", 1000)
        wire = Wire()
        seen = Observed().see(wire.open())
        wire.sequence[C] += 7
        for _ in range(11):
            seen.see(wire.say(C, b"x" * 100))
        assert seen.said(C) == b"<7>" + b"x" * 1100
        assert seen.notes == ["held-limit"]

    def test_too_many_waiting_pieces_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "HELD_PIECES", 10)
        wire = Wire()
        seen = Observed().see(wire.open())
        for n in range(11):
            seen.see(wire.segment(C, b"x", sequence=1002 + 2 * n))
        assert seen.said(C) == b"<1>x"
        assert "held-limit" in seen.notes

    def test_a_number_far_outside_any_window_is_noted_and_harmless(self) -> None:
        wire = Wire()
        seen = Observed().see(wire.open(), wire.say(C, b"a"))
        seen.see(wire.segment(C, b"junk", sequence=1002 + (1 << 31)), wire.say(C, b"b")).end()
        assert seen.said(C) == b"ab"
        (note,) = [item for item in seen.items if isinstance(item, Note)]
        assert (note.kind, note.octets) == ("out-of-window", b"junk")


def test_the_sides_may_be_swapped_before_anything_goes_out() -> None:
    wire = Wire()
    stream = Stream()
    for frame in wire.open():
        segment = segment_of(frame)
        stream.feed(segment, side_of(segment).other)
    assert not stream.begun
    stream.swap()
    assert stream.feed(segment_of(wire.say(C, b"x")), C)[0][:3] == (C, 0, b"x")
