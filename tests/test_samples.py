"""The samples are what their README says, and each can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture.analyzer import Analyzer
from capture.labels import label
from capture.model import Label, Side
from capture.record import Record
from capture.sources.files import read
from lab import exercise
from samples import make

SAMPLES = Path(make.__file__).parent


def record_of(name: str) -> Record:
    record, analyzer = Record(), Analyzer(strict=True)
    with read(SAMPLES / name) as capture:
        for frame in capture:
            record.apply(analyzer.feed(frame))
        assert not capture.notes
    record.apply(analyzer.finish())
    return record


def test_every_sample_has_a_maker_and_a_row_in_the_readme() -> None:
    files = {path.name for path in SAMPLES.iterdir() if path.suffix in (".pcap", ".pcapng", ".gz")}
    rows = (SAMPLES / "README.md").read_text()
    assert files == set(make.SAMPLES)
    assert all(f"| `{name}` |" in rows for name in files)


@pytest.mark.parametrize("name", sorted(make.SAMPLES))
def test_no_sample_holds_a_note_that_its_row_does_not_tell(name: str) -> None:
    assert {note.kind for note in record_of(name).notes} == set()


def test_the_exercise_is_typed_relayed_and_fetched() -> None:
    record = record_of("exercise.pcapng")
    assert [facts.protocol for facts in record.conversations] == ["smtp", "pop3"]
    typed = [line for line in record.lines if line.side is Side.CLIENT and line.conversation == 1]
    assert b"".join(line.data for line in typed) == "".join(f"{text}\r\n" for text in exercise.SMTP_LINES).encode()
    assert [label(line) for line in typed if line.data == b".\r\n"] == [Label.PCI]
    fetched = [line.data for line in record.lines if line.conversation == 2 and label(line) is Label.USER_DATA]
    assert sum(line.startswith(b"Received: ") for line in fetched) == 2
    assert fetched[-1] == b"..and this one starts with a dot\r\n"
