"""Whatever ends the program, nothing of the lab is left: no process, namespace, mount or file.

A child that does all it can to survive (own session, double fork, signals ignored) runs on shannon meanwhile. What
belongs to the lab is recorded while it runs; afterwards each of it must be gone within a deadline.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.skipif(sys.platform != "linux", reason="the lab needs Linux")]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 10.0

STUBBORN = """
import os, signal
ready, say = os.pipe()
if os.fork():
    os.close(say)
    os.read(ready, 1)  # end of file: it is as stubborn as can be
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
os.closerange(0, 64)
while True:
    signal.pause()
"""
PROGRAM = f"""
import json, os, signal, sys, time
from lab.laboratory import Lab
signal.signal(signal.SIGINT, signal.default_int_handler)
lab = Lab(servers=False).start()
held = lab.socket("your-pc")
lab.run("shannon", [sys.executable, "-P", "-c", {STUBBORN!r}])
names = lab.run("shannon", ["sh", "-c", "readlink /proc/self/ns/*"]).output.decode().split()
names += lab.run("mailhost", ["readlink", "/proc/self/ns/net"]).output.decode().split()
print(json.dumps(names), flush=True)
match sys.argv[1]:
    case "wait":
        signal.pause()
    case "watch":
        while not lab.failure:
            time.sleep(0.005)
        print(json.dumps(lab.failure), flush=True)
        signal.pause()
    case "fork and wait":  # the copy of the control socket in the fork keeps it open
        print(os.fork() or signal.pause(), flush=True)
        signal.pause()
    case "exit":
        sys.exit(0)
    case "leave":
        os._exit(0)
    case "raise":
        raise RuntimeError("the program is broken")
    case "abort":
        os.abort()
"""


# setpriv itself may execute what its uid may not: so the Python must be able to start itself once more.
AGAIN = "import subprocess, sys, pyroute2; sys.exit(subprocess.call([sys.executable, '-P', '-c', 'import lab.plan']))"


class Process(NamedTuple):
    """A pid alone may be used again; with its time of birth it may not."""

    pid: int
    born: str


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> dict[int, Process]:
    """``pid`` and all its descendants."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        try:
            fields = _stat(int(entry)) if entry.isdigit() else []
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields:
            parents[int(entry)] = int(fields[1]), fields[19]
    found = {pid}
    while more := {child for child, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    return {each: Process(each, parents[each][1]) for each in found if each in parents}


def alive(process: Process) -> bool:
    try:
        fields = _stat(process.pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[19] == process.born and fields[0] != "Z"


def inhabited(names: set[str]) -> set[str]:
    """Which of these namespaces some process is in or holds a descriptor of, as far as we may look.

    A zombie waits only for its parent's parent (the machine's init) to count it; it does nothing more.
    """
    seen = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        for folder in (f"/proc/{entry}/ns", f"/proc/{entry}/fd"):
            with contextlib.suppress(OSError):  # gone meanwhile, or not ours to look at
                if _stat(int(entry))[0] == "Z":
                    break
                for link in os.listdir(folder):
                    with contextlib.suppress(FileNotFoundError):
                        seen.add(os.readlink(f"{folder}/{link}"))
    return seen & names


def until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (answer := holds()):
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.002)
    return answer


@functools.cache
def _python_of(uid: int) -> tuple[list[str], dict[str, str]] | None:
    """A command that runs Python as ``uid``, and its environment: the tests' own may stand where uid cannot go."""
    packages = os.pathsep.join([str(ROOT), *site.getsitepackages()])
    for executable in (sys.executable, "/usr/bin/python3"):
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", executable, "-P"]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": packages, "HOME": "/nonexistent"}
        try:
            if not subprocess.run([*command, "-c", AGAIN], env=environment, capture_output=True).returncode:
                return command, environment
        except FileNotFoundError:
            return None
    return None


@pytest.fixture(params=["ourselves", "uid 12345"])
def python(request: pytest.FixtureRequest) -> tuple[list[str], dict[str, str]]:
    if request.param == "ourselves":
        return [sys.executable, "-P"], {**os.environ, "PYTHONPATH": str(ROOT)}
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    found = _python_of(12345)
    if found is None:
        pytest.skip("no Python here that uid 12345 may run")
    return found


class Running(NamedTuple):
    program: subprocess.Popen[str]
    outer: int
    first: int
    processes: set[Process]
    namespaces: set[str]
    folder: Path
    mounts: str

    def gone(self) -> None:
        """Every process, namespace, mount and file of the lab is gone."""
        until(lambda: not any(map(alive, self.processes)), "processes are left")
        until(lambda: not inhabited(self.namespaces), "namespaces are left")
        assert Path("/proc/self/mountinfo").read_text() == self.mounts
        assert not list(self.folder.iterdir())

    def hears(self) -> str:
        """The next line that the program says."""
        assert self.program.stdout is not None
        return self.program.stdout.readline()


Start = Callable[[str], Running]


@pytest.fixture
def start(python: tuple[list[str], dict[str, str]], tmp_path: Path) -> Iterator[Start]:
    command, environment = python
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o777)
    mounts = Path("/proc/self/mountinfo").read_text()
    started: list[subprocess.Popen[str]] = []

    def begin(way: str) -> Running:
        program = subprocess.Popen(
            [*command, "-c", PROGRAM, way],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**environment, "TMPDIR": str(folder)},
            start_new_session=True,
        )
        started.append(program)
        assert program.stdout is not None
        line = program.stdout.readline()
        assert line, "the program could not start the lab"
        ours = {os.readlink(link) for link in Path("/proc/self/ns").iterdir()}
        namespaces = set(json.loads(line)) - ours
        kin = family(program.pid)
        outer, first = 0, 0
        if way in ("wait", "watch", "fork and wait"):
            (outer,) = (pid for pid in kin if int(_stat(pid)[1]) == program.pid and _is_outer(pid))
            (first,) = (pid for pid in kin if int(_stat(pid)[1]) == outer)
            assert len(kin) >= 4, "program, outer half, PID 1 and the stubborn child"
            assert inhabited(namespaces), "the record of what must vanish is empty"
        return Running(program, outer, first, set(kin.values()), namespaces, folder, mounts)

    yield begin
    for program in started:
        program.kill()
        program.communicate()


def _is_outer(pid: int) -> bool:
    return b"lab.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("way", ["exit", "leave", "raise", "abort"])
def test_nothing_is_left_when_the_program_ends_by_itself(start: Start, way: str) -> None:
    running = start(way)
    running.program.wait(DEADLINE)
    running.gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_the_program_is_killed(start: Start, number: signal.Signals) -> None:
    running = start("wait")
    running.program.send_signal(number)
    running.program.wait(DEADLINE)
    running.gone()


@pytest.mark.parametrize("victim", ["outer", "first"])
def test_nothing_is_left_and_the_program_notices_when_a_half_of_the_lab_is_killed(start: Start, victim: str) -> None:
    running = start("watch")
    os.kill(getattr(running, victim), signal.SIGKILL)
    assert json.loads(running.hears()) == "The lab's supervisor has ended."
    ourselves = {process for process in running.processes if process.pid == running.program.pid}
    assert all(map(alive, ourselves)), "the program itself goes on"
    until(lambda: not any(map(alive, running.processes - ourselves)), "processes are left")
    running.program.kill()
    running.program.wait(DEADLINE)
    running.gone()


def test_nothing_is_left_though_a_fork_of_the_program_holds_the_control_socket(start: Start) -> None:
    running = start("fork and wait")
    fork = int(running.hears())
    try:
        running.program.kill()
        running.program.wait(DEADLINE)
        lab = {process for process in running.processes if process.pid != fork}
        until(lambda: not any(map(alive, lab)), "processes are left")
    finally:
        os.kill(fork, signal.SIGKILL)
    running.gone()


@pytest.mark.parametrize("stopped", ["outer", "first"])
def test_nothing_is_left_though_a_half_of_the_lab_was_stopped_when_the_program_died(start: Start, stopped: str) -> None:
    running = start("wait")
    os.kill(getattr(running, stopped), signal.SIGSTOP)
    running.program.kill()
    running.program.wait(DEADLINE)
    running.gone()
