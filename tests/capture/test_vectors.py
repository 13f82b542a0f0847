"""Every vector of the labelling scheme, exactly: label, PDU, number, spans, flags, layer, whatever the segmentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture.labels import label
from capture.model import Chunk, Gap, Layer, Line, Side
from capture.protocols.message import Messages
from capture.protocols.registry import make

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "vectors" / "vectors.json").read_text())

Event = tuple[Side, bytes | int]


def events(vector: dict[str, Any]) -> list[Event]:
    return [(Side(e["dir"]), e["bytes"].encode("latin-1") if "bytes" in e else e["gap"]) for e in vector["exchange"]]


def octet_by_octet(exchange: list[Event]) -> Iterator[Event]:
    for side, data in exchange:
        if isinstance(data, int):
            yield side, data
        else:
            yield from ((side, data[i : i + 1]) for i in range(len(data)))


def merged(exchange: list[Event]) -> list[Event]:
    runs: list[Event] = []
    for side, data in exchange:
        if runs and runs[-1][0] is side and isinstance(data, bytes) and isinstance(last := runs[-1][1], bytes):
            runs[-1] = (side, last + data)
        else:
            runs.append((side, data))
    return runs


CUTTINGS = {"as given": list, "octet by octet": octet_by_octet, "merged": merged}


def lines_of(exchange: Any, protocol: str = "smtp", midstream: bool = False) -> list[Line]:
    """The lines of an exchange; a line handed out again replaces the earlier one. In order of first octet."""
    dialogue = make(protocol, conversation=1, midstream=midstream)
    at = {Side.CLIENT: 0, Side.SERVER: 0}
    sent: dict[Side, list[tuple[int, int]]] = {Side.CLIENT: [], Side.SERVER: []}
    made: list[Line] = []
    for number, (side, data) in enumerate(exchange, 1):
        if isinstance(data, int):
            made += dialogue.gap(Gap(side, at[side], data, number, number))
            at[side] += data
        else:
            sent[side].append((at[side], number))
            made += dialogue.feed(Chunk(side, at[side], data, number, number))
            at[side] += len(data)
    made += dialogue.finish()
    newest = {(line.side, line.number): line for line in made}

    def came(line: Line) -> tuple[int, int]:
        return max((number, offset) for offset, number in sent[line.side] if offset <= line.offset)[0], line.offset

    return sorted(newest.values(), key=came)


def as_vector(line: Line) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "dir": line.side.value,
        "n": line.number,
        "line": line.data.decode("latin-1"),
        "label": label(line, line.layer).value,
        "pdu": line.pdu.name,
        "pdu_id": line.pdu.ident,
        "spans": [[s.start, s.end, s.role.value, s.field] for s in line.spans],
    }
    if line.flags:
        shown["flags"] = list(line.flags)
    if line.layer is Layer.TLS:
        shown["layer"] = "tls"
    return shown


@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_a_vector_gives_exactly_its_lines(vector: dict[str, Any], cutting: str) -> None:
    context = vector.get("context", {})
    lines = lines_of(
        CUTTINGS[cutting](events(vector)), context.get("protocol", "smtp"), context.get("midstream", False)
    )
    expected = [{k: v for k, v in e.items() if k != "upper"} for e in vector["expect"]]
    if cutting != "as given":  # the order between the sides is that of the chunks; within a side it is fixed
        expected.sort(key=lambda e: (e["dir"], e["n"]))
        lines.sort(key=lambda line: (line.side.value, line.number))
    assert [as_vector(line) for line in lines] == expected


UPPER = [v for v in VECTORS if any("upper" in e for e in v["expect"])]


@pytest.mark.parametrize("vector", UPPER, ids=[v["name"] for v in UPPER])
def test_a_vector_seen_one_layer_up_gives_its_view(vector: dict[str, Any]) -> None:
    expected = {(e["dir"], e["n"]): e["upper"] for e in vector["expect"] if "upper" in e}
    messages = {side: Messages() for side in Side}
    views = [view for line in lines_of(events(vector)) for view in messages[line.side].feed(line)]
    seen = [view.message for view in views + [v for side in Side for v in messages[side].finish()]]
    assert {
        (line.side.value, line.number): {
            "layer": "imf",
            "pdu": line.pdu.name,
            "label": label(line, line.layer).value,
            "spans": [[s.start, s.end, s.role.value, s.field] for s in line.spans],
        }
        for line in seen
    } == expected
