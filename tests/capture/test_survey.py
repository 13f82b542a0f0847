"""The first pass against the analyzer itself: whatever the capture, the facts are what the lines come to."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from capture.analyzer import Analyzer
from capture.errors import BadCapture
from capture.facts import Count, Facts
from capture.front import Front
from capture.intake import take_in
from capture.model import Frame, Line, Missing, Side
from capture.record import Record
from capture.sources.files import read
from capture.survey import Survey
from tests.capture.forge import Wire, capture_of

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())
CORPUS = Path(os.environ.get("WIRETALK_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
TRUTHS = sorted(CORPUS.glob("truth/**/*.json"))


def told(frames: Iterable[Frame]) -> list[Facts]:
    """What the analyzer's lines come to: no short way, nothing kept back, line by line."""
    analyzer, record = Analyzer(strict=True), Record()
    for frame in frames:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    noted: dict[int, Counter[str]] = {}
    for note in record.notes:
        noted.setdefault(note.conversation, Counter())[note.kind] += 1
    rows = []
    for fact in record.conversations:
        count = Count()
        octets: dict[Side, list[bytes]] = {side: [] for side in Side}
        gaps: dict[Side, list[tuple[int, int]]] = {side: [] for side in Side}
        for row in record.rows(fact.ident):
            if isinstance(row, Line):
                count.line(row)
        for row in sorted(record.rows(fact.ident), key=lambda row: row.offset):
            if isinstance(row, Missing):
                known = gaps[row.side]
                if known and sum(known[-1]) == row.offset:
                    known[-1] = known[-1][0], known[-1][1] + row.length
                else:
                    known.append((row.offset, row.length))
            else:
                octets[row.side].append(row.data)
        sides = [b"".join(octets[side]) for side in Side]
        rows.append(
            Facts(
                fact.ident,
                fact.client,
                fact.server,
                fact.protocol,
                fact.start,
                fact.end,
                fact.frames,
                (len(sides[0]), len(sides[1])),
                (hashlib.sha256(sides[0]).hexdigest(), hashlib.sha256(sides[1]).hexdigest()),
                (tuple(gaps[Side.CLIENT]), tuple(gaps[Side.SERVER])),
                count.commands,
                count.messages,
                tuple(count.mail_from),
                tuple(count.rcpt_to),
                count.last_reply,
                dict(noted.get(fact.ident, {})),
            )
        )
    return rows


def surveyed(frames: Iterable[Frame]) -> list[Facts]:
    survey = Survey(strict=True)
    survey.feed_all(frames)
    survey.finish()
    return list(survey.rows())


def pcap(frames: Iterable[Frame], order: str = "<", magic: int = 0xA1B23C4D) -> bytes:
    """A classic pcap file of Ethernet, of nanoseconds as a rule."""
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[magic]
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, 1)]
    for frame in frames:
        seconds, rest = divmod(frame.time, 1_000_000_000)
        parts.append(struct.pack(order + "IIII", seconds, rest // unit, len(frame.data), frame.length) + frame.data)
    return b"".join(parts)


def fronted(path: Path) -> list[Facts]:
    """What the quickest way makes of a file."""
    front = Front(strict=True)
    take_in(front, [path])
    front.finish()
    return list(front.rows())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_facts_of_a_vector_are_those_of_its_lines(vector: dict[str, Any], tmp_path: Path) -> None:
    context = vector.get("context", {})
    port = {"pop3": 110, "lmtp": 24}.get(context.get("protocol", "smtp"), 25)
    frames = list(
        capture_of(
            vector["exchange"],
            wire=Wire(sport=port),
            midstream=context.get("midstream", False),
            sides=context.get("sides", "CS"),
        )
    )
    wanted = told(frames)
    assert surveyed(frames) == wanted
    path = tmp_path / "vector.pcap"
    path.write_bytes(pcap(frames))
    assert fronted(path) == wanted


@pytest.mark.skipif(not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real captures are not checked")
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda path: path.name.removesuffix(".json"))
def test_the_facts_of_a_real_capture_are_those_of_its_lines(truth: Path) -> None:
    source, name = truth.name.removesuffix(".json").split("__", 1)
    try:
        with read(CORPUS / source / name) as capture:
            frames = list(capture)
    except BadCapture:
        return
    wanted = told(frames)
    assert surveyed(frames) == wanted
    assert fronted(CORPUS / source / name) == wanted
