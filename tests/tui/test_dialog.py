"""The session's entries: what the socket had first, and the captured lines that take its place, however cut."""

from __future__ import annotations

import pytest

from capture.model import Conversation, Endpoint, Line, Missing, Pdu, Role, Side, Span, Update
from tui.dialog import Dialog, Kind

CLIENT, SERVER = Endpoint(b"\x0a\0\0\1", 40000), Endpoint(b"\x0a\0\0\2", 2525)


def begun() -> Dialog:
    dialog = Dialog()
    dialog.open(CLIENT, SERVER)
    dialog.apply(Update(conversations=(Conversation(1, CLIENT, SERVER, ""),)))
    return dialog


def captured(dialog: Dialog, offset: int, *pieces: bytes, side: Side = Side.SERVER) -> None:
    for number, data in enumerate(pieces, 1):
        pdu, spans = Pdu("unknown", f"S{number}"), (Span(0, len(data), Role.PCI, "raw"),)
        dialog.apply(Update(lines=(Line(1, side, number, offset, data, pdu, spans, (), False),)))
        offset += len(data)


def shown(dialog: Dialog) -> list[tuple[str, bytes, bool]]:
    return [(entry.kind.value, entry.octets, entry.faint) for entry in dialog.entries]


TYPED = ("typed", b"NOOP\r\n", True)


@pytest.mark.parametrize(
    ("read", "pieces", "then"),
    [
        ((b"220 mx\r\n",), (b"220 mx\r\n",), [b"220 mx\r\n"]),
        ((b"220-a\r\n220 b\r\n",), (b"220-a\r\n", b"220 b\r\n"), [b"220-a\r\n", b"220 b\r\n"]),
        ((b"220 a\rb\r\n",), (b"220 a\rb\r\n",), [b"220 a\rb\r\n"]),  # a CR alone ends no line
        ((b"220 m", b"x\r\n"), (b"220 mx\r\n",), [b"220 mx\r\n"]),  # half of it was read before NOOP
        ((b"\x16\n\x03\n\x03",), (b"\x16\n\x03\n\x03",), [b"\x16\n\x03\n\x03"]),  # a record is one line
        ((b"abcdef",), (b"abc", b"def"), [b"abcdef"]),  # a line without end comes in pieces
        ((b"a\nb\n",), (b"a\nb", b"\n"), [b"a\nb", b"\n"]),
    ],
)
def test_captured_lines_take_the_place_of_what_was_read_before_something_was_typed(
    read: tuple[bytes, ...], pieces: tuple[bytes, ...], then: list[bytes]
) -> None:
    dialog = begun()
    dialog.receive(read[0], 0.0)
    dialog.type("NOOP")
    for octets in read[1:]:
        dialog.receive(octets, 0.0)
    assert shown(dialog)[-1] == TYPED
    captured(dialog, 0, *pieces)
    assert shown(dialog) == [*(("server", octets, False) for octets in then), TYPED]
    assert dialog.tail(99.0) == []
    dialog.receive(b"250 ok\r\n", 1.0)
    captured(dialog, sum(map(len, pieces)), b"250 ok\r\n")
    assert shown(dialog)[-1] == ("server", b"250 ok\r\n", False)


def test_what_is_never_captured_stays_where_it_was_said_and_faint() -> None:
    dialog = begun()
    dialog.receive(b"220 mx\r\n", 0.0)
    dialog.say("The server reset the connection.")
    dialog.receive(b"bye\r\n", 0.0)
    dialog.open(CLIENT, SERVER)
    assert shown(dialog) == [
        ("server", b"220 mx\r\n", True),
        ("notice", b"The server reset the connection.", False),
        ("server", b"bye\r\n", True),
    ]


def test_octets_in_a_gap_of_the_capture_stay_faint_and_the_line_behind_it_is_not_shown_twice() -> None:
    dialog = begun()
    dialog.receive(b"220 mx\r\n250 ok\r\n", 0.0)
    dialog.type("NOOP")
    dialog.apply(Update(gaps=(Missing(1, Side.SERVER, 0, 8),)))
    captured(dialog, 8, b"250 ok\r\n")
    assert shown(dialog) == [("server", b"220 mx\r\n", True), ("server", b"250 ok\r\n", False), TYPED]
    assert {entry.kind for entry in dialog.entries} == {Kind.SERVER, Kind.TYPED}


def test_the_pane_is_told_from_where_on_entries_changed() -> None:
    dialog = begun()
    dialog.receive(b"a\nb\n", 0.0)
    dialog.type("NOOP")
    assert dialog.settle() == 0
    assert dialog.settle() == 3
    captured(dialog, 0, b"a\nb\n")
    assert dialog.settle() == 0
    assert len(dialog.entries) == 2


def test_lines_that_are_captured_before_the_connection_is_known_to_stand_are_ours_all_the_same() -> None:
    dialog = Dialog()
    dialog.apply(Update(conversations=(Conversation(1, CLIENT, SERVER, ""),)))
    captured(dialog, 0, b"220 mx\r\n")
    assert (dialog.conversation, shown(dialog)) == (0, [])
    early = dialog.open(CLIENT, SERVER)
    assert [line.data for line in early] == [b"220 mx\r\n"]
    assert (dialog.conversation, shown(dialog)) == (1, [("server", b"220 mx\r\n", False)])
    dialog.type("NOOP")
    captured(dialog, 0, b"NOOP\r\n", side=Side.CLIENT)
    assert shown(dialog)[-1] == ("typed", b"NOOP\r\n", False)
    again = Endpoint(CLIENT.address, 40001)
    dialog.apply(Update(conversations=(Conversation(2, again, SERVER, ""), Conversation(3, SERVER, CLIENT, ""))))
    assert dialog.open(again, SERVER) == []
    assert dialog.conversation == 2
