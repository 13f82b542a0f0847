"""Octets to cells, brackets, the dialogue's matching and the suggestions: as tables, without a screen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from capture.analyzer import Analyzer
from capture.exported import LINKTYPE_UPPER_PDU, pack
from capture.model import Conversation, Endpoint, Frame, Layer, Line, Missing, Pdu, Role, Side, Span, Update
from tests.capture.forge import Wire, capture_of
from tests.tui.fake import C, S, spans_of
from tui.dialog import Dialog, hide
from tui.dissect import dissect
from tui.render import GLYPHS, Cells, SafeFilter, safe_text, visible, wrap
from tui.rows import Boundary, Rows
from tui.suggest import Guide

BLACK = Color(0, 0, 0)


def made(
    side: Side, body: str, ident: str, *, order: int, offset: int = 0, name: str = "", whole: bool = True, conv: int = 1
) -> Line:
    """A captured line, for tables."""
    data = body.encode() + b"\r\n"
    spans = spans_of(side, body.encode(), in_data=name == "mail data")
    return Line(
        conv, side, order, offset, data, Pdu(name or "x", ident), spans, (), whole, frames=(order,), order=order
    )


# ── octets and text ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_octet_is_one_printable_cell() -> None:
    assert len(GLYPHS) == 256
    assert [cell_len(glyph) for glyph in GLYPHS] == [1] * 256
    assert all(glyph.isprintable() for glyph in GLYPHS)
    assert visible(b"QUIT\r\n\x1b\x7f\x9b\xff") == "QUIT␍␊␛␡··"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("caf\u00e9", "café"),
        ("e\u0301", "é"),
        ("\x1b[2J", "␛[2J"),
        ("a\nb\tc", "a␊b␉c"),
        ("\x9b31m", "\ufffd31m"),
        ("\u202egpj.exe", "\ufffdgpj.exe"),
        ("zero\u200bwidth", "zero\ufffdwidth"),
        ("lone \udc9b", "lone \ufffd"),
        ("\u2028", "\ufffd"),
        ("z" + "\u0335" * 9, "z" + "\u0335" * 2),
    ],
)
def test_text_loses_what_a_terminal_could_obey(text: str, safe: str) -> None:
    assert safe_text(text) == safe


@given(st.text())
def test_no_text_whatever_passes_the_last_gate_with_a_control(text: str) -> None:
    (segment,) = SafeFilter().apply([Segment(text, Style())], BLACK)
    assert not [c for c in segment.text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]
    assert not [c for c in safe_text(text) if unicodedata.category(c)[0] == "C"]


@given(st.binary(max_size=60), st.integers(0, 40))
def test_a_row_is_as_wide_as_asked_whatever_is_in_it(octets: bytes, width: int) -> None:
    cells = Cells().add("» ", Style()).add(visible(octets), Style())
    assert cells.crop(width, Style()).strip(width, Style()).cell_length == width


@given(st.text(alphabet="ab é漢", max_size=80), st.integers(2, 30))
def test_wrapping_loses_only_blanks_and_fits(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(cell_len(row) <= width for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")


def test_wrapping_to_a_limit_says_that_more_was_there() -> None:
    assert wrap("aaaa bbbb cccc", 4, limit=2) == ["aaaa", "bbb…"]


# ── brackets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

BRACKETS = [
    ("one line, one PDU", [(C, "QUIT", "C1", True)], " "),
    ("a reply of three", [(S, "250-a", "S1", False), (S, "250-b", "S1", False), (S, "250 c", "S1", False)], "╭│╰"),
    ("a reply that still comes", [(S, "250-a", "S1", False), (S, "250-b", "S1", False)], "╭│"),
    ("its first line alone", [(S, "250-a", "S1", False)], "╭"),
    (
        "a reply that never ended",
        [(S, "250-a", "S1", False), (S, "250-b", "S1", False), (S, "221 x", "S2", True)],
        "╭╰ ",
    ),
    (
        "mail data up to the dot",
        [(C, "m:Hello", "C1", False), (C, "m:you", "C1", False), (C, "m:.", "C1", False), (S, "250 ok", "S1", True)],
        "╭│╰ ",
    ),
    (
        "a reply in the middle of mail data",
        [(C, "m:Hello", "C1", False), (S, "421 bye", "S1", True), (C, "m:.", "C1", False)],
        "╭┆╰",
    ),
    (
        "two replies one after the other",
        [(S, "250-a", "S1", False), (S, "250 b", "S1", False), (S, "2", "S2", True)],
        "╭╰ ",
    ),
]


@pytest.mark.parametrize(("rows", "glyphs"), [case[1:] for case in BRACKETS], ids=[case[0] for case in BRACKETS])
def test_brackets(rows: list[tuple[Side, str, str, bool]], glyphs: str) -> None:
    held = Rows()
    for order, (side, body, ident, whole) in enumerate(rows, 1):
        name = "mail data" if body.startswith("m:") else ""
        held.apply(Update(lines=(made(side, body.removeprefix("m:"), ident, order=order, name=name, whole=whole),)))
    assert "".join(held.bracket(index).glyph for index in range(len(held))) == glyphs
    assert sum(held.bracket(index).named for index in range(len(held))) == len({ident for _, _, ident, _ in rows})


def test_a_line_held_back_is_put_where_it_was_captured() -> None:
    held = Rows()
    text = made(C, "Hello", "C2", order=2, offset=6, name="mail data", whole=False)
    assert not held.apply(Update(lines=(made(C, "DATA", "C1", order=1), made(S, "354 go", "S1", order=3))))
    assert held.apply(Update(lines=(text,)))
    assert [row.order for row in held.rows] == [1, 2, 3]
    assert held.index(text) == 1


def test_a_second_conversation_begins_with_a_mark_and_gaps_stand_in_their_place() -> None:
    held = Rows()
    held.apply(Update(lines=(made(S, "220 a", "S1", order=1),)))
    held.apply(Update(gaps=(Missing(1, S, 7, 1460, 0, 2),)))
    held.apply(Update(lines=(made(S, "220 b", "S1", order=4, conv=2),)))
    held.apply(Update(lines=(made(C, "EHLO x", "C1", order=3, conv=2),)))
    kinds = [(type(row).__name__, row.order) for row in held.rows]
    assert kinds == [("Line", 1), ("Missing", 2), ("Boundary", 3), ("Line", 3), ("Line", 4)]
    assert [held.index(row) for row in held.rows] == [0, 1, 2, 3, 4]
    assert isinstance(held.rows[2], Boundary)


def test_a_line_handed_out_again_takes_the_place_of_the_first() -> None:
    """The end of mail data lay in a gap: only the reply tells, and the line before the gap is told anew."""
    held, analyzer = Rows(), Analyzer(strict=True)
    said = [
        ("S", "220 shannon\r\n"),
        ("C", "DATA\r\n"),
        ("S", "354 go\r\n"),
        ("C", "one\r\n"),
        ("C", 3),
        ("S", "250 ok\r\n"),
    ]
    exchange = [{"dir": side, "gap" if isinstance(what, int) else "bytes": what} for side, what in said]
    before = None
    for frame in capture_of(exchange):
        held.apply(analyzer.feed(frame))
        before = before or next((row for row in held.rows if isinstance(row, Line) and row.data == b"one\r\n"), None)
    held.apply(analyzer.finish())
    shown = [(row.data, row.flags) for row in held.rows if isinstance(row, Line)]
    assert before is not None
    assert before.flags == ()
    assert shown == [
        (b"220 shannon\r\n", ()),
        (b"DATA\r\n", ()),
        (b"354 go\r\n", ()),
        (b"one\r\n", ("eod-in-gap",)),
        (b"250 ok\r\n", ()),
    ]
    assert held.lines == 5
    assert held.index(before) == 3


def test_a_hundred_thousand_rows_cost_as_much_each_as_a_hundred() -> None:
    held = Rows()
    for order in range(1, 100_001):
        held._add_line(made(C, "x", "C1", order=order, offset=3 * order, name="mail data", whole=False))
    assert len(held) == 100_000
    assert held.bracket(99_999).glyph == "│"
    assert [line.order for line in held.overlapping(1, C, 150_000, 150_006)] == [50_000, 50_001]


# ── what was typed and what was captured ─────────────────────────────────────────────────────────────────────────────

CLIENT, SERVER = Endpoint(b"\xc0\0\2\x0a", 40000), Endpoint(b"\xc0\0\2\x19", 25)


def begun(number: int = 1, port: int = 40000) -> tuple[Dialog, Update]:
    dialog = Dialog()
    dialog.open(CLIENT._replace(port=port), SERVER)
    return dialog, Update(conversations=(Conversation(number, CLIENT._replace(port=port), SERVER),))


def test_a_typed_line_is_faint_until_its_octets_were_captured() -> None:
    dialog, start = begun()
    dialog.apply(start)
    first, second = dialog.type("HELO a"), dialog.type("NOOP")
    assert first.faint
    assert second.faint
    dialog.apply(Update(lines=(made(C, "HELO a", "C1", order=1),)))
    assert not first.faint
    assert first.line is not None
    assert second.faint
    dialog.apply(Update(lines=(made(C, "NOOP", "C2", order=2, offset=8),)))
    assert not second.faint
    assert dialog.unseen() == 0


def test_equal_lines_are_told_apart_by_their_offsets() -> None:
    dialog, start = begun()
    dialog.apply(start)
    first, second = dialog.type("NOOP"), dialog.type("NOOP")
    dialog.apply(Update(lines=(made(C, "NOOP", "C1", order=2, offset=6),)))
    assert first.faint
    assert not second.faint


def test_half_a_line_is_not_the_line() -> None:
    dialog, start = begun()
    dialog.apply(start)
    entry = dialog.type("HELO a")
    half = made(C, "HELO a", "C1", order=1)._replace(data=b"HELO", spans=(Span(0, 4, Role.PCI, "verb"),))
    dialog.apply(Update(lines=(half,)))
    assert entry.faint
    dialog.apply(Update(lines=(half._replace(offset=4, data=b" a\r\n"),)))
    assert not entry.faint


def test_octets_that_nobody_typed_shift_what_was_typed_behind_them() -> None:
    dialog, start = begun()
    dialog.apply(start)
    entry = dialog.type("HELO a")
    telnet = made(C, "", "C1", order=1)._replace(data=b"\xff\xfc\x01")
    dialog.apply(Update(lines=(telnet,)))
    dialog.apply(Update(lines=(made(C, "HELO a", "C2", order=2, offset=3),)))
    assert not entry.faint
    assert [e.octets for e in dialog.entries] == [b"HELO a\r\n", b"\xff\xfc\x01"]


def test_another_conversation_on_the_wire_is_not_the_session() -> None:
    dialog, start = begun(1)
    dialog.apply(Update(conversations=(Conversation(7, CLIENT._replace(port=50000), SERVER),)))
    dialog.apply(start)
    entry = dialog.type("NOOP")
    assert dialog.apply(Update(lines=(made(C, "NOOP", "C1", order=1, conv=7),))) == []
    assert entry.faint


def test_after_a_new_connection_offsets_count_from_nought_again() -> None:
    dialog, start = begun()
    dialog.apply(start)
    old = dialog.type("NOOP")
    dialog.open(CLIENT._replace(port=40001), SERVER)
    new = dialog.type("NOOP")
    dialog.apply(Update(conversations=(Conversation(2, CLIENT._replace(port=40001), SERVER),)))
    dialog.apply(Update(lines=(made(C, "NOOP", "C1", order=1, conv=2),)))
    assert old.faint
    assert not new.faint
    assert dialog.unseen() == 1


@pytest.mark.parametrize("capture_first", [True, False])
def test_octets_from_the_socket_wait_for_their_captured_twin(capture_first: bool) -> None:
    dialog, start = begun()
    dialog.apply(start)
    line = Update(lines=(made(S, "220 hi", "S1", order=1),))
    if capture_first:
        dialog.apply(line)
    dialog.receive(b"220 hi\r\n", 1.0)
    assert dialog.tail(1.1) == []
    if not capture_first:
        assert dialog.tail(2.0) == [b"220 hi\r\n"]
        dialog.apply(line)
    assert dialog.tail(2.0) == []
    dialog.receive(b"password: ", 3.0)
    assert dialog.tail(4.0) == [b"password: "]
    assert [entry.octets for entry in dialog.entries] == [b"220 hi\r\n"]


def test_a_reply_the_capture_missed_stays_faint() -> None:
    dialog, start = begun()
    dialog.apply(start)
    dialog.receive(b"220 hi\r\n250 ok\r\n", 1.0)
    dialog.apply(Update(gaps=(Missing(1, S, 0, 8),)))
    dialog.apply(Update(lines=(made(S, "250 ok", "S1", order=2, offset=8),)))
    assert [(entry.octets, entry.faint) for entry in dialog.entries] == [(b"220 hi\r\n", True), (b"250 ok\r\n", False)]


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        (b"PASS talking\r\n", b"PASS *******\r\n"),
        (b"pass  a b\r\n", b"pass  ***\r\n"),
        (b"AUTH PLAIN AGEAYg==\r\n", b"AUTH PLAIN ********\r\n"),
        (b"AUTH LOGIN\r\n", b"AUTH LOGIN\r\n"),
        (b"PASSAGE one\r\n", b"PASSAGE one\r\n"),
        (b"HELO pass\r\n", b"HELO pass\r\n"),
    ],
)
def test_a_typed_password_is_hidden_before_it_was_captured(typed: bytes, seen: bytes) -> None:
    assert hide(typed) == seen


# ── suggestions ──────────────────────────────────────────────────────────────────────────────────────────────────────

DIALOGUES = {
    "a whole message": [
        ("S", "220 hi", "HELO your-pc"),
        ("C", "HELO your-pc", None),
        ("S", "250 hi", "MAIL FROM:<you'll-never-know@student.example>"),
        ("C", "MAIL FROM:<>", None),
        ("S", "250 ok", "RCPT TO:<student@student.example>"),
        ("C", "RCPT TO:<a@b>", None),
        ("S", "250 ok", "DATA"),
        ("C", "DATA", None),
        ("S", "354 go", "From: You'll-never-know-for-sure"),
        ("C", "m:From: me", "To: student@student.example"),
        ("C", "m:To: you", "Subject: Talking SMTP"),
        ("C", "m:Subject: x", ""),
        ("C", "m:", "Guess who typed this."),
        ("C", "m:Hello", "."),
        ("C", "m:more", "."),
        ("C", "m:.", None),
        ("S", "250 queued", "QUIT"),
        ("C", "QUIT", None),
        ("S", "221 bye", None),
    ],
    "typos end nothing": [
        ("S", "220 hi", "HELO your-pc"),
        ("C", "HALO", None),
        ("S", "500 what?", "HELO your-pc"),
        ("C", "EHLO a", None),
        ("S", "250-hi", None),
        ("S", "250 SIZE", "MAIL FROM:<you'll-never-know@student.example>"),
        ("C", "MAIL FROM:<>", None),
        ("S", "250 ok", "RCPT TO:<student@student.example>"),
        ("C", "RCPT TO:<nobody@b>", None),
        ("S", "550 unknown", "RCPT TO:<student@student.example>"),
        ("C", "RSET", None),
        ("S", "250 ok", "MAIL FROM:<you'll-never-know@student.example>"),
    ],
    "refused text": [
        ("S", "220 hi", "HELO your-pc"),
        ("C", "HELO a", None),
        ("C", "MAIL FROM:<>", None),
        ("C", "RCPT TO:<a@b>", None),
        ("C", "DATA", None),
        ("S", "250 hi", "MAIL FROM:<you'll-never-know@student.example>"),
        ("S", "250 ok", "RCPT TO:<student@student.example>"),
        ("S", "250 ok", "DATA"),
        ("S", "354 go", "From: You'll-never-know-for-sure"),
        ("C", "m:.", None),
        ("S", "554 Transaction failed", "MAIL FROM:<you'll-never-know@student.example>"),
    ],
    "no service here": [("S", "554 no", None)],
    "a mailbox": [
        ("S", "+OK hi", "USER student"),
        ("C", "USER student", None),
        ("S", "+OK", "PASS talking"),
        ("C", "PASS x", None),
        ("S", "-ERR no", "PASS talking"),
        ("C", "PASS talking", None),
        ("S", "+OK", "STAT"),
        ("C", "STAT", None),
        ("S", "+OK 1 300", "LIST"),
    ],
}


@pytest.mark.parametrize("lines", DIALOGUES.values(), ids=DIALOGUES.keys())
def test_the_next_sensible_line(lines: list[tuple[str, str, str | None]]) -> None:
    guide = Guide()
    assert guide.next.line is None
    for order, (side, body, expected) in enumerate(lines, 1):
        text = body.removeprefix("m:")
        name = "mail data" if body.startswith("m:") else f"{text.split(' ')[0]} command"
        guide.feed(made(Side(side), text, f"{side}{order}", order=order, name=name))
        assert guide.next.line == expected, (order, body)


def test_an_answer_to_a_challenge_is_a_secret() -> None:
    guide = Guide()
    for order, (side, body) in enumerate([(S, "220 hi"), (C, "AUTH LOGIN"), (S, "334 VXNlcg==")], 1):
        guide.feed(made(side, body, "x", order=order, name="AUTH command"))
    assert guide.asks_secret
    guide.feed(made(C, "YQ==", "x", order=4, name="AUTH response"))
    assert not guide.asks_secret


# ── a line found again in its frames ─────────────────────────────────────────────────────────────────────────────────


def plain(line: Line) -> bytes:
    return line.data


@pytest.mark.parametrize("isn", [1000, 2**32 - 8], ids=["", "with the sequence number passing through 0"])
def test_a_line_over_three_frames_is_found_in_each_and_its_neighbours_are_not_it(isn: int) -> None:
    wire = Wire(isn=(isn, 5000))
    frames = {frame.number: frame for frame in wire.open()}
    texts = [b"NOOP\r\nHE", b"LO a", b"\r\nQUIT\r\n"]
    frames |= {frame.number: frame for frame in (wire.say(C, text) for text in texts)}
    held = Rows()
    lines = [
        made(C, "NOOP", "C1", order=1)._replace(frames=(4,)),
        made(C, "HELO a", "C2", order=2, offset=6)._replace(frames=(4, 5, 6)),
        made(C, "QUIT", "C3", order=3, offset=14)._replace(frames=(6,)),
    ]
    held.apply(Update(lines=tuple(lines)))
    parts = dissect(lines[1], held, frames.get, plain, limit=9)
    chosen = [
        bytes(octet for octet, mark in zip(part.frame.data, part.octets, strict=True) if mark.chosen) for part in parts
    ]
    assert chosen == [b"HE", b"LO a", b"\r\n"]
    assert [part.first - 54 for part in parts] == [6, 0, 0]
    assert [mark.layer for mark in parts[0].octets[:54:20]] == [Layer.LINK, Layer.NETWORK, Layer.TRANSPORT]
    assert len(dissect(lines[1], held, frames.get, plain, limit=2)) == 2
    assert dissect(lines[1], held, lambda number: None, plain, limit=9) == []


def test_a_line_recorded_at_the_socket_is_found_without_sequence_numbers() -> None:
    texts = [(C, b"NOOP\r\nHE"), (S, b"250 ok\r\n"), (C, b"LO a\r\n")]
    frames = {}
    for number, (side, text) in enumerate(texts, 1):
        ends = (CLIENT, SERVER) if side is C else (SERVER, CLIENT)
        data = pack(*ends, text)
        frames[number] = Frame(number, number, data, len(data), LINKTYPE_UPPER_PDU)
    held = Rows()
    first = made(C, "NOOP", "C1", order=1)._replace(frames=(1,))
    line = made(C, "HELO a", "C2", order=2, offset=6)._replace(frames=(1, 3))
    held.apply(Update(lines=(first, line)))
    parts = dissect(line, held, frames.get, plain, limit=9)
    assert [part.first for part in parts] == [len(frames[1].data) - 2, len(frames[3].data) - 6]
    assert not parts[0].headers
    assert {mark.layer for mark in parts[0].octets} == {None, Layer.APPLICATION}


def test_what_waits_behind_auth_for_its_reply_is_not_shown() -> None:
    wire = Wire()
    frames = {frame.number: frame for frame in [*wire.open(), wire.say(C, b"AUTH PLAIN\r\nAGEAYg==\r\n")]}
    held = Rows()
    line = made(C, "AUTH PLAIN", "C1", order=1)._replace(frames=(4,))
    held.apply(Update(lines=(line,)))
    (part,) = dissect(line, held, frames.get, plain, limit=9)
    assert bytes(o for o, mark in zip(part.frame.data, part.octets, strict=True) if mark.hidden) == b"AGEAYg==\r\n"
