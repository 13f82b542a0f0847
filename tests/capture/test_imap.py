"""IMAP as conversations: tags, literals, secrets, and what a gap leaves of them."""

from __future__ import annotations

import pytest

from capture.glossary import UNKNOWN, explain, verb
from capture.labels import label
from capture.model import Layer, Line, Side
from capture.protocols.message import Messages
from capture.protocols.registry import choose
from capture.protocols.secrets import mask
from capture.readings import choose as reading
from capture.readings import reread
from tests.capture.conversation import Event, fields, lines, lost, raw, show

READY = ("S: * OK [CAPABILITY IMAP4rev2] ready",)
IN = (*READY, "C: a1 LOGIN anna layers", "S: a1 OK in")


def imap(*said: str | Event, midstream: bool = False) -> list[str]:
    return [show(line) for line in made(*said, midstream=midstream)]


def made(*said: str | Event, midstream: bool = False) -> list[Line]:
    got = lines(*said, protocol="imap", midstream=midstream)
    for line in got:
        for word in (line.pdu.name, *line.flags, *(span.field for span in line.spans)):
            assert explain(word) is not UNKNOWN, word
    return got


def client(shown: list[str], first: int = 1) -> list[str]:
    return [line for line in shown if line[0] == "C" and int(line[1:].split()[0]) >= first]


def server(shown: list[str], first: int = 1) -> list[str]:
    return [line for line in shown if line[0] == "S" and int(line[1:].split()[0]) >= first]


def test_a_session_is_commands_and_responses_each_a_unit() -> None:
    shown = imap(*IN, "C: a2 SELECT INBOX", "S: * 3 EXISTS\n* OK [UNSEEN 2] first\na2 OK [READ-WRITE] done",
                 "C: a3 LOGOUT", "S: * BYE bye\na3 OK")  # fmt: skip
    assert shown == [
        "C1 PDU | LOGIN command C1 | credential", "C2 PDU | SELECT command C2", "C3 PDU | LOGOUT command C3",
        "S1 PDU | OK greeting S1", "S2 PDU | OK response S2", "S3 PDU | EXISTS response S3",
        "S4 PDU | OK response S4", "S5 PDU | OK response S5", "S6 PDU | BYE response S6", "S7 PDU | OK response S7",
    ]  # fmt: skip


@pytest.mark.parametrize(("said", "spans"), [
    ("C: a1 LOGIN anna \"pass word\"", ["'a1'=tag", "' '=sp", "'LOGIN'=verb", "' '=sp", "'anna'=string", "' '=sp",
                                        "'\"pass word\"'=argument", r"'\r\n'=crlf"]),
    ("C: a1 uid fetch 1:* (FLAGS)", ["'a1'=tag", "' '=sp", "'uid'=verb", "' '=sp", "'fetch'=verb", "' '=sp",
                                     "'1:* (FLAGS)'=argument", r"'\r\n'=crlf"]),
    ("C: a1 AUTHENTICATE PLAIN AHRpbQ==", ["'a1'=tag", "' '=sp", "'AUTHENTICATE'=verb", "' '=sp", "'PLAIN'=mechanism",
                                           "' '=sp", "UD 'AHRpbQ=='=initial-response", r"'\r\n'=crlf"]),
    ("C: a1 AUTHENTICATE EXTERNAL =", ["'a1'=tag", "' '=sp", "'AUTHENTICATE'=verb", "' '=sp", "'EXTERNAL'=mechanism",
                                       "' '=sp", "'='=empty-initial-response", r"'\r\n'=crlf"]),
    ("C: a1 NOOP", ["'a1'=tag", "' '=sp", "'NOOP'=verb", r"'\r\n'=crlf"]),
    ("C: a1 APPEND x {0+}", ["'a1'=tag", "' '=sp", "'APPEND'=verb", "' '=sp", "'x '=argument", "'{0+}'=literal-size",
                             r"'\r\n'=crlf"]),
    ("S: a1 NO [ALERT] full  up", ["'a1'=tag", "' '=sp", "'NO'=status-indicator", "' '=sp", "'[ALERT]'=response-code",
                                   "' '=sp", "'full  up'=text", r"'\r\n'=crlf"]),
    ("S: * BAD", ["'*'=tag", "' '=sp", "'BAD'=status-indicator", r"'\r\n'=crlf"]),
    ("S: * 12 FETCH (FLAGS ())", ["'*'=tag", "' '=sp", "'12 FETCH'=response-name", "' '=sp", "'(FLAGS ())'=listing",
                                  r"'\r\n'=crlf"]),
    ("S: + go on", ["'+'=tag", "' '=sp", "'go on'=text", r"'\r\n'=crlf"]),
    ("S: +", ["'+'=tag", r"'\r\n'=crlf"]),
])  # fmt: skip
def test_a_line_is_taken_apart(said: str, spans: list[str]) -> None:
    last = [line for line in made(*READY, said) if line.side.value == said[0]][-1]
    assert fields(last) == spans


def test_an_appended_message_is_user_data_of_one_unit_and_waits_for_the_plus() -> None:
    shown = imap(*IN, "C: a2 APPEND Sent {9}", "S: + go", raw("C", b"A: b\r\n\r\nx"), "C: ", "S: a2 OK", "C: a3 NOOP")
    assert client(shown, 2) == [
        "C2 PCI | APPEND command C2", "C3 user data | APPEND command C2", "C4 user data | APPEND command C2",
        "C5 user data | APPEND command C2", "C6 PCI | APPEND command C2", "C7 PDU | NOOP command C3",
    ]  # fmt: skip


def test_a_literal_that_is_refused_is_not_sent() -> None:
    shown = imap(*IN, "C: a2 APPEND Sent {9}", "S: a2 NO too big", "C: a3 NOOP", "S: a3 OK")
    assert client(shown, 2) == ["C2 PCI | APPEND command C2", "C3 PDU | NOOP command C3"]


def test_a_literal_plus_is_sent_at_once() -> None:
    shown = imap(*IN, "C: a2 APPEND {4+}", raw("C", b"Sent {3+}\r\nx\r\n\r\na3 NOOP\r\n"), "S: a2 OK\na3 OK")
    assert client(shown, 2) == [
        "C2 PCI | APPEND command C2", "C3 PCI | APPEND command C2", "C4 PCI | APPEND command C2",
        "C5 user data | APPEND command C2", "C6 PCI | APPEND command C2", "C7 PDU | NOOP command C3",
    ]  # fmt: skip


def test_a_message_that_is_fetched_is_counted_and_user_data_whatever_it_looks_like() -> None:
    said = b"* 1 FETCH (UID 5 BODY[] {18}\r\nA: b\r\n\r\na2 OK no\r\n UID 7)\r\n"
    said += b"* 1 FETCH (BODY[TEXT] {2}\r\nhi)\r\na2 OK\r\n"
    shown = imap(*IN, "C: a2 FETCH 1 BODY[]", raw("S", said))
    assert server(shown, 3) == [
        "S3 PCI | FETCH response S3", "S4 user data | FETCH response S3", "S5 user data | FETCH response S3",
        "S6 user data | FETCH response S3", "S7 PCI | FETCH response S3", "S8 PCI | FETCH response S4",
        "S9 user data | FETCH response S4", "S10 PCI | FETCH response S4", "S11 PDU | OK response S5",
    ]  # fmt: skip


def test_a_literal_that_is_only_a_string_is_pci() -> None:
    shown = imap(*IN, 'C: a2 LIST "" *', raw("S", b'* LIST () "/" {5}\r\na b/c\r\na2 OK\r\n'))
    assert server(shown, 3)[:3] == [
        "S3 PCI | LIST response S3",
        "S4 PCI | LIST response S3",
        "S5 PCI | LIST response S3",
    ]


def test_messages_in_literals_are_seen_from_the_layer_above() -> None:
    said = b"* 1 FETCH (BODY[] {12}\r\nA: b\r\n\r\nx\r\n\r)\r\n* 2 FETCH (RFC822 {3}\r\nx\r\n)\r\na2 OK\r\n"
    reader = Messages()
    got = made(*IN, "C: a2 FETCH 1:2 BODY[]", raw("S", said))
    views = [view for line in got if line.side is Side.SERVER for view in reader.feed(line)] + reader.finish()
    assert [(view.message.pdu.ident, label(view.message, Layer.MESSAGE).value) for view in views] == [
        ("S1", "PCI"), ("S1", "PCI"), ("S1", "user data"), ("S1", "user data"), ("S2", "PDU"),
    ]  # fmt: skip


@pytest.mark.parametrize(("said", "hidden"), [
    (("C: a LOGIN anna layers",), [b"a LOGIN anna ******\r\n"]),
    (("C: a LOGIN \"an\\\"na\" \"lay ers\"",), [b"a LOGIN \"an\\\"na\" *********\r\n"]),
    (("C: a LOGIN anna {6}", "S: +", "C: layers"), [b"a LOGIN anna {6}\r\n", b"******", b"\r\n"]),
    (("C: a LOGIN {4+}", raw("C", b"anna layers\r\n")), [b"a LOGIN {4+}\r\n", b"****", b" ******\r\n"]),
    (("C: a LOGIN {4+}", raw("C", b"anna {6+}\r\nlayers\r\n")), [b"a LOGIN {4+}\r\n", b"****", b" {6+}\r\n", b"******",
                                                                b"\r\n"]),
    (("C: a AUTHENTICATE PLAIN AHRpbQ==",), [b"a AUTHENTICATE PLAIN ********\r\n"]),
    (("C: a AUTHENTICATE LOGIN", "S: + VXNlcg==", "C: cGFzcw=="), [b"a AUTHENTICATE LOGIN\r\n", b"********\r\n"]),
    (("C: a AUTHENTICATE PLAIN", "S: +", "C: cGFz", "S: a NO", "C: cGFzcw=="),
     [b"a AUTHENTICATE PLAIN\r\n", b"****\r\n", b"********\r\n"]),
    (("C: a AUTHENTICATE PLAIN AHRpbQ==", "S: a NO", "C: cGFzcw=="), [b"a AUTHENTICATE PLAIN ********\r\n",
                                                                      b"********\r\n"]),
    (("C: a AUTHENTICATE PLAIN\ncGFzcw==", "S: a NO"), [b"a AUTHENTICATE PLAIN\r\n", b"********\r\n"]),
    ((raw("C", b"a AUTHENTICATE PLAIN AHRp"), lost("C", 3), raw("C", b"bQ==\r\n")), [b"a AUTHENTICATE PLAIN ****",
                                                                                     b"****\r\n"]),
    ((raw("C", b"a LOGIN anna lay"), lost("C", 2), raw("C", b"s\r\n")), [b"a LOGIN anna ***", b"*\r\n"]),
    (("C: a ID (\"name\" \"x\")",), [b"a ID (\"name\" \"x\")\r\n"]),
])  # fmt: skip
def test_passwords_are_masked_octet_for_octet(said: tuple[str | Event, ...], hidden: list[bytes]) -> None:
    assert [mask(line) for line in made(*READY, *said) if line.side is Side.CLIENT] == hidden


def test_authenticate_is_an_exchange_of_units_or_one_by_reading_c4() -> None:
    said = (*READY, "C: a AUTHENTICATE LOGIN", "S: + VXNlcg==", "C: YW5uYQ==", "S: + UGFzcw==", "C: *", "S: a BAD",
            "C: b NOOP", "S: b OK")  # fmt: skip
    assert client(imap(*said)) == [
        "C1 PDU | AUTHENTICATE command C1", "C2 PDU | AUTH response C2 | credential", "C3 PDU | AUTH cancel C3",
        "C4 PDU | NOOP command C4",
    ]  # fmt: skip
    assert server(imap(*said), 2)[:2] == ["S2 PDU | + challenge S2", "S3 PDU | + challenge S3"]
    one = [row for row in reread(made(*said), reading(["C4=one"])) if isinstance(row, Line)]
    assert [label(row).value for row in one if row.side is Side.CLIENT] == ["PCI", "user data", "PCI", "PDU"]


def test_starttls_leads_to_records_and_a_refusal_does_not() -> None:
    record = b"\x16\x03\x01\x00\x02\x01\x00"
    got = made(*READY, "C: a STARTTLS", "S: a OK go", raw("C", record), raw("S", record))
    assert [(line.layer, label(line, line.layer).value) for line in got if line.layer is Layer.TLS] == [
        (Layer.TLS, "PDU")
    ] * 2
    assert client(imap(*READY, "C: a STARTTLS", "S: a NO", "C: b NOOP")) == [
        "C1 PDU | STARTTLS command C1", "C2 PDU | NOOP command C2"
    ]  # fmt: skip
    assert client(imap(*READY, "C: a STARTTLS\nb NOOP", "S: a OK"), 2) == ["C2 PDU | NOOP command C2 | after-starttls"]


def test_what_only_begins_like_tls_is_a_line_of_its_own() -> None:
    assert client(imap(raw("C", b"\x16\x03\x09abc\r\n"))) == ["C1 PDU | unknown command C1 | unknown-command"]


def test_idle_ends_with_done_and_done_alone_is_no_command() -> None:
    shown = imap(*IN, "C: a2 IDLE", "S: + idling\n* 4 EXISTS", "C: DONE", "S: a2 OK", "C: DONE")
    assert client(shown, 2) == [
        "C2 PDU | IDLE command C2", "C3 PDU | IDLE end C3", "C4 PDU | unknown command C4 | unknown-command"
    ]  # fmt: skip
    assert server(shown, 3)[:2] == ["S3 PDU | continuation request S3", "S4 PDU | EXISTS response S4"]


def test_after_compress_nothing_is_known() -> None:
    shown = imap(*IN, "C: a2 COMPRESS DEFLATE", "S: a2 OK", raw("C", b"\x9a\x02\n\x00"), raw("S", b"\n\n"))
    assert (client(shown, 3), server(shown, 4)) == (["C3 PCI | unknown C3"], ["S4 PCI | unknown S4"])


@pytest.mark.parametrize(("said", "shown"), [
    (("C: what is this", "S: * BAD"), ["C1 PDU | unknown command C1 | unknown-command"]),
    (("C: ", "S: * BAD"), ["C1 PDU | unknown command C1 | unknown-command"]),
    (("C: a2 NOOP", "S: a2 OK", "C: a3 LOGOUT\na4 NOOP"),
     ["C1 PDU | NOOP command C1", "C2 PDU | LOGOUT command C2", "C3 PDU | NOOP command C3 | after-quit"]),
    ((raw("C", b"a1 NOOP\n"),), ["C1 PDU | NOOP command C1 | bare-lf"]),
    ((raw("C", b"a1 NOOP\r\na2 SEL"),), ["C1 PDU | NOOP command C1", "C2 PCI | command (fragment) C2 | incomplete"]),
])  # fmt: skip
def test_odd_commands(said: tuple[str | Event, ...], shown: list[str]) -> None:
    assert client(imap(*READY, *said)) == shown


@pytest.mark.parametrize(("said", "shown"), [
    ("S: a9 OK what", "S2 PDU | OK response S2 | unsolicited"),
    ("S: nonsense", "S2 PDU | malformed response S2 | malformed-reply"),
    ("S: * ", "S2 PDU | malformed response S2 | malformed-reply"),
    ("S: * X-NEW {3} not a literal", "S2 PDU | X-NEW response S2"),
])  # fmt: skip
def test_odd_responses(said: str, shown: str) -> None:
    assert server(imap(*READY, "C: a1 NOOP", said))[1] == shown


def test_a_client_that_talks_early_is_said_to() -> None:
    assert client(imap("C: a1 NOOP", *READY, "S: a1 OK")) == ["C1 PDU | NOOP command C1 | early-talker"]


def test_a_gap_inside_a_literal_is_counted_off_and_the_session_goes_on() -> None:
    shown = imap(*IN, "C: a2 FETCH 1 BODY[]", raw("S", b"* 1 FETCH (BODY[] {20}\r\n01234"), lost("S", 10),
                 raw("S", b"56789)\r\na2 OK\r\n"))  # fmt: skip
    assert server(shown, 3) == [
        "S3 PCI | FETCH response S3", "S4 user data | FETCH response S3 | cut-by-gap",
        "S5 user data | FETCH response S3 | after-gap", "S6 PCI | FETCH response S3", "S7 PDU | OK response S4",
    ]  # fmt: skip


def test_a_gap_that_swallows_the_end_of_a_literal_leaves_fragments() -> None:
    shown = imap(*IN, "C: a2 FETCH 1 BODY[]", raw("S", b"* 1 FETCH (BODY[] {6}\r\n0123"), lost("S", 9),
                 raw("S", b"AGS ())\r\na2 OK\r\n"))  # fmt: skip
    assert server(shown, 5) == ["S5 PCI | reply (fragment) S4 | after-gap", "S6 PDU | OK response S5"]


def test_one_side_alone_is_labelled_and_its_literals_assumed() -> None:
    shown = imap("C: a1 APPEND x {3}", raw("C", b"hi\n\r\na2 AUTHENTICATE PLAIN\r\nAHQ=\r\na3 NOOP\r\n"))
    assert shown == [
        "C1 PCI | APPEND command C1", "C2 user data | APPEND command C1 | assumed bare-lf",
        "C3 PCI | APPEND command C1", "C4 PDU | AUTHENTICATE command C2",
        "C5 PDU | AUTH response C3 | assumed credential", "C6 PDU | NOOP command C4",
    ]  # fmt: skip
    assert imap("S: * OK hi\n* 1 EXISTS\na1 OK") == [
        "S1 PDU | OK greeting S1", "S2 PDU | EXISTS response S2", "S3 PDU | OK response S3"
    ]  # fmt: skip


def test_a_capture_that_begins_in_the_middle_takes_nothing_for_granted() -> None:
    shown = imap(raw("C", b"XAMINE x\r\na2 NOOP\r\n"), raw("S", b"ISTS\r\n* 4 RECENT\r\na2 OK\r\n"), midstream=True)
    assert shown == [
        "C1 PCI | command (fragment) C1 | start-missing", "C2 PDU | NOOP command C2",
        "S1 PCI | reply (fragment) S1 | start-missing", "S2 PDU | RECENT response S2", "S3 PDU | OK response S3",
    ]  # fmt: skip
    assert imap("C: a1 NOOP", "S: a1 OK", midstream=True) == [
        "C1 PDU | NOOP command C1 | assumed", "S1 PDU | OK response S1 | assumed"
    ]  # fmt: skip


C, S = Side.CLIENT, Side.SERVER


@pytest.mark.parametrize(("port", "first", "expected"), [
    (143, {S: b"* OK"}, "imap"),
    (143, {S: b"220 mx ESMTP\r\n", C: b"EHLO c\r\n"}, "smtp"),
    (993, {C: b"\x16\x03\x01\x02"}, "imap"),
    (1143, {S: b"* OK [CAPABILITY IMAP4rev1] hi\r\n"}, "imap"),
    (1143, {S: b"* OK hi\r\n"}, None),
    (1143, {S: b"* OK hi\r\n", C: b"a1 LOGIN u p\r\n"}, "imap"),
    (1143, {S: b"* PREAUTH hi\r\n", C: b"1 select INBOX\r\n"}, "imap"),
    (1143, {C: b"a1 LOGIN u p\r\n"}, None),
    (25, {S: b"* OK hi\r\n"}, None),
    (25, {S: b"* OK hi\r\n", C: b"a1 CAPABILITY\r\n"}, "imap"),
    (110, {S: b"* BYE IMAP4 is elsewhere\r\n"}, "imap"),
])  # fmt: skip
def test_imap_is_known_by_its_greeting_and_its_tags(port: int, first: dict[Side, bytes], expected: str | None) -> None:
    assert choose(port, first) == expected


def test_its_commands_are_in_the_glossary() -> None:
    known = verb("append")
    assert known is not None
    assert (known.citation, known.status) == ("RFC 9051 6.3.12", "IMAP")
    assert explain("FETCH response").citation == "RFC 9051 2.2.2, 7"
