"""``wiretalk mail`` as a stranger uses it: whole messages, incomplete ones, hostile ones, bad places to write."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from capture.export.pcapng import Recorder
from capture.model import Frame
from tests.capture.forge import C, Wire
from tests.capture.test_mail import DATA, END, ENVELOPE, session
from tui.extracting import SUBJECT, _slug

ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def wiretalk(*arguments: str | Path, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-bb", "-W", "error", "-m", "tui.cli", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, env=ENVIRONMENT, timeout=60, **keywords)


def save(path: Path, frames: list[Frame]) -> Path:
    with Recorder(path) as recorder:
        recorder.write_all(frames)
    return path


def manifest(directory: Path) -> list[dict[str, Any]]:
    rows = json.loads((directory / "manifest.json").read_text())
    assert isinstance(rows, list)
    return rows


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two messages in one conversation, the second with a gap."""
    said = (*DATA, "C: Subject: Talking SMTP\n\n..dot\n.", "S: 250 ok", *ENVELOPE, "C: DATA", "S: 354 go",
            "C: Subject: holes\n\none", "C? 17", "C: two\n.", *END)  # fmt: skip
    return save(tmp_path / "two.pcapng", session(*said))


def test_each_message_is_a_file_and_the_manifest_has_its_hash(two: Path, tmp_path: Path) -> None:
    done = wiretalk("mail", two, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0001-01-talking-smtp.eml", "0001-02-holes.incomplete.eml", "0001-02-holes.incomplete.json",
                     "manifest.json"]  # fmt: skip
    whole = (tmp_path / "out" / names[0]).read_bytes()
    assert whole == b"Subject: Talking SMTP\r\n\r\n.dot\r\n"
    rows = manifest(tmp_path / "out")
    assert [row["file"] for row in rows] == names[:2]
    for row in rows:
        assert row["sha256"] == hashlib.sha256((tmp_path / "out" / row["file"]).read_bytes()).hexdigest()
    assert rows[0] | {"time": "", "sha256": "", "frames": []} == {
        "file": names[0], "sha256": "", "octets": 31, "complete": True, "why": [], "conversation": 1, "message": 1,
        "client": "192.0.2.10:49152", "server": "192.0.2.25:25", "side": "C", "command": "DATA", "offset": 46,
        "end": 81, "frames": [], "time": "", "subject": "Talking SMTP", "mail_from": "a@c", "rcpt_to": ["b@d"],
        "refused": {}, "more_recipients": 0, "envelope_complete": True, "reply": "250", "replies": ["250 ok"],
        "end_of_data": "CRLF.CRLF", "gaps": [], "more_gaps": 0,
    }  # fmt: skip
    assert b"0001-01-talking-smtp.eml  31 octets\n" in done.stdout


def test_a_gap_is_never_closed_in_silence(two: Path, tmp_path: Path) -> None:
    done = wiretalk("mail", two, "-o", tmp_path / "out")
    beside = json.loads((tmp_path / "out" / "0001-02-holes.incomplete.json").read_text())
    octets = (tmp_path / "out" / "0001-02-holes.incomplete.eml").read_bytes()
    assert octets == b"Subject: holes\r\n\r\none\r\ntwo\r\n"
    [gap] = beside["gaps"]
    assert (gap["at"], gap["octets"], gap["whole"]) == (octets.index(b"two"), 17, True)
    assert beside["complete"] is False
    assert beside["why"] == ["17 octets in 1 place were not captured."]
    assert beside == manifest(tmp_path / "out")[1]
    assert b"17 octets in 1 place were not captured." in done.stdout


def test_what_is_written_is_for_its_owner_only(two: Path, tmp_path: Path) -> None:
    wiretalk("mail", two, "-o", tmp_path / "deep" / "out")
    assert stat.S_IMODE((tmp_path / "deep" / "out").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "out").iterdir()} == {0o600}


def test_a_rotated_capture_is_one_capture(tmp_path: Path) -> None:
    frames = session(*DATA, "C: one", "C: two\n.", *END)
    parts = save(tmp_path / "a.pcapng", frames[:14]), save(tmp_path / "b.pcapng", frames[14:])
    done = wiretalk("mail", parts[1], parts[0], "-o", tmp_path / "out")
    assert done.returncode == 0
    assert [row["octets"] for row in manifest(tmp_path / "out")] == [10]


def test_without_a_message_nothing_is_made(tmp_path: Path) -> None:
    path = save(tmp_path / "none.pcapng", session("S: 220 mx", "C: QUIT", "S: 221 bye"))
    done = wiretalk("mail", path, "-o", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"wiretalk: no message in this capture.\n")
    assert not (tmp_path / "out").exists()


def test_what_a_damaged_file_still_holds_is_written(two: Path, tmp_path: Path) -> None:
    two.write_bytes(two.read_bytes()[:-10])
    done = wiretalk("mail", two, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert len(manifest(tmp_path / "out")) == 2
    assert b"two.pcapng" in done.stderr


@pytest.mark.parametrize(
    ("subject", "slug"),
    [
        ("../../etc/passwd", "-etc-passwd"),
        ("/absolute", "-absolute"),
        ("a\x1b[2Jb\x00c", "-a-2jb-c"),
        ("..", ""),
        (".hidden", "-hidden"),
        ("CON", "-con"),
        ("\u202eevil", "-evil"),
        ("Grüße aus Zürich", "-grue-aus-zurich"),
        ("测试", ""),
        ("-rf *", "-rf"),
        ("x" * 500, "-" + "x" * SUBJECT),
        ("", ""),
    ],
)
def test_a_name_holds_nothing_that_a_file_system_or_a_terminal_obeys(subject: str, slug: str) -> None:
    assert _slug(subject) == slug


def test_a_hostile_subject_writes_inside_the_directory_only(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pcapng", session(*DATA, "C: Subject: ../../up\x1b[31m\n\nx\n.", *END))
    (tmp_path / "deep").mkdir()
    done = wiretalk("mail", path, "-o", tmp_path / "deep" / "out")
    assert done.returncode == 0
    assert {p.name for p in tmp_path.iterdir()} == {"x.pcapng", "deep"}
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"out"}
    assert b"\x1b" not in done.stdout
    assert b"\x1b" not in (tmp_path / "deep" / "out" / "manifest.json").read_bytes()


def test_nothing_is_overwritten_unless_that_is_asked_for(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert wiretalk("mail", two, "-o", out).returncode == 0
    done = wiretalk("mail", two, "-o", out)
    assert done.returncode == 2
    assert b"not empty" in done.stderr
    assert b"--force" in done.stderr
    (out / "0001-01-talking-smtp.eml").write_bytes(b"mine")
    (out / "other").write_bytes(b"kept")
    assert wiretalk("mail", two, "-o", out, "--force").returncode == 0
    assert (out / "0001-01-talking-smtp.eml").read_bytes().startswith(b"Subject")
    assert (out / "other").read_bytes() == b"kept"
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]


def test_a_link_that_lies_in_wait_is_replaced_and_not_followed(two: Path, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.write_bytes(b"precious")
    for name in ("0001-01-talking-smtp.eml", "manifest.json", ".1-1.part", "0001-02-holes.incomplete.json"):
        (out / name).symlink_to(victim)
    assert wiretalk("mail", two, "-o", out, "--force").returncode == 0
    assert victim.read_bytes() == b"precious"
    assert not any(path.is_symlink() for path in out.iterdir())


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no /sys, where nobody may make a directory")
def test_a_place_where_nothing_may_be_written_is_told(two: Path) -> None:
    done = wiretalk("mail", two, "-o", "/sys/kernel/wiretalk")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(b"wiretalk: Messages cannot be written to /sys/kernel/wiretalk: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("place", ["two.pcapng", "two.pcapng/below"])
def test_a_file_in_the_way_is_told(two: Path, tmp_path: Path, place: str) -> None:
    done = wiretalk("mail", two, "-o", tmp_path / place)
    assert done.returncode == 2
    assert b"cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_full_disk_is_told_and_leaves_no_half_of_a_message(tmp_path: Path) -> None:
    wire, frames = Wire(), []
    frames += wire.open()
    for said in DATA:
        frames.append(wire.say(C if said[0] == "C" else C.other, (said[3:] + "\n").replace("\n", "\r\n").encode()))
    frames += [wire.say(C, b"a line of the message\r\n" * 60) for _ in range(100)]
    path = save(tmp_path / "big.pcapng", frames)

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = wiretalk("mail", path, "-o", tmp_path / "out", preexec_fn=small_files_only)
    assert done.returncode == 2, done.stderr
    assert b"cannot be written" in done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"manifest.json"}
    assert manifest(tmp_path / "out") == []


def test_a_reader_that_goes_away_costs_no_message(tmp_path: Path) -> None:
    frames: list[Frame] = []
    for port in range(400):
        wire = Wire(cport=20_000 + port, number=len(frames), time=10**18 + port * 10**9)
        frames += wire.open()
        for said in (*DATA, "C: hi\n.", *END):
            frames.append(wire.say(C if said[0] == "C" else C.other, (said[3:] + "\n").replace("\n", "\r\n").encode()))
        frames += wire.close()
    path = save(tmp_path / "many.pcapng", frames)
    argv = [sys.executable, "-m", "tui.cli", "mail", str(path), "-o", str(tmp_path / "out")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141
    assert len(manifest(tmp_path / "out")) == 400


def test_an_interrupt_leaves_what_was_finished_and_nothing_half_done(tmp_path: Path) -> None:
    said = (*DATA, "C: one\n.", "S: 250 ok", *ENVELOPE, "C: DATA", "S: 354 go", "C: two", "C: three")
    path, out = save(tmp_path / "x.pcapng", session(*said, close=False)), tmp_path / "out"
    argv = [sys.executable, "-m", "tui.cli", "mail", "-", "-o", str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, **pipes, env=ENVIRONMENT) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(path.read_bytes())
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not (out / ".1-2.part").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert b"Traceback" not in process.stderr.read()
    assert sorted(p.name for p in out.iterdir()) == ["0001-01.eml", "manifest.json"]
    assert [row["sha256"] for row in manifest(out)] == [hashlib.sha256(b"one\r\n").hexdigest()]
