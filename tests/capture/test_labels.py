"""The label rule, the contested readings, the mask, and the registry."""

from __future__ import annotations

import pytest

from capture.labels import DEFAULT, Readings, label, spans
from capture.model import Label, Layer, Line, Pdu, Role, Side, Span
from capture.protocols.registry import GIVE_UP, choose, make
from capture.protocols.secrets import mask
from tests.capture.conversation import GREETED, IN_DATA, lines, raw


def line(whole: bool, *roles: Role, layer: Layer = Layer.APPLICATION) -> Line:
    tiles = tuple(Span(i, i + 1, role, "raw") for i, role in enumerate(roles))
    return Line(1, Side.CLIENT, 1, 0, b"x" * len(roles), Pdu("x", "C1"), tiles, (), whole, layer)


@pytest.mark.parametrize(("made", "expected"), [
    (line(True, Role.PCI), Label.PDU),
    (line(True, Role.PCI, Role.USER_DATA), Label.PDU),
    (line(False, Role.PCI, Role.USER_DATA), Label.USER_DATA),
    (line(False, Role.PCI, Role.PCI), Label.PCI),
])  # fmt: skip
def test_whole_is_pdu_else_somebody_elses_octets_are_user_data_else_pci(made: Line, expected: Label) -> None:
    assert label(made) is expected


def test_to_the_layers_below_a_line_is_user_data() -> None:
    command = line(True, Role.PCI)
    assert [label(command, layer) for layer in (Layer.LINK, Layer.NETWORK, Layer.TRANSPORT, Layer.TLS)] == [
        Label.USER_DATA
    ] * 4
    record = line(True, Role.PCI, Role.USER_DATA, layer=Layer.TLS)
    assert (label(record, Layer.TLS), label(record, Layer.TRANSPORT)) == (Label.PDU, Label.USER_DATA)


def test_reading_c1_moves_the_addresses_and_changes_no_label() -> None:
    mail = lines(*GREETED, "C: MAIL FROM:<a@c>")[1]
    reading = Readings(addresses=Role.USER_DATA)
    assert [s.field for s in spans(mail, reading) if s.role is Role.USER_DATA] == ["reverse-path"]
    assert label(mail, readings=reading) is label(mail) is Label.PDU
    assert spans(mail, DEFAULT) is mail.spans


def test_reading_c2_makes_lines_of_replies_user_data() -> None:
    greeting = lines("S: 220-mx a\n220 b", "C: QUIT")[1]
    assert label(greeting) is Label.PCI
    assert label(greeting, readings=Readings(reply_text=Role.USER_DATA)) is Label.USER_DATA


def test_reading_c5_makes_an_empty_last_line_pci() -> None:
    empty = lines(*IN_DATA, "C: \n.")[4]
    assert (empty.data, label(empty)) == (b"\r\n", Label.USER_DATA)
    reading = Readings(dot_line_end=Role.PCI)
    assert label(empty, readings=reading) is Label.USER_DATA
    assert label(empty, readings=reading, before_dot=True) is Label.PCI


@pytest.mark.parametrize(("said", "shown"), [
    (("C: AUTH PLAIN AHRpbQ==",), b"AUTH PLAIN ********\r\n"),
    (("C: AUTH EXTERNAL =",), b"AUTH EXTERNAL =\r\n"),
    (("C: AUTH LOGIN", "S: 334 VXNlcg==", "C: cGFzcw=="), b"********\r\n"),
    (("C: AUTH LOGIN\ncGFzcw==", "S: 504 no"), b"********\r\n"),
    (("C: AUTH PLAIN two words",), b"AUTH PLAIN *********\r\n"),
])  # fmt: skip
def test_secrets_of_smtp_are_masked_octet_for_octet(said: tuple[str, ...], shown: bytes) -> None:
    last = [made for made in lines(*GREETED, *said) if made.side is Side.CLIENT][-1]
    assert mask(last) == shown
    assert len(mask(last)) == len(last.data)


def test_a_challenge_stays_visible() -> None:
    challenge = lines(*GREETED, "C: AUTH LOGIN", "S: 334 VXNlcg==")[-1]
    assert mask(challenge) == b"334 VXNlcg==\r\n"


@pytest.mark.parametrize(("said", "shown"), [
    ("PASS se cret", b"PASS *******\r\n"),
    ("APOP anna 0123", b"APOP **** ****\r\n"),
    ("USER anna", b"USER anna\r\n"),
])  # fmt: skip
def test_secrets_of_pop3_are_masked(said: str, shown: bytes) -> None:
    assert mask(lines("S: +OK", f"C: {said}", protocol="pop3")[0]) == shown


def test_a_secret_that_a_gap_cuts_in_two_is_masked_on_both_sides() -> None:
    from tests.capture.conversation import lost

    made = lines(*GREETED, raw("C", b"AUTH PLAIN AHRp"), lost("C", 3), raw("C", b"cGFzcw==\r\n"), "S: 235 ok")
    assert [mask(m) for m in made if m.side is Side.CLIENT][1:] == [b"AUTH PLAIN ****", b"********\r\n"]


C, S = Side.CLIENT, Side.SERVER


@pytest.mark.parametrize(("port", "first", "expected"), [
    (25, {}, None),
    (25, {S: b"220"}, None),
    (25, {S: b"220 mx"}, "smtp"),
    (2525, {S: b"220 mx"}, None),
    (2525, {S: b"220 mx ESMTP\r\n"}, "smtp"),
    (2525, {S: b"220 mx\r\n", C: b"EHLO c\r\n"}, "smtp"),
    (2525, {S: b"220 ftp\r\n", C: b"USER anna\r\n"}, None),
    (1025, {C: b"mail from:<a@b>\r\n"}, "smtp"),
    (24, {S: b"220 mx\r\n"}, "lmtp"),
    (2003, {S: b"220 mx\r\n", C: b"LHLO c\r\n"}, "lmtp"),
    (110, {S: b"+OK"}, None),
    (110, {S: b"+OK ready"}, "pop3"),
    (1110, {S: b"+OK ready\r\n"}, None),
    (1110, {S: b"+OK ready\r\n", C: b"USER anna\r\n"}, "pop3"),
    (110, {S: b"220 mx\r\n", C: b"EHLO c\r\n"}, "smtp"),
    (25, {S: b"+OK ready\r\n", C: b"USER anna\r\n"}, "pop3"),
    (465, {C: b"\x16\x03\x01\x02"}, "smtp"),
    (995, {C: b"\x16\x03\x01\x02"}, "pop3"),
    (443, {C: b"\x16\x03\x01\x02"}, "tls"),
    (80, {C: b"GET / HTTP/1.1\r\n"}, None),
    (80, {C: b"x" * GIVE_UP}, "opaque"),
])  # fmt: skip
def test_a_protocol_is_known_by_what_is_said_and_then_by_its_port(
    port: int, first: dict[Side, bytes], expected: str | None
) -> None:
    assert choose(port, first) == expected


@pytest.mark.parametrize(("port", "first", "expected"), [
    (25, {}, "smtp"), (80, {}, "opaque"), (8080, {C: b"GET /"}, "opaque"), (25, {C: b"Q"}, "smtp"),
])  # fmt: skip
def test_at_the_end_there_is_always_an_answer(port: int, first: dict[Side, bytes], expected: str) -> None:
    assert choose(port, first, final=True) == expected


def test_a_port_of_ours_is_believed_in_the_middle_of_a_session() -> None:
    assert choose(25, {C: b"x"}, midstream=True) == "smtp"
    assert choose(26, {C: b"x"}, midstream=True) is None


def test_what_is_not_understood_is_said_to_be_unknown() -> None:
    made = lines("C: GET / HTTP/1.1\nHost: x", raw("S", b"\x00\x01"), protocol="opaque")
    assert [(m.pdu.name, label(m), m.flags) for m in made] == [
        ("unknown", Label.PCI, ("not-understood",)),
        ("unknown", Label.PCI, ("not-understood",)),
        ("unknown", Label.PCI, ("incomplete", "not-understood")),
    ]


def test_no_other_protocol_can_be_made() -> None:
    with pytest.raises(KeyError):
        make("gopher", conversation=1)
