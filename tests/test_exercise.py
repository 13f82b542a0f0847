"""The main job, end to end: lines typed into the lab come off the wire labelled; what was recorded says the same."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capture.analyzer import Analyzer
from capture.labels import label
from capture.model import Label, Line, Side
from capture.record import Record
from capture.sources.files import read
from capture.sources.sniffer import Sniffer
from lab import exercise, plan
from lab.laboratory import Lab
from tui.player import Outcome
from tui.start import Verdict

pytestmark = [pytest.mark.lab, pytest.mark.skipif(sys.platform != "linux", reason="the lab needs Linux")]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}


def wiretalk(
    *arguments: str | Path, environment: dict[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-bb", "-m", "tui.cli", *map(str, arguments)]
    return subprocess.run(argv, input=stdin, capture_output=True, env=environment, timeout=90)


def rows_of(path: Path) -> list[Line]:
    record, analyzer = Record(), Analyzer(strict=True)
    with read(path) as capture:
        for frame in capture:
            record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    return record.lines


# ── the exercise ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_terminal_the_exercise_is_played_seen_and_proved(environment: dict[str, str], tmp_path: Path) -> None:
    recording = tmp_path / "exercise.pcapng"
    done = wiretalk("--record", recording, environment=environment)
    assert done.returncode == 0, done.stderr.decode()
    printed = done.stdout.decode()
    for text in exercise.SMTP_LINES:
        assert f"{text}␍␊" in printed
    assert printed.count("Received: from") == 2
    assert "PASS *******␍␊" in printed
    lines = rows_of(recording)
    typed = [line for line in lines if line.conversation == 1 and line.side is Side.CLIENT]
    assert [line.data for line in typed] == [text.encode() + b"\r\n" for text in exercise.SMTP_LINES]
    kinds = [label(line) for line in typed]
    assert kinds == [Label.PDU] * 4 + [Label.USER_DATA] * 6 + [Label.PCI, Label.PDU]
    assert recording.stat().st_mode & 0o077 == 0


def test_the_frames_are_whole_ethernet_frames_with_right_checksums(environment: dict[str, str], tmp_path: Path) -> None:
    recording = tmp_path / "exercise.pcapng"
    assert wiretalk("talk", "--record", recording, environment=environment).returncode == 0
    with read(recording) as capture:
        frames = list(capture)
    assert max(len(frame.data) for frame in frames) <= 1514
    assert all(frame.length == len(frame.data) for frame in frames)
    macs = {frame.data[6:12].hex(":") for frame in frames}
    assert macs == {host.mac for host in plan.HOSTS.values()}
    times = [frame.time for frame in frames]
    assert times == sorted(times)


@pytest.mark.peer
def test_tshark_reads_the_recording_and_agrees_on_commands_and_replies(
    environment: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    recording = tmp_path / "exercise.pcapng"
    assert wiretalk("talk", "--record", recording, environment=environment).returncode == 0
    fields = ["frame.number", "smtp.req.command", "smtp.response.code"]
    argv = ["tshark", "-r", str(recording), "-Y", "smtp", "-T", "fields", *(a for f in fields for a in ("-e", f))]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    theirs = {
        (int(number), word) for number, verb, code in (row.split("\t") for row in told) for word in (verb, code) if word
    }
    ours = {
        (line.frames[0], line.data[: line.spans[0].end].decode())
        for line in rows_of(recording)
        if line.conversation == 1 and line.spans[0].field in ("verb", "reply-code")
    }
    assert ours == theirs


def test_a_script_is_played_line_by_line(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "lines.txt"
    script.write_text("EHLO me\r\nVRFY pras\nEXPN nobody\nQUIT")
    done = wiretalk("talk", "--script", script, environment=environment)
    assert done.returncode == 0, done.stderr.decode()
    replies = [line for line in done.stdout.decode().splitlines() if "S▶C" in line]
    assert any("551 5.1.6" in line for line in replies)


def test_the_hosts_of_the_lab_are_known_by_every_name_they_have(environment: dict[str, str]) -> None:
    for name in ("SHANNON", "shannon.cs.utwente.example.", "192.0.2.25"):
        done = wiretalk("talk", name, environment=environment, stdin="\ufeffQUIT\n".encode())
        assert done.returncode == 0, done.stderr.decode()
        assert "C▶S  PDU        QUIT command C1" in done.stdout.decode()


def test_with_ipv6_the_session_is_ipv6(environment: dict[str, str]) -> None:
    done = wiretalk("talk", "shannon", "--ipv6", environment=environment, stdin=b"QUIT\n")
    assert done.returncode == 0, done.stderr.decode()
    assert f"server [{plan.SHANNON.ipv6}]:25" in done.stdout.decode()


def test_a_recording_must_be_a_file(environment: dict[str, str]) -> None:
    refused = wiretalk("talk", "--record", "-", environment=environment, stdin=b"QUIT\n")
    assert refused.returncode == 2
    nowhere = wiretalk("talk", "shannon", "--record", "/dev/null", environment=environment, stdin=b"QUIT\n")
    assert nowhere.returncode == 0, nowhere.stderr.decode()
    assert "was not read again" in nowhere.stderr.decode()


def test_a_server_that_closes_in_the_middle_is_told_and_costs_the_exit_status(environment: dict[str, str]) -> None:
    done = wiretalk("talk", "shannon", environment=environment, stdin=b"QUIT\nNOOP\n")
    assert done.returncode == 1
    assert "Typed, but never seen on the wire: 'NOOP'" in done.stderr.decode()


# ── other hosts, and no right to sniff ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rightless(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs wiretalk without the right to open a packet socket, whoever runs the tests."""
    if os.getuid() != 0:
        prefix: list[str] = []
    elif shutil.which("setpriv"):
        prefix = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    else:
        pytest.skip("root without setpriv cannot give up its rights")

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [*prefix, sys.executable, "-bb", "-m", "tui.cli", *arguments]
        return subprocess.run(argv, input=stdin, capture_output=True, env=environment, timeout=60)

    return run


async def _serve(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object], use: Callable[[int], None]
) -> None:
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        await asyncio.to_thread(use, server.sockets[0].getsockname()[1])


async def _say_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 there.example ready\r\n")
    while line := await reader.readline():
        writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 there.example\r\n")
        if line.startswith(b"QUIT"):
            break
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_without_rights_the_session_is_recorded_at_the_socket_and_says_so(
    rightless: Callable[..., subprocess.CompletedProcess[bytes]], environment: dict[str, str], tmp_path: Path
) -> None:
    recording = tmp_path / "socket.pcapng"

    def use(port: int) -> None:
        done = rightless("talk", f"127.0.0.1:{port}", "--record", str(recording), stdin=b"HELO me\nQUIT\n")
        told = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, told
        assert "recorded at the socket, not sniffed" in done.stdout.decode()
        again = wiretalk("label", "--format", "jsonl", recording, environment=environment)
        assert "recorded at the socket, not sniffed" in again.stderr.decode()
        rows = [json.loads(row) for row in again.stdout.splitlines()]
        assert [(row["side"], row["line"], row["label"]) for row in rows] == [
            ("S", "220 there.example ready\r\n", "PDU"),
            ("C", "HELO me\r\n", "PDU"),
            ("S", "250 there.example\r\n", "PDU"),
            ("C", "QUIT\r\n", "PDU"),
            ("S", "221 bye\r\n", "PDU"),
        ]

    asyncio.run(_serve(_say_hello, use))


def test_an_interface_that_was_asked_for_must_be_heard(
    rightless: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    done = rightless("talk", "127.0.0.1:9", "--interface", "lo", stdin=b"QUIT\n")
    assert done.returncode == 3
    assert "to mend it" in done.stderr.decode()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("127.0.0.1:1", "refused"),
        ("nowhere.invalid", "No address"),
        ("a" * 300, "No address"),
        ("shannon:2", "refused"),
    ],
)
def test_a_connection_that_cannot_be_had_is_a_plain_sentence(
    target: str, words: str, environment: dict[str, str]
) -> None:
    done = wiretalk("talk", target, environment=environment, stdin=b"QUIT\n")
    assert done.returncode == 1
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_the_exercise_is_never_played_to_a_host_that_was_named(environment: dict[str, str]) -> None:
    keyboard, terminal = pty.openpty()
    argv = [sys.executable, "-m", "tui.cli", "talk", "127.0.0.1:1"]
    done = subprocess.run(argv, stdin=terminal, capture_output=True, env=environment, timeout=30)
    os.close(keyboard)
    os.close(terminal)
    assert done.returncode == 2
    assert "--script FILE 127.0.0.1:1" in done.stderr.decode()


@pytest.mark.skipif(os.getuid() != 0, reason="sniffing loopback needs root")
def test_loopback_is_sniffed_once_not_twice(environment: dict[str, str], tmp_path: Path) -> None:
    recording = tmp_path / "lo.pcapng"

    def use(port: int) -> None:
        done = wiretalk(
            "talk", f"127.0.0.1:{port}", "--record", recording, environment=environment, stdin=b"HELO me\nQUIT\n"
        )
        assert done.returncode == 0, done.stderr.decode()
        assert "not sniffed" not in done.stdout.decode()

    asyncio.run(_serve(_say_hello, use))
    with read(recording) as capture:
        frames = [frame.data for frame in capture]
    assert frames
    assert len(frames) == len(set(frames))


# ── the lab alone, and other people's programs in it ─────────────────────────────────────────────────────────────────


def listen(lab: Lab, talk: Callable[[], None]) -> list[Line]:
    """What your-pc's wire carried while ``talk`` ran, labelled."""
    record, analyzer = Record(), Analyzer(strict=True)
    sniffer = Sniffer(
        lab.packet_socket("your-pc"), on_frames=lambda frames: [record.apply(analyzer.feed(f)) for f in frames] and None
    )
    sniffer.start()
    try:
        talk()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not (record.conversations and record.conversations[-1].closed):
            time.sleep(0.01)
    finally:
        sniffer.stop()
    record.apply(analyzer.finish())
    return record.lines


def shape(lines: list[Line]) -> list[tuple[object, ...]]:
    """All that does not differ from session to session."""
    return [
        (line.side, line.pdu, line.spans, line.flags, line.whole) for line in lines if b"queued as" not in line.data
    ]


@pytest.mark.peer
def test_telnet_and_wiretalk_give_lines_labelled_the_same(environment: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("telnet") is None:
        pytest.skip("telnet is not installed")
    recording = tmp_path / "ours.pcapng"
    script = tmp_path / "lines.txt"
    script.write_text("\n".join(exercise.SMTP_LINES))
    assert wiretalk("talk", "--script", script, "--record", recording, environment=environment).returncode == 0
    theirs: list[Line] = []
    with Lab() as lab:
        typed = "; ".join(f"sleep 0.1; printf '%s\\n' {json.dumps(text)}" for text in exercise.SMTP_LINES)

        def telnet() -> None:
            code, output = lab.run("your-pc", ["sh", "-c", f"({typed}; sleep 0.3) | telnet shannon 25"], timeout=30)
            assert b"221 2.0.0" in output, (code, output)

        theirs = listen(lab, telnet)
    assert shape(theirs) == shape(rows_of(recording))


@pytest.mark.peer
def test_swaks_through_the_lab_command_is_recorded_and_labelled(environment: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed")
    recording = tmp_path / "swaks.pcapng"
    argv = ["swaks", "--to", "student@student.example", "--from", "a@student.example", "--server", "shannon"]
    done = wiretalk("lab", "--record", recording, "--", *argv, environment=environment)
    assert done.returncode == 0, done.stderr.decode()
    lines = rows_of(recording)
    verbs = [line.pdu.name for line in lines if line.side is Side.CLIENT and line.whole]
    assert verbs == ["EHLO command", "MAIL command", "RCPT command", "DATA command", "QUIT command"]
    ended = [line for line in lines if line.spans[0].field == "eod-dot"]
    assert [label(line) for line in ended] == [Label.PCI]


def test_the_lab_command_gives_back_what_the_program_gave(environment: dict[str, str]) -> None:
    assert wiretalk("lab", "--", "sh", "-c", "exit 7", environment=environment).returncode == 7
    missing = wiretalk("lab", "--", "no-such-program", environment=environment)
    assert missing.returncode == 127
    assert b"no such program" in missing.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_lab_alone_says_who_is_where_until_it_is_ended(number: signal.Signals, environment: dict[str, str]) -> None:
    argv = [sys.executable, "-m", "tui.cli", "lab"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        heard = b""
        while b"telnet shannon 25" not in heard:
            heard += running.stdout.readline()
        running.send_signal(number)
        assert running.wait(10) == 0
    for host in plan.HOSTS.values():
        assert host.ipv4.encode() in heard


def test_the_doctor_finds_this_machine_fit(environment: dict[str, str]) -> None:
    done = wiretalk("doctor", environment=environment)
    assert done.returncode == 0
    for word in ("Python", "scapy", "libpcap", "raw sockets", "veth", "terminal", "colours"):
        assert word in done.stdout.decode()


def test_what_went_wrong_is_told_with_its_cause_and_without_the_password() -> None:
    verdict = Verdict()
    verdict.add(Outcome(2, unseen=["PASS talking"], unanswered=["AUTH PLAIN c2VjcmV0"], sentences=["It is full."]))
    assert verdict.faults == [
        "It is full.",
        "Typed, but never seen on the wire: 'PASS *******'",
        "No reply in time to 'AUTH PLAIN ********'",
    ]
