"""The command line as a stranger uses it: in a process of its own, with good and bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture.export.pcapng import Recorder
from capture.model import Frame
from tests.capture.forge import START, Wire, capture_of

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def wiretalk(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-bb", "-W", "error", "-m", "tui.cli", *map(str, arguments)]
    return subprocess.run(argv, input=stdin, capture_output=True, env=ENVIRONMENT, timeout=60)


def save(path: Path, frames: list[Frame]) -> Path:
    with Recorder(path) as recorder:
        recorder.write_all(frames)
    return path


@pytest.fixture
def session(tmp_path: Path) -> Path:
    exchange = [
        {"dir": "S", "bytes": "220 a.example ready\r\n"},
        {"dir": "C", "bytes": "AUTH PLAIN AGFubmEAc2VjcmV0\r\n"},
        {"dir": "S", "bytes": "235 2.7.0 ok\r\n"},
        {"dir": "C", "bytes": "QUIT\r\n"},
        {"dir": "S", "bytes": "221 bye \x1b[2J\r\n"},
    ]
    return save(tmp_path / "session.pcapng", list(capture_of(exchange)))


# ── label ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_saved_as_a_capture_comes_out_of_label_as_expected(vector: dict[str, Any], tmp_path: Path) -> None:
    context = vector.get("context", {})
    port = {"pop3": 110, "lmtp": 24}.get(context.get("protocol", "smtp"), 25)
    frames = list(
        capture_of(
            vector["exchange"],
            wire=Wire(sport=port),
            midstream=context.get("midstream", False),
            sides=context.get("sides", "CS"),
        )
    )
    done = wiretalk("label", "--format", "jsonl", "--show-secrets", save(tmp_path / "vector.pcapng", frames))
    assert done.returncode == 0, done.stderr
    rows = [row for line in done.stdout.splitlines() if "gap" not in (row := json.loads(line))]
    names = ("n", "line", "label", "pdu", "pdu_id", "spans")
    found = [{"dir": row["side"], **{name: row[name] for name in names}, "flags": row["flags"]} for row in rows]
    wanted = [
        {"dir": row["dir"], **{name: row[name] for name in names}, "flags": row.get("flags", [])}
        for row in vector["expect"]
    ]
    assert found == wanted
    assert all(row["frames"] and row["conversation"] == 1 for row in rows)


def test_text_says_labels_in_words_and_lets_no_control_octet_through(session: Path) -> None:
    done = wiretalk("label", session)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert any("PDU" in line and "QUIT command C2" in line and line.endswith("QUIT␍␊") for line in lines)
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_a_password_is_masked_unless_it_is_asked_for(session: Path, form: str) -> None:
    assert b"AGFubmEAc2VjcmV0" not in wiretalk("label", "--format", form, session).stdout
    assert b"AGFubmEAc2VjcmV0" in wiretalk("label", "--format", form, "--show-secrets", session).stdout


def test_standard_input_is_a_file_too(session: Path) -> None:
    named, piped = wiretalk("label", session), wiretalk("label", "-", stdin=session.read_bytes())
    assert piped.returncode == 0
    assert piped.stdout == named.stdout


def test_several_files_are_one_capture_in_time_order_whose_frame_numbers_run_on(session: Path, tmp_path: Path) -> None:
    exchange = [{"dir": "S", "bytes": "220 b.example ready\r\n"}, {"dir": "C", "bytes": "QUIT\r\n"}]
    other = save(tmp_path / "other.pcapng", list(capture_of(exchange, wire=Wire(sport=587, time=START + 10**10))))
    done = wiretalk("label", "--format", "jsonl", other, session)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["conversation"] for row in rows] == sorted(row["conversation"] for row in rows)
    assert {row["conversation"] for row in rows} == {1, 2}
    frames = [number for row in rows for number in row["frames"]]
    assert frames == sorted(frames)


def test_one_bad_file_among_several_costs_the_status_and_not_the_others(session: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("no capture at all\n")
    done = wiretalk("label", session, bad)
    assert done.returncode == 2
    assert done.stdout == wiretalk("label", session).stdout
    assert str(bad) in done.stderr.decode()
    none = wiretalk("label", bad, tmp_path / "nowhere.pcap")
    assert (none.returncode, none.stdout) == (2, b"")


def test_a_reader_that_goes_away_ends_label_quietly(tmp_path: Path) -> None:
    exchange = [{"dir": "S", "bytes": "220 a\r\n"}, *({"dir": "C", "bytes": "NOOP\r\n" * 200},) * 200]
    path = save(tmp_path / "long.pcapng", list(capture_of(exchange)))
    argv = [sys.executable, "-m", "tui.cli", "label", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(30) == 141


# ── bad input: one clear sentence, exit code 2, no traceback ─────────────────────────────────────────────────────────

BAD = [
    ("empty", b"", "is empty"),
    ("text", b"Subject: this is no capture\n", "not a capture"),
    ("noise", bytes(range(256)) * 4, "not a capture"),
    ("header", b"\xd4\xc3\xb2\xa1\x02\x00", "header"),
]


@pytest.mark.parametrize(("name", "octets", "words"), BAD, ids=[name for name, _, _ in BAD])
def test_what_is_no_capture_is_refused_in_one_sentence(name: str, octets: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(octets)
    done = wiretalk("label", path)
    told = done.stderr.decode()
    assert done.returncode == 2
    assert done.stdout == b""
    assert words in told
    assert len(told.strip().splitlines()) == 1
    assert "Traceback" not in told


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.pcap", tmp_path):
        done = wiretalk("label", path)
        assert (done.returncode, done.stdout) == (2, b"")
        assert str(path) in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(session: Path) -> None:
    session.chmod(0)
    done = wiretalk("label", session)
    assert done.returncode == 2
    assert "permission" in done.stderr.decode().lower()


def test_a_cut_file_gives_its_lines_then_says_that_it_is_cut(session: Path, tmp_path: Path) -> None:
    whole = wiretalk("label", session).stdout.decode().splitlines()
    cut = tmp_path / "cut.pcapng"
    octets = session.read_bytes()
    cut.write_bytes(octets[: octets.index(b"221 bye")])  # inside the frame of the last reply
    done = wiretalk("label", cut)
    assert done.returncode == 2
    assert len(done.stderr.decode().strip().splitlines()) == 1
    lines = done.stdout.decode().splitlines()
    assert lines == whole[:-1]


def test_a_capture_without_mail_is_exit_status_one(tmp_path: Path) -> None:
    done = wiretalk("label", save(tmp_path / "nothing.pcapng", []))
    assert done.returncode == 1
    assert done.stderr


def test_unknown_commands_options_and_formats_are_usage_errors(session: Path) -> None:
    for arguments in (["bogus"], ["label"], ["label", "--format", "xml", str(session)], ["talk", "a:b:c"]):
        done = wiretalk(*arguments)
        assert done.returncode == 2, arguments
        assert b"Traceback" not in done.stderr


# ── odd surroundings ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("redirection", [">&-", "<&-", "2>&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("command", ["label", "--help"])
def test_closed_standard_streams_are_no_traceback(redirection: str, command: str, session: Path) -> None:
    argv = f"{sys.executable} -bb -m tui.cli {command} {session if command == 'label' else ''} {redirection}"
    done = subprocess.run(["sh", "-c", argv], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", ["label", "--help"])
def test_a_full_disk_is_one_sentence(command: str, session: Path) -> None:
    argv = f"{sys.executable} -bb -m tui.cli {command} {session if command == 'label' else ''} >/dev/full"
    done = subprocess.run(["sh", "-c", argv], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 2
    assert done.stderr == b"wiretalk: no space left on device.\n"


def test_an_output_that_knows_ascii_only_gets_escapes(session: Path) -> None:
    argv = [sys.executable, "-m", "tui.cli", "label", str(session)]
    settings = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(argv, capture_output=True, env=settings, timeout=60)
    assert done.returncode == 0
    assert rb"QUIT\u240d\u240a" in done.stdout


def test_a_file_name_cannot_command_the_terminal(tmp_path: Path) -> None:
    done = wiretalk("label", tmp_path / "\x1b[2Jno.pcap")
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr


# ── help ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["", "talk", "label", "lab", "doctor"])
def test_the_help_of_every_command_shows_an_example(command: str) -> None:
    done = wiretalk(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert f"    wiretalk {command}".rstrip() in done.stdout.decode()
    assert "Examples:" in done.stdout.decode()
