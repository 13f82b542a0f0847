"""Rows of the other layers: what is in them, their order, their masks, and the commands that print them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from capture.export import pcapng, views
from capture.labels import label
from capture.layers import BELOW, roles
from capture.model import ACK, Frame, Layer, Line, Missing, Side
from capture.places import Places, Secrets
from capture.readings import choose
from capture.record import Record
from tests.capture.conversation import DONE, IN_DATA, lines
from tests.capture.forge import C, S, Wire, ethernet, ip, tcp
from tests.capture.test_decode import V4
from tui.cli import main

KEYS = ["conversation", "side", "n", "offset", "time", "line", "label", "pdu", "pdu_id", "spans", "flags"]
KEYS += ["frames", "layer"]
MAIL = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n..x\r\n--b--\r\n.\r\n"


def session(wire: Wire) -> Iterator[Frame]:
    yield from wire.open()
    for side, said in [
        (S, b"220 mx\r\n"), (C, b"EHLO c\r\n"), (S, b"250-mx\r\n250 AUTH PLAIN\r\n"), (C, b"AUTH PLAIN AHRpbQ==\r\n"),
        (S, b"235 ok\r\n"), (C, b"MAIL FROM:<>\r\nRCPT TO:<b@d>\r\nDATA\r\n"), (S, b"250 ok\r\n250 ok\r\n354 go\r\n"),
        (C, MAIL), (S, b"250 ok\r\n"), (C, b"QUIT\r\n"), (S, b"221 bye\r\n"),
    ]:  # fmt: skip
        yield wire.say(side, said)
    yield from wire.close()


def arp(number: int) -> Frame:
    data = bytes.fromhex("ffffffffffff 020000000010 0806") + bytes(46)
    return Frame(number, 1_756_713_600_000_000_000, data, 60)


def observed(frames: list[Frame]) -> tuple[Record, Places, Secrets]:
    record, places, secrets = Record(), Places(strict=True), Secrets()
    for frame in frames:
        record.apply(places.feed(frame))
    record.apply(places.finish())
    for line in record.lines:
        secrets.add(line)
    return record, places, secrets


def parsed(rows: Any, name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in views.jsonl(rows, name)]


@pytest.mark.parametrize("layer", BELOW)
def test_there_is_a_row_for_each_unit_in_a_frame_with_the_keys_of_the_contract(layer: Layer) -> None:
    frames = list(session(Wire()))
    _, places, secrets = observed(frames)
    rows = parsed(views.in_frames(frames, layer, places, secrets), layer.name.lower())
    assert [list(row) for row in rows] == [KEYS] * len(frames)
    assert [row["frames"] for row in rows] == [[frame.number] for frame in frames]
    assert {row["conversation"] for row in rows} == {1}
    assert {row["label"] for row in rows} == {"PDU"}
    for row, frame in zip(rows, frames, strict=True):
        seen = roles(frame, layer)
        assert [[s.start - row["offset"], s.end - row["offset"], s.role.value, s.field] for s in seen] == row["spans"]
        assert row["spans"][-1][1] == len(row["line"])
    client = [row["pdu_id"] for row in rows if row["side"] == "C"]
    assert client == [f"C{n}" for n in range(1, len(client) + 1)]


def test_a_password_is_masked_in_frames_packets_segments_and_copies_unless_asked_for() -> None:
    wire = Wire()
    frames = list(session(wire))
    again = next(f for f in frames if b"AHRpbQ==" in f.data)
    frames.append(again._replace(number=len(frames) + 1, time=frames[-1].time + 1))
    _, places, secrets = observed(frames)
    for layer in BELOW:
        hidden = [row.data for row in views.in_frames(frames, layer, places, secrets)]
        shown = [row.data for row in views.in_frames(frames, layer, places)]
        assert sum(b"AHRpbQ==" in data for data in shown) == 2
        assert sum(b"AUTH PLAIN ********\r\n" in data for data in hidden) == 2
        assert not any(b"AHRpbQ==" in data for data in hidden)
        assert [len(data) for data in hidden] == [len(data) for data in shown]


def test_a_frame_of_no_conversation_is_shown_as_nobodys() -> None:
    frames = [arp(1), *(f._replace(number=f.number + 1) for f in session(Wire()))]
    _, places, secrets = observed(frames)
    first = parsed(views.in_frames(frames, Layer.LINK, places, secrets), "link")[0]
    assert (first["conversation"], first["side"], first["pdu_id"], first["label"]) == (0, None, "F1", "PDU")
    assert len(list(views.in_frames(frames, Layer.NETWORK, places, secrets))) == len(frames) - 1


def test_a_unit_that_was_cut_is_no_pdu() -> None:
    data = ethernet(ip(*V4, tcp(*V4, 49152, 25, 1, 1, ACK, b"x" * 40)))
    frame = Frame(1, 0, data[:70], len(data))
    _, places, secrets = observed([frame])
    rows = [row for layer in BELOW for row in parsed(views.in_frames([frame], layer, places, secrets), "link")]
    assert [(row["label"], row["flags"]) for row in rows] == [("user data", ["incomplete"])] * 3


def test_the_rows_of_the_message_layer_are_lines_of_mail_seen_from_above() -> None:
    record, _, _ = observed(list(session(Wire())))
    rows = parsed(views.message(record.rows()), "message")
    assert [(row["n"], row["line"], row["label"]) for row in rows] == [
        (6, "Content-Type: multipart/mixed; boundary=b\r\n", "PCI"), (7, "\r\n", "PCI"), (8, "--b\r\n", "user data"),
        (9, "\r\n", "user data"), (10, "..x\r\n", "user data"), (11, "--b--\r\n", "user data"),
    ]  # fmt: skip
    assert rows[4]["spans"] == [[1, 3, "ud", "body"], [3, 5, "ud", "line-end"]]
    assert {(row["pdu"], row["pdu_id"], row["layer"]) for row in rows} == {("message", "C1", "message")}
    assert [list(row) for row in rows] == [KEYS] * 6


def test_the_rows_of_mime_are_the_body_divided() -> None:
    record, _, _ = observed(list(session(Wire())))
    rows = parsed(views.message(record.rows(), mime=True), "mime")
    assert [(row["line"], row["label"], row["pdu_id"]) for row in rows] == [
        ("--b\r\n", "PCI", "C1"), ("\r\n", "PCI", "C1.1"), ("..x\r\n", "user data", "C1.1"), ("--b--\r\n", "PCI", "C1"),
    ]  # fmt: skip
    assert rows[2]["spans"] == [[1, 3, "ud", "body"], [3, 5, "pci", "boundary"]]


def test_messages_of_many_conversations_come_in_order_of_capture() -> None:
    one = [line._replace(order=2 * n) for n, line in enumerate(lines(*IN_DATA, "C: A: b\n\nx\n.", *DONE))]
    two = [line._replace(conversation=2, order=line.order + 1) for line in one]
    rows: list[Line | Missing] = sorted([*one, *two], key=lambda row: row.order)
    gap = Missing(1, Side.CLIENT, 5, 3)
    rows.insert(12, gap)
    shown = list(views.message(rows))
    assert [row.order for row in shown if isinstance(row, Line)] == sorted(
        r.order for r in shown if isinstance(r, Line)
    )
    assert len(shown) == 7
    assert gap in shown


def test_a_message_that_stops_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "WAITING", 5)
    stopped = [line for line in lines(*IN_DATA, "C: A: b") if line.side is Side.CLIENT]
    other = [line._replace(conversation=2) for line in lines(*IN_DATA, "C: C: d\n\nx\ny\nz\n.", *DONE)]
    shown = [row.conversation for row in views.message([*stopped, *other])]
    assert (shown.count(2), len(shown)) == (5, 5)


def test_reading_c6_makes_subjects_user_data() -> None:
    made = lines(*IN_DATA, "C: Subject: b\n\nx\n.", *DONE)
    shown = [row for row in views.message(made, readings=choose(["C6=user-data"])) if isinstance(row, Line)]
    assert [label(row, row.layer).value for row in shown] == ["user data", "PCI", "user data"]


def test_records_are_the_units_of_tls() -> None:
    wire = Wire(sport=465)
    frames = [*wire.open(), wire.say(C, b"\x16\x03\x01\x00\x02\x01\x00"), wire.say(S, b"\x15\x03\x03\x00\x02\x02\x28")]
    record, _, _ = observed(frames)
    assert [(row["label"], row["pdu"], row["layer"]) for row in parsed(views.records(record.rows()), "tls")] == [
        ("PDU", "TLS record (handshake)", "tls"), ("PDU", "TLS record (alert)", "tls")
    ]  # fmt: skip
    gap = Missing(1, C, 7, 4)
    assert list(views.records([gap, *record.rows(), gap, gap._replace(conversation=2)]))[2:] == [gap]
    record, _, _ = observed(list(session(Wire())))
    assert list(views.records([*record.rows(), gap])) == []
    assert gap not in list(views.message([gap, *record.rows(), gap]))


@pytest.mark.parametrize("name", ["link", "network", "transport", "message", "mime", "tls"])
def test_no_octet_reaches_the_terminal_alive_as_text(name: str) -> None:
    frames = list(session(Wire()))
    record, places, secrets = observed(frames)
    if name in views.IN_FRAMES:
        rows: Any = views.in_frames(frames, views.IN_FRAMES[name], places, secrets)
    else:
        rows = record.rows()
        rows.insert(13, Missing(1, C, 3, 1))
        rows = views.message(rows, mime=name == "mime")
    shown = list(views.text(rows, name, lambda: frames[0].time))
    assert shown[0].split() == ["frame", "seconds", "conv", "way", "label", "of", "the", "PDU", "PCI", "data", "what"]
    assert len(shown) > 4
    assert any("1 octet not captured" in text for text in shown) is (name not in views.IN_FRAMES)
    assert all(text.isprintable() for text in shown)


def test_pci_and_user_data_are_counted_in_the_text() -> None:
    frames = list(session(Wire()))
    _, places, secrets = observed(frames)
    shown = list(views.text(views.in_frames(frames, Layer.TRANSPORT, places, secrets), "transport"))
    assert shown[1].split()[3:9] == ["C▶S", "PDU", "segment", "C1", "20", "0"]
    assert shown[1].endswith("flags SYN")


# --- the command ------------------------------------------------------------------------------------------------------


def file(tmp_path: Path) -> str:
    path = tmp_path / "a.pcapng"
    with pcapng.Recorder(path) as recorder:
        recorder.write_all([arp(1), *(f._replace(number=f.number + 1) for f in session(Wire()))])
    return str(path)


def run(*arguments: str) -> tuple[int, list[str], str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["label", *arguments])
    return code, out.getvalue().splitlines(), err.getvalue()


@pytest.mark.parametrize(("layer", "count"), [
    ("link", 18), ("network", 17), ("transport", 17), ("message", 6), ("mime", 4), ("application", 22)
])  # fmt: skip
def test_the_command_prints_a_layer(tmp_path: Path, layer: str, count: int) -> None:
    path = file(tmp_path)
    code, rows, said = run("--layer", layer, "--format", "jsonl", path)
    assert (code, len(rows), said) == (0, count, "")
    assert {json.loads(row)["layer"] for row in rows} == {layer}
    assert not any("AHRpbQ==" in row for row in rows)
    shown = run("--layer", layer, "--format", "jsonl", "--show-secrets", path)[1]
    assert any("AHRpbQ==" in row for row in shown) is (layer not in ("message", "mime"))


@pytest.mark.parametrize("layer", ["link", "message"])
def test_a_pipe_gives_what_the_file_gives(tmp_path: Path, layer: str) -> None:
    path = file(tmp_path)
    command = [sys.executable, "-bb", "-c", "from tui.cli import main; raise SystemExit(main())", "label", "-"]
    done = subprocess.run([*command, "--layer", layer], input=Path(path).read_bytes(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == run("--layer", layer, path)[1]


def test_the_command_says_when_there_is_no_such_unit(tmp_path: Path) -> None:
    code, rows, said = run("--layer", "tls", file(tmp_path))
    assert (code, rows, said) == (1, [], "wiretalk: no unit of the layer tls in this capture.\n")


def test_the_command_switches_a_reading(tmp_path: Path) -> None:
    _, rows, _ = run("--reading", "C3=one", "--reading", "C1=user-data", "--format", "jsonl", file(tmp_path))
    read = {row["line"]: row for row in map(json.loads, rows)}
    assert read["DATA\r\n"]["label"] == "PCI"
    assert read[".\r\n"]["pdu_id"] == read["DATA\r\n"]["pdu_id"]
    assert [len(read["MAIL FROM:<>\r\n"]["spans"]) - 2, read["MAIL FROM:<>\r\n"]["spans"][3][2]] == [3, "ud"]
    code, _, said = run("--reading", "C3=three", file(tmp_path))
    assert code == 2
    assert "C3: two, one" in said


@pytest.mark.parametrize(("layer", "condition", "count"), [
    ("message", 'label == "PCI"', 2), ("message", 'spans == "body" and side == "C"', 3),
    ("mime", 'pdu_id == "C1.1"', 2), ("link", 'side == "S"', 8), ("transport", "frames <= 3 and label == \"PDU\"", 2),
    ("link", "conversation == 2", 0),
])  # fmt: skip
def test_a_condition_is_asked_of_the_rows_of_the_layer(tmp_path: Path, layer: str, condition: str, count: int) -> None:
    code, rows, _ = run("--layer", layer, "--filter", condition, "--format", "jsonl", file(tmp_path))
    assert (code, len(rows)) == (int(not count), count)


def test_one_conversation_is_shown_without_the_frames_of_nobody(tmp_path: Path) -> None:
    path = file(tmp_path)
    _, rows, _ = run("--layer", "link", "--conversation", "1", "--format", "jsonl", path)
    assert [json.loads(row)["frames"] for row in rows] == [[n] for n in range(2, 19)]
    said = "wiretalk: no unit of the layer link that was asked for in this capture.\n"
    assert run("--layer", "link", "--conversation", "7", path) == (1, [], said)


def test_a_file_that_grows_between_the_passes_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(file(tmp_path))
    whole, finish = path.read_bytes(), Places.finish
    start = whole.index(b"AUTH PLAIN AHR") - 82
    path.write_bytes(whole[:start])
    monkeypatch.setattr(Places, "finish", lambda places: (path.write_bytes(whole), finish(places))[1])
    _, rows, _ = run("--layer", "link", "--format", "jsonl", str(path))
    assert (path.read_bytes(), len(rows)) == (whole, 7)
    assert not any("AUTH PLAIN A" in row for row in rows)


def test_a_damaged_file_is_told_once_and_costs_the_exit_status(tmp_path: Path) -> None:
    path = file(tmp_path)
    Path(path).write_bytes(Path(path).read_bytes()[:-9])
    code, rows, said = run("--layer", "link", "--format", "jsonl", path)
    assert (code, len(rows), said.count("wiretalk:")) == (2, 17, 1)
