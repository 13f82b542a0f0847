"""The message layer and MIME above it, as messages in conversations; and what must hold for any octets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.glossary import NOTES, UNKNOWN, explain
from capture.labels import label
from capture.model import Label, Layer, Line, Role, Side
from capture.protocols.encoded import display, text
from capture.protocols.message import Above, Messages, carried
from capture.protocols.mime import boundary_of
from tests.capture.conversation import DONE, ENVELOPE, IN_DATA, Event, fields, lines, lost, raw

READY = ("S: +OK ready", "C: USER anna", "S: +OK", "C: PASS layers", "S: +OK")


def above(made: list[Line], side: Side = Side.CLIENT) -> tuple[list[Above], list[str]]:
    """Views of one side's lines, and kinds of notes."""
    messages = Messages()
    seen = [view for line in made if line.side is side for view in messages.feed(line)] + messages.finish()
    return seen, [note.kind for note in messages.take_notes()]


def mail(*said: str) -> tuple[list[Above], list[str]]:
    return above(lines(*IN_DATA, "C: " + "\n".join((*said, ".")), *DONE))


def shown(line: Line | None) -> str:
    return "-" if line is None else f"{label(line, Layer.MESSAGE).value} | {' '.join(fields(line))}"


def kinds(views: list[Above]) -> list[list[str]]:
    return [[span.field for span in view.message.spans] for view in views]


def test_header_fields_and_the_empty_line_are_pci_and_the_body_is_user_data() -> None:
    views, notes = mail("From: a@b", "Subject: long", "\tand folded", "", "Text: body", "..dot")
    assert [shown(view.message) for view in views] == [
        r"PCI | 'From'=field-name ':'=colon ' a@b'=field-body '\r\n'=crlf",
        r"PCI | 'Subject'=field-name ':'=colon ' long'=field-body '\r\n'=crlf",
        r"PCI | '\tand folded'=field-body '\r\n'=crlf",
        r"PCI | '\r\n'=separator-line",
        r"user data | UD 'Text: body'=body UD '\r\n'=line-end",
        r"user data | UD '.dot'=body UD '\r\n'=line-end",
    ]
    assert views[-1].message.spans[0].start == 1
    assert {view.message.pdu for view in views} == {("message", "C1")}
    assert notes == []


def test_a_second_message_is_another_unit() -> None:
    said = (*IN_DATA, "C: A: 1\n.", "S: 250 ok", "C: MAIL FROM:<>", "S: 250", "C: RCPT TO:<b@d>", "S: 250")
    views, _ = above(lines(*said, "C: DATA", "S: 354", "C: B: 2\n\nx\n.", *DONE))
    assert [view.message.pdu.ident for view in views] == ["C1", "C2", "C2", "C2"]


def test_a_message_of_one_line_is_a_whole_unit_if_its_end_was_seen() -> None:
    (view,), notes = mail("Hello")
    assert (label(view.message, Layer.MESSAGE), notes) == (Label.PDU, ["no-header"])
    (cut,), _ = above(lines(*IN_DATA, "C: Hello"))
    assert label(cut.message, Layer.MESSAGE) is Label.USER_DATA


@pytest.mark.parametrize(("said", "fields_", "notes"), [
    (("From anna Mon", "A: b", ""), [["raw", "crlf"], ["field-name", "colon", "field-body", "crlf"],
                                     ["separator-line"]], ["mbox-from"]),
    (("A: b", "no colon", "C: d"), [["field-name", "colon", "field-body", "crlf"], ["body", "line-end"],
                                    ["body", "line-end"]], ["no-separator"]),
    (("A:", " ", "", "x"), [["field-name", "colon", "crlf"], ["field-body", "crlf"], ["separator-line"],
                            ["body", "line-end"]], ["obs-fold"]),
    (("A : b", "", "x"), [["field-name", "sp", "colon", "field-body", "crlf"], ["separator-line"],
                          ["body", "line-end"]], []),
    (("A: caf\xe9", ""), [["field-name", "colon", "field-body", "crlf"], ["separator-line"]], ["header-8bit"]),
    (("A: b\rc", ""), [["field-name", "colon", "field-body", "crlf"], ["separator-line"]], ["header-cr"]),
    (("A: b",), [["field-name", "colon", "field-body", "crlf"]], []),
    (("", "x"), [["separator-line"], ["body", "line-end"]], []),
    ((" folded first", "x"), [["body", "line-end"], ["body", "line-end"]], ["no-header"]),
    ((": no name", "x"), [["body", "line-end"], ["body", "line-end"]], ["no-header"]),
    (("Content-Type: multipart/mixed", "", "--x"), [["field-name", "colon", "field-body", "crlf"], ["separator-line"],
                                                    ["body", "line-end"]], ["no-boundary"]),
])  # fmt: skip
def test_a_malformed_message_is_read_as_receivers_read_it_and_noted(
    said: tuple[str, ...], fields_: list[list[str]], notes: list[str]
) -> None:
    views, told = mail(*said)
    assert (kinds(views), told) == (fields_, notes)
    assert all(NOTES[kind].citation for kind in told)


def test_boundaries_own_the_crlf_in_front_of_them() -> None:
    views, _ = mail("Content-Type: multipart/mixed;", ' boundary="b x"', "", "for old readers", "--b x", "A: b", "",
                    "one", "--b x", "", "--b x-- ", "behind")  # fmt: skip
    assert [(view.mime.pdu.ident if view.mime else "", shown(view.mime)) for view in views[3:]] == [
        ("C1", r"user data | UD 'for old readers'=preamble '\r\n'=boundary"),
        ("C1", r"PCI | '--b x\r\n'=boundary"),
        ("C1.1", r"PCI | 'A: b'=part-header '\r\n'=crlf"),
        ("C1.1", r"PCI | '\r\n'=separator-line"),
        ("C1.1", r"user data | UD 'one'=body '\r\n'=boundary"),
        ("C1", r"PCI | '--b x\r\n'=boundary"),
        ("C1.2", r"PCI | '\r\n'=boundary"),  # an empty part: RFC 2046 5.1.1 gives this CRLF to the boundary
        ("C1", r"PCI | '--b x-- \r\n'=boundary"),
        ("C1", r"user data | UD 'behind'=epilogue UD '\r\n'=line-end"),
    ]
    assert [view.mime for view in views[:3]] == [None, None, None]
    assert {label(view.message, Layer.MESSAGE) for view in views[3:]} == {Label.USER_DATA}


def test_multiparts_nest_and_an_outer_boundary_ends_the_inner_one() -> None:
    said = ["Content-Type: multipart/mixed; boundary=o", "", "--o", "content-type: MULTIPART/alternative;"]
    said += ["  boundary=i", "", "--i", "", "a", "--ii", "--i", "B: c", "", "b", "--o", "", "last", "--o--"]
    views, _ = mail(*said)
    told = [(v.mime.pdu.ident, v.mime.spans[0].field) for v in views if v.mime is not None]
    assert told == [
        ("C1", "boundary"), ("C1.1", "part-header"), ("C1.1", "part-header"), ("C1.1", "separator-line"),
        ("C1.1", "boundary"), ("C1.1.1", "separator-line"), ("C1.1.1", "body"), ("C1.1.1", "body"),
        ("C1.1", "boundary"), ("C1.1.2", "part-header"), ("C1.1.2", "separator-line"), ("C1.1.2", "body"),
        ("C1", "boundary"), ("C1.2", "separator-line"), ("C1.2", "body"), ("C1", "boundary"),
    ]  # fmt: skip


@pytest.mark.parametrize(("field", "boundary"), [
    (b" multipart/mixed; boundary=abc", b"abc"),
    (b"multipart/mixed;\r\n\tcharset=x; BOUNDARY = \"a \\\"b \"", b'a "b'),
    (b"text/plain; boundary=abc", b""),
    (b"multipart/mixed; boundary=", b""),
    (b"multipart/mixed; boundary=\"\"", b""),
])  # fmt: skip
def test_the_boundary_is_found_in_the_content_type(field: bytes, boundary: bytes) -> None:
    assert boundary_of(field) == boundary


def test_the_chunks_of_a_transaction_are_one_message_even_if_a_line_is_cut_between_them() -> None:
    said = (*ENVELOPE, "C: BDAT 6", raw("C", b"Subjec"), "S: 250", "C: BDAT 7", raw("C", b"t: x\r\n\r"), "S: 250")
    views, _ = above(lines(*said, "C: BDAT 7 LAST", raw("C", b"\nbody\r\n"), *DONE))
    assert [shown(view.message) for view in views] == [
        "PCI | 'Subjec'=field-name",
        r"PCI | 't'=field-name ':'=colon ' x'=field-body '\r\n'=crlf",
        r"PCI | '\r'=separator-line",
        r"user data | '\n'=separator-line UD 'body'=body UD '\r\n'=line-end",
    ]
    assert {view.message.pdu.ident for view in views} == {"C1"}


def test_an_aborted_transaction_ends_its_message() -> None:
    said = (*ENVELOPE, "C: BDAT 6", raw("C", b"A: b\r\n"), "S: 250", "C: RSET", "S: 250", "C: MAIL FROM:<a@c>")
    said += ("S: 250", "C: RCPT TO:<b@d>", "S: 250", "C: BDAT 8 LAST", raw("C", b"\r\nx: y\r\n"))
    views, _ = above(lines(*said, *DONE))
    assert [view.message.pdu.ident for view in views] == ["C1", "C2", "C2"]
    assert kinds(views) == [["field-name", "colon", "field-body", "crlf"], ["separator-line"], ["body", "line-end"]]


def test_bdat_0_last_ends_the_message_and_says_that_it_is_whole() -> None:
    views, _ = above(lines(*ENVELOPE, "C: BDAT 3", raw("C", b"x\r\n"), "S: 250", "C: BDAT 0 LAST", *DONE))
    assert [label(view.message, Layer.MESSAGE) for view in views] == [Label.PDU]


def test_a_message_that_pop3_fetches_is_seen_the_same_way() -> None:
    said = (*READY, "C: RETR 1", "S: +OK\nA: b\n\n..x\n.", "C: TOP 2 0", "S: +OK\nC: d\n\n.", "C: QUIT", "S: +OK")
    views, _ = above(lines(*said, protocol="pop3"), Side.SERVER)
    assert [(view.message.pdu.ident, view.message.spans[0].field) for view in views] == [
        ("S1", "field-name"), ("S1", "separator-line"), ("S1", "body"), ("S2", "field-name"), ("S2", "separator-line"),
    ]  # fmt: skip


def test_behind_a_gap_in_the_header_nobody_knows_whether_it_is_over() -> None:
    made = lines(*IN_DATA, raw("C", b"A: b\r\nSubj"), lost("C", 9), raw("C", b"tail\r\nB: c\r\n\r\nx\r\n.\r\n"), *DONE)
    views, _ = above(made)
    assert [(shown(view.message).split(" | ")[1], "assumed" in view.message.flags) for view in views] == [
        (r"'A'=field-name ':'=colon ' b'=field-body '\r\n'=crlf", False),
        ("'Subj'=field-name", False),
        (r"'tail'=raw '\r\n'=crlf", True),
        (r"'B'=field-name ':'=colon ' c'=field-body '\r\n'=crlf", True),
        (r"'\r\n'=separator-line", True),
        (r"UD 'x'=body UD '\r\n'=line-end", False),
    ]


def test_a_session_that_ends_its_lines_in_lf_has_a_header_too() -> None:
    made = lines(*IN_DATA, raw("C", b"A: b\n\nx\n.\n"), "S: 250 ok", raw("C", b"QUIT\n"))
    views, _ = above(made)
    assert kinds(views) == [["field-name", "colon", "field-body", "lf"], ["separator-line"], ["body", "line-end"]]


def test_a_line_that_comes_again_with_a_flag_more_gives_nothing() -> None:
    made = [line for line in lines(*IN_DATA, "C: A: b\n\nx\n.", *DONE) if line.side is Side.CLIENT]
    messages = Messages()
    views = [view for line in made for view in messages.feed(line)]
    assert messages.feed(views[0].message) == []


WORDS = [
    b"A: b\r\n", b" folded\r\n", b"\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n", b"--b--\r\n",
    b"Content-Type: multipart/x;\r\n boundary=\"c\"\r\n", b"--c\r\n", b"--c--", b"\n", b"\r", b"..\r\n", b"x", b"x\r\n",
    b"From me\r\n", b": \r\n", b"\xff:\r\n", b"\0", b" ",
]  # fmt: skip
octets = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=5)), max_size=25).map(b"".join)


def chunks(message: bytes, sizes: list[int]) -> list[str | Event]:
    said: list[str | Event] = []
    turn = 0
    while message:
        piece, message = message[: sizes[turn % len(sizes)]], message[sizes[turn % len(sizes)] :]
        turn += 1
        said += [f"C: BDAT {len(piece)}" + " LAST" * (not message), raw("C", piece), "S: 250 ok"]
    return said


@settings(max_examples=300, deadline=None)
@given(octets, st.lists(st.integers(1, 30), min_size=1, max_size=5), st.booleans(), st.integers(0, 60))
def test_every_octet_that_the_application_carries_is_in_one_span_of_each_view(
    message: bytes, sizes: list[int], by_chunks: bool, hole: int
) -> None:
    said = chunks(message, sizes) if by_chunks else [raw("C", message + b"\r\n.\r\n")]
    if hole and not by_chunks:
        said = [raw("C", message[:hole]), lost("C", 3), raw("C", message[hole:] + b"\r\n.\r\n")]
    made = lines(*(ENVELOPE if by_chunks else IN_DATA), *said, *DONE)
    views, _ = above(made)
    carrying = [line for line in made if line.side is Side.CLIENT and carried(line) != (0, 0)]
    assert [view.message.number for view in views] == [line.number for line in carrying]
    for line, view in zip(carrying, views, strict=True):
        start, end = carried(line)
        spans = view.message.spans
        assert [s.start for s in spans] == [start, *(s.end for s in spans[:-1])]
        assert (spans[-1].end, all(s.start < s.end for s in spans)) == (end, True)
        if view.mime is not None:
            body = [s for s in spans if s.role is Role.USER_DATA]
            inner = view.mime.spans
            assert (inner[0].start, inner[-1].end) == (body[0].start, body[-1].end)
            assert [s.start for s in inner[1:]] == [s.end for s in inner[:-1]]
        else:
            assert not any(s.role is Role.USER_DATA for s in spans)
        for span in (*spans, *(view.mime.spans if view.mime else ())):
            assert explain(span.field) is not UNKNOWN


@settings(max_examples=200, deadline=None)
@given(octets, st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_the_view_does_not_depend_on_how_the_message_was_cut_into_chunks(message: bytes, sizes: list[int]) -> None:
    def flat(views: list[Above], layer: str) -> list[tuple[int, str, str]]:
        made = [getattr(view, layer) for view in views]
        return [
            (octet, span.role.value, span.field)
            for line in made if line is not None
            for span in line.spans
            for octet in line.data[span.start : span.end]
        ]  # fmt: skip

    whole, _ = above(lines(*ENVELOPE, *chunks(message, [len(message) + 1]), *DONE))
    cut, _ = above(lines(*ENVELOPE, *chunks(message, sizes), *DONE))
    assert flat(cut, "message") == flat(whole, "message")
    assert flat(cut, "mime") == flat(whole, "mime")


@pytest.mark.parametrize(("body", "shown_"), [
    (b" =?utf-8?q?caf=C3=A9_noir?= x\r\n", "café noir x"),
    (b"=?utf-8?b?w4Q=?=\r\n =?UTF-8*de?B?w5Y=?=", "ÄÖ"),
    (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?= end", "é end"),
    (b"=?nowhere?q?=E9?=", "é"),
    (b"=?utf-8?b?***?=", "=?utf-8?b?***?="),
    (b"=?unicode_escape?q?=5Cq?=", "\\q"),
    (b"caf\xc3\xa9", "café"),
    (b"caf\xe9", "café"),
    (b"a =?utf-8?q?b?=  c", "a b  c"),
])  # fmt: skip
def test_header_text_is_shown_decoded_and_what_cannot_be_decoded_as_it_stands(body: bytes, shown_: str) -> None:
    assert display(body) == shown_


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=6), st.sampled_from([b"=?", b"?=", b"?q?", b"?b?", b"utf-7", b"idna"]))).map(
        b"".join
    ),
    st.sampled_from(["", "utf-8", "utf-7", "punycode", "hex", "undefined", "a\0b", "mbcs"]),
)
def test_display_never_raises(octets_: bytes, charset: str) -> None:
    assert isinstance(display(octets_), str)
    assert isinstance(display(b"=?" + charset.encode() + b"?q?" + octets_ + b"?="), str)
    assert isinstance(text(octets_, charset), str)
