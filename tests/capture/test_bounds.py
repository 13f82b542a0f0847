"""Memory is bounded whatever a capture holds, and passing a limit is a note.

Each flood runs in a process of its own, whose peak says how much it filled.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from capture import analyzer as limits
from capture import stream
from capture.analyzer import Analyzer
from capture.half import PIECE_OCTETS
from capture.model import Frame, Line, Missing
from capture.record import Record
from tests.capture import floods
from tests.capture.forge import C, S, Wire


def flooded(name: str, frames: int) -> dict:
    ran = subprocess.run(
        [sys.executable, "-bb", "-m", "tests.capture.floods", name, str(frames)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("name", "frames", "most", "note"),
    [
        ("endless_line", 30_000, 24, "held-back"),
        ("unanswered", 10_000, 24, "held-back"),
        ("half_open", 25_000, 110, "conversation-limit"),
        ("refused", 50_000, 110, "conversation-limit"),
        ("unfinished", 50_000, 110, "conversation-limit"),
        ("one_hole", 30_000, 24, "held-limit"),
        ("many_holes", 40_000, 80, "held-limit"),
        ("headers_only", 30_000, 24, "snaplen"),
        ("again_and_again", 30_000, 8, "retransmission"),
        ("fragments", 30_000, 24, "fragment-incomplete"),
        ("middles", 12_000, 110, "held-limit"),
    ],
)
def test_no_flood_fills_the_memory_and_each_limit_is_told(name: str, frames: int, most: int, note: str) -> None:
    told = flooded(name, frames)
    assert told["grown"] <= most, told
    assert told["notes"][note] > 0, told


def analyzed(frames: list[Frame], together: int) -> Record:
    analyzer, record = Analyzer(strict=True), Record()
    for start in range(0, len(frames), together):
        record.apply(analyzer.feed_all(frames[start : start + together]))
    record.apply(analyzer.finish())
    return record


def test_limits_lose_no_octet_and_do_not_depend_on_how_frames_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING", 200_000)
    monkeypatch.setattr(limits, "OWED", 150_000)
    monkeypatch.setattr(limits, "LOOK", 30_000)
    frames = list(floods.many_holes(600))
    one = analyzed(frames, 1)
    for together in (7, 600):
        many = analyzed(frames, together)
        assert many.rows() == one.rows()
        assert many.notes == one.notes
    assert {note.kind for note in one.notes} >= {"held-limit", "conversation-limit"}
    octets = sum(len(row.data) for row in one.rows() if isinstance(row, Line))
    gaps = sum(row.length for row in one.rows() if isinstance(row, Missing))
    assert octets + sum(len(note.octets) for note in one.notes) == 600 * 1400
    assert gaps >= 15 * 1000


def test_what_waits_of_all_conversations_is_counted_to_the_octet() -> None:
    analyzer = Analyzer(strict=True)
    for frame in floods.many_holes(80):
        analyzer.feed(frame)
    assert analyzer._tally.waiting.octets == 80 * (1400 + PIECE_OCTETS)
    analyzer.finish()
    assert analyzer._tally.waiting.octets == 0


def test_what_is_kept_to_compare_is_bounded_over_all_conversations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORIES", 200_000)
    monkeypatch.setattr(limits, "LOOK", 20_000)
    monkeypatch.setattr(limits, "WAITING", 100_000)
    analyzer = Analyzer(strict=True)
    for frame in floods.busy(4500):
        analyzer.feed(frame)
    kept = sum(talk.stream._client._history_octets for talk in analyzer._open.values() if talk.stream is not None)
    assert analyzer._tally.octets > 4_000_000
    assert kept <= 2 * 200_000 + 20_000


def test_alarms_of_finished_conversations_are_thrown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALARMS", 16)
    monkeypatch.setattr(limits, "OPEN", 8)
    analyzer = Analyzer(strict=True)
    for frame in floods.refused(400):
        analyzer.feed(frame._replace(time=1))
    assert len(analyzer._alarms) <= 16 + 4 * 8 + 1


def test_cut_segments_that_touch_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    analyzer = Analyzer(strict=True)
    for frame in floods.headers_only(5000):
        analyzer.feed(frame)
    (talk,) = analyzer._open.values()
    assert talk.stream is not None
    assert len(talk.stream._client.cuts) == 1


def test_cuts_apart_are_bounded_as_pieces_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HELD_PIECES", 20)
    analyzer, record = Analyzer(strict=True), Record()
    for frame in floods.one_hole(100):
        record.apply(analyzer.feed(frame._replace(data=frame.data[:60]) if len(frame.data) > 60 else frame))
    record.apply(analyzer.finish())
    assert [note.kind for note in record.notes][:2] == ["snaplen", "held-limit"]
    assert sum(row.length for row in record.rows() if isinstance(row, Missing)) == 1000 + 100 * 1394


def test_a_clock_that_steps_back_ends_nobodys_patience() -> None:
    one, other = Wire(), Wire(client="192.0.2.11")
    opening = [*one.open(), *other.open()]
    first, second = one.say(S, b"220 mx\r\n"), one.say(S, b"421 no\r\n")
    beside = [other.say(S, b"220 x\r\n") for _ in range(5)]
    hour = 3_600_000_000_000
    late = [frame._replace(time=frame.time - hour) for frame in (second, *beside, first, one.say(C, b"QUIT\r\n"))]
    record = Record()
    analyzer = Analyzer(strict=True)
    for frame in [*opening, *late]:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    assert record.gaps == []
    assert [line.data for line in record.lines if line.conversation == 1] == [b"220 mx\r\n", b"421 no\r\n", b"QUIT\r\n"]
