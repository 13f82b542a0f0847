"""SMTP and LMTP as conversations: each rule of the labelling scheme has one."""

from __future__ import annotations

import pytest

from capture.model import Layer, Line, Side
from capture.protocols.voice import LONGEST_LINE, LONGEST_WAIT
from tests.capture.conversation import DONE, ENVELOPE, GREETED, IN_DATA, Heard, fields, lines, lost, raw, show, told


def client(shown: list[str], first: int = 1) -> list[str]:
    return [line for line in shown if line[0] == "C" and int(line[1:].split()[0]) >= first]


def server(shown: list[str], first: int = 1) -> list[str]:
    return [line for line in shown if line[0] == "S" and int(line[1:].split()[0]) >= first]


# --- the reply moves the phase ------------------------------------------------------------------------------------


def test_client_octets_behind_data_wait_for_the_reply() -> None:
    heard = Heard()
    heard.say(*ENVELOPE)
    assert [show(line) for line in heard.say("C: DATA\nhi")] == ["C4 PDU | DATA command C4"]
    assert [show(line) for line in heard.say("S: 354 go")] == ["S5 PDU | 354 reply S5", "C5 user data | mail data C5"]


def test_data_refused_and_a_client_that_did_not_wait_gives_commands() -> None:
    """D1: no 354, no mail data."""
    shown = told(*GREETED, "C: DATA\nhi\n.", "S: 503 no", "S: 500 what\n500 what", "C: QUIT", "S: 221 bye")
    assert client(shown, 2) == [
        "C2 PDU | DATA command C2",
        "C3 PDU | unknown command C3 | unknown-command",
        "C4 PDU | unknown command C4 | unknown-command",
        "C5 PDU | QUIT command C5",
    ]
    assert not any("unsolicited" in line for line in shown)


def test_data_refused_and_a_client_that_waited_goes_on_with_commands() -> None:
    assert client(told(*GREETED, "C: DATA", "S: 503 no", "C: EHLO c", "S: 250 mx", "C: QUIT", "S: 221 bye"), 2) == [
        "C2 PDU | DATA command C2",
        "C3 PDU | EHLO command C3",
        "C4 PDU | QUIT command C4",
    ]


def test_body_dot_and_the_next_mail_in_one_segment() -> None:
    shown = told(*IN_DATA, "C: hi\n.\nMAIL FROM:<x@y>\nRCPT TO:<z@y>\nQUIT", "S: 250 a\n250 b\n250 c\n221 d")
    assert client(shown, 5) == [
        "C5 user data | mail data C5",
        "C6 PCI | mail data C5",
        "C7 PDU | MAIL command C6",
        "C8 PDU | RCPT command C7",
        "C9 PDU | QUIT command C8",
    ]
    assert not any("unsolicited" in line for line in shown)


def test_the_end_of_data_may_be_split_anywhere() -> None:
    shown = told(*IN_DATA, raw("C", b"hi\r"), raw("C", b"\n."), raw("C", b"\r"), raw("C", b"\nQUIT\r\n"))
    assert client(shown, 5) == [
        "C5 user data | mail data C5",
        "C6 PCI | mail data C5",
        "C7 PDU | QUIT command C6",
    ]


def test_every_reply_in_one_segment_is_matched_by_counting() -> None:
    shown = told("S: 220 mx", "C: EHLO c\nHELP\nDATA", "S: 250-mx hello\n250-SIZE 10\n250 HELP\n214 none\n503 no")
    assert [line.split(" | ")[1] for line in server(shown)] == [
        "220 greeting S1", "250 reply S2", "250 reply S2", "250 reply S2", "214 reply S3", "503 reply S4",
    ]  # fmt: skip
    ehlo = lines("S: 220 mx", "C: EHLO c", "S: 250-mx hello\n250 SIZE 10")
    assert fields(ehlo[-1]) == ["'250'=reply-code", "' '=separator", "'SIZE'=ehlo-keyword", "' '=sp",
                                "'10'=ehlo-param", "'\\r\\n'=crlf"]  # fmt: skip


def test_an_asynchronous_421_in_front_of_an_expected_reply_is_taken_as_that_reply() -> None:
    shown = told(*GREETED, "C: NOOP", "S: 421 going\n250 ok")
    assert server(shown, 3) == ["S3 PDU | 421 reply S3", "S4 PDU | 250 reply S4 | unsolicited"]


def test_a_reply_in_the_middle_of_the_message_is_unsolicited_and_ends_nothing() -> None:
    shown = told(*IN_DATA, "C: one", "S: 421 timeout", "C: two\n.", *DONE)
    assert "S6 PDU | 421 reply S6 | unsolicited" in shown
    assert client(shown, 6)[:2] == ["C6 user data | mail data C5", "C7 PCI | mail data C5"]


def test_lines_behind_quit_expect_no_reply() -> None:
    assert client(told("S: 220 mx", "C: QUIT\nNOOP\nDATA\nhello", "S: 221 bye")) == [
        "C1 PDU | QUIT command C1",
        "C2 PDU | NOOP command C2 | after-quit",
        "C3 PDU | DATA command C3 | after-quit",
        "C4 PDU | unknown command C4 | after-quit unknown-command",
    ]


def test_a_quit_that_was_refused_did_not_end_the_session() -> None:
    shown = told("S: 220 mx", "C: QUIT now", "S: 501 no argument", "C: NOOP", "S: 250 ok")
    assert client(shown, 2) == ["C2 PDU | NOOP command C2"]
    assert server(shown, 3) == ["S3 PDU | 250 reply S3"]


def test_an_early_talker_is_flagged_up_to_the_end_of_the_greeting() -> None:
    shown = told("C: HELO c\nMAIL FROM:<a@c>\nDATA\nhi\n.", "S: 220-mx", "S: 220 ready\n250 mx\n250 ok\n354 go\n250 ok",
                 "C: QUIT", "S: 221 bye")  # fmt: skip
    assert [line.endswith("early-talker") for line in client(shown)] == [True] * 5 + [False]
    assert client(shown, 4)[0] == "C4 user data | mail data C4 | early-talker"


def test_nothing_is_said_of_a_client_before_the_server_was_heard() -> None:
    heard = Heard()
    assert heard.say("C: HELO c") == []
    assert [show(line) for line in heard.say(raw("S", b"2"))] == ["C1 PDU | HELO command C1 | early-talker"]


# --- mail data ----------------------------------------------------------------------------------------------------


def test_dots_in_front_of_lines_are_pci_and_the_rest_is_the_message() -> None:
    """D2, D3, I4."""
    made = lines(*IN_DATA, "C: ..\n.x\n. \na.b\n.", *DONE)
    data = [line for line in made if line.pdu.name == "mail data"]
    user_data = b"".join(line.data[s.start : s.end] for line in data for s in line.spans if s.role.value == "ud")
    assert user_data == b".\r\nx\r\n \r\na.b\r\n"
    assert fields(data[-1]) == ["'.'=eod-dot", "'\\r\\n'=crlf"]


def test_an_empty_message_is_a_whole_pdu() -> None:
    assert client(told(*IN_DATA, "C: .", *DONE), 5)[0] == "C5 PDU | mail data C5"


def test_lf_dot_lf_is_content_while_crlf_dot_crlf_comes() -> None:
    """The counter-example of D5: SMTP smuggling."""
    shown = told(*IN_DATA, raw("C", b"x\n.\nMAIL FROM:<evil@x>\r\n.\r\n"), *DONE)
    assert client(shown, 5) == [
        "C5 user data | mail data C5 | bare-lf",
        "C6 PCI | mail data C5",
        "C7 PDU | QUIT command C6",
    ]


def test_both_sides_that_use_lf_are_believed_when_the_reply_comes() -> None:
    """D5."""
    heard = Heard()
    heard.say(*IN_DATA)
    assert heard.say(raw("C", b"Subject: x\n\n..dot\n.\n")) == []
    shown = [show(line) for line in heard.say("S: 250 ok", raw("C", b"QUIT\n"))]
    assert shown == [
        "C5 user data | mail data C5 | bare-lf",
        "C6 user data | mail data C5 | bare-lf",
        "C7 user data | mail data C5 | bare-lf",
        "C8 PCI | mail data C5 | bare-lf nonstandard-eod",
        "S6 PDU | 250 reply S6",
        "C9 PDU | QUIT command C6 | bare-lf",
    ]


@pytest.mark.parametrize(("ending", "expected"), [
    (b"a\r\n.\n", ["C5 user data | mail data C5", "C6 PCI | mail data C5 | bare-lf nonstandard-eod"]),
    (b"a\n.\r\n", ["C5 user data | mail data C5 | bare-lf", "C6 PCI | mail data C5 | bare-lf nonstandard-eod"]),
    (b".\n", ["C5 PDU | mail data C5 | bare-lf nonstandard-eod"]),
])  # fmt: skip
def test_other_ends_that_the_server_took_for_the_end(ending: bytes, expected: list[str]) -> None:
    assert client(told(*IN_DATA, raw("C", ending), *DONE), 5) == [
        *expected, f"C{5 + len(expected)} PDU | QUIT command C6",
    ]  # fmt: skip


def test_commands_may_stand_behind_an_end_by_lf_when_the_reply_comes() -> None:
    shown = told(*IN_DATA, raw("C", b"a\n.\n\nQUIT\n"), "S: 250 ok\n500 what\n221 bye")
    assert client(shown, 6) == [
        "C6 PCI | mail data C5 | bare-lf nonstandard-eod",
        "C7 PDU | unknown command C6 | bare-lf unknown-command",
        "C8 PDU | QUIT command C7 | bare-lf",
    ]
    assert not any("unsolicited" in line for line in shown)


def test_a_reply_to_text_that_goes_on_behind_lf_dot_lf_proves_nothing() -> None:
    shown = told(*IN_DATA, raw("C", b"a\n.\nmore\n"), "S: 421 timeout", raw("C", b"\r\n.\r\n"))
    assert client(shown, 5) == ["C5 user data | mail data C5 | bare-lf", "C6 PCI | mail data C5"]
    assert server(shown, 6) == ["S6 PDU | 421 reply S6 | unsolicited"]


def test_a_server_that_greets_in_plain_a_client_that_speaks_tls() -> None:
    shown = told(raw("C", b"\x16\3\1\0\1x"), "S: 220 mx")
    assert shown == ["C1 PDU | TLS record (handshake) C1", "S1 PDU | 220 greeting S1"]


def test_a_line_of_the_message_is_out_as_soon_as_it_is_complete() -> None:
    heard = Heard()
    heard.say(*IN_DATA)
    assert [show(line) for line in heard.say("C: typed by hand")] == ["C5 user data | mail data C5"]


def test_long_lines_come_in_pieces_of_one_pdu() -> None:
    made = lines(*IN_DATA, raw("C", b"x" * (LONGEST_LINE + 10) + b"\r\n.\r\n"), *DONE)
    data = [line for line in made if line.pdu.name == "mail data"]
    assert [len(line.data) for line in data] == [LONGEST_LINE, 12, 3]
    assert {line.pdu.ident for line in data} == {"C5"}
    assert data[0].flags == ("overlong",)


# --- BDAT ---------------------------------------------------------------------------------------------------------


def test_a_chunk_is_counted_and_the_next_command_follows_at_once() -> None:
    """D4."""
    shown = told(*ENVELOPE, "C: BDAT 8\na\n.\n\nBDAT 0 LAST\nQUIT", "S: 250 8\n250 ok\n221 bye")
    assert client(shown, 4) == [
        "C4 PCI | BDAT command C4",
        "C5 user data | BDAT command C4",
        "C6 user data | BDAT command C4",
        "C7 user data | BDAT command C4",
        "C8 PDU | BDAT command C5",
        "C9 PDU | QUIT command C6",
    ]


def test_a_chunk_is_a_chunk_whatever_the_server_says() -> None:
    shown = told(*GREETED, "C: BDAT 6 LAST\nQUIT", "S: 503 no", "C: QUIT", "S: 221 bye")
    assert client(shown, 2) == [
        "C2 PCI | BDAT command C2",
        "C3 user data | BDAT command C2",
        "C4 PDU | QUIT command C3",
    ]


@pytest.mark.parametrize("line", ["BDAT -1 LAST", "BDAT 5 X", "BDAT", "BDAT 999999999999999999999"])
def test_a_bdat_that_does_not_parse_has_no_chunk(line: str) -> None:
    assert client(told(*GREETED, f"C: {line}", "S: 501 no", "C: QUIT", "S: 221 bye"), 2) == [
        "C2 PDU | BDAT command C2 | syntax",
        "C3 PDU | QUIT command C3",
    ]


def test_a_gap_inside_a_chunk_is_counted() -> None:
    """G6."""
    shown = told(*ENVELOPE, raw("C", b"BDAT 20\r\nabc"), lost("C", 10), raw("C", b"xyz\r\n12QUIT\r\n"), "S: 250 ok")
    assert client(shown, 5) == [
        "C5 user data | BDAT command C4 | cut-by-gap",
        "C6 user data | BDAT command C4 | after-gap",
        "C7 user data | BDAT command C4",
        "C8 PDU | QUIT command C5",
    ]


def test_a_gap_longer_than_the_chunk_leaves_the_phase_unknown() -> None:
    shown = told(*ENVELOPE, raw("C", b"BDAT 5\r\nabc"), lost("C", 10), raw("C", b"hello\r\nQUIT\r\n"), "S: 250 ok")
    assert client(shown, 6) == [
        "C6 user data | mail data C5 | after-gap assumed",
        "C7 PDU | QUIT command C6 | assumed",
    ]


# --- AUTH, STARTTLS, LMTP, TURN -----------------------------------------------------------------------------------


def test_a_response_that_looks_like_a_command_is_a_response() -> None:
    shown = told(*GREETED, "C: AUTH LOGIN", "S: 334 VXNlcg==", "C: QUIT", "S: 535 no", "C: QUIT", "S: 221 bye")
    assert client(shown, 3) == ["C3 PDU | AUTH response C3 | credential", "C4 PDU | QUIT command C4"]


def test_an_empty_response_and_a_cancelled_exchange() -> None:
    shown = told(*GREETED, "C: AUTH X", "S: 334 ", "C: ", "S: 334 ", "C: *", "S: 501 cancelled")
    assert client(shown, 3) == ["C3 PDU | AUTH response C3", "C4 PDU | AUTH cancel C4"]


def test_what_a_client_sends_behind_a_refused_auth_may_be_its_password() -> None:
    shown = told(*GREETED, "C: AUTH LOGIN\ndXNlcg==", "S: 504 no\n500 what")
    assert client(shown, 3) == ["C3 PDU | unknown command C3 | credential unknown-command"]


def test_a_sasl_security_layer_is_counted_buffers() -> None:
    shown = told(*GREETED, "C: AUTH GSSAPI", "S: 334 ", "C: YWJj", "S: 235 ok", raw("C", b"\0\0\0\3abc"),
                 raw("S", b"\0\0\0\2xy"))  # fmt: skip
    assert (client(shown)[-1], server(shown)[-1]) == ("C4 PDU | SASL buffer C4", "S5 PDU | SASL buffer S5")


def test_plaintext_behind_starttls_keeps_its_label_and_expects_no_reply() -> None:
    shown = told(*GREETED, "C: STARTTLS\nRSET", "S: 220 go", raw("C", b"\x16\3\1\0\1x"), raw("S", b"\x16\3\3\0\1y"))
    assert client(shown, 2) == [
        "C2 PDU | STARTTLS command C2",
        "C3 PDU | RSET command C3 | after-starttls",
        "C4 PDU | TLS record (handshake) C4",
    ]
    assert server(shown, 3) == ["S3 PDU | 220 reply S3", "S4 PDU | TLS record (handshake) S4"]


def test_starttls_refused_goes_on_in_plain() -> None:
    assert client(told(*GREETED, "C: STARTTLS\nRSET", "S: 454 no\n250 ok"), 3) == ["C3 PDU | RSET command C3"]


def test_a_record_cut_in_its_header_is_pci_and_in_its_fragment_user_data() -> None:
    shown = told(raw("C", b"\x16\3\1\0\1x\x17\3\3"), raw("S", b"\x15\3\3\0\2\2"))
    assert shown == [
        "C1 PDU | TLS record (handshake) C1",
        "C2 PCI | TLS record (application_data) C2 | incomplete",
        "S1 user data | TLS record (alert) S1 | incomplete",
    ]


def test_tls_from_the_first_octet_does_not_wait_for_the_server() -> None:
    heard = Heard()
    assert heard.say(raw("C", b"\x16")) == []
    made = heard.say(raw("C", b"\3\1\0\1x"))
    assert [(show(line), line.layer) for line in made] == [("C1 PDU | TLS record (handshake) C1", Layer.TLS)]
    assert heard.dialogue.protocol == "tls"


def test_what_is_no_record_behind_starttls_is_unknown_from_there_on() -> None:
    shown = told(*GREETED, "C: STARTTLS", "S: 220 go", raw("C", b"\x16\3\1\0\1x\xff\xff\xff\xff\xff"))
    assert client(shown, 4) == ["C4 PCI | unknown C4 | not-understood"]


def test_lmtp_answers_once_for_each_accepted_recipient() -> None:
    heard = Heard()
    made = heard.say("S: 220 mx", "C: LHLO c", "S: 250 mx", "C: MAIL FROM:<a@c>\nRCPT TO:<x@y>\nRCPT TO:<z@y>",
                     "S: 250 ok\n250 ok\n550 no", "C: RCPT TO:<q@y>\nDATA", "S: 250 ok\n354 go", "C: hi\n.\nQUIT",
                     "S: 250 one\n452 two\n221 bye")  # fmt: skip
    assert heard.dialogue.protocol == "lmtp"
    assert not any("unsolicited" in line.flags for line in made)


def test_lmtp_answers_the_last_chunk_once_for_each_accepted_recipient() -> None:
    made = lines("S: 220 mx", "C: LHLO c", "S: 250 mx", "C: MAIL FROM:<a@c>\nRCPT TO:<x@y>\nRCPT TO:<z@y>",
                 raw("C", b"BDAT 3 LAST\r\nabcRSET\r\n"), "S: 250 ok\n250 ok\n250 ok\n250 one\n452 two\n250 reset",
                 "S: 421 x", protocol="lmtp")  # fmt: skip
    assert [line.data for line in made if "unsolicited" in line.flags] == [b"421 x\r\n"]


def test_after_turn_the_sides_swap_roles() -> None:
    shown = told(
        *GREETED, "C: TURN", "S: 250 ok", "C: 220 now I serve", "S: HELO mx", "C: 250 c", "S: QUIT", "C: 221 x"
    )
    assert client(shown, 3) == ["C3 PDU | 220 greeting C3", "C4 PDU | 250 reply C4", "C5 PDU | 221 reply C5"]
    assert server(shown, 4) == ["S4 PDU | HELO command S4", "S5 PDU | QUIT command S5"]


def test_turn_refused_swaps_nothing() -> None:
    assert client(told(*GREETED, "C: TURN\nNOOP", "S: 502 no\n250 ok"), 3) == ["C3 PDU | NOOP command C3"]


# --- missing octets -----------------------------------------------------------------------------------------------


def test_the_end_of_data_in_a_gap_is_proved_by_the_reply() -> None:
    """G5."""
    shown = told(*IN_DATA, raw("C", b"one\r\ntw"), lost("C", 9), *DONE)
    assert client(shown, 5) == [
        "C5 user data | mail data C5",
        "C6 user data | mail data C5 | cut-by-gap eod-in-gap",
        "C7 PDU | QUIT command C6 | after-gap assumed",
    ]
    assert not any("unsolicited" in line for line in shown)


def test_the_last_line_before_such_a_gap_is_handed_out_again_when_it_was_whole() -> None:
    heard = Heard()
    heard.say(*IN_DATA)
    first = heard.say("C: one")
    again = heard.say(lost("C", 3), "S: 250 ok")
    assert [show(line) for line in first] == ["C5 user data | mail data C5"]
    assert [show(line) for line in again] == ["C5 user data | mail data C5 | eod-in-gap", "S6 PDU | 250 reply S6"]
    assert (first[0].number, first[0].offset) == (again[0].number, again[0].offset)


def test_commands_pipelined_behind_a_hidden_end_are_commands() -> None:
    shown = told(*IN_DATA, "C: one", lost("C", 3), "C: MAIL FROM:<x@y>\nQUIT", "S: 250 ok\n250 ok\n221 bye")
    assert client(shown, 6) == ["C6 PDU | MAIL command C6 | after-gap assumed", "C7 PDU | QUIT command C7"]


def test_text_behind_a_gap_shows_that_the_message_goes_on() -> None:
    """G4: no dot rule on the first piece; a reply does not end what is seen to go on."""
    shown = told(*IN_DATA, raw("C", b"on"), lost("C", 9), "C: .dot\nmore\n.", *DONE)
    assert client(shown, 5)[:4] == [
        "C5 user data | mail data C5 | cut-by-gap",
        "C6 user data | mail data C5 | after-gap",
        "C7 user data | mail data C5",
        "C8 PCI | mail data C5",
    ]
    behind = next(line for line in lines(*IN_DATA, lost("C", 9), "C: .dot\n.") if "after-gap" in line.flags)
    assert fields(behind) == ["UD '.dot'=content", "UD '\\r\\n'=line-end"]


def test_a_cut_command_keeps_its_name_and_its_reply() -> None:
    """G1, G2."""
    shown = told(
        *GREETED, raw("C", b"MAIL FR"), lost("C", 20), raw("C", b"ZE=1\r\n"), "S: 250 ok", "C: RSET", "S: 250 ok"
    )
    assert client(shown, 2) == [
        "C2 PCI | MAIL command C2 | cut-by-gap",
        "C3 PCI | command (fragment) C3 | after-gap",
        "C4 PDU | RSET command C4",
    ]


def test_replies_to_commands_in_a_gap_are_not_called_unsolicited() -> None:
    shown = told(
        *GREETED, lost("C", 18), "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok", "C: DATA", "S: 354 go", "C: x\n."
    )
    assert not any("unsolicited" in line for line in shown)
    assert client(shown)[-2:] == ["C4 user data | mail data C4", "C5 PCI | mail data C4"]


def test_a_354_tells_that_data_lies_in_the_gap() -> None:
    shown = told(*ENVELOPE, lost("C", 6), "S: 354 go", "C: QUIT is the subject\n.", *DONE)
    assert client(shown, 4) == [
        "C4 user data | mail data C4 | after-gap assumed",
        "C5 PCI | mail data C4 | assumed",
        "C6 PDU | QUIT command C5",
    ]


def test_a_piece_of_a_reply_behind_a_gap_ends_one_reply() -> None:
    """G3."""
    shown = told(*GREETED, "C: NOOP", lost("S", 3), raw("S", b" ok\r\n"), "C: QUIT", "S: 221 bye")
    assert server(shown, 3) == ["S3 PCI | reply (fragment) S3 | after-gap", "S4 PDU | 221 reply S4"]


def test_a_reply_in_two_pieces_counts_once() -> None:
    shown = told(*GREETED, "C: NOOP\nRSET", raw("S", b"250 o"), lost("S", 3), raw("S", b"k\r\n250 reset\r\n"))
    assert server(shown, 3) == [
        "S3 PCI | 250 reply S3 | cut-by-gap",
        "S4 PCI | reply (fragment) S4 | after-gap",
        "S5 PDU | 250 reply S5",
    ]


def test_a_354_in_a_gap_does_not_silence_the_message() -> None:
    shown = told(*ENVELOPE, "C: DATA", lost("S", 8), "C: hi\n.", *DONE)
    assert client(shown, 5) == [
        "C5 user data | mail data C5 | assumed",
        "C6 PCI | mail data C5 | assumed",
        "C7 PDU | QUIT command C6",
    ]
    assert not any("unsolicited" in line for line in shown)


def test_a_reply_in_a_gap_shifts_nothing_in_a_session_that_waits_for_replies() -> None:
    shown = told(*GREETED, "C: MAIL FROM:<a@c>", lost("S", 8), "C: RCPT TO:<b@d>", "S: 250 ok", "C: DATA", "S: 354 go",
                 "C: hi\n.", *DONE)  # fmt: skip
    assert client(shown, 5) == [
        "C5 user data | mail data C5", "C6 PCI | mail data C5", "C7 PDU | QUIT command C6",
    ]  # fmt: skip
    assert not any("unsolicited" in line for line in shown)


def test_a_greeting_in_a_gap_is_not_the_reply_to_ehlo() -> None:
    shown = told(lost("S", 20), "C: EHLO c", "S: 250-mx\n250 SIZE", "C: QUIT", "S: 221 bye")
    assert client(shown)[0] == "C1 PDU | EHLO command C1"
    assert server(shown)[1:] == ["S2 PCI | 250 reply S1", "S3 PDU | 221 reply S2"]


# --- one side only, the middle of a session -----------------------------------------------------------------------


def test_only_the_client_and_data_followed_by_quit_is_no_message() -> None:
    """O1."""
    assert told("C: HELO c\nDATA\nQUIT") == [
        "C1 PDU | HELO command C1", "C2 PDU | DATA command C2", "C3 PDU | QUIT command C3",
    ]  # fmt: skip


def test_only_the_client_and_an_exchange_of_auth() -> None:
    shown = told("C: AUTH LOGIN\ndXNlcg==\ncGFzcw==\nMAIL FROM:<a@c>")
    assert shown == [
        "C1 PDU | AUTH command C1",
        "C2 PDU | AUTH response C2 | assumed credential",
        "C3 PDU | AUTH response C3 | assumed credential",
        "C4 PDU | MAIL command C4",
    ]


def test_only_the_client_and_starttls() -> None:
    assert told(raw("C", b"STARTTLS\r\n\x16\3\1\0\1x"))[1] == "C2 PDU | TLS record (handshake) C2"


def test_only_the_server_is_reply_grammar_alone() -> None:
    """O2."""
    made = lines("S: 220 mx ready", "S: 250-mx\n250 SIZE", "S: 354 go", "S: 221 2.0.0 bye")
    assert [show(line) for line in made] == [
        "S1 PDU | 220 greeting S1", "S2 PCI | 250 reply S2", "S3 PCI | 250 reply S2", "S4 PDU | 354 reply S3",
        "S5 PDU | 221 reply S4",
    ]  # fmt: skip
    assert "'SIZE'=text" in fields(made[2])


def test_a_capture_that_ends_before_the_reply_to_data_presumes_it() -> None:
    assert client(told(*ENVELOPE, "C: DATA\nhi\n."), 5) == [
        "C5 user data | mail data C5 | assumed", "C6 PCI | mail data C5 | assumed",
    ]  # fmt: skip


def test_too_much_waiting_for_a_reply_is_presumed_and_noted() -> None:
    heard = Heard()
    heard.say(*ENVELOPE, "C: DATA")
    made: list[Line] = []
    line = "C: " + "x" * 998
    for _ in range(LONGEST_WAIT // 1000 + 2):
        made += heard.say(line)
    assert made[0].flags == ("assumed",)
    assert made[0].pdu.name == "mail data"
    notes = heard.dialogue.take_notes()
    assert [(note.kind, note.side) for note in notes] == [("held-back", Side.CLIENT)]
    assert heard.dialogue.take_notes() == []


def test_the_middle_of_a_session_is_assumed() -> None:
    """M1 to M3."""
    shown = told("C: rest\n..x\n.", "S: 250 ok", "C: QUIT", "S: 221 bye", midstream=True)
    assert client(shown) == [
        "C1 user data | mail data C1 | assumed start-missing",
        "C2 user data | mail data C1 | assumed",
        "C3 PCI | mail data C1 | assumed",
        "C4 PDU | QUIT command C2",
    ]
    assert told("C: RSET", "S: 250 ok", midstream=True) == [
        "C1 PDU | RSET command C1 | assumed",
        "S1 PDU | 250 reply S1",
    ]


def test_a_capture_that_begins_with_354_begins_with_a_message() -> None:
    shown = told("S: 354 go", "C: RSET\n.", "S: 250 ok", midstream=True)
    assert client(shown) == ["C1 user data | mail data C1 | assumed", "C2 PCI | mail data C1 | assumed"]


def test_the_middle_of_a_session_whose_lines_end_in_lf() -> None:
    shown = told(raw("C", b"rest\n.\n"), "S: 250 ok", raw("C", b"QUIT\n"), "S: 221 bye", midstream=True)
    assert shown == [
        "C1 user data | mail data C1 | assumed bare-lf start-missing",
        "C2 PCI | mail data C1 | assumed bare-lf nonstandard-eod",
        "C3 PDU | QUIT command C2 | bare-lf",
        "S1 PDU | 250 reply S1",
        "S2 PDU | 221 reply S2",
    ]


def test_a_capture_that_begins_between_commands() -> None:
    shown = told("S: 250 ok", "C: FOO", "S: 500 what", midstream=True)
    assert client(shown) == ["C1 PDU | unknown command C1 | unknown-command"]


def test_what_the_end_of_the_capture_cuts_is_incomplete() -> None:
    assert client(told(*GREETED, raw("C", b"MAIL FROM:<a")), 2) == ["C2 PCI | MAIL command C2 | incomplete"]
    assert told(raw("S", b"220 mx rea"), raw("C", b"HE")) == [
        "C1 PCI | command (fragment) C1 | early-talker incomplete",
        "S1 PCI | 220 greeting S1 | incomplete",
    ]
    assert client(told(*IN_DATA, raw("C", b"he")), 5) == ["C5 user data | mail data C5 | incomplete"]


def test_dropping_each_line_of_a_session_mislabels_none_of_the_rest() -> None:
    session = ["S: 220 mx", "C: EHLO c", "S: 250-mx\n250 SIZE", "C: MAIL FROM:<a@c>", "S: 250 ok", "C: RCPT TO:<b@d>",
               "S: 250 ok", "C: DATA", "S: 354 go", "C: Subject: x", "C: ", "C: NOOP", "C: .", "S: 250 ok", "C: RSET",
               "S: 250 ok", "C: QUIT", "S: 221 bye"]  # fmt: skip
    whole = {(line.side, line.offset): line for line in lines(*session)}
    for number, said in enumerate(session):
        gap = lost(said[0], len((said[3:] + "\n").replace("\n", "\r\n")))
        for line in lines(*session[:number], gap, *session[number + 1 :]):
            true = whole[line.side, line.offset]
            assert (line.data, line.pdu.name) == (true.data, true.pdu.name), f"without {said!r}"
            assert "unsolicited" not in line.flags, f"without {said!r}"


# --- commands and replies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "spans", "flags"), [
    ("HELO", ["'HELO'=verb"], ["syntax"]),
    ("helo a b", ["'helo'=verb", "' '=sp", "'a'=client-domain", "' '=sp", "'b'=argument"], ["unexpected-argument"]),
    ("MAIL FROM:<>", ["'MAIL'=verb", "' '=sp", "'FROM:'=keyword", "'<>'=reverse-path"], []),
    ("RCPT TO:<>", ["'RCPT'=verb", "' '=sp", "'TO:'=keyword", "'<>'=forward-path"], ["syntax"]),
    ('MAIL FROM:<"a> b"@c> SIZE=1',
     ["'MAIL'=verb", "' '=sp", "'FROM:'=keyword", "'<\"a> b\"@c>'=reverse-path", "' '=sp", "'SIZE'=esmtp-keyword",
      "'='=eq", "'1'=esmtp-value"], []),
    ("MAIL FROM:a@b", ["'MAIL'=verb", "' '=sp", "'FROM:'=keyword", "'a@b'=reverse-path"], ["path-without-brackets"]),
    ("MAIL FROM:<a@b>SIZE=1",
     ["'MAIL'=verb", "' '=sp", "'FROM:'=keyword", "'<a@b>'=reverse-path", "'SIZE=1'=argument"], ["syntax"]),
    ("MAIL FROM:", ["'MAIL'=verb", "' '=sp", "'FROM:'=keyword"], ["syntax"]),
    ("VRFY", ["'VRFY'=verb"], ["syntax"]),
    ("EXPN staff list", ["'EXPN'=verb", "' '=sp", "'staff list'=string"], []),
    ("ETRN @x", ["'ETRN'=verb", "' '=sp", "'@x'=node-name"], []),
    ("BURL imap://x LAST", ["'BURL'=verb", "' '=sp", "'imap://x'=uri", "' '=sp", "'LAST'=last"], []),
    ("BDAT 0 last", ["'BDAT'=verb", "' '=sp", "'0'=chunk-size", "' '=sp", "'last'=last"], []),
    ("AUTH", ["'AUTH'=verb"], ["syntax"]),
    ("AUTH PLAIN a secret", ["'AUTH'=verb", "' '=sp", "'PLAIN'=mechanism", "' '=sp", "UD 'a secret'=initial-response"],
     ["credential", "syntax"]),
    ("  x", ["'  '=sp", "'x'=argument"], ["unknown-command"]),
    ("RSET ", ["'RSET'=verb", "' '=trailing-ws"], ["trailing-ws"]),
])  # fmt: skip
def test_a_command_line_is_taken_apart(line: str, spans: list[str], flags: list[str]) -> None:
    command = next(made for made in lines("S: 220 mx", f"C: {line}") if made.side is Side.CLIENT)
    assert fields(command) == [*spans, "'\\r\\n'=crlf"]
    assert list(command.flags) == flags


def test_parameters_lengthen_a_command_line() -> None:
    path = "<" + "a" * 488 + "@b>"
    plain = lines("S: 220 mx", f"C: MAIL FROM:{path} X=123456789")[0]
    sized = lines("S: 220 mx", f"C: MAIL FROM:{path} SIZE=1234567")[0]
    assert (plain.flags, sized.flags) == (("overlong",), ())


@pytest.mark.parametrize(("said", "spans"), [
    ("250 2.1.5 ok", ["'250'=reply-code", "' '=separator", "'2.1.5'=enhanced-status-code", "' '=sp", "'ok'=text"]),
    ("250 2.1.5", ["'250'=reply-code", "' '=separator", "'2.1.5'=enhanced-status-code"]),
    ("250 5.1.5 ok", ["'250'=reply-code", "' '=separator", "'5.1.5 ok'=text"]),
    ("250 2.1 ok", ["'250'=reply-code", "' '=separator", "'2.1 ok'=text"]),
    ("250 ", ["'250'=reply-code", "' '=separator"]),
    ("334 YQ==", ["'334'=reply-code", "' '=separator", "UD 'YQ=='=challenge"]),
])  # fmt: skip
def test_a_reply_line_is_taken_apart(said: str, spans: list[str]) -> None:
    reply = lines(*GREETED, "C: NOOP", f"S: {said}")[-1]
    assert fields(reply) == [*spans, "'\\r\\n'=crlf"]


def test_a_malformed_line_inside_a_reply_of_several_lines_ends_nothing() -> None:
    shown = told(*GREETED, "C: HELP", "S: 214-a\nwhat\n214 b", "C: QUIT", "S: 221 bye")
    assert server(shown, 3) == [
        "S3 PCI | 214 reply S3", "S4 PCI | 214 reply S3 | malformed-reply", "S5 PCI | 214 reply S3",
        "S6 PDU | 221 reply S4",
    ]  # fmt: skip


def test_a_server_that_refuses_the_session() -> None:
    made = lines("S: 554 mx no SMTP service here", "C: QUIT", "S: 221 bye")
    assert show(made[1]) == "S1 PDU | 554 greeting S1"
    assert fields(made[1])[2] == "'mx no SMTP service here'=text"


def test_a_proxy_header_in_front_of_everything_gets_no_reply() -> None:
    shown = told("C: PROXY TCP4 192.0.2.1 192.0.2.2 1 25\nHELO c", "S: 220 mx\n250 mx", "C: QUIT", "S: 221 bye")
    assert client(shown)[0] == "C1 PDU | PROXY header C1"
    assert not any("unsolicited" in line for line in shown)
