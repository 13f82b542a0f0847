"""``make bench``: the load, made once, and every program on it in turn. ``ARGS="--runs 3 --only mixed"``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.conversations import measured, on_mail, on_mixed, table
from bench.load import FILES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["mail", "mixed", "growth"], help="one of the three tables")
    parser.add_argument("--skip", default="\0", help="leave out the programs with this in their name")
    told = parser.parse_args()
    # In a process of its own: what is started from a large one is large to begin with, as the system counts.
    subprocess.run([sys.executable, "-m", "bench.load"], check=True, cwd=Path(__file__).resolve().parents[1])
    files = FILES
    print(f"medians of {told.runs} runs\n")

    def chosen(programs: dict[str, list[str]]) -> dict[str, list[str]]:
        return {name: argv for name, argv in programs.items() if told.skip not in name}

    mail = {}
    if told.only in (None, "mail"):
        mail = measured(chosen(on_mail(files["smtp"])), told.runs)
        print(*table("All of it mail", mail), "", sep="\n", flush=True)
    if told.only in (None, "mixed"):
        mixed = measured(chosen(on_mixed(files["mixed"])), told.runs)
        print(*table("One conversation in a hundred is mail", mixed), "", sep="\n", flush=True)
    if told.only in (None, "growth"):
        ours = {name: argv for name, argv in chosen(on_mail(files["smtp"])).items() if name.startswith("wiretalk")}
        whole = {name: mail[name] for name in ours} if mail else measured(ours, told.runs)
        part = measured({name: argv for name, argv in on_mail(files["tenth"]).items() if name in ours}, told.runs)
        print("From a tenth of it to the whole")
        for name, run in whole.items():
            times = f"time ×{run.clock / part[name].clock:.1f}, processor ×{run.processor / part[name].processor:.1f}"
            print(f"  {name:34} {times}, memory {part[name].memory:.0f} → {run.memory:.0f} MiB")


if __name__ == "__main__":
    main()
