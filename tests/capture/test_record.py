"""What is kept, and what is released: updates as tables."""

from __future__ import annotations

import pytest

from capture import runs
from capture.model import Conversation, Endpoint, Line, Missing, Note, Pdu, Role, Run, Side, Span, Update
from capture.record import NOTES, ROW_OCTETS, Ordered, Record

A, B = Endpoint(bytes([192, 0, 2, 10]), 49152), Endpoint(bytes([192, 0, 2, 25]), 25)
C, S = Side.CLIENT, Side.SERVER


def line(order: int, *flags: str, conversation: int = 1, side: Side = C, number: int = 1) -> Line:
    data = b"QUIT\r\n"
    pdu = Pdu("QUIT command", f"{side.value}{number}")
    spans = (Span(0, len(data), Role.PCI, "raw"),)
    return Line(conversation, side, number, 0, data, pdu, spans, flags, not flags, order=order)


def test_a_new_record_is_empty() -> None:
    record = Record()
    assert (record.conversations, record.lines, record.gaps, record.notes, record.rows()) == ([], [], [], [], [])
    assert record.conversation(1) is None


def test_the_newest_facts_of_a_conversation_are_kept() -> None:
    record = Record()
    record.apply(Update(conversations=(Conversation(2, A, B), Conversation(1, A, B))))
    record.apply(Update(conversations=(Conversation(1, A, B, protocol="smtp", closed=True),)))
    assert [(fact.ident, fact.protocol, fact.closed) for fact in record.conversations] == [
        (1, "smtp", True),
        (2, "", False),
    ]
    assert record.conversation(1) == Conversation(1, A, B, protocol="smtp", closed=True)


def test_rows_stand_in_order_of_capture_whatever_the_order_of_making() -> None:
    record = Record()
    late, gap, early = line(30, number=2), Missing(1, S, 0, 5, order=20), line(10)
    record.apply(Update(lines=(late,), gaps=(gap,)))
    assert record.rows() == [gap, late]
    record.apply(Update(lines=(early,)))
    assert record.rows() == record.rows(1) == [early, gap, late]
    assert (record.lines, record.gaps) == ([early, late], [gap])


def test_rows_of_one_conversation_are_its_own() -> None:
    record = Record()
    mine, other = line(1), line(0, conversation=2)
    record.apply(Update(lines=(mine, other)))
    assert (record.rows(1), record.rows(2), record.rows(3)) == ([mine], [other], [])
    assert record.rows() == [other, mine]


def test_a_line_that_comes_again_with_a_flag_more_takes_the_place_of_the_first() -> None:
    record = Record()
    first, again, behind = line(3), line(3, "eod-in-gap"), line(9, number=2)
    record.apply(Update(lines=(first, behind)))
    record.apply(Update(lines=(again,)))
    assert record.rows() == [again, behind]
    assert record.lines == [again, behind]


def test_what_rows_gives_may_be_changed_without_harm() -> None:
    record = Record()
    record.apply(Update(lines=(line(1),)))
    record.rows().clear()
    record.rows(1).clear()
    assert (len(record.rows()), len(record.rows(1))) == (1, 1)


def test_notes_are_kept_in_order_of_arrival() -> None:
    record = Record()
    notes = Note("retransmission", "Octets sent again.", 5, 1), Note("keep-alive", "A keep-alive.", 4, 1)
    for note in notes:
        record.apply(Update(notes=(note,)))
    assert record.notes == list(notes)


def test_a_million_notes_of_a_kind_are_a_hundred_and_a_count() -> None:
    record = Record()
    for number in range(1000):
        record.apply(Update(notes=(Note("retransmission", "", number, 1), Note("retransmission", "", number, 2))))
    record.apply(Update(notes=(Note("keep-alive", "", 1, 1),)))
    assert len(record.notes) == 2 * NOTES + 1
    assert record.noted == {(1, "retransmission"): 1000, (2, "retransmission"): 1000, (1, "keep-alive"): 1}


def test_ordered_releases_what_nothing_earlier_can_follow() -> None:
    ordered = Ordered()
    early, gap, late = line(10), Missing(1, S, 0, 5, order=20), line(30, number=2)
    assert list(ordered.add(Update(lines=(late,), gaps=(gap,)), horizon=10)) == []
    assert list(ordered.add(Update(lines=(early,)), horizon=21)) == [early, gap]
    assert list(ordered.add(Update(), horizon=30)) == []
    assert list(ordered.rest()) == [late]
    assert list(ordered.rest()) == []


def test_ordered_keeps_the_later_of_two_copies_of_a_line() -> None:
    ordered = Ordered()
    again = line(3, "eod-in-gap")
    assert list(ordered.add(Update(lines=(line(3),)), horizon=3)) == []
    assert list(ordered.add(Update(lines=(again,)), horizon=9)) == [again]


# ── runs, and what waits too long ────────────────────────────────────────────────────────────────────────────────────


def run(order: int, octets: bytes, *, conversation: int = 1, number: int = 1, offset: int = 0) -> Run:
    total = octets.count(b"\n")
    return Run(conversation, C, number, offset, octets, Pdu("mail data", "C5"), (), total, (7,), 9, order)


BODY = b"one\r\n\r\nthree\r\nfour\r\n"


def test_the_lines_of_a_run_are_numbered_on_and_stand_where_their_octets_stand() -> None:
    lines = runs.lines(run(100, BODY, number=4, offset=50))
    assert [(row.number, row.offset, row.order, row.data) for row in lines] == [
        (4, 50, 100, b"one\r\n"),
        (5, 55, 105, b"\r\n"),
        (6, 57, 107, b"three\r\n"),
        (7, 64, 114, b"four\r\n"),
    ]
    assert [[(span.start, span.end, span.field) for span in row.spans] for row in lines[:2]] == [
        [(0, 3, "content"), (3, 5, "line-end")],
        [(0, 2, "line-end")],
    ]
    assert {(row.frames, row.time, row.whole, row.pdu.ident) for row in lines} == {((7,), 9, False, "C5")}
    assert runs.last(run(100, BODY)) == runs.lines(run(100, BODY))[-1]
    assert runs.last_offset(run(100, BODY, offset=50)) == 64


@pytest.mark.parametrize("count", range(5))
def test_a_run_cut_anywhere_has_the_same_lines(count: int) -> None:
    front, rest = runs.cut(run(100, BODY, number=4, offset=50), count)
    assert (front.total, rest.total) == (count, 4 - count)
    assert [*runs.lines(front), *runs.lines(rest)] == runs.lines(run(100, BODY, number=4, offset=50))


@pytest.mark.parametrize(
    ("block", "odd"),
    [
        (b"plain\r\n", 7),
        (b".\r\n", 0),
        (b"a\r\n.\r\n", 3),
        (b"a\r\n..b\r\nc\r\n", 3),
        (b"a.b\r\nc.\r\n", 9),
        (b"x" * 998 + b"\r\n", 1000),
        (b"x" * 999 + b"\r\n", 0),
        (b"a\r\n" + b"x" * 999 + b"\r\n.\r\n", 3),
        (b"a\r\n" * 500 + b"x" * 2000 + b"\r\n", 1500),
    ],
    ids=range(9),
)
def test_a_line_with_a_dot_in_front_or_too_long_is_not_plain(block: bytes, odd: int) -> None:
    assert runs.first_odd(block) == odd


def test_a_record_takes_runs_as_lines() -> None:
    record = Record()
    record.apply(Update(runs=(run(10, BODY),)))
    assert record.rows() == runs.lines(run(10, BODY))


@pytest.mark.parametrize(("horizon", "released"), [(100, 0), (101, 1), (105, 1), (106, 2), (108, 3), (115, 4)])
def test_a_run_is_released_as_far_as_the_horizon_reaches(horizon: int, released: int) -> None:
    ordered = Ordered()
    first = [row for part in ordered.add(Update(runs=(run(100, BODY),)), horizon) for row in runs.lines(part)]
    rest = [row for part in ordered.rest() for row in runs.lines(part)]
    assert len(first) == released
    assert first + rest == runs.lines(run(100, BODY))


@pytest.mark.parametrize("number", range(1, 5))
def test_a_line_that_comes_again_takes_its_place_in_a_run(number: int) -> None:
    ordered = Ordered()
    lines = runs.lines(run(100, BODY))
    again = lines[number - 1]._replace(flags=("eod-in-gap",))
    assert not list(ordered.add(Update(runs=(run(100, BODY),)), 100))
    assert not list(ordered.add(Update(lines=(again,)), 100))
    rows = [row for part in ordered.rest() for row in (runs.lines(part) if isinstance(part, Run) else [part])]
    assert rows == [again if row.number == number else row for row in lines]


def lines_of(conversation: int, orders: range) -> tuple[Line, ...]:
    return tuple(line(order, conversation=conversation, number=order) for order in orders)


def test_an_unfinished_line_holds_back_no_more_than_the_limit_and_its_own_conversation() -> None:
    ordered = Ordered(limit=10 * (ROW_OCTETS + 6))
    update = Update(lines=(*lines_of(1, range(10, 13)), *lines_of(2, range(20, 25))))
    assert not list(ordered.add(update, 5, {1: 5}))  # an octet of conversation 1 is in no line; there is room
    assert ordered.hurried == 0
    released = list(ordered.add(Update(lines=lines_of(3, range(30, 35))), 5, {1: 5}))
    assert {row.conversation for row in released} == {2, 3}
    assert [row.order for row in released] == sorted(row.order for row in released)
    assert ordered.hurried == len(released) == 8
    rest = list(ordered.add(Update(lines=lines_of(1, range(5, 6))), 99, {}))
    assert [row.order for row in rest if row.conversation == 1] == [5, 10, 11, 12]


def test_a_conversation_that_alone_passes_the_limit_is_released_too() -> None:
    ordered = Ordered(limit=4 * (ROW_OCTETS + 6))
    released = list(ordered.add(Update(lines=lines_of(1, range(10, 20))), 5, {1: 5}))
    assert [row.order for row in released] == [10, 11, 12, 13, 14, 15, 16, 17]
    assert [row.order for row in ordered.rest()] == [18, 19]


def test_without_a_word_on_who_waits_nothing_is_hurried() -> None:
    ordered = Ordered(limit=1)
    assert not list(ordered.add(Update(lines=lines_of(1, range(10, 20))), 5))
    assert len(ordered) == 10
