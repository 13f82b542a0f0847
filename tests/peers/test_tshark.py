"""What samples/README.md says that tshark 4.0.17 makes of each sample, looked at where that version is installed.

These tests praise nobody and blame nobody: they keep the README's last column true. That we label the same samples
right is `tests/test_samples.py`.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
VERSION = "4.0.17"


@functools.cache
def why_not() -> str:
    if shutil.which("tshark") is None:
        return "tshark is not installed"
    first = subprocess.run(["tshark", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    return "" if VERSION in first else f"the README speaks of tshark {VERSION}, this is: {first}"


pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def _installed() -> None:
    if why := why_not():
        pytest.skip(why)


def tshark(name: str, *arguments: str) -> str:
    argv = ["tshark", "-r", str(SAMPLES / f"{name}.pcapng"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def column(name: str, field: str, protocol: str = "smtp") -> list[str]:
    """The values of one field, frame by frame, without the frames that have none."""
    return [row for row in tshark(name, "-Y", protocol, "-T", "fields", "-e", field).splitlines() if row]


def verbs(name: str) -> list[str]:
    return [verb for row in column(name, "smtp.req.command") for verb in row.split(",")]


def rows(name: str, protocol: str = "smtp") -> list[str]:
    return [row.strip() for row in column(name, "_ws.col.Info", protocol)]


def exported(name: str, directory: Path) -> list[str]:
    """The messages that "Export objects" writes."""
    tshark(name, "-q", "--export-objects", f"imf,{directory}")
    return [path.read_text() for path in sorted(directory.iterdir())] if directory.exists() else []


def test_commands_behind_the_end_of_data_are_not_shown() -> None:
    assert verbs("after-end-of-data") == ["HELO", "MAIL", "RCPT", "DATA"]
    assert column("after-end-of-data", "smtp.response.code")[-4:] == ["250", "250", "250", "221"]


def test_bdat_and_what_follows_it_is_a_data_fragment(tmp_path: Path) -> None:
    assert verbs("bdat") == ["EHLO", "MAIL", "RCPT"]
    assert [row for row in rows("bdat") if row.startswith("C: ")][3:] == [
        f"C: DATA fragment, {octets} bytes" for octets in (86, 37, 35, 34, 23)
    ]
    assert exported("bdat", tmp_path / "out") == []


def test_an_end_of_data_in_three_segments_is_not_seen(tmp_path: Path) -> None:
    assert "QUIT" not in verbs("end-of-data-split")
    assert "C: DATA fragment, 6 bytes" in rows("end-of-data-split")
    assert exported("end-of-data-split", tmp_path / "out") == []


def test_commands_behind_a_refused_data_become_a_message(tmp_path: Path) -> None:
    assert verbs("data-refused") == ["HELO", "MAIL", "DATA", "QUIT"]
    (message,) = exported("data-refused", tmp_path / "out")
    assert message.startswith("RCPT TO:<student@student.example>\nNOOP\nDATA\nFrom:")


def test_json_has_one_key_for_three_commands() -> None:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(key for n, (key, _) in enumerate(found) if key in [k for k, _ in found[:n]])
        return dict(found)

    repeated: list[str] = []
    assert verbs("pipelined")[:4] == ["EHLO", "MAIL", "RCPT", "DATA"]
    told = json.loads(tshark("pipelined", "-Y", "frame.number==9", "-T", "json"), object_pairs_hook=pairs)
    assert "smtp.command_line" in repeated
    assert told[0]["_source"]["layers"]["smtp"]["smtp.command_line"] == "DATA\r\n"


def test_of_pipelined_pop3_only_the_first_command_is_shown(tmp_path: Path) -> None:
    assert column("pop3-pipelined", "pop.request.command", "pop") == ["USER"]
    assert exported("pop3-pipelined", tmp_path / "out") == []


def test_an_exported_message_keeps_its_stuffed_dots(tmp_path: Path) -> None:
    (message,) = exported("dot-stuffed", tmp_path / "out")
    assert "\n..stuffed: typed with two dots" in message


def test_a_greeting_without_line_end_swallows_the_reply_behind_it() -> None:
    assert column("greeting-without-crlf", "smtp.response.code")[:2] == ["220", "250"]
    assert len(column("greeting-without-crlf", "smtp.response.code")) == 6  # and there are seven


def test_the_verb_of_starttls_has_four_letters() -> None:
    assert verbs("starttls") == ["EHLO", "STAR"]


def test_secrets_are_shown() -> None:
    shown = "\n".join(rows("auth"))
    assert all(secret in shown for secret in ("AHN0dWRlbnQAdGFsa2luZw==", "Pass: dGFsa2luZw=="))


def test_smtp_on_other_ports_is_not_known() -> None:
    assert rows("other-ports") == []


def test_a_ladder_of_one_address_has_one_column() -> None:
    drawn = tshark("loopback", "-q", "-z", "flow,any,network").splitlines()
    assert drawn[0].count("127.0.0.1") == 1
    arrows = [row for row in drawn if "---" in row and "|Time" not in row]
    assert arrows
    assert all("->" in row and "<-" not in row for row in arrows)


def test_prose_is_taken_for_commands() -> None:
    assert verbs("begins-in-body") == ["HELO", "MAIL", "QUIT"]


def test_a_message_with_a_hole_is_exported_without_a_mark(tmp_path: Path) -> None:
    (message,) = exported("segment-lost", tmp_path / "out")
    assert "The first line of the body.\nMAIL FROM: stands in prose here" in message


def test_a_message_out_of_order_is_exported_without_two_lines(tmp_path: Path) -> None:
    (message,) = exported("out-of-order", tmp_path / "out")
    assert message.split("\n\n", 1)[1] == "The first line of the body.\nmay QUIT when all of it was read.\n"


def test_conflicting_octets_are_a_retransmission_like_any_other(tmp_path: Path) -> None:
    (message,) = exported("conflicting-retransmission", tmp_path / "out")
    assert "GENUINE" in message
    assert "FORGED" not in message
    analysed = tshark(
        "conflicting-retransmission", "-Y", "tcp.analysis.flags", "-T", "fields", "-e", "_ws.expert.message"
    )
    assert "retransmission" in analysed
    assert "overlap" not in analysed
