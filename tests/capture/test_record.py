"""What is kept, and what is released: updates as tables."""

from __future__ import annotations

from capture.model import Conversation, Endpoint, Line, Missing, Note, Pdu, Role, Side, Span, Update
from capture.record import NOTES, Ordered, Record

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
