"""What is fuzzed, and what must hold whatever the octets: each target takes octets and raises when something does not.

``file``      octets of a capture file: the readers, and all that is behind them
``frames``    frames without a container, so that no mutation is spent on one: decode, streams, dialogues, exports
``dialogue``  what two sides say, without TCP: one protocol's dialogue, whole and octet by octet

`SEEDS` gives each target the samples and the test vectors in its own form.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from capture.analyzer import Analyzer
from capture.errors import CaptureError
from capture.export import FORMATS
from capture.labels import label
from capture.model import Chunk, Frame, Gap, Label, Line, Role, Side
from capture.protocols.registry import PROTOCOLS, make
from capture.protocols.voice import INCOMPLETE
from capture.record import Record
from capture.sources.files import read

ROOT = Path(__file__).resolve().parents[2]
LINKS = (1, 0, 101, 113, 276, 12, 108, 228, 229, 252, 9, 50, 127, 147)
_frame = struct.Struct("<BHI")  # link (index into LINKS), octets, µs since the frame before
_MEMORY = os.memfd_create("fuzz") if hasattr(os, "memfd_create") else -1


# ── captures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_file(octets: bytes) -> None:
    os.ftruncate(_MEMORY, 0)
    os.pwrite(_MEMORY, octets, 0)
    analyzer, record, number = Analyzer(strict=True), Record(), 0
    try:
        with read(f"/proc/self/fd/{_MEMORY}") as capture:
            for frame in capture:
                assert frame.number == number + 1, "frames are numbered as they come"
                number = frame.number
                record.apply(analyzer.feed(frame))
    except CaptureError as error:
        check_sentence(error.sentence)
        return
    record.apply(analyzer.finish())
    check_record(record)


def check_sentence(sentence: str) -> None:
    assert sentence.endswith(".")
    assert sentence.isprintable()


def check_frames(octets: bytes) -> None:
    analyzer, record = Analyzer(strict=True), Record()
    for frame in frames_of(octets):
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    check_record(record)


def frames_of(octets: bytes) -> Iterator[Frame]:
    at, number, time = 0, 0, 0
    while at + _frame.size <= len(octets):
        link, size, later = _frame.unpack_from(octets, at)
        at += _frame.size
        data = octets[at : at + size]
        at += size
        number += 1
        time += later * 1000
        yield Frame(number, time, data, size, LINKS[link % len(LINKS)])


def packed(frames: list[Frame]) -> bytes:
    """Frames in the form that `frames_of` reads."""
    parts, before = [], frames[0].time if frames else 0
    for frame in frames:
        later = min(max(0, frame.time - before) // 1000, 0xFFFFFFFF)
        before = frame.time
        parts.append(_frame.pack(LINKS.index(frame.link), len(frame.data), later) + frame.data)
    return b"".join(parts)


def check_record(record: Record) -> None:
    """I1 to I3 of the labelling scheme, and what the exports promise."""
    for fact in record.conversations:
        at = {Side.CLIENT: 0, Side.SERVER: 0}
        for row in sorted(record.rows(fact.ident), key=lambda row: row.offset):
            assert row.offset == at[row.side], "lines and gaps tile the stream"
            at[row.side] += len(row.data) if isinstance(row, Line) else row.length
            if isinstance(row, Line):
                check_line(row)
                assert row.frames, "a line was carried by frames"
        assert tuple(at.values()) == fact.octets
    rows = record.rows()
    conversations = {fact.ident: fact for fact in record.conversations}
    texts = list(FORMATS["jsonl"](rows, conversations, show_secrets=True))
    assert len(texts) == len(rows)
    for row, text in zip(rows, texts, strict=True):
        assert text.isascii()
        told = json.loads(text)
        assert (told["line"].encode("latin-1") == row.data) if isinstance(row, Line) else told["gap"] == row.length
    for text in FORMATS["text"](rows, conversations):
        assert text.isprintable(), "no captured octet reaches the terminal alive"


def check_line(line: Line) -> None:
    assert [span.start for span in line.spans] == [0, *(span.end for span in line.spans[:-1])]
    assert line.spans[-1].end == len(line.data) > 0
    assert all(span.start < span.end for span in line.spans)
    carries = any(span.role is Role.USER_DATA for span in line.spans)
    assert label(line, line.layer) is (Label.PDU if line.whole else Label.USER_DATA if carries else Label.PCI)
    assert not (line.whole and INCOMPLETE & set(line.flags))


# ── dialogues ────────────────────────────────────────────────────────────────────────────────────────────────────────

_NAMES = sorted(PROTOCOLS)
Event = tuple[Side, bytes | int]


def exchange_of(octets: bytes) -> tuple[str, bool, list[Event]]:
    """Protocol, mid-stream, and events: a head octet (bit 7: server, bit 6: gap) and a length octet each."""
    head = octets[0] if octets else 0
    events: list[Event] = []
    at = 1
    while at + 2 <= len(octets):
        kind, size = octets[at], octets[at + 1]
        at += 2
        side = Side.SERVER if kind & 0x80 else Side.CLIENT
        if kind & 0x40:
            events.append((side, size + 1))
        elif data := octets[at : at + size]:
            events.append((side, data))
            at += size
    return _NAMES[head // 2 % len(_NAMES)], bool(head & 1), events


def spoken(protocol: str, midstream: bool, events: list[Event]) -> bytes:
    """An exchange in the form that `exchange_of` reads."""
    parts = [bytes([_NAMES.index(protocol) * 2 + midstream])]
    for side, data in events:
        kind = 0x80 if side is Side.SERVER else 0
        if isinstance(data, int):
            parts.append(bytes([kind | 0x40, min(data, 256) - 1]))
        else:
            parts += [
                bytes([kind, len(piece)]) + piece for n in range(0, len(data), 255) if (piece := data[n : n + 255])
            ]
    return b"".join(parts)


def check_dialogue(octets: bytes) -> None:
    protocol, midstream, events = exchange_of(octets)
    lines = lines_of(protocol, midstream, events)
    at: dict[Side, dict[int, int]] = {Side.CLIENT: {}, Side.SERVER: {}}
    ends = {Side.CLIENT: 0, Side.SERVER: 0}
    for side, data in events:
        if isinstance(data, bytes):
            at[side] |= {ends[side] + n: octet for n, octet in enumerate(data)}
        ends[side] += data if isinstance(data, int) else len(data)
    for side in Side:
        mine = [line for line in lines if line.side is side]
        told = {line.offset + n: octet for line in mine for n, octet in enumerate(line.data)}
        assert told == at[side], "every octet is in a line"
        assert sum(len(line.data) for line in mine) == len(told), "and in no other"
    for line in lines:
        check_line(line)
    assert lines_of(protocol, midstream, apart(events)) == lines, "segmentation leaves no trace"


def apart(events: list[Event]) -> list[Event]:
    """The same octets in the same order, one by one."""
    return [
        (side, piece)
        for side, data in events
        for piece in ([data] if isinstance(data, int) else [data[n : n + 1] for n in range(len(data))])
    ]


def lines_of(protocol: str, midstream: bool, events: list[Event]) -> list[Line]:
    """All lines; of two with one number the later. What was settled is never written again."""
    dialogue = make(protocol, conversation=1, midstream=midstream)
    at = {Side.CLIENT: 0, Side.SERVER: 0}
    newest: dict[tuple[Side, int], Line] = {}
    floor = {Side.CLIENT: 0, Side.SERVER: 0}

    def take(lines: list[Line]) -> None:
        for line in lines:
            assert line.offset >= floor[line.side], "a settled place was written again"
            newest[line.side, line.number] = line._replace(order=0)  # the analyzer's affair

    for side, data in events:
        if isinstance(data, int):
            take(dialogue.gap(Gap(side, at[side], data, 1, 1)))
        else:
            take(dialogue.feed(Chunk(side, at[side], data, 1, 1)))
        at[side] += data if isinstance(data, int) else len(data)
        floor = {side: max(floor[side], dialogue.settled(side)) for side in Side}
    take(dialogue.finish())
    return sorted(newest.values(), key=lambda line: (line.side.value, line.number))


# ── where it begins ──────────────────────────────────────────────────────────────────────────────────────────────────


def _samples() -> list[Path]:
    return sorted((ROOT / "samples").glob("*.pcapng"))


def _file_seeds() -> list[bytes]:
    from tests.capture.containers import CASES

    return [path.read_bytes() for path in _samples()] + [case.octets for case in CASES]


def _frame_seeds() -> list[bytes]:
    made = []
    for path in _samples():
        with read(path) as capture:
            made.append(packed(list(capture)))
    return made


def _dialogue_seeds() -> list[bytes]:
    made = []
    for vector in json.loads((ROOT / "tests" / "vectors" / "vectors.json").read_text()):
        context = vector.get("context", {})
        events: list[Event] = [
            (Side(said["dir"]), int(said["gap"]) if "gap" in said else said["bytes"].encode("latin-1"))
            for said in vector["exchange"]
        ]
        protocol = context.get("protocol", "smtp")
        made.append(spoken(protocol if protocol in _NAMES else "smtp", bool(context.get("midstream")), events))
    return made


TARGETS: dict[str, Callable[[bytes], None]] = {"file": check_file, "frames": check_frames, "dialogue": check_dialogue}
SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "file": _file_seeds,
    "frames": _frame_seeds,
    "dialogue": _dialogue_seeds,
}
