"""``wiretalk conversations`` as a stranger uses it, and against real captures' ground truth."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from capture.model import Frame
from tests.capture.forge import C, Wire, capture_of
from tests.tui.test_cli import save, wiretalk
from tui.surveying import list_conversations

CORPUS = Path(os.environ.get("WIRETALK_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
TRUTHS = sorted(CORPUS.glob("truth/*.json"))

KEYS = ["conversation", "client", "server", "protocol", "start", "duration", "frames", "octets", "sha256", "gaps",
        "commands", "messages", "mail_from", "rcpt_to", "last_reply", "notes"]  # fmt: skip
EXCHANGE = [
    {"dir": "S", "bytes": "220 a.example ready\r\n"},
    {"dir": "C", "bytes": "HELO c\r\n"},
    {"dir": "S", "bytes": "250 a.example\r\n"},
    {"dir": "C", "bytes": "MAIL FROM:<>\r\n"},
    {"dir": "S", "bytes": "250 ok\r\n"},
    {"dir": "C", "bytes": 'RCPT TO:<"a\x1b b"@example>\r\n'},
    {"dir": "S", "bytes": "550 who?\r\n"},
    {"dir": "C", "bytes": "RCPT TO:<b@example>\r\n"},
    {"dir": "S", "bytes": "250 ok\r\n"},
    {"dir": "C", "bytes": "DATA\r\n"},
    {"dir": "S", "bytes": "354 go\r\n"},
    {"dir": "C", "bytes": "x\r\n.\r\n"},
    {"dir": "S", "bytes": "250 ok\r\n"},
]


def rows(*arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    done = wiretalk("conversations", "--format", "jsonl", *arguments)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return save(tmp_path / "session.pcapng", list(capture_of(EXCHANGE)))


def test_a_row_has_every_key_of_the_contract(session: Path) -> None:
    [row] = rows(session)
    assert list(row) == KEYS
    assert (row["conversation"], row["client"], row["server"]) == (1, "192.0.2.10:49152", "192.0.2.25:25")
    assert (row["protocol"], row["commands"], row["messages"], row["last_reply"]) == ("smtp", 5, 1, 250)
    assert (row["mail_from"], row["rcpt_to"]) == ([""], ['"a\x1b b"@example', "b@example"])
    assert row["octets"]["C"] == sum(len(said["bytes"]) for said in EXCHANGE if said["dir"] == "C")
    assert row["gaps"] == {"C": [], "S": []}
    assert row["duration"] == pytest.approx((row["frames"] - 1) / 1000)


def test_what_is_missing_has_its_place_and_is_not_in_the_digest(tmp_path: Path) -> None:
    lossy = [EXCHANGE[0], {"dir": "C", "gap": 10}, *EXCHANGE[1:]]
    [row] = rows(save(tmp_path / "lossy.pcapng", list(capture_of(lossy))))
    [whole] = rows(save(tmp_path / "whole.pcapng", list(capture_of(EXCHANGE))))
    assert row["gaps"] == {"C": [[0, 10]], "S": []}
    assert (row["octets"], row["sha256"]) == (whole["octets"], whole["sha256"])


def test_the_table_says_it_in_words_and_lets_no_control_octet_through(session: Path) -> None:
    done = wiretalk("conversations", session)
    heading, row = done.stdout.decode().splitlines()
    assert heading.split()[:2] == ["no", "start"]
    assert "192.0.2.10:49152 ▶ 192.0.2.25:25" in row
    assert '<> ▶ "a␛ b"@example, b@example' in row
    assert b"\x1b" not in done.stdout


def test_several_files_are_one_capture_in_order_of_time(tmp_path: Path) -> None:
    frames = list(capture_of(EXCHANGE))
    first, second = save(tmp_path / "1.pcapng", frames[:9]), save(tmp_path / "2.pcapng", frames[9:])
    whole = save(tmp_path / "whole.pcapng", frames)
    assert rows(second, first) == rows(whole)


def test_standard_input_is_a_file_too(session: Path) -> None:
    piped = wiretalk("conversations", "-", stdin=session.read_bytes())
    assert piped.stdout == wiretalk("conversations", session).stdout


def test_mail_is_known_by_what_is_said_and_others_are_listed_too(tmp_path: Path) -> None:
    frames = list(capture_of(EXCHANGE, wire=Wire(sport=8_080)))
    other = [{"dir": "C", "bytes": "GET / HTTP/1.0\r\n\r\n"}, {"dir": "S", "bytes": "HTTP/1.0 200 OK\r\n\r\n"}]
    later = Wire(sport=80, cport=50_000, time=frames[-1].time)
    frames += capture_of(other, wire=later)
    found = rows(save(tmp_path / "two.pcapng", [frame._replace(number=n) for n, frame in enumerate(frames, 1)]))
    assert [(row["protocol"], row["messages"]) for row in found] == [("smtp", 1), ("opaque", 0)]


def test_of_very_many_that_are_no_mail_the_first_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    frames: list[Frame] = []
    for number in range(300):
        wire = Wire(sport=443, cport=20_000 + number, isn=(number, 7), time=1_756_713_600_000_000_000 + number * 10**8)
        frames += [*wire.open(), wire.say(C, b"\x17\x03\x03")]
    path = save(tmp_path / "many.pcapng", [frame._replace(number=n) for n, frame in enumerate(frames, 1)])
    done = wiretalk("conversations", "--format", "jsonl", path)
    assert len(done.stdout.splitlines()) == 256
    assert b"44 more conversations are no mail" in done.stderr
    assert len(rows("--all", path)) == 300


def test_a_capture_without_conversations_is_exit_status_one(tmp_path: Path) -> None:
    done = wiretalk("conversations", save(tmp_path / "nothing.pcapng", []))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no conversation" in done.stderr


def test_a_cut_file_gives_its_rows_then_says_that_it_is_cut(session: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(session.read_bytes()[:-30])
    done = wiretalk("conversations", "--format", "jsonl", cut)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert str(cut) in done.stderr.decode()


def test_what_is_no_capture_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"Subject: this is no capture\n")
    done = wiretalk("conversations", path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.splitlines()) == 1


# ── real captures ────────────────────────────────────────────────────────────────────────────────────────────────────

# (capture, stream) → what differs from the truth, and why that is right.
DIFFERENT = {
    ("suricata__smtp-bug-6053.pcap", 0): "the greeting has no line end and is counted apart from the reply behind it, "
    "so that the SASL message behind AUTH is none of the commands"
}


def agree(row: dict[str, Any], stream: dict[str, Any]) -> dict[str, Any]:
    """What a row says otherwise than the truth: octets, and for SMTP whose items are all there, what was said."""
    wrong: dict[str, Any] = {}
    turned = row["client"] != stream["client"]
    for way, side in (("c2s", "S" if turned else "C"), ("s2c", "C" if turned else "S")):
        told = stream[way]
        if (row["octets"][side], row["sha256"][side]) != (told["len"], told["sha256"]):
            wrong[way] = row["octets"][side], told["len"]
    smtp = stream.get("smtp")
    if smtp is None or any(stream[way]["gaps"] for way in ("c2s", "s2c")) or stream["client_from"] != "syn":
        return wrong
    items = smtp["items"]
    kinds = Counter(item["kind"] for item in items)
    if any(item["kind"] == "tls" for item in items) or kinds["not-a-reply"] or kinds["command-incomplete"]:
        return wrong
    messages = sum(message.get("complete", False) for message in smtp["messages"])
    replies = [item["code"] for item in items if item["kind"] == "reply"]
    said = {"commands": kinds["command"], "messages": messages, "last_reply": replies[-1] if replies else None}
    for key, value in said.items():
        if row[key] != value:
            wrong[key] = row[key], value
    return wrong


@pytest.mark.skipif(not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real captures are not checked")
def test_the_rows_of_real_captures_agree_with_their_truth() -> None:
    wrong: dict[tuple[str, int], Any] = {}
    checked = 0
    for truth in TRUTHS:
        told = json.loads(truth.read_text())
        streams = [stream for stream in told.get("streams", []) if stream["proto"] in ("smtp", "pop", "imap")]
        if not streams:
            continue
        source, name = truth.name.removesuffix(".json").split("__", 1)
        out = io.StringIO()
        list_conversations([str(CORPUS / source / name)], "jsonl", out, io.StringIO(), every=True)
        found = [json.loads(line) for line in out.getvalue().splitlines()]
        for stream in streams:
            ends = {stream["client"], stream["server"]}
            ours = [row for row in found if {plain(row["client"]), plain(row["server"])} == ends]
            nth = sum(other["client"] == stream["client"] and other["server"] == stream["server"]
                      for other in streams[: streams.index(stream)])  # fmt: skip
            checked += 1
            differs = agree({**ours[nth], **{end: plain(ours[nth][end]) for end in ("client", "server")}}, stream)
            if differs:
                wrong[truth.name.removesuffix(".json"), stream["tcp.stream"]] = differs
    assert checked > 50
    assert {key: what for key, what in wrong.items() if key not in DIFFERENT} == {}
    assert set(DIFFERENT) <= set(wrong), "a difference that is none any more"


def plain(endpoint: str) -> str:
    """As the truth writes it: no brackets round an IPv6 address."""
    return endpoint.replace("[", "").replace("]", "")
