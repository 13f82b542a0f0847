"""What the program outside can do with the lab: sockets, processes, names, its own terminal; and what it is told."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capture.errors import LabError
from lab import kernel
from lab.laboratory import Lab
from lab.plan import HOSTS, MAILHOST, SHANNON, STAFF_DOMAIN, STUDENT_DOMAIN

pytestmark = [pytest.mark.lab, pytest.mark.skipif(sys.platform != "linux", reason="the lab needs Linux")]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 10.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(servers=False) as lab:
        yield lab


def text(lab: Lab, host: str, *argv: str) -> str:
    code, output = lab.run(host, argv)
    assert code == 0, output
    return output.decode().strip()


# ── sockets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_socket_of_a_host_stays_there_and_is_not_inherited(lab: Lab) -> None:
    with lab.socket("mailhost", socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.bind((MAILHOST.ipv4, 0))
        assert plug.getsockname()[0] == MAILHOST.ipv4
        assert not plug.get_inheritable()
        assert (plug.family, plug.type) == (socket.AF_INET, socket.SOCK_DGRAM)


def test_a_packet_socket_is_deaf_until_it_is_bound(lab: Lab) -> None:
    with lab.packet_socket("your-pc") as tap, lab.socket("your-pc", socket.AF_INET, socket.SOCK_DGRAM) as speaker:
        tap.setblocking(False)
        speaker.sendto(b"?", (SHANNON.ipv4, 9))
        with pytest.raises(BlockingIOError):
            tap.recv(2000)


def test_an_impossible_socket_raises_what_the_kernel_said(lab: Lab) -> None:
    with pytest.raises(OSError, match="not supported"):
        lab.socket("your-pc", socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP)


def test_an_unknown_host_is_said_to_be_unknown_and_the_lab_lives_on(lab: Lab) -> None:
    with pytest.raises(LookupError, match="no host elsewhere"):
        lab.socket("elsewhere")
    assert lab.alive


def test_threads_share_the_lab(lab: Lab) -> None:
    def one(number: int) -> str:
        host = list(HOSTS)[number % 3]
        with lab.socket(host):
            return text(lab, host, "sh", "-c", f"echo {number} on $(hostname)")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [f"{number} on {list(HOSTS)[number % 3]}" for number in range(24)]


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_program_on_a_host_is_we_ourselves_under_the_hosts_name(lab: Lab) -> None:
    assert text(lab, "shannon", "hostname") == "shannon"
    assert text(lab, "shannon", "id", "-u") == str(os.geteuid())
    assert text(lab, "shannon", "id", "-g") == str(os.getegid())


def test_a_program_finds_the_hosts_by_name_and_only_them(lab: Lab) -> None:
    for host in HOSTS.values():
        for name in (host.name, host.fqdn):
            assert text(lab, "your-pc", "getent", "ahostsv4", name).startswith(host.ipv4)
    assert Path("/etc/hosts").read_bytes() != lab.run("your-pc", ["cat", "/etc/hosts"]).output
    assert f"nameserver {MAILHOST.ipv4}" in text(lab, "your-pc", "cat", "/etc/resolv.conf")


def test_a_program_reads_its_input_and_its_exit_status_comes_back(lab: Lab) -> None:
    long = os.urandom(1 << 20)
    assert lab.run("your-pc", ["sh", "-c", "cat; echo error >&2; exit 3"], input=long) == (3, long + b"error\n")


def test_a_program_that_reads_nothing_does_not_block(lab: Lab) -> None:
    assert lab.run("your-pc", ["true"], input=bytes(1 << 20)) == (0, b"")


def test_a_signal_is_a_negative_exit_status(lab: Lab) -> None:
    pid = lab.spawn("your-pc", ["sleep", "1000"])
    with pytest.raises(TimeoutError):
        lab.wait(pid, 0)
    lab.kill(pid, signal.SIGTERM)
    assert lab.wait(pid, DEADLINE) == -signal.SIGTERM
    assert lab.wait(pid) == -signal.SIGTERM, "asked again, the answer is the same"
    with pytest.raises(ProcessLookupError):
        lab.kill(pid, signal.SIGTERM)


def test_a_signal_reaches_the_whole_group(lab: Lab) -> None:
    reads, writes = os.pipe()
    pid = lab.spawn("your-pc", ["sh", "-c", "sleep 1000 & echo; sleep 1000"], stdout=writes)
    os.close(writes)
    assert os.read(reads, 1) == b"\n"
    lab.kill(pid, signal.SIGKILL)
    assert os.read(reads, 1) == b"", "somebody still holds the pipe"
    os.close(reads)


def test_waiting_in_one_thread_blocks_nobody_else(lab: Lab) -> None:
    pid = lab.spawn("your-pc", ["sleep", "1000"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lab.wait, pid)
        assert text(lab, "shannon", "echo", "meanwhile") == "meanwhile"
        lab.kill(pid)
        assert waiting.result(DEADLINE) == -signal.SIGTERM


def test_a_daemon_that_keeps_the_output_open_does_not_hold_up_run(lab: Lab) -> None:
    assert lab.run("your-pc", ["sh", "-c", "setsid sleep 1000 & echo started"]) == (0, b"started\n")


def test_too_late_is_an_error_and_the_program_is_killed(lab: Lab) -> None:
    with pytest.raises(TimeoutError, match="sleep on your-pc still ran"):
        lab.run("your-pc", ["sleep", "4217"], timeout=0.05)
    deadline = time.monotonic() + DEADLINE
    while b"4217" in lab.run("your-pc", ["sh", "-c", "cat /proc/[0-9]*/cmdline"]).output:
        assert time.monotonic() < deadline


def test_what_cannot_be_executed_raises_and_the_lab_lives_on(lab: Lab) -> None:
    with pytest.raises(OSError, match="no-such-program"):
        lab.spawn("your-pc", ["no-such-program"])
    with pytest.raises(PermissionError):
        lab.spawn("your-pc", ["/etc/hosts"])
    assert lab.alive


def test_further_descriptors_are_numbered_from_three_and_nothing_else_is_inherited(lab: Lab) -> None:
    reads, writes = os.pipe()
    seen = lab.spawn(
        "your-pc",
        ["sh", "-c", "for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$n ] && echo $n; done >&4"],
        also=(reads, writes),
    )
    os.close(writes)
    with os.fdopen(reads) as file:
        assert file.read().split() == ["0", "1", "2", "3", "4"]
    lab.wait(seen, DEADLINE)


def test_signals_that_python_or_the_lab_ignores_are_back_to_normal_in_a_program(lab: Lab) -> None:
    ignored = next(line for line in text(lab, "your-pc", "cat", "/proc/self/status").splitlines() if "SigIgn" in line)
    of_the_c_library = 0b11 << 31  # 32 and 33: no program may set them; make starts its programs with both ignored
    assert int(ignored.split()[1], 16) & ~of_the_c_library == 0


def test_a_capability_outlives_the_exec_where_one_is_asked_for(lab: Lab) -> None:
    argv = [sys.executable, "-c", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)"]
    assert lab.run("your-pc", argv, capabilities=(kernel.CAP_NET_RAW,)).code == 0
    if os.geteuid() != 0:
        assert lab.run("your-pc", argv).code == 1


def test_environment_is_added_to_ours(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert text(lab, "your-pc", "sh", "-c", "echo $PATH") == os.environ["PATH"]
    assert lab.run("your-pc", ["sh", "-c", "echo $WORD"], env={"WORD": "spoken"}).output == b"spoken\n"


def test_each_host_has_a_private_directory_that_nobody_outside_sees(lab: Lab) -> None:
    spool = text(
        lab,
        "shannon",
        "sh",
        "-c",
        "echo text > $WIRETALK_SPOOL/file; ls -ld $WIRETALK_SPOOL | cut -c1-10; echo $WIRETALK_SPOOL",
    )
    mode, place = spool.split()
    assert mode == "drwx------"
    assert not Path(place, "file").exists()
    assert text(lab, "shannon", "cat", f"{place}/file") == "text"


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("shannon", SHANNON.ipv4),
        ("Shannon.CS.utwente.example.", SHANNON.ipv4),
        ("mailhost", MAILHOST.ipv4),
        (STUDENT_DOMAIN, MAILHOST.ipv4),
        (STAFF_DOMAIN, SHANNON.ipv4),
        ("198.51.100.7", "198.51.100.7"),
        ("2001:DB8::7", "2001:db8::7"),
    ],
)
def test_names_of_hosts_and_of_mail_domains_have_addresses(name: str, address: str) -> None:
    assert Lab().resolve(name) == address


def test_a_name_that_the_lab_does_not_know_has_none() -> None:
    with pytest.raises(socket.gaierror):
        Lab().resolve("www.example.org")


# ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_lives_on_when_the_thread_that_started_it_has_ended() -> None:
    lab = Lab(servers=False)
    starter = threading.Thread(target=lab.start)
    starter.start()
    starter.join()
    try:
        assert text(lab, "your-pc", "hostname") == "your-pc"
    finally:
        lab.close()


def test_it_can_be_closed_twice_and_says_that_it_is_closed() -> None:
    lab = Lab(servers=False).start()
    assert lab.alive
    lab.close()
    lab.close()
    assert lab.failure == "The lab is closed."
    with pytest.raises(LabError, match="closed"):
        lab.socket("your-pc")


def test_two_labs_do_not_meet() -> None:
    with Lab(servers=False) as one, Lab(servers=False) as other, one.socket("shannon") as plug:
        plug.bind((SHANNON.ipv4, 25))
        plug.listen()
        with other.socket("your-pc") as caller, pytest.raises(ConnectionRefusedError):
            caller.connect((SHANNON.ipv4, 25))


def test_a_file_of_the_students_does_not_replace_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("socket.py").write_text("raise SystemExit('the wrong socket')")
    monkeypatch.chdir(tmp_path)
    with Lab(servers=False) as lab:
        assert text(lab, "your-pc", "pwd") == str(tmp_path)


class OwnServers(Lab):
    """A lab whose servers are a program of the test's."""

    program = ""

    def _server_command(self) -> list[str]:
        return [sys.executable, "-c", self.program]


LISTEN = """
import os, socket, sys
listening = socket.create_server(("", 25))
os.write(int(os.environ["WIRETALK_READY_FD"]), b"ready\\n")
print("listening on", sys.argv[1], file=sys.stderr, flush=True)
while True:
    plug = listening.accept()[0]
    if plug.recv(1) == b"!":
        sys.exit(7)
"""


def test_it_is_ready_when_the_servers_say_so_and_notices_when_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnServers, "program", LISTEN)
    with OwnServers() as lab:
        assert lab.failure == ""
        with lab.socket("your-pc") as caller:
            caller.connect((MAILHOST.ipv4, 25))
            caller.send(b"!")
            deadline = time.monotonic() + DEADLINE
            while lab.alive:
                assert time.monotonic() < deadline
        assert lab.failure == "The server on mailhost has ended (exit status 7). listening on mailhost"


def test_a_server_that_does_not_start_is_an_error_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnServers, "program", "import sys; sys.exit('no room in the spool')")
    with pytest.raises(LabError, match="no room in the spool") as caught:
        OwnServers().start()
    assert caught.value.stage == "servers"
    assert caught.value.remedy


def test_a_supervisor_that_breaks_is_an_error_with_its_traceback() -> None:
    class Broken(Lab):
        def _supervisor_command(self) -> list[str]:
            return [sys.executable, "-c", "raise RuntimeError('broken on purpose')"]

    with pytest.raises(LabError, match="broken on purpose") as caught:
        Broken().start()
    assert caught.value.stage == "start"


async def test_its_servers_answer_as_soon_as_it_has_started() -> None:
    with Lab() as lab:
        for host, port in ((SHANNON, 25), (MAILHOST, 25), (MAILHOST, 110)):
            plug = lab.socket("your-pc")
            plug.setblocking(False)
            await asyncio.get_running_loop().sock_connect(plug, (host.ipv4, port))
            reader, writer = await asyncio.open_connection(sock=plug)
            assert (await asyncio.wait_for(reader.readline(), DEADLINE)).startswith(b"220 " if port == 25 else b"+OK")
            writer.close()
            await writer.wait_closed()
        assert lab.alive, lab.failure


# ── the caller's own terminal ─────────────────────────────────────────────────────────────────────────────────────────

INTERACT = """
import sys
from lab.laboratory import Lab
with Lab(servers=False) as lab:
    sys.exit(lab.interact("your-pc", sys.argv[1:]))
"""


class Terminal:
    """A terminal of 100x30 with the lab's interact on it, in a session of its own."""

    def __init__(self, *argv: str) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.execve(
                sys.executable, [sys.executable, "-P", "-c", INTERACT, *argv], {**os.environ, "PYTHONPATH": str(ROOT)}
            )
        self.resize(30, 100)
        self.shown = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def types(self, keys: bytes) -> None:
        while keys:
            try:
                keys = keys[os.write(self._screen, keys) :]
            except BlockingIOError:
                os.sched_yield()

    def shows(self, wanted: bytes) -> None:
        """Wait until ``wanted`` has been shown after what was waited for before."""
        os.set_blocking(self._screen, False)
        deadline = time.monotonic() + DEADLINE
        while wanted not in self.shown:
            assert time.monotonic() < deadline, self.shown
            try:
                self.shown += os.read(self._screen, 4096)
            except BlockingIOError:
                os.sched_yield()
        self.shown = self.shown.partition(wanted)[2]

    def ends(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._screen)
        return code


def test_a_shell_on_the_terminal_is_usable() -> None:
    terminal = Terminal("bash", "--norc", "--noprofile", "-i")
    terminal.types(b"PS1='rea''dy> '\r")
    terminal.shows(b"ready> ")
    terminal.types(b"echo $((6*7)) on $(hostname)\r")
    terminal.shows(b"42 on your-pc\r\n")
    terminal.types(b"stty size\r")
    terminal.shows(b"30 100\r\n")
    terminal.types(b"sh -c 'echo wait''ing; read line'\r")  # no fork that Ctrl-Z could meet half-way
    terminal.shows(b"waiting\r\n")
    terminal.types(b"\x1a")  # Ctrl-Z: job control
    terminal.shows(b"Stopped")
    terminal.types(b"exec sh -c 'exit 5'\r")
    assert terminal.ends() == 5


def test_ctrl_c_goes_to_the_program_and_not_to_us() -> None:
    terminal = Terminal("sh", "-c", "trap 'echo caught; exit 9' INT; echo go; while :; do read x; done")
    terminal.shows(b"go\r\n")
    terminal.types(b"\x03")
    terminal.shows(b"caught")
    assert terminal.ends() == 9


def test_a_new_size_reaches_the_program() -> None:
    terminal = Terminal("bash", "-c", "trap 'stty size; exit' WINCH; echo go; while :; do read -t 0.05 x; done")
    terminal.shows(b"go\r\n")
    terminal.resize(24, 80)
    terminal.shows(b"24 80\r\n")
    assert terminal.ends() == 0


def test_a_large_paste_meets_a_program_that_talks_a_lot() -> None:
    terminal = Terminal(
        "sh", "-c", "stty raw -echo; echo go; head -c 200000 /dev/zero | tr '\\0' x; head -c 100000 | wc -c; echo done"
    )
    terminal.shows(b"go\n")
    paste = threading.Thread(target=terminal.types, args=(b"y" * 100_000,))
    paste.start()
    terminal.shows(b"100000\n")
    paste.join()
    terminal.shows(b"done")
    assert terminal.ends() == 0


def test_the_terminal_is_afterwards_as_it_was() -> None:
    terminal = Terminal("true")
    before = termios.tcgetattr(terminal._screen)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 0
    assert termios.tcgetattr(terminal._screen) == before
    os.close(terminal._screen)


def _interact(*argv: str, stdin: bytes = b"") -> tuple[int, bytes]:
    run = subprocess.run(
        [sys.executable, "-P", "-c", INTERACT, *argv],
        input=stdin,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    return run.returncode, run.stdout


@pytest.mark.parametrize(
    ("argv", "stdin", "expected"),
    [
        (("tr", "a-z", "A-Z"), b"hello\n", (0, b"HELLO\n")),
        (("sh", "-c", "exit 4"), b"", (4, b"")),
        (("sh", "-c", "kill -TERM $$"), b"", (128 + signal.SIGTERM, b"")),
    ],
)
def test_pipes_are_handed_over_as_they_are(argv: tuple[str, ...], stdin: bytes, expected: tuple[int, bytes]) -> None:
    assert _interact(*argv, stdin=stdin) == expected
