"""How fast captures are read, as ratios against peers in the same run.

Claim: every program reads the same file from the page cache and writes to a pipe that is drained; programs take turns,
so that what else the machine does falls on all of them; the median of the runs is told, and each one's largest resident
set. Seconds are of the clock; behind them stand those of the processor, which a busy machine changes less.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TSHARK_FIELDS = ("frame.number", "tcp.stream", "smtp.req.command", "smtp.req.parameter", "smtp.response.code",
                 "smtp.rsp.parameter")  # fmt: skip


class Run(NamedTuple):
    """One run of a program: seconds of the clock and of the processor, and the largest resident set in MiB."""

    clock: float
    processor: float
    memory: float


def wiretalk(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tui.cli", *arguments]


def tshark(path: Path) -> list[str]:
    fields = [part for name in TSHARK_FIELDS for part in ("-e", name)]
    return ["tshark", "-r", str(path), "-Y", "smtp", "-T", "fields", *fields]


def on_mail(path: Path) -> dict[str, list[str]]:
    """What reads a capture of mail; the first is what the others are compared with."""
    return {
        "tshark -Y smtp -T fields": tshark(path),
        "tcpflow": ["tcpflow", "-r", str(path)],
        "wiretalk label --format jsonl": wiretalk("label", "--format", "jsonl", str(path)),
        "wiretalk conversations": wiretalk("conversations", "--format", "jsonl", str(path)),
    }


def on_mixed(path: Path) -> dict[str, list[str]]:
    """What reads a capture of which little is mail."""
    return {
        "tshark -Y smtp -T fields": tshark(path),
        "tcpdump -w /dev/null 'tcp port 25'": ["tcpdump", "-r", str(path), "-w", "/dev/null", "tcp port 25"],
        "wiretalk conversations": wiretalk("conversations", "--format", "jsonl", str(path)),
    }


def measured(programs: dict[str, list[str]], runs: int) -> dict[str, Run]:
    """The medians of each, those that are not installed left out."""
    present = {name: argv for name, argv in programs.items() if shutil.which(argv[0])}
    taken: dict[str, list[Run]] = {name: [] for name in present}
    for _ in range(runs):
        for name, argv in present.items():
            taken[name].append(_run(argv))
    return {name: Run(*map(statistics.median, zip(*all_, strict=True))) for name, all_ in taken.items()}


def table(title: str, results: dict[str, Run]) -> list[str]:
    """Rows for people; ratios are against the first program."""
    peer = next(iter(results.values()))
    rows = [title, f"  {'':34} {'seconds':>8} {'(processor)':>12} {'MiB':>7} {'speed':>9} {'(processor)':>12}"]
    for name, run in results.items():
        rows.append(
            f"  {name:34} {run.clock:8.2f} {run.processor:12.2f} {run.memory:7.0f} "
            f"{peer.clock / run.clock:7.1f} × {peer.processor / run.processor:10.1f} ×"
        )
    return rows


def _run(argv: Sequence[str]) -> Run:
    with tempfile.TemporaryDirectory() as place:  # tcpflow writes where it stands
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        start = time.perf_counter()
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=place, env=environment
        ) as running:
            assert running.stdout is not None
            while running.stdout.read(1 << 20):
                pass
            _, status, used = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
        clock = time.perf_counter() - start
    if running.returncode:
        raise SystemExit(f"{' '.join(argv[:4])}… ended with {running.returncode}")
    return Run(clock, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
