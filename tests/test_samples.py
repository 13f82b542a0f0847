"""The samples are what their README says, each can be made again, and each is labelled as it was reviewed to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture.analyzer import Analyzer
from capture.export import FORMATS
from capture.labels import label
from capture.model import Label, Line, Missing, Role, Side
from capture.record import Record
from capture.sources.files import read
from lab import exercise
from samples import derive, make

SAMPLES = Path(make.__file__).parent
C, S = Side.CLIENT, Side.SERVER

# What must be noted of a sample; nothing else may be.
NOTES = {
    "conflicting-retransmission": ["overlap-conflict"],
    "greeting-without-crlf": ["run-together"],
    "out-of-order": ["out-of-order"],
}


def record_of(name: str) -> Record:
    record, analyzer = Record(), Analyzer(strict=True)
    with read(SAMPLES / f"{name}.pcapng") as capture:
        for frame in capture:
            record.apply(analyzer.feed(frame))
        assert not capture.notes
    record.apply(analyzer.finish())
    return record


def said(name: str, side: Side = C, conversation: int = 1) -> list[tuple[str, str]]:
    """PDU and label of each line of a side; user data as its PDU only once for lines that follow one another."""
    told: list[tuple[str, str]] = []
    for line in record_of(name).lines:
        if line.side is side and line.conversation == conversation:
            one = line.pdu.name, label(line, line.layer).value
            if not told or told[-1] != one or label(line, line.layer) is not Label.USER_DATA:
                told.append(one)
    return told


def commands(*verbs: str) -> list[tuple[str, str]]:
    return [(f"{verb} command", "PDU") for verb in verbs]


ENVELOPE = commands("HELO", "MAIL", "RCPT", "DATA")
MAIL_DATA = [("mail data", "user data"), ("mail data", "PCI")]


def message(record: Record, pdu: str = "C5") -> bytes:
    """The user data of one PDU: I4 of the labelling scheme says it is the message as the client had it."""
    return b"".join(
        line.data[span.start : span.end]
        for line in record.lines
        if line.side is C and line.pdu.ident == pdu
        for span in line.spans
        if span.role is Role.USER_DATA
    )


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_sample_has_a_maker_and_a_row_in_the_readme() -> None:
    files = {path.stem for path in SAMPLES.iterdir() if path.suffix in (".pcap", ".pcapng", ".gz")}
    rows = (SAMPLES / "README.md").read_text()
    assert files == set(make.NAMES) == {path.stem for path in (SAMPLES / "expected").iterdir()}
    assert all(f"| `{name}.pcapng` |" in rows for name in files)


@pytest.mark.parametrize("name", make.NAMES)
def test_a_sample_is_labelled_as_it_was_reviewed_to_be(name: str) -> None:
    record = record_of(name)
    conversations = {fact.ident: fact for fact in record.conversations}
    told = [json.loads(text) for text in FORMATS["jsonl"](record.rows(), conversations)]
    expected = [json.loads(text) for text in (SAMPLES / "expected" / f"{name}.jsonl").read_text().splitlines()]
    assert len(told) == len(expected)
    for row, wanted in zip(told, expected, strict=True):
        # A later version may say more of a line than the one that was reviewed, never something else.
        assert {key: row.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("name", make.NAMES)
def test_no_sample_holds_a_note_that_its_row_does_not_tell(name: str) -> None:
    assert sorted({note.kind for note in record_of(name).notes}) == NOTES.get(name, [])


def test_the_exercise_is_typed_relayed_and_fetched() -> None:
    record = record_of("exercise")
    assert [facts.protocol for facts in record.conversations] == ["smtp", "pop3"]
    typed = [line for line in record.lines if line.side is C and line.conversation == 1]
    assert b"".join(line.data for line in typed) == "".join(f"{text}\r\n" for text in exercise.SMTP_LINES).encode()
    assert [label(line) for line in typed if line.data == b".\r\n"] == [Label.PCI]
    fetched = [line.data for line in record.lines if line.conversation == 2 and label(line) is Label.USER_DATA]
    assert sum(line.startswith(b"Received: ") for line in fetched) == 2
    assert fetched[-1] == b"..and this one starts with a dot\r\n"


# ── several units in one segment, one unit in several ────────────────────────────────────────────────────────────────


def test_commands_behind_the_end_of_data_in_its_segment_are_commands() -> None:
    assert said("after-end-of-data") == [*ENVELOPE, *MAIL_DATA, *commands("MAIL", "RCPT", "QUIT")]
    last = [line for line in record_of("after-end-of-data").lines if line.side is C][-1]
    dots = [line for line in record_of("after-end-of-data").lines if line.data == b".\r\n"]
    assert last.frames == dots[0].frames, "they were sent in one segment"


def test_bdat_counts_its_chunk_and_commands_follow() -> None:
    chunk = [("BDAT command", "PCI"), ("BDAT command", "user data")]
    assert said("bdat") == [
        *commands("EHLO", "MAIL", "RCPT"), *chunk, *commands("RSET", "MAIL", "RCPT"), *chunk, *chunk, *commands("QUIT")
    ]  # fmt: skip
    record = record_of("bdat")
    assert message(record, "C4") == b"Subject: by the octet\r\n\r\n.\r\nA lone dot above: nothing ends here.\r\n"
    assert message(record, "C8") + message(record, "C9") == b"Subject: two chunks\r\n\r\ncut.\r\n"


def test_an_end_of_data_in_three_segments_is_one() -> None:
    assert said("end-of-data-split") == [*ENVELOPE, *MAIL_DATA, *commands("QUIT")]
    (dot,) = (line for line in record_of("end-of-data-split").lines if line.data == b".\r\n")
    assert len(dot.frames) == 2


def test_pipelined_commands_are_units_of_their_own() -> None:
    assert said("pipelined") == [*commands("EHLO", "MAIL", "RCPT", "DATA"), *MAIL_DATA, *commands("QUIT")]
    assert len({line.frames for line in record_of("pipelined").lines if line.pdu.ident in ("C2", "C3", "C4")}) == 1


def test_pipelined_pop3_has_four_commands_and_a_message_that_talks_like_a_server() -> None:
    assert said("pop3-pipelined") == commands("USER", "PASS", "RETR", "QUIT")
    assert said("pop3-pipelined", S) == [
        ("+OK greeting", "PDU"), ("+OK response", "PDU"), ("+OK response", "PDU"), ("+OK response", "PCI"),
        ("+OK response", "user data"), ("+OK response", "PCI"), ("+OK response", "PDU"),
    ]  # fmt: skip
    assert sum(line.data.startswith((b"+OK this", b"-ERR")) for line in record_of("pop3-pipelined").lines) == 2


def test_a_greeting_without_line_end_shifts_no_reply() -> None:
    assert said("greeting-without-crlf") == [*ENVELOPE, *MAIL_DATA, *commands("QUIT")]
    replies = [line.pdu.ident for line in record_of("greeting-without-crlf").lines if line.side is S]
    assert replies == ["S1", "S3", "S4", "S5", "S6", "S7"], "S2 stands in the line of S1"


# ── what a line means ────────────────────────────────────────────────────────────────────────────────────────────────


def test_behind_a_refused_data_come_commands() -> None:
    assert said("data-refused") == [
        *commands("HELO", "MAIL", "DATA", "RCPT", "NOOP", "DATA"), *MAIL_DATA, *commands("QUIT")
    ]  # fmt: skip


def test_stuffed_dots_are_not_of_the_message() -> None:
    assert message(record_of("dot-stuffed")).endswith(
        b"\r\n\r\n.stuffed: typed with two dots, received with one\r\n.\r\n..\r\nno dot here\r\n"
    )


def test_starttls_is_whole_and_records_follow_it() -> None:
    rows = said("starttls")
    assert rows[:2] == commands("EHLO", "STARTTLS")
    assert all(name.startswith("TLS record") and kind == "PDU" for name, kind in rows[2:])
    (verb,) = (line for line in record_of("starttls").lines if line.pdu.name == "STARTTLS command")
    assert verb.data[: verb.spans[0].end] == b"STARTTLS"


def test_secrets_are_in_the_capture_and_not_in_what_is_shown() -> None:
    record = record_of("auth")
    conversations = {fact.ident: fact for fact in record.conversations}
    secrets = ("AHN0dWRlbnQAdGFsa2luZw==", "dGFsa2luZw==", "c3R1ZGVudA==")
    for form in ("text", "jsonl"):
        shown = "\n".join(FORMATS[form](record.rows(), conversations))
        assert not [secret for secret in secrets if secret in shown]
        told = "\n".join(FORMATS[form](record.rows(), conversations, show_secrets=True))
        assert all(secret in told for secret in secrets)


# ── where it is said ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("conversation", "port"), [(1, 1025), (2, 2525)])
def test_smtp_is_known_by_what_is_said(conversation: int, port: int) -> None:
    fact = record_of("other-ports").conversations[conversation - 1]
    assert (fact.protocol, fact.server.port) == ("smtp", port)
    assert said("other-ports", C, conversation) == [*ENVELOPE, *MAIL_DATA, *commands("QUIT")]


def test_two_ends_of_one_address_are_told_apart() -> None:
    (fact,) = record_of("loopback").conversations
    assert fact.client.address == fact.server.address
    assert fact.server.port == 25
    assert said("loopback") == [*ENVELOPE, *MAIL_DATA, *commands("QUIT")]


# ── captures that went wrong ─────────────────────────────────────────────────────────────────────────────────────────


def test_prose_is_no_command_when_the_capture_begins_in_it() -> None:
    assert said("begins-in-body") == [*MAIL_DATA, *commands("QUIT")]
    flags = [line.flags for line in record_of("begins-in-body").lines if line.pdu.name == "mail data"]
    assert all("assumed" in told for told in flags)
    assert "start-missing" in flags[0]


def test_a_lost_line_is_a_gap_where_it_was() -> None:
    rows = [row for row in record_of("segment-lost").rows() if row.side is C]
    (place,) = (n for n, row in enumerate(rows) if isinstance(row, Missing))
    before, gap, after = rows[place - 1 : place + 2]
    assert isinstance(before, Line)
    assert before.data.startswith(b"The first line")
    assert isinstance(gap, Missing)
    assert gap.length == len("HELO is the word that a client says first, when it says nothing else,\r\n")
    assert isinstance(after, Line)
    assert after.flags == ("after-gap",)
    assert said("segment-lost") == [*ENVELOPE, *MAIL_DATA, *commands("QUIT")]


def test_lines_out_of_order_stand_in_their_order() -> None:
    assert message(record_of("out-of-order")) == message(record_of("conflicting-retransmission"))
    assert said("out-of-order") == [*ENVELOPE, *MAIL_DATA, *commands("QUIT")]


def test_of_two_copies_the_first_is_kept_and_the_other_shown() -> None:
    record = record_of("conflicting-retransmission")
    assert b"100 GENUINE guilders" in message(record)
    (note,) = record.notes
    assert b"999 FORGED! guilders" in note.octets


def test_a_forged_retransmission_has_the_checksum_of_its_octets() -> None:
    from tests.capture.forge import checksum

    with read(SAMPLES / "conflicting-retransmission.pcapng") as capture:
        frames = list(capture)
    for frame in (frames[derive.carrying(frames, octets)] for octets in (b"100 GENUINE", b"999 FORGED!")):
        packet = frame.data[14:]
        size = (packet[0] & 15) * 4
        segment = packet[size : int.from_bytes(packet[2:4], "big")]
        assert checksum(packet[12:20] + b"\0\6" + len(segment).to_bytes(2, "big") + segment) == 0
