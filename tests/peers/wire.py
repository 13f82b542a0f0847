"""What the tests with other people's programs share: the lab's wire, heard and labelled, and what is expected of it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator

import pytest

from capture.analyzer import Analyzer
from capture.labels import label
from capture.model import Frame, Label, Line, Side
from capture.record import Record
from capture.sources.sniffer import Sniffer
from lab.laboratory import Lab

C, S = Side.CLIENT, Side.SERVER


def need(*programs: str) -> None:
    """Skip the test, with the name of what is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@contextlib.contextmanager
def heard(lab: Lab, host: str = "your-pc") -> Iterator[Record]:
    """Everything on that host's wire meanwhile; whole when the block is left: every conversation has closed."""
    record, analyzer = Record(), Analyzer(strict=True)

    def take(frames: list[Frame]) -> None:
        for frame in frames:
            record.apply(analyzer.feed(frame))

    sniffer = Sniffer(lab.packet_socket(host), on_frames=take)
    sniffer.start()
    try:
        yield record
        deadline = time.monotonic() + 10
        while not (record.conversations and all(fact.closed for fact in record.conversations)):
            assert time.monotonic() < deadline, "a conversation was not closed"
            time.sleep(0.01)
    finally:
        sniffer.stop()
    assert sniffer.statistics().lost == 0
    record.apply(analyzer.finish())


def told(record: Record, conversation: int = 1) -> list[tuple[str, str, str]]:
    """Side, line and label, side by side in the order of each side."""
    return [
        (line.side.value, line.data.decode("latin-1"), label(line, line.layer).value)
        for side in (C, S)
        for line in record.lines
        if line.conversation == conversation and line.side is side
    ]


def expected(asked: Iterable[str], answered: Iterable[str]) -> list[tuple[str, str, str]]:
    """The same, from what a program says that it sent and received, line ends left out: RFC 5321 read backwards.

    Between DATA (answered 354, as the caller knows) and the lone dot stands user data; a reply of several lines is PCI
    line by line; all else is a PDU. No BDAT, no AUTH.
    """
    rows = []
    inside = False
    for text in asked:
        kind = Label.PDU
        if inside:
            kind = Label.PCI if text == "." else Label.USER_DATA
            inside = text != "."
        elif text.upper() == "DATA":
            inside = True
        rows.append(("C", f"{text}\r\n", kind.value))
    many = False
    for text in answered:
        goes_on = text[3:4] == "-"
        rows.append(("S", f"{text}\r\n", (Label.PCI if many or goes_on else Label.PDU).value))
        many = goes_on
    return rows


def commands(record: Record, conversation: int = 1) -> list[str]:
    """The names of the client's PDUs, each once."""
    names: dict[str, str] = {}
    for line in record.lines:
        if line.side is C and line.conversation == conversation:
            names.setdefault(line.pdu.ident, line.pdu.name.removesuffix(" command"))
    return list(names.values())


def message(record: Record, conversation: int = 1, pdu: str = "mail data", side: Side = C) -> bytes:
    """The user data of the PDUs of that name: the message as the sending program had it (I4)."""
    return b"".join(_user_data(line) for line in record.lines if _is(line, conversation, pdu, side))


def _is(line: Line, conversation: int, pdu: str, side: Side) -> bool:
    return line.conversation == conversation and line.side is side and line.pdu.name == pdu


def _user_data(line: Line) -> bytes:
    return b"".join(line.data[span.start : span.end] for span in line.spans if span.role.value == "ud")
