"""``wiretalk stream`` against the conversations' hashes, which are made another way."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from capture.model import Side
from tests.capture.test_corpus import CORPUS
from tests.capture.test_corpus import capture_of as file_of
from tui.streaming import stream_file
from tui.surveying import list_conversations

TRUTHS = sorted(CORPUS.glob("truth/*.json"))


@pytest.mark.skipif(not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real streams are not checked")
@pytest.mark.parametrize("truth", TRUTHS[::3], ids=lambda path: path.name.removesuffix(".json"))
def test_a_stream_has_the_hash_that_its_conversation_is_listed_with(truth: Path) -> None:
    path = str(file_of(truth))
    listed, said = io.StringIO(), io.StringIO()
    assert list_conversations([path], "jsonl", listed, said) in (0, 2)
    rows = [json.loads(line) for line in listed.getvalue().splitlines()]
    assert rows
    for row in rows[:8]:
        for side in Side:
            out, gaps = io.BytesIO(), io.StringIO()
            stream_file([path], row["conversation"], side, out, gaps)
            assert len(out.getvalue()) == row["octets"][side.value]
            assert hashlib.sha256(out.getvalue()).hexdigest() == row["sha256"][side.value]
            assert ("not captured" in gaps.getvalue()) == bool(row["gaps"][side.value])
