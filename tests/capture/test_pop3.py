"""POP3 as conversations: one answer for each command, of one line or many."""

from __future__ import annotations

import pytest

from capture.model import Layer, Side
from tests.capture.conversation import Heard, fields, lines, lost, raw, show, told

READY = ("S: +OK ready", "C: USER anna", "S: +OK", "C: PASS layers", "S: +OK 1 message")


def client(shown: list[str]) -> list[str]:
    return [line for line in shown if line[0] == "C"]


def server(shown: list[str], first: int = 1) -> list[str]:
    return [line for line in shown if line[0] == "S" and int(line[1:].split()[0]) >= first]


def pop(*said: str | tuple[Side, bytes | int], midstream: bool = False) -> list[str]:
    return told(*said, protocol="pop3", midstream=midstream)


def test_a_message_is_one_response_from_its_status_line_to_its_dot() -> None:
    shown = pop(*READY, "C: RETR 1", "S: +OK 9 octets\n..x\n\n.", "C: QUIT", "S: +OK")
    assert server(shown, 4) == [
        "S4 PCI | +OK response S4",
        "S5 user data | +OK response S4",
        "S6 user data | +OK response S4",
        "S7 PCI | +OK response S4",
        "S8 PDU | +OK response S5",
    ]


def test_list_with_a_number_has_one_line_and_without_one_many() -> None:
    shown = pop(*READY, "C: LIST 1\nLIST", "S: +OK 1 120\n+OK\n1 120\n.")
    assert server(shown, 4) == [
        "S4 PDU | +OK response S4",
        "S5 PCI | +OK response S5",
        "S6 PCI | +OK response S5",
        "S7 PCI | +OK response S5",
    ]


def test_a_listing_that_was_refused_has_one_line() -> None:
    assert server(pop(*READY, "C: LIST\nSTAT", "S: -ERR no\n+OK 1 2"), 4) == [
        "S4 PDU | -ERR response S4",
        "S5 PDU | +OK response S5",
    ]


def test_pipelined_commands_are_matched_by_counting_even_if_the_message_looks_like_responses() -> None:
    shown = pop(
        "S: +OK", "C: USER a\nPASS b\nRETR 1\nQUIT", "S: +OK\n+OK\n+OK\n+OK not a status line\n-ERR\n.\n+OK bye"
    )
    assert client(shown) == [
        "C1 PDU | USER command C1",
        "C2 PDU | PASS command C2 | credential",
        "C3 PDU | RETR command C3",
        "C4 PDU | QUIT command C4",
    ]
    assert server(shown, 4) == [
        "S4 PCI | +OK response S4",
        "S5 user data | +OK response S4",
        "S6 user data | +OK response S4",
        "S7 PCI | +OK response S4",
        "S8 PDU | +OK response S5",
    ]


def test_a_password_is_all_that_stands_behind_pass() -> None:
    line = next(made for made in lines("S: +OK", "C: PASS a b  ", protocol="pop3") if made.side is Side.CLIENT)
    assert fields(line) == ["'PASS'=keyword", "' '=sp", "'a b  '=argument", "'\\r\\n'=crlf"]


@pytest.mark.parametrize(("said", "spans", "flags"), [
    ("TOP 1 10", ["'TOP'=keyword", "' '=sp", "'1'=argument", "' '=sp", "'10'=argument"], []),
    ("APOP anna 0123", ["'APOP'=keyword", "' '=sp", "'anna'=argument", "' '=sp", "'0123'=argument"], ["credential"]),
    ("STAT now", ["'STAT'=keyword", "' '=sp", "'now'=argument"], ["unexpected-argument"]),
    ("RETR", ["'RETR'=keyword"], ["syntax"]),
    ("LIST ", ["'LIST'=keyword", "' '=trailing-ws"], ["trailing-ws"]),
    ("XTND a", ["'XTND'=verb", "' '=sp", "'a'=argument"], ["unknown-command"]),
    ("AUTH PLAIN AHQ=", ["'AUTH'=keyword", "' '=sp", "'PLAIN'=mechanism", "' '=sp", "UD 'AHQ='=initial-response"],
     ["credential"]),
    ("AUTH PLAIN =", ["'AUTH'=keyword", "' '=sp", "'PLAIN'=mechanism", "' '=sp", "'='=empty-initial-response"], []),
])  # fmt: skip
def test_a_command_is_taken_apart(said: str, spans: list[str], flags: list[str]) -> None:
    line = next(made for made in lines("S: +OK", f"C: {said}", protocol="pop3") if made.side is Side.CLIENT)
    assert fields(line) == [*spans, "'\\r\\n'=crlf"]
    assert list(line.flags) == flags


def test_a_sasl_exchange() -> None:
    shown = pop("S: +OK", "C: AUTH LOGIN", "S: + VXNlcg==", "C: QUIT", "S: + ", "C: *", "S: -ERR cancelled", "C: QUIT")
    assert client(shown) == [
        "C1 PDU | AUTH command C1",
        "C2 PDU | AUTH response C2 | credential",
        "C3 PDU | AUTH cancel C3",
        "C4 PDU | QUIT command C4",
    ]
    assert server(shown, 2) == ["S2 PDU | + challenge S2", "S3 PDU | + challenge S3", "S4 PDU | -ERR response S4"]


def test_auth_alone_lists_mechanisms_or_does_not() -> None:
    assert server(pop("S: +OK", "C: AUTH", "S: +OK\nPLAIN\n.", "C: QUIT", "S: +OK"), 2) == [
        "S2 PCI | +OK response S2",
        "S3 PCI | +OK response S2",
        "S4 PCI | +OK response S2",
        "S5 PDU | +OK response S3",
    ]
    assert server(pop("S: +OK", "C: AUTH", "S: +OK", "C: QUIT", "S: +OK bye"), 3) == ["S3 PDU | +OK response S3"]


def test_stls_leads_to_records() -> None:
    made = lines(
        "S: +OK", "C: STLS", "S: +OK go", raw("C", b"\x16\3\1\0\1x"), raw("S", b"\x16\3\3\0\1y"), protocol="pop3"
    )
    assert [(show(line), line.layer) for line in made if line.layer is Layer.TLS] == [
        ("C2 PDU | TLS record (handshake) C2", Layer.TLS),
        ("S3 PDU | TLS record (handshake) S3", Layer.TLS),
    ]


def test_stls_refused_goes_on_in_plain() -> None:
    assert client(pop("S: +OK", "C: STLS\nQUIT", "S: -ERR no\n+OK"))[1] == "C2 PDU | QUIT command C2"


def test_tls_from_the_first_octet() -> None:
    heard = Heard("pop3")
    assert [show(line) for line in heard.say(raw("C", b"\x16\3\1\0\1x"))] == ["C1 PDU | TLS record (handshake) C1"]
    assert heard.dialogue.protocol == "tls"


def test_a_server_that_ends_its_lines_with_lf_is_believed_when_the_client_goes_on() -> None:
    """Rule D5 on POP3: the next command proves that the client saw the end."""
    shown = pop(*READY, "C: RETR 1", raw("S", b"+OK\nSubject: x\n\n.\n"), "C: QUIT", "S: +OK")
    assert server(shown, 4) == [
        "S4 PCI | +OK response S4 | bare-lf",
        "S5 user data | +OK response S4 | bare-lf",
        "S6 user data | +OK response S4 | bare-lf",
        "S7 PCI | +OK response S4 | bare-lf nonstandard-eod",
        "S8 PDU | +OK response S5",
    ]


def test_a_gap_in_a_message_ends_nothing() -> None:
    shown = pop(*READY, "C: RETR 1", raw("S", b"+OK\r\non"), lost("S", 5), "S: e\nx\n.", "C: QUIT", "S: +OK")
    assert server(shown, 5) == [
        "S5 user data | +OK response S4 | cut-by-gap",
        "S6 user data | +OK response S4 | after-gap",
        "S7 user data | +OK response S4",
        "S8 PCI | +OK response S4",
        "S9 PDU | +OK response S5",
    ]


def test_a_response_without_a_command_is_unsolicited() -> None:
    assert server(pop(*READY, "S: -ERR timeout"), 4) == ["S4 PDU | -ERR response S4 | unsolicited"]


def test_what_is_no_response_is_malformed_and_counts() -> None:
    shown = pop("S: +OK", "C: NOOP\nSTAT", "S: what\n+OK 0 0")
    assert server(shown, 2) == ["S2 PDU | malformed reply S2 | malformed-reply", "S3 PDU | +OK response S3"]


def test_only_the_server_was_captured() -> None:
    shown = pop("S: +OK ready\n+OK\n+OK\n1 120\n.\n+OK\nSubject: x\n\n.\n+OK bye")
    assert shown[2:] == [
        "S3 PCI | +OK response S3 | assumed",
        "S4 PCI | +OK response S3 | assumed",
        "S5 PCI | +OK response S3 | assumed",
        "S6 PCI | +OK response S4 | assumed",
        "S7 user data | +OK response S4 | assumed",
        "S8 user data | +OK response S4 | assumed",
        "S9 PCI | +OK response S4 | assumed",
        "S10 PDU | +OK response S5",
    ]


def test_a_capture_that_begins_inside_a_message() -> None:
    shown = pop("S: of the text\n..x\n.", "C: QUIT", "S: +OK", midstream=True)
    assert server(shown) == [
        "S1 user data | +OK response S1 | assumed start-missing",
        "S2 user data | +OK response S1 | assumed",
        "S3 PCI | +OK response S1 | assumed",
        "S4 PDU | +OK response S2",
    ]
    assert client(shown) == ["C1 PDU | QUIT command C1"]


@pytest.mark.parametrize("said", [
    (raw("C", b"\x16\x03\x09abc\r\n"),),
    ("S: +OK", "C: STLS", "S: +OK", raw("C", b"\x16\x03\x09abc\r\n")),
    ("S: +OK", "C: NOOP", lost("C", 3), raw("C", b"\x16\x03\x09abc\r\n"), "S: +OK"),
])  # fmt: skip
def test_what_only_begins_like_tls_is_a_line_of_its_own(said: tuple[str | tuple[Side, bytes | int], ...]) -> None:
    last = [line for line in lines(*said, protocol="pop3") if line.side is Side.CLIENT][-1]
    assert (last.data, last.layer) == (b"\x16\x03\tabc\r\n", Layer.APPLICATION)
