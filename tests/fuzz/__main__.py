"""``make fuzz``: throw octets at the readers, the decoder, the streams and the dialogues until the time is up.

    python -m tests.fuzz [--minutes 10] [--target file|frames|dialogue] [--seed N] [--found DIRECTORY]

What breaks a promise (`tests.fuzz.targets`) is made smaller, kept as ``TARGET-DIGEST.bin`` in the directory, and is the
exit status 1. Put it into ``tests/fuzz/found/`` and mend it: `tests/fuzz/test_found.py` runs every one for ever. An
input that reaches code no input reached before is drawn from again.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import ROOT, SEEDS, TARGETS

SLOW = 20.0  # seconds for one input of at most 64 KiB; it takes a thousandth of that
TURN = 30.0  # seconds before the next target has its turn, when there is time for so many
LOOKED_AT = 20  # one in so many inputs is traced: tracing takes ten times as long
_OURS = str(ROOT / "capture")


class Coverage:
    """Which lines of `capture` were reached so far."""

    def __init__(self) -> None:
        self._lines: set[tuple[CodeType, int]] = set()
        self._new = False

    def grows(self, run: Callable[[], None]) -> bool:
        """Run it; whether it reached a line that none before reached."""
        self._new = False
        sys.settrace(self._call)
        try:
            run()
        finally:
            sys.settrace(None)
        return self._new

    def _call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename.startswith(_OURS) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        place = frame.f_code, frame.f_lineno
        if place not in self._lines:
            self._lines.add(place)
            self._new = True
        return self._line

    def __len__(self) -> int:
        return len(self._lines)


def failure(target: str, octets: bytes) -> str:
    """What went wrong, as type and place; empty when nothing did."""
    signal.setitimer(signal.ITIMER_REAL, SLOW)
    try:
        TARGETS[target](octets)
    except Exception as error:  # noqa: BLE001  # every kind is a finding
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def smaller(target: str, octets: bytes, wrong: str, patience: float = 60.0) -> bytes:
    """Octets left out as long as the same goes wrong at the same place."""
    until, size = time.monotonic() + patience, max(1, len(octets) // 2)
    while size:
        at = 0
        while at < len(octets) and time.monotonic() < until:
            less = octets[:at] + octets[at + size :]
            if failure(target, less) == wrong:
                octets = less
            else:
                at += size
        size //= 2
    return octets


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"one input took more than {SLOW} s")


def fuzz(targets: list[str], minutes: float, seed: int, found: Path) -> int:
    signal.signal(signal.SIGALRM, _too_slow)
    until = time.monotonic() + 60 * minutes
    turn = min(TURN, 60 * minutes / len(targets))
    mutators = {target: Mutator(SEEDS[target](), seed) for target in targets}
    coverage, runs, known = Coverage(), dict.fromkeys(targets, 0), set[str]()
    while time.monotonic() < until:
        for target in targets:
            over = min(until, time.monotonic() + turn)
            while time.monotonic() < over:
                octets = mutators[target].draw()
                runs[target] += 1
                if runs[target] % LOOKED_AT == 0:
                    wrong = ""

                    def look(target: str = target, octets: bytes = octets) -> None:
                        nonlocal wrong
                        wrong = failure(target, octets)

                    if coverage.grows(look):
                        mutators[target].keep(octets)
                else:
                    wrong = failure(target, octets)
                if wrong and wrong not in known:
                    known.add(wrong)
                    octets = smaller(target, octets, wrong)
                    found.mkdir(parents=True, exist_ok=True)
                    path = found / f"{target}-{hashlib.sha256(octets).hexdigest()[:12]}.bin"
                    path.write_bytes(octets)
                    print(f"\n{wrong}\n    {path}", flush=True)
        told = ", ".join(f"{count} {target}" for target, count in runs.items())
        print(f"{told}; {len(coverage)} lines reached, {len(known)} found", flush=True)
    return 1 if known else 0


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz")
    asked.add_argument("--minutes", type=float, default=10)
    asked.add_argument("--target", choices=TARGETS, action="append")
    asked.add_argument("--seed", type=int, default=int(time.time()))
    asked.add_argument("--found", type=Path, default=Path("build/fuzz"))
    options = asked.parse_args()
    print(f"seed {options.seed}", flush=True)
    raise SystemExit(fuzz(options.target or list(TARGETS), options.minutes, options.seed, options.found))


if __name__ == "__main__":
    main()
