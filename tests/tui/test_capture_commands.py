"""``wiretalk stream``, ``pairs``, ``account`` and ``notes`` as a stranger uses them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture.model import Frame
from tests.capture.forge import C, S, Wire
from tests.capture.test_mail import DATA, END, session
from tests.tui.test_mail_command import ENVIRONMENT, save, wiretalk


@pytest.fixture
def gapped(tmp_path: Path) -> Path:
    return save(tmp_path / "gapped.pcapng", session(*DATA, "C: one", "C? 17", "C: two\n.", *END))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return save(tmp_path / "whole.pcapng", session(*DATA, "C: Subject: x\n\n..hi\n.", *END))


def rows(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- stream -----------------------------------------------------------------------------------------------------------


def test_stream_gives_the_octets_of_a_side_and_nothing_else(whole: Path) -> None:
    done = wiretalk("stream", whole, "--conversation", "1", "--side", "C")
    said = b"EHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@d>\r\nDATA\r\nSubject: x\r\n\r\n..hi\r\n.\r\nQUIT\r\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")
    done = wiretalk("stream", whole, "--conversation", "1", "--side", "S")
    assert done.stdout.startswith(b"220 mx ready\r\n250-mx\r\n")
    assert done.stdout.endswith(b"354 go\r\n250 queued\r\n221 bye\r\n")


def test_stream_tells_gaps_on_standard_error(gapped: Path) -> None:
    done = wiretalk("stream", gapped, "--conversation", "1", "--side", "C")
    assert b"one\r\ntwo\r\n" in done.stdout
    offset = done.stdout.index(b"two")
    assert done.stderr == f"wiretalk: 17 octets from offset {offset} on were not captured.\n".encode()


def test_stream_hands_out_what_no_dialogue_understands_as_it_is(tmp_path: Path) -> None:
    octets = bytes(range(256)) * 20
    path = save(tmp_path / "x.pcapng", session(f"C! {octets.decode('latin-1')}", port=9999))
    assert wiretalk("stream", path, "--conversation", "1", "--side", "C").stdout == octets
    silent = wiretalk("stream", path, "--conversation", "1", "--side", "S")
    assert (silent.returncode, silent.stdout) == (0, b"")


def test_stream_knows_no_conversation_that_is_not_there(whole: Path) -> None:
    done = wiretalk("stream", whole, "--conversation", "2", "--side", "C")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"wiretalk: There is no conversation 2; this capture has 1.\n"


def test_stream_writes_no_captured_octet_to_a_terminal(whole: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "tui.cli", "stream", str(whole), "--conversation", "1", "--side", "C"]
    done = subprocess.run(argv, stdout=theirs, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=60)
    os.close(theirs)
    os.set_blocking(ours, False)
    with pytest.raises((BlockingIOError, OSError)):  # nothing was written
        os.read(ours, 1)
    os.close(ours)
    assert done.returncode == 2
    assert b"to a terminal" in done.stderr


@pytest.mark.parametrize(
    "options", [("--conversation", "0", "--side", "C"), ("--conversation", "1", "--side", "X"), ()]
)
def test_stream_refuses_what_is_no_side_and_no_number(whole: Path, options: tuple[str, ...]) -> None:
    done = wiretalk("stream", whole, *options)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_pairs_has_a_row_for_each_pair_and_then_what_they_come_to(tmp_path: Path) -> None:
    frames = session("S: 220 mx", "C: HELO c\nQUIT", "S: 250 mx\n221 bye")
    done = rows(wiretalk("pairs", save(tmp_path / "x.pcapng", frames), "--format", "jsonl"))
    assert [(row["command"] and row["command"]["verb"], row["reply"]["code"]) for row in done[:3]] == [
        (None, "220"), ("HELO", "250"), ("QUIT", "221"),
    ]  # fmt: skip
    assert done[1]["latency"] == pytest.approx(0.001)
    assert done[1]["command"] == {
        "side": "C", "pdu": "HELO command", "pdu_id": "C1", "verb": "HELO", "offset": 0, "octets": 8, "lines": 1,
        "time": "1756713600.005000000", "frames": [5, 5],
    }  # fmt: skip
    summary = done[3]["summary"]
    assert (summary["round_trips"], summary["round_trips_without_pipelining"], summary["saved"]) == (1, 2, 1)


def test_pairs_as_a_table_says_it_in_words(tmp_path: Path) -> None:
    frames = session("S: 220 mx", "C: AUTH PLAIN AGFubmEAc2VjcmV0", "S: 535 no", "C: QUIT", "S: 221 bye")
    done = wiretalk("pairs", save(tmp_path / "x.pcapng", frames))
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert any("AUTH command C1" in line and "535 reply S2" in line and "1.000" in line for line in lines)
    assert lines[-1].startswith(
        "conversation 1: 2 commands, 3 replies; 2 round trips, pipelining saved 0; latency 1.000"
    )
    assert b"AGFubmEAc2VjcmV0" not in done.stdout


def test_pairs_of_one_conversation_and_of_none(whole: Path, tmp_path: Path) -> None:
    assert wiretalk("pairs", whole, "--conversation", "1").returncode == 0
    done = wiretalk("pairs", whole, "--conversation", "7")
    assert (done.returncode, done.stdout) == (1, b"")


# --- account ----------------------------------------------------------------------------------------------------------


def test_account_adds_up_to_the_octets_of_the_file(whole: Path, tmp_path: Path) -> None:
    frames = session(*DATA, "C: Subject: x\n\n..hi\n.", *END)
    done = rows(wiretalk("account", whole, "--format", "jsonl"))
    total = sum(len(frame.data) for frame in frames)
    assert done[-1] == {
        "captured": total,
        "conversations": total,
        "elsewhere": 0,
        "frames": len(frames),
        "frames_elsewhere": 0,
    }
    assert [row["message"] for row in done[:-1]] == [None, 1, "rest"]
    for row in done[:-1]:
        link = row["layers"]["link"]
        assert row["captured"] == sum(link["pci"].values()) + sum(link["user_data"].values())
    assert done[0]["captured"] == total == done[1]["captured"] + done[2]["captured"]
    assert done[0]["layers"]["message"] == {"pci": {"C": 14, "S": 0}, "user_data": {"C": 5, "S": 0}}
    assert done[0]["frames"]["C"] == {
        "handshake": 1,
        "data": 6,
        "acknowledgement": 2,
        "closing": 1,
        "fragments": 0,
        "records": 0,
    }


def test_account_as_a_table_is_for_people(whole: Path) -> None:
    done = wiretalk("account", whole)
    text = done.stdout.decode()
    assert done.returncode == 0
    assert "of which 5 " in text
    assert "message 1" in text
    assert text.splitlines()[-1].endswith("+ 0 elsewhere (0 frames)")


def test_account_says_when_there_is_nothing_to_account_for(whole: Path) -> None:
    done = wiretalk("account", whole, "--conversation", "9")
    assert (done.returncode, done.stdout) == (1, b"")


# --- notes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A password sent twice, with other octets; and a gap."""
    wire = Wire()
    frames: list[Frame] = [*wire.open(), wire.say(S, b"220 mx\r\n"), wire.say(C, b"AUTH PLAIN AGFubmEAc2VjcmV0\r\n")]
    again = b"AUTH PLAIN AGFubmEAZ2VoZWlt\r\n"
    frames.append(wire.segment(C, again, sequence=(wire.sequence[C] - len(again)) & 0xFFFFFFFF))
    frames += [wire.say(S, b"235 ok\r\n")]
    wire.lose(S, 9)
    frames += [wire.say(C, b"QUIT\r\n"), wire.say(S, b"221 bye\r\n"), *wire.close()]
    return save(tmp_path / "odd.pcapng", [frame._replace(number=n) for n, frame in enumerate(frames, 1)])


def test_notes_say_what_where_and_why(odd: Path) -> None:
    done = rows(wiretalk("notes", odd, "--format", "jsonl"))
    places = {row["kind"]: (row["frame"], row["conversation"], row["side"], row["offset"]) for row in done}
    assert places["overlap-conflict"] == (6, 1, "C", 0)
    assert places["gap"] == (None, 1, "S", 16)
    assert all(row["sentence"].endswith(".") and row["citation"] for row in done)


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_notes_show_no_secret_unless_asked(odd: Path, form: str) -> None:
    secret = b"AUTH PLAIN".hex().encode()
    done = wiretalk("notes", odd, "--format", form)
    assert b"Z2VoZWlt" not in done.stdout
    assert secret not in done.stdout.replace(b" ", b"")
    done = wiretalk("notes", odd, "--format", form, "--show-octets")
    assert secret in done.stdout.replace(b" ", b"")


def test_notes_on_a_sound_capture_are_none(whole: Path) -> None:
    done = wiretalk("notes", whole)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"wiretalk: nothing odd in this capture.\n")


def test_notes_on_messages_are_among_them(tmp_path: Path) -> None:
    frames = session(*DATA, "C: Subject: gr\u00fc\u00dfe\n\nhi\n.", *END)
    done = rows(wiretalk("notes", save(tmp_path / "x.pcapng", frames), "--format", "jsonl"))
    [note] = [row for row in done if row["kind"] == "header-8bit"]
    assert (note["conversation"], note["side"], note["frame"]) == (1, "C", 13)


# --- all of them ------------------------------------------------------------------------------------------------------

COMMANDS = [
    ("mail", "-o", "out"), ("stream", "--conversation", "1", "--side", "C"), ("pairs",), ("account",), ("notes",),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_is_no_capture_is_refused_in_a_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is no capture.\n" * 9)
    for name in ("text", "not-there", "."):
        done = wiretalk(command[0], name, *command[1:], cwd=tmp_path)
        assert done.returncode in (2, 3), name
        assert done.stdout == b""
        assert done.stderr.startswith(b"wiretalk: ")
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_cut_capture_is_used_up_to_the_cut(command: tuple[str, ...], whole: Path, tmp_path: Path) -> None:
    whole.write_bytes(whole.read_bytes()[:-7])
    done = wiretalk(command[0], whole, *command[1:], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout
    assert b"whole.pcapng" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_standard_input_is_a_capture_too(command: tuple[str, ...], gapped: Path, tmp_path: Path) -> None:
    done = wiretalk(command[0], "-", *command[1:], cwd=tmp_path, input=gapped.read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_help_has_an_example_and_the_exit_codes(command: tuple[str, ...]) -> None:
    done = wiretalk(command[0], "--help")
    assert done.returncode == 0
    assert b"Examples:" in done.stdout
    assert b"exit status" in done.stdout.replace(b"\n ", b"")


@pytest.mark.parametrize("command", [one for one in COMMANDS if one[0] != "mail"], ids=lambda command: command[0])
def test_a_reader_that_goes_away_is_no_error(command: tuple[str, ...], tmp_path: Path) -> None:
    lines = "\n".join("another line of the message" for _ in range(400))
    odd = session(*DATA, *[f"C: {lines}"] * 20, "C: .", *END)
    many = [*odd[:10], *[frame for frame in odd[10:] for _ in range(2)]]
    path = save(tmp_path / "x.pcapng", [frame._replace(number=n) for n, frame in enumerate(many, 1)])
    argv = [sys.executable, "-m", "tui.cli", command[0], str(path), *command[1:]]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141
