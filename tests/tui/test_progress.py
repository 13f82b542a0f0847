"""How far a long read is: on a terminal, not before it is long, and erased."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from capture.model import Frame
from tui import progress
from tui.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


FRAMES = [Frame(n, n, bytes(84), 84) for n in range(1, 11)]  # ten records of 100 octets


@pytest.fixture
def capture(tmp_path: Path) -> str:
    path = tmp_path / "of two thousand octets"
    path.write_bytes(bytes(2000))
    return str(path)


def test_a_terminal_is_told_percent_and_rate_and_is_as_it_was_at_the_end(capture: str, clock: list[float]) -> None:
    err = Terminal()
    with Progress([capture], err) as told:
        clock[0] += 2
        told.passed(FRAMES)
        assert err.getvalue() == "\r\x1b[Kwiretalk: 50 %, 10 frames, 5 a second"
    assert err.getvalue().endswith("\r\x1b[K")


def test_it_is_erased_when_the_work_fails(capture: str, clock: list[float]) -> None:
    err = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress([capture], err) as told:  # noqa: PT012
        clock[0] += 2
        told.passed(FRAMES)
        raise KeyboardInterrupt
    assert err.getvalue().endswith("\r\x1b[K")


def test_short_work_says_nothing(capture: str, clock: list[float]) -> None:
    err = Terminal()
    with Progress([capture], err) as told:
        clock[0] += 0.9
        told.passed(FRAMES)
    assert err.getvalue() == ""


def test_it_speaks_no_more_often_than_can_be_read(capture: str, clock: list[float]) -> None:
    err = Terminal()
    with Progress([capture], err) as told:
        clock[0] += 2
        for _ in range(5):
            told.passed(FRAMES)
            clock[0] += 0.05
    assert err.getvalue().count("frames") == 1


def test_a_file_or_a_pipe_is_told_nothing(capture: str, clock: list[float]) -> None:
    err = io.StringIO()
    with Progress([capture], err) as told:
        clock[0] += 9
        told.passed(FRAMES)
    assert err.getvalue() == ""


@pytest.mark.parametrize("name", ["-", "/nowhere/at/all", "\0"])
def test_without_a_size_there_is_no_percentage(name: str, clock: list[float]) -> None:
    err = Terminal()
    with Progress([name], err) as told:
        clock[0] += 2
        told.passed(FRAMES)
        assert err.getvalue() == "\r\x1b[Kwiretalk: 10 frames, 5 a second"


def test_a_packed_file_gives_more_than_it_holds_and_then_no_percentage(capture: str, clock: list[float]) -> None:
    err = Terminal()
    with Progress([capture], err) as told:
        clock[0] += 2
        told.passed(FRAMES * 3)
        assert "%" not in err.getvalue()
