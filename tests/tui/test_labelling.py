"""``wiretalk label`` on its fast way against the slow one: every line kept, sorted at the end, printed one by one."""

from __future__ import annotations

import io
import json
import marshal
import os
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import runs
from capture.analyzer import Analyzer
from capture.errors import BadCapture, ExitCode
from capture.export.pcapng import Recorder
from capture.model import Frame, Line, Missing, Run, Side, Update
from capture.record import Ordered, Record
from capture.shares import Giving, Taking
from capture.sources.files import read
from tests.capture.forge import C, S, Wire, capture_of
from tui import labelling, partner
from tui.condition import Condition
from tui.labelling import label_files, write
from tui.partner import Partner, PartnerLost

HERE = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("WIRETALK_CORPUS", HERE.parent / "shared" / "corpus"))
CAPTURES = sorted(
    [
        *HERE.glob("samples/*.pcapng"),
        *(path for path in CORPUS.glob("*/*") if path.is_file() and path.suffix != ".json"),
    ]
)


def kept(path: Path) -> tuple[str, str]:
    """What the slow way prints, as text and as JSON."""
    analyzer, record = Analyzer(), Record()
    with read(path) as capture:
        for frame in capture:
            record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    printed = []
    for form in ("text", "jsonl"):
        out = io.StringIO()
        write(record, form, False, out)
        printed.append(out.getvalue())
    return printed[0], printed[1]


def labelled(path: Path, form: str, **options: Any) -> str:
    out = io.StringIO()
    label_files([str(path)], form, False, out, io.StringIO(), **options)
    return out.getvalue()


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_a_capture_streamed_prints_what_a_capture_kept_prints(path: Path) -> None:
    try:
        text, jsonl = kept(path)
    except BadCapture:
        with pytest.raises(BadCapture):
            labelled(path, "jsonl")
        return
    assert labelled(path, "jsonl") == jsonl
    assert labelled(path, "text") == text


def save(path: Path, frames: Sequence[Frame]) -> Path:
    with Recorder(path) as recorder:
        recorder.write_all(frames)
    return path


def session() -> list[Frame]:
    exchange = [
        {"dir": "S", "bytes": "220 a.example ready\r\n"},
        {"dir": "C", "bytes": "AUTH PLAIN AGFubmEAc2VjcmV0\r\n"},
        {"dir": "S", "bytes": "235 2.7.0 ok\r\n"},
        {"dir": "C", "bytes": "QUIT\r\n"},
        {"dir": "S", "bytes": "221 bye\r\n"},
    ]
    return list(capture_of(exchange))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return save(tmp_path / "session.pcapng", session())


def test_only_one_conversation_is_printed_when_it_is_asked_for(tmp_path: Path) -> None:
    frames = [*session(), *capture_of([{"dir": "S", "bytes": "220 b\r\n"}], wire=Wire(sport=587))]
    path = save(tmp_path / "two.pcapng", frames)
    numbers = [json.loads(row)["conversation"] for row in labelled(path, "jsonl").splitlines()]
    assert set(numbers) == {1, 2}
    only = [json.loads(row)["line"] for row in labelled(path, "jsonl", conversation=2).splitlines()]
    assert only == ["220 b\r\n"]


def test_a_filter_prints_the_lines_that_meet_it(capture: Path) -> None:
    rows = labelled(capture, "jsonl", condition=Condition('"credential" in flags')).splitlines()
    assert [json.loads(row)["pdu"] for row in rows] == ["AUTH command"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conversation": 9}, "no line of conversation 9"),
        ({"condition": Condition("n > 1000")}, "no line meets the condition"),
    ],
)
def test_nothing_that_was_asked_for_is_exit_status_one_and_a_sentence(
    capture: Path, options: dict[str, Any], said: str
) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert label_files([str(capture)], "text", False, out, err, **options) == ExitCode.NOTHING_FOUND
    assert out.getvalue() == ""
    assert said in err.getvalue()


# ── runs, batches and order ──────────────────────────────────────────────────────────────────────────────────────────

BODY = [
    b"Subject: x\r\n",
    b"\r\n",
    b"..dot\r\n",
    b'a\\r\\n "quoted"\t\r\n',
    b"bare\nlf\r\n",
    b"long" * 251 + b"\r\n",
    b"nul\0\r\n",
    b"gr\xfc\xdfe\r\n",
    b"plain line\r\n",
    b"another one\r\n",
    b"cr\rinside\r\n",
]
bodies = st.lists(st.sampled_from(BODY), max_size=30)


@st.composite
def captures(draw: st.DrawFn) -> list[Frame]:
    """Conversations with mail data, cut anywhere, interleaved, frames of them lost, doubled or late."""
    queues: list[list[Frame]] = []
    for number in range(draw(st.integers(1, 3))):
        wire = Wire(cport=40_000 + number)
        frames = list(wire.open())
        said: list[tuple[Side, bytes]] = [
            (S, b"220 ready\r\n"), (C, b"EHLO a\r\n"), (S, b"250 OK\r\n"),
            (C, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
            (S, b"250 OK\r\n250 OK\r\n354 go on\r\n"),
            (C, b"".join(draw(bodies)) + b".\r\n"), (S, b"250 queued\r\n"), (C, b"QUIT\r\n"), (S, b"221 bye\r\n"),
        ]  # fmt: skip
        sizes = draw(st.lists(st.integers(1, 400), min_size=1, max_size=5))
        turn = 0
        for side, octets in said:
            at = 0
            while at < len(octets):
                size = sizes[turn % len(sizes)]
                turn += 1
                frames.append(wire.say(side, octets[at : at + size]))
                at += size
        if draw(st.booleans()):
            frames += wire.close()
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(frames) - 1))
            fate = draw(st.sampled_from(["lost", "doubled", "late"]))
            frame = frames.pop(place)
            if fate != "lost":
                frames.insert(min(len(frames), place + draw(st.integers(0, 6))), frame)
            if fate == "doubled":
                frames.insert(place, frame)
        queues.append(frames)
    together: list[Frame] = []
    while queues:
        queue = draw(st.sampled_from(queues))
        together += queue[: (count := draw(st.integers(1, 8)))]
        del queue[:count]
        queues = [queue for queue in queues if queue]
    return [frame._replace(number=n, time=10**9 + n * 1000) for n, frame in enumerate(together, 1)]


@given(captures(), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_runs_in_batches_of_any_size_give_the_rows_of_lines_one_frame_at_a_time(
    frames: list[Frame], sizes: list[int]
) -> None:
    slow, record = Analyzer(strict=True), Record()
    for frame in frames:
        record.apply(slow.feed(frame))
    record.apply(slow.finish())

    fast, ordered, batched = Analyzer(strict=True, runs=True), Ordered(), Record()
    rows: list[Line | Missing] = []

    def take(update: Update) -> None:
        batched.apply(update)
        waiting = fast.waiting
        assert fast.horizon == min(waiting.values(), default=fast.delivered)
        for row in ordered.add(update, fast.horizon, waiting):
            rows.extend(runs.lines(row) if isinstance(row, Run) else [row])

    rest, several = iter(frames), cycle(sizes)
    while batch := list(islice(rest, next(several))):
        take(fast.feed_all(batch))
    take(fast.finish())
    assert not list(ordered.rest())
    assert rows == batched.rows() == record.rows()
    assert sorted(batched.notes, key=repr) == sorted(record.notes, key=repr)
    assert batched.conversations == record.conversations


@given(
    captures(), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.lists(st.booleans(), min_size=1, max_size=3)
)
def test_what_is_given_away_gives_the_same_rows_as_what_is_kept(
    frames: list[Frame], sizes: list[int], gifts: list[bool]
) -> None:
    record, alone = Record(), Analyzer(strict=True)
    for frame in frames:
        record.apply(alone.feed(frame))
    record.apply(alone.finish())

    given_away = cycle(gifts)
    giving, taking = Giving(lambda: next(given_away), strict=True), Taking(strict=True)
    mine, theirs = Ordered(), Ordered()
    rows: list[list[Line | Missing]] = [[], []]

    def take(update: Update) -> None:
        for row in mine.add(update, giving.horizon, giving.waiting):
            rows[0].extend(runs.lines(row) if isinstance(row, Run) else [row])
        events = marshal.loads(marshal.dumps(giving.take_events()))
        update = taking.hear_all(events, giving.delivered)
        for row in theirs.add(update, taking.horizon, taking.waiting):
            rows[1].extend(runs.lines(row) if isinstance(row, Run) else [row])

    rest, several = iter(frames), cycle(sizes)
    while batch := list(islice(rest, next(several))):
        take(giving.feed_all(batch))
    take(giving.finish())
    assert not [*mine.rest(), *theirs.rest()]
    assert sorted([*rows[0], *rows[1]], key=lambda row: row.order) == record.rows()
    assert [row.order for row in rows[1]] == sorted(row.order for row in rows[1])


@pytest.mark.parametrize("name", ["exercise", "pipelined", "starttls", "segment-lost", "bdat"])
def test_two_processes_print_what_one_prints(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = HERE / "samples" / f"{name}.pcapng"
    alone = labelled(path, "jsonl")
    started = []
    monkeypatch.setattr(labelling, "LARGE", 0)
    monkeypatch.setattr(partner, "Partner", lambda *a: started.append(a) or Partner(*a))
    assert labelled(path, "jsonl") == alone
    assert started
    assert labelled(path, "jsonl", condition=Condition("n > 0")) == "".join(
        row + "\n" for row in alone.splitlines() if '"gap"' not in row
    )
    assert len(started) == 1


def test_a_partner_that_is_lost_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partner, "_work", lambda *_: None)
    monkeypatch.setattr(labelling, "LARGE", 0)
    with pytest.raises(PartnerLost, match="second process"):
        labelled(HERE / "samples" / "exercise.pcapng", "jsonl")
