"""The glossary has a sentence and a source for every word that can appear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from capture import glossary
from capture.data import prose, smtp, words
from capture.model import Label

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "vectors.json").read_text())
SHOWN = [line for vector in VECTORS for line in vector["expect"]]


def test_every_field_has_a_sentence_and_a_source() -> None:
    assert set(prose.FIELDS) == set(words.FIELDS) | set(prose.MORE_FIELDS)
    for field in prose.FIELDS:
        entry = glossary.explain(field)
        assert entry.sentence.endswith(".")
        assert entry.citation


def test_every_flag_has_a_sentence_and_a_source() -> None:
    assert set(prose.FLAGS) == set(words.FLAGS) | set(prose.MORE_FLAGS)
    for name in prose.FLAGS:
        assert glossary.flag(name).sentence == prose.FLAGS[name]
        assert glossary.flag(name).citation


def test_every_word_of_the_vectors_is_explained() -> None:
    for line in SHOWN:
        for word in (line["label"], line["pdu"], *line.get("flags", ()), *(span[3] for span in line["spans"])):
            assert glossary.explain(word) is not glossary.UNKNOWN, word


def test_every_label_is_explained() -> None:
    assert set(prose.LABELS) == {label.value for label in Label}


@pytest.mark.parametrize(
    "kind", ["gap", "retransmission", "overlap-conflict", "out-of-order", "snaplen", "port-reuse", "truncated-frame"]
)
def test_a_note_of_the_stream_has_its_entry(kind: str) -> None:
    assert glossary.NOTES[kind].sentence
    assert glossary.NOTES[kind].citation


def test_554_says_transaction_failed_in_rfc_821_and_more_in_rfc_5321() -> None:
    reply = glossary.reply("554")
    assert reply is not None
    assert reply.rfc821.sentence == "Transaction failed"
    assert "No SMTP service here" in reply.rfc5321.sentence
    assert reply.rfc821.citation.startswith("RFC 821")


def test_252_is_not_in_rfc_821() -> None:
    reply = glossary.reply("252")
    assert reply is not None
    assert reply.rfc821 == glossary.Entry("", "")
    assert any(reference.startswith("RFC 1123") for reference, _ in reply.elsewhere)


def test_a_command_unit_is_explained_with_the_section_of_its_verb() -> None:
    assert glossary.explain("VRFY command").citation == "RFC 5321 4.1.1.6, 3.5"
    assert glossary.explain("RETR command").citation == "RFC 1939 5"


def test_words_that_nobody_knows_are_said_to_be_unknown() -> None:
    assert glossary.explain("hocus-pocus") is glossary.UNKNOWN
    assert glossary.flag("hocus-pocus") is glossary.UNKNOWN
    assert glossary.reply("299") is None
    assert glossary.verb("HOCUS") is None
    assert glossary.enhanced("5.99.99") is None
    assert glossary.extension("HOCUS") is None


def test_an_enhanced_code_is_looked_up_without_its_class() -> None:
    assert glossary.enhanced("5.1.1") == glossary.Entry("Bad destination mailbox address", "RFC 3463 3.2")


def test_verbs_are_known_in_any_case_of_letters() -> None:
    verb = glossary.verb("mail")
    assert verb is not None
    assert verb.syntax.startswith('"MAIL FROM:"')
    assert set(smtp.VERBS) == {v for name in smtp.VERBS if (known := glossary.verb(name)) and (v := known.verb)}


def test_there_are_six_contested_readings() -> None:
    assert [reading.ident for reading in glossary.readings()] == ["C1", "C2", "C3", "C4", "C5", "C6"]


def test_importing_capture_and_its_dialogues_loads_neither_scapy_nor_textual() -> None:
    code = "import sys, capture, capture.labels, capture.glossary, capture.protocols.registry as r; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name for name in loaded if name.split(".")[0] in {"scapy", "textual", "rich", "click"}}
