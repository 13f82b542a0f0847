"""``make bench``: the load, made once, and every program on it in turn. ``ARGS="--runs 3 --only mixed"``."""

from __future__ import annotations

import argparse

from bench.conversations import measured, on_mail, on_mixed, table
from bench.load import frames, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["mail", "mixed", "growth"], help="one of the three tables")
    told = parser.parse_args()
    files = load()
    print(f"{frames(files['smtp'])} frames, {files['smtp'].stat().st_size >> 20} MiB; medians of {told.runs} runs\n")
    mail = {}
    if told.only in (None, "mail"):
        mail = measured(on_mail(files["smtp"]), told.runs)
        print(*table("All of it mail", mail), "", sep="\n", flush=True)
    if told.only in (None, "mixed"):
        mixed = measured(on_mixed(files["mixed"]), told.runs)
        print(*table("One conversation in a hundred is mail", mixed), "", sep="\n", flush=True)
    if told.only in (None, "growth"):
        ours = {name: argv for name, argv in on_mail(files["smtp"]).items() if name.startswith("wiretalk")}
        whole = {name: mail[name] for name in ours} if mail else measured(ours, told.runs)
        part = measured({name: argv for name, argv in on_mail(files["tenth"]).items() if name in ours}, told.runs)
        print("From a tenth of it to the whole")
        for name, run in whole.items():
            times = f"time ×{run.clock / part[name].clock:.1f}, processor ×{run.processor / part[name].processor:.1f}"
            print(f"  {name:34} {times}, memory {part[name].memory:.0f} → {run.memory:.0f} MiB")


if __name__ == "__main__":
    main()
