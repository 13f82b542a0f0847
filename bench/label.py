"""How fast ``wiretalk label`` is, as a ratio against tshark in the same run. ``make bench [ARGS="--sessions 2000"]``.

The load is the sample of the exercise, its conversations repeated on new ports and at later times; both programs read
the same file. Both write to a pipe that is drained. The median of the runs is taken; nothing is claimed from one run.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from capture.export.pcapng import Recorder
from capture.sources.files import read

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "exercise.pcapng"
TSHARK_FIELDS = ("frame.number", "tcp.stream", "smtp.req.command", "smtp.req.parameter", "smtp.response.code")
_PORTS = struct.Struct(">HH")
_TCP = 34  # where TCP begins in the sample's frames: Ethernet 14, IPv4 20


def make_load(path: Path, sessions: int) -> tuple[int, int]:
    """Write the sample ``sessions`` times; returns frames and octets. TCP checksums are not mended: nobody looks."""
    with read(SAMPLE) as capture:
        frames = [frame for frame in capture if frame.data[12:14] == b"\x08\x00"]
    span = frames[-1].time - frames[0].time + 1_000_000
    count = octets = 0
    with Recorder(path) as recorder:
        for session in range(sessions):
            batch = []
            for frame in frames:
                source, destination = _PORTS.unpack_from(frame.data, _TCP)
                client = 10_000 + (session * 2) % 50_000
                # both of the sample's conversations get ports of their own
                ports = (
                    (client + (destination == 110), destination)
                    if destination < 1024
                    else (source, client + (source == 110))
                )
                data = frame.data[:_TCP] + _PORTS.pack(*ports) + frame.data[_TCP + 4 :]
                count += 1
                octets += len(data)
                batch.append(frame._replace(number=count, time=frame.time + session * span, data=data))
            recorder.write_all(batch)
    return count, octets


def seconds(argv: list[str]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        while running.stdout.read(1 << 20):
            pass
    if running.returncode:
        raise SystemExit(f"{argv[0]} ended with {running.returncode}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    told = parser.parse_args()
    if shutil.which("tshark") is None:
        raise SystemExit("tshark is not installed: there is nothing to compare with")
    with tempfile.TemporaryDirectory() as place:
        load = Path(place) / "load.pcapng"
        frames, octets = make_load(load, told.sessions)
        fields = [part for name in TSHARK_FIELDS for part in ("-e", name)]
        programs = {
            "tshark -Y smtp -T fields": ["tshark", "-r", str(load), "-Y", "smtp", "-T", "fields", *fields],
            "label --format jsonl": [sys.executable, "-m", "tui.cli", "label", "--format", "jsonl", str(load)],
            "label --format text": [sys.executable, "-m", "tui.cli", "label", str(load)],
        }
        times: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(told.runs):
            for name, argv in programs.items():
                times[name].append(seconds(argv))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    peer = medians["tshark -Y smtp -T fields"]
    print(f"{frames} frames, {octets} octets, {told.sessions * 2} conversations; median of {told.runs} runs")
    for name, median in medians.items():
        print(f"  {name:<26} {median:8.2f} s   {peer / median:6.2f} × tshark's speed")


if __name__ == "__main__":
    main()
