"""Labelled lines printed: the JSON contract, key by key, and text in which no octet of the wire is alive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.analyzer import Analyzer
from capture.export import FORMATS
from capture.export.text import visible
from capture.model import Conversation, Endpoint, Line, Missing, Pdu, Role, Side, Span
from capture.record import Record
from tests.capture.forge import capture_of

C, S, PCI, UD = Side.CLIENT, Side.SERVER, Role.PCI, Role.USER_DATA
T = 1_790_000_000_123_456_789
WHO = {
    1: Conversation(
        1, Endpoint(b"\xc0\0\2\x0a", 40000), Endpoint(b"\xc0\0\2\x19", 25), "smtp", start=T, end=T + 9, frames=9
    )
}
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())

QUIT = Line(
    conversation=1,
    side=C,
    number=3,
    offset=41,
    data=b"QUIT\r\n",
    pdu=Pdu("QUIT command", "C3"),
    spans=(Span(0, 4, PCI, "verb"), Span(4, 6, PCI, "crlf")),
    flags=(),
    whole=True,
    frames=(12,),
    time=T + 1_500_000,
    order=7,
)
AUTH = QUIT._replace(
    data=b"AUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n",
    pdu=Pdu("AUTH command", "C4"),
    spans=(
        Span(0, 4, PCI, "verb"),
        Span(4, 5, PCI, "sp"),
        Span(5, 10, PCI, "mechanism"),
        Span(10, 11, PCI, "sp"),
        Span(11, 31, UD, "initial-response"),
        Span(31, 33, PCI, "crlf"),
    ),
    flags=("credential",),
    frames=(13, 14),
)
BODY = QUIT._replace(
    data=b"Gr\xfc\xdfe \x1b[2J\x00\x7f\t'\"\\\r\n",
    pdu=Pdu("mail data", "C5"),
    spans=(Span(0, 15, UD, "content"), Span(15, 17, UD, "line-end")),
    flags=("8bit", "nul"),
    whole=False,
)
GAP = Missing(1, S, 900, 15, T + 2_000_000, 9)


def printed(form: str, *rows: Line | Missing, **options: bool) -> list[str]:
    return list(FORMATS[form](rows, WHO, **options))


def objects(*rows: Line | Missing, **options: bool) -> list[dict]:
    return [json.loads(text) for text in printed("jsonl", *rows, **options)]


def test_a_line_is_the_object_of_the_contract_key_by_key_in_order() -> None:
    (text,) = printed("jsonl", QUIT)
    assert text == (
        '{"conversation": 1, "side": "C", "n": 3, "offset": 41, "time": 1790000000.124956789, "line": "QUIT\\r\\n", '
        '"label": "PDU", "pdu": "QUIT command", "pdu_id": "C3", '
        '"spans": [[0, 4, "pci", "verb"], [4, 6, "pci", "crlf"]], "flags": [], "frames": [12], "layer": "application"}'
    )
    assert text == json.dumps(json.loads(text), ensure_ascii=True).replace("1790000000.1249568", "1790000000.124956789")


def test_a_gap_is_an_object_of_four_keys() -> None:
    assert objects(GAP) == [{"conversation": 1, "side": "S", "offset": 900, "gap": 15}]


def test_rows_stand_in_the_order_given_and_labels_read_as_words() -> None:
    rows = objects(QUIT, GAP, BODY, QUIT._replace(whole=False))
    assert [row.get("label", "gap") for row in rows] == ["PDU", "gap", "user data", "PCI"]


@pytest.mark.parametrize("time", [0, 1, 999_999_999, 10**9, T, -1, -(10**9) - 5])
def test_times_keep_all_their_digits(time: int) -> None:
    (text,) = printed("jsonl", QUIT._replace(time=time))
    digits = text.split('"time": ')[1].split(",")[0]
    assert int(digits.replace(".", "")) == time
    assert len(digits.split(".")[1]) == 9


@given(st.binary(max_size=60), st.lists(st.sampled_from(["bare-lf", "8bit"]), max_size=2))
def test_every_octet_comes_back_from_json_and_none_is_alive_in_it(octets: bytes, flags: list[str]) -> None:
    (text,) = printed("jsonl", QUIT._replace(data=octets, flags=tuple(flags)))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["line"].encode("latin-1") == octets
    assert json.loads(text)["flags"] == flags


@given(st.binary(max_size=60))
def test_in_text_one_octet_is_one_printable_character(octets: bytes) -> None:
    assert len(visible(octets)) == len(octets)
    assert visible(octets).isprintable()
    (row,) = printed("text", QUIT._replace(data=octets))[2:]
    assert row.isprintable()
    assert row.endswith(visible(octets))


def test_text_has_a_heading_the_two_hosts_and_a_row_for_each_line() -> None:
    assert printed("text", QUIT, AUTH, BODY, GAP, GAP._replace(length=1)) == [
        "    frame      seconds  way  label      of the PDU                line",
        "── conversation 1: client 192.0.2.10:40000 ↔ server 192.0.2.25:25, smtp",
        "       12     0.001500  C▶S  PDU        QUIT command C3           QUIT␍␊",
        "    13–14     0.001500  C▶S  PDU        AUTH command C4           "
        "AUTH PLAIN ********************␍␊  ⟨credential⟩",
        "       12     0.001500  C▶S  user data  mail data C5              Gr··e ␛[2J␀␡␉'\"\\␍␊  ⟨8bit, nul⟩",
        "              0.002000  S▶C                                       … 15 octets not captured",
        "              0.002000  S▶C                                       … 1 octet not captured",
    ]


def test_who_talks_is_said_again_whenever_it_changes() -> None:
    other = QUIT._replace(conversation=2)
    rows = printed("text", QUIT, other, other, QUIT)
    assert [row for row in rows if row.startswith("──")] == [
        "── conversation 1: client 192.0.2.10:40000 ↔ server 192.0.2.25:25, smtp",
        "── conversation 2",
        "── conversation 1: client 192.0.2.10:40000 ↔ server 192.0.2.25:25, smtp",
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_secrets_are_masked_unless_asked_for(form: str) -> None:
    assert "AHRpbQB0YW5zdGFhZg==" not in "".join(printed(form, AUTH))
    assert "*" * 20 in "".join(printed(form, AUTH))
    assert "AHRpbQB0YW5zdGFhZg==" in "".join(printed(form, AUTH, show_secrets=True))


@pytest.mark.parametrize("form", FORMATS)
def test_no_row_gives_no_print(form: str) -> None:
    assert printed(form) == []


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_printed_as_they_come(form: str) -> None:
    def rows() -> Iterator[Line]:
        yield QUIT
        raise AssertionError("read ahead")

    assert "QUIT" in next(text for text in FORMATS[form](rows(), WHO) if "QUIT" in text)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_vector_captured_and_exported_has_the_fields_of_the_vector(vector: dict) -> None:
    record, analyzer = Record(), Analyzer()
    for frame in capture_of(vector["exchange"]):
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    conversations = {one.ident: one for one in record.conversations}
    got = [json.loads(text) for text in FORMATS["jsonl"](record.rows(), conversations, show_secrets=True)]
    lines = [row for row in got if "line" in row]
    for line in lines:
        assert sum(end - start for start, end, _, _ in line["spans"]) == len(line["line"])
        assert line["frames"]
        assert set(line) == {
            *(
                "conversation",
                "side",
                "n",
                "offset",
                "time",
                "line",
                "label",
                "pdu",
                "pdu_id",
                "spans",
                "flags",
                "frames",
                "layer",
            )
        }
    sent = {
        side: "".join(said["bytes"] for said in vector["exchange"] if said["dir"] == side and "bytes" in said)
        for side in "CS"
    }
    for side in "CS":
        assert (
            "".join(line["line"] for line in sorted(lines, key=lambda line: line["n"]) if line["side"] == side)
            == sent[side]
        )


def test_what_nobody_understands_is_pci_by_the_rule_and_says_so() -> None:
    unknown = QUIT._replace(
        pdu=Pdu("unknown", "C1"), spans=(Span(0, 6, PCI, "raw"),), flags=("not-understood",), whole=False
    )
    *_, row = FORMATS["text"]([unknown], WHO)
    assert row.split()[3:] == ["PCI", "unknown", "C1", "QUIT␍␊", "⟨not-understood⟩"]
    (printed,) = FORMATS["jsonl"]([unknown], WHO)
    assert (json.loads(printed)["label"], json.loads(printed)["flags"]) == ("PCI", ["not-understood"])
