"""The label vectors, sent over a forged wire: frames, segments and streams must add nothing and lose nothing.

What the lines must be is checked where the dialogues are; here, that they are the same whatever carried them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture.analyzer import Analyzer
from capture.model import Frame, Line
from capture.record import Record
from tests.capture.forge import Wire, capture_of

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())
PORTS = {"pop3": 110, "lmtp": 24}
NAMES = [vector["name"] for vector in VECTORS]


def frames_of(vector: dict[str, Any], *, piece: int = 0, six: bool = False, close: bool = False) -> Iterator[Frame]:
    """The vector as a capture; ``piece``: each entry cut into segments of so many octets."""
    context = vector.get("context", {})
    exchange = []
    for said in vector["exchange"]:
        if "gap" in said or not piece:
            exchange.append(said)
            continue
        octets = said["bytes"]
        exchange += [{**said, "bytes": octets[at : at + piece]} for at in range(0, len(octets), piece)]
    wire = Wire(sport=PORTS.get(context.get("protocol", ""), 25))
    if six:
        wire = Wire(client="2001:db8:25::10", server="2001:db8:25::25", sport=wire.sport, isn=(2**32 - 3, 2**32 - 40))
    sides = context.get("sides", ("C", "S"))
    return capture_of(exchange, midstream=context.get("midstream", False), sides=sides, close=close, wire=wire)


def observed(frames: Iterator[Frame]) -> Record:
    analyzer, record = Analyzer(strict=True), Record()
    for frame in frames:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    return record


def told(record: Record) -> list[tuple[Any, ...]]:
    rows = sorted(record.lines, key=lambda row: (row.side.value, row.number))
    return [(row.side.value, row.number, row.data, row.pdu, row.spans, row.flags, row.whole, row.layer) for row in rows]


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_a_vector_on_the_wire_gives_its_lines_in_their_order(vector: dict[str, Any]) -> None:
    record = observed(frames_of(vector))
    got = [(row.side.value, row.number, row.data.decode("latin-1")) for row in record.rows() if isinstance(row, Line)]
    assert got == [(line["dir"], line["n"], line["line"]) for line in vector["expect"]]
    lost = [said["gap"] for said in vector["exchange"] if "gap" in said]
    assert [gap.length for gap in record.gaps] == lost


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
@pytest.mark.parametrize("piece", [1, 7])
def test_cutting_it_into_small_segments_changes_no_line(vector: dict[str, Any], piece: int) -> None:
    if "overlong" in vector["name"] and piece == 1:
        piece = 3  # thirty thousand frames show no more than ten thousand
    assert told(observed(frames_of(vector, piece=piece))) == told(observed(frames_of(vector)))


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_ipv6_wrapping_numbers_and_fins_change_no_line(vector: dict[str, Any]) -> None:
    assert told(observed(frames_of(vector, six=True, close=True))) == told(observed(frames_of(vector)))
