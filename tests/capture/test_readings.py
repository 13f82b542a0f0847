"""The six contested readings, one setting: what each changes on the vectors, and that it changes nothing else."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import pytest

from capture.errors import WiretalkError
from capture.glossary import readings as contested
from capture.labels import DEFAULT, Readings, label
from capture.model import Label, Layer, Line, Missing, Role, Side
from capture.protocols.message import Messages
from capture.readings import CHOICES, WAITING, choose, reread
from tests.capture.conversation import DONE, GREETED, IN_DATA, lines, raw
from tests.capture.test_vectors import VECTORS, events, lines_of

ALTERNATIVES = [f"{name}={value}" for name, values in CHOICES.items() for value in list(values)[1:]]
Change = tuple[str, str, str, str]  # vector, line, label by default, label by the other reading


def of(vector: dict[str, Any]) -> list[Line]:
    context = vector.get("context", {})
    return lines_of(events(vector), context.get("protocol", "smtp"), context.get("midstream", False))


def read(made: list[Line], *settings: str) -> list[Line]:
    return [row for row in reread(made, choose(settings)) if isinstance(row, Line)]


def changes(setting: str) -> list[Change]:
    return [
        (vector["name"], was.data[:24].decode("latin-1"), label(was).value, label(now).value)
        for vector in VECTORS
        for was, now in zip(of(vector), read(of(vector), setting), strict=True)
        if label(was) is not label(now)
    ]


def units(made: list[Line]) -> list[tuple[str, str, str]]:
    return [(line.data.decode("latin-1"), label(line).value, f"{line.pdu.name} {line.pdu.ident}") for line in made]


def test_every_contested_reading_has_its_choices_and_no_other_has() -> None:
    assert sorted(CHOICES) == [reading.ident for reading in contested()]
    for name, values in CHOICES.items():
        first, *others = (choose([f"{name}={value}"]) for value in values)
        assert first == DEFAULT
        assert len({first, *others}) == len(values)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_the_default_gives_every_row_as_it_is(vector: dict[str, Any]) -> None:
    made = of(vector)
    assert all(one is other for one, other in zip(reread(made), made, strict=True))


@pytest.mark.parametrize("setting", ALTERNATIVES)
def test_a_reading_changes_neither_octets_nor_fields_nor_order(setting: str) -> None:
    for vector in VECTORS:
        was, now = of(vector), read(of(vector), setting)
        assert [(w.side, w.number, w.offset, w.data, w.flags) for w in was] == [
            (n.side, n.number, n.offset, n.data, n.flags) for n in now
        ]
        assert [[s[:2] + s[3:] for s in w.spans] for w in was] == [[s[:2] + s[3:] for s in n.spans] for n in now]


def test_c1_changes_the_roles_of_two_fields_and_no_label_of_a_whole_line() -> None:
    # The one line it changes is cut by a gap inside the address, so that it is a part that holds user data.
    assert changes("C1=user-data") == [("gap-in-command", "MAIL FROM:<ali", "PCI", "user data")]
    (example,) = (v for v in VECTORS if v["name"] == "worked-example-helo")
    client = [line for line in read(of(example), "C1=user-data") if line.side is Side.CLIENT]
    octets = {role: sum(s.end - s.start for m in client for s in m.spans if s.role is role) for role in Role}
    assert octets == {Role.PCI: 63, Role.USER_DATA: 232}  # labels.md 5, question 2


def test_c2_makes_lines_of_multi_line_replies_user_data() -> None:
    changed = changes("C2=user-data")
    assert {change[2:] for change in changed} == {("PCI", "user data")}
    assert [line for name, line, *_ in changed if name == "multiline-greeting-and-ehlo"] == [
        "220-mail.example.org ESM", "220-No spam please\r\n", "220 welcome\r\n", "250-mail.example.org gre",
        "214-Commands:\r\n", "214-250 HELO EHLO\r\n",
    ]  # fmt: skip


def test_c3_makes_data_and_the_mail_data_one_unit() -> None:
    changed = changes("C3=one")
    assert {change[1:] for change in changed} == {("DATA\r\n", "PDU", "PCI"), (".\r\n", "PDU", "PCI")}
    assert [change[0] for change in changed if change[1] == ".\r\n"] == ["empty-message"]
    (example,) = (v for v in VECTORS if v["name"] == "worked-example-helo")
    idents = {line.pdu.ident for line in read(of(example), "C3=one") if line.side is Side.CLIENT}
    assert len(idents) == 5  # labels.md 5, question 1


def test_c3_leaves_a_data_that_was_refused_a_unit_of_its_own() -> None:
    refused = read(lines(*GREETED, "C: DATA", "S: 503 no", "C: QUIT", "S: 221 bye"), "C3=one")
    assert [label(line) for line in refused if line.data == b"DATA\r\n"] == [Label.PDU]
    pending = read(lines(*IN_DATA), "C3=one")
    assert [label(line) for line in pending if line.data == b"DATA\r\n"] == [Label.PCI]


AUTH = (*GREETED, "C: AUTH LOGIN", "S: 334 VXNlcg==", "C: Ym9i", "S: 334 UGFzcw==", "C: cHc=", "S: 235 ok",
        "C: NOOP", "S: 250 ok")  # fmt: skip


@pytest.mark.parametrize(("setting", "expected"), [
    ("C4=one", [("AUTH LOGIN\r\n", "PCI", "AUTH command C2"), ("Ym9i\r\n", "user data", "AUTH command C2"),
                ("cHc=\r\n", "user data", "AUTH command C2"), ("NOOP\r\n", "PDU", "NOOP command C5")]),
    ("C4=one-pci", [("AUTH LOGIN\r\n", "PCI", "AUTH command C2"), ("Ym9i\r\n", "PCI", "AUTH command C2"),
                    ("cHc=\r\n", "PCI", "AUTH command C2"), ("NOOP\r\n", "PDU", "NOOP command C5")]),
    ("C4=pci", [("AUTH LOGIN\r\n", "PDU", "AUTH command C2"), ("Ym9i\r\n", "PDU", "AUTH response C3"),
                ("cHc=\r\n", "PDU", "AUTH response C4"), ("NOOP\r\n", "PDU", "NOOP command C5")]),
])  # fmt: skip
def test_c4_joins_the_lines_of_an_auth_exchange_or_makes_its_base64_pci(
    setting: str, expected: list[tuple[str, str, str]]
) -> None:
    def in_order() -> list[Line]:
        made = lines(*AUTH)
        client = [line for line in made if line.side is Side.CLIENT]
        server = [line for line in made if line.side is Side.SERVER]
        return [line for pair in zip_longest(server, client) for line in pair if line is not None]

    made = read(in_order(), setting)
    assert units([line for line in made if line.side is Side.CLIENT])[1:] == expected
    base64 = {s.role for line in made for s in line.spans if s.field in ("challenge", "auth-response")}
    assert base64 == {Role.PCI if "pci" in setting else Role.USER_DATA}


def test_c4_leaves_an_auth_in_one_line_a_unit() -> None:
    made = read(lines(*GREETED, "C: AUTH PLAIN AHRpbQ==", "S: 235 ok", "C: QUIT", "S: 221"), "C4=one")
    assert [label(line) for line in made if line.data.startswith(b"AUTH")] == [Label.PDU]
    assert {change[0] for change in changes("C4=one")} == {"auth-challenge-response"}
    assert changes("C4=pci") == []


def test_c5_changes_an_empty_last_line_only() -> None:
    assert changes("C5=terminator") == []
    made = read(lines(*IN_DATA, "C: text\n\n.", *DONE), "C5=terminator")
    tail = [(line.data, label(line)) for line in made if line.pdu.name == "mail data"]
    assert tail == [(b"text\r\n", Label.USER_DATA), (b"\r\n", Label.PCI), (b".\r\n", Label.PCI)]
    made = read(lines(*IN_DATA, "C: text\n.", *DONE), "C5=terminator")
    last = next(line for line in made if line.data == b"text\r\n")
    assert [(s.field, s.role) for s in last.spans] == [("content", Role.USER_DATA), ("line-end", Role.PCI)]


def test_c5_holds_for_pop3_and_not_for_bdat() -> None:
    made = read(lines("S: +OK", "C: RETR 1", "S: +OK\nx\n\n.", protocol="pop3"), "C5=terminator")
    assert [label(line).value for line in made if line.side is Side.SERVER][1:] == ["PCI", "user data", "PCI", "PCI"]
    made = read(lines(*GREETED, "C: BDAT 2 LAST", raw("C", b"\r\n"), "S: 250"), "C5=terminator")
    assert [label(line) for line in made if line.data == b"\r\n"] == [Label.USER_DATA]


def test_c6_changes_labels_at_the_message_layer_only() -> None:
    assert changes("C6=user-data") == []
    messages = Messages(choose(["C6=user-data"]).for_the_reader)
    made = [line for line in lines(*IN_DATA, "C: From: a\nSubject: b\n c\n\nd\n.", *DONE) if line.side is Side.CLIENT]
    views = [view.message for line in made for view in messages.feed(line)]
    assert [label(view, Layer.MESSAGE).value for view in views] == ["PCI", "user data", "user data", "PCI", "user data"]
    assert [s.field for s in views[1].spans if s.role is Role.USER_DATA] == ["field-body"]


def test_gaps_and_other_conversations_keep_their_place_in_the_order() -> None:
    made = lines(*GREETED, "C: AUTH LOGIN")
    other = made[0]._replace(conversation=2)
    gap = Missing(1, Side.SERVER, 9, 4)
    rows = [made[0], made[1], gap, other]
    assert [row.conversation for row in reread(rows, Readings(auth_is_one=True))] == [1, 1, 1, 2]


def test_a_row_that_waits_for_ever_does_not_hold_up_the_others() -> None:
    auth = next(line for line in lines(*GREETED, "C: AUTH LOGIN") if b"AUTH" in line.data)
    others = (auth._replace(conversation=2, whole=False) for _ in range(WAITING + 10))
    rows = reread([auth, *others], Readings(auth_is_one=True))
    assert next(rows) == auth


@pytest.mark.parametrize("setting", ["C7=pci", "C1", "C1=maybe", "", "c3=3"])
def test_a_reading_that_nobody_knows_is_refused_with_the_choices(setting: str) -> None:
    with pytest.raises(WiretalkError) as refused:
        choose([setting])
    assert "C3: two, one" in refused.value.remedy
