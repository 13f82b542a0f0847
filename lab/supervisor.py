"""PID 1 of the lab: builds the wire, makes sockets and processes inside hosts for the program outside, dies with it.

Claim: whatever ends the program, nothing is left. Three mechanisms, because each has a hole:
* PID namespace: when PID 1 ends, the kernel kills every process in it, whatever it ignores;
* the control socket: its end of file ends PID 1 (hole: a fork of the program may still hold a copy);
* the parent's death: PR_SET_PDEATHSIG in both halves, and a pidfd watched (hole: to the signal the end of the
  *thread* that started us is the parent's death, so it is set towards the program only if that was the main thread).

    program ──control socket──────────────┐
     └─ outer half: isolate(), fork, wait  │
         └─ PID 1: Supervisor ◄────────────┘
             └─ processes in hosts

Protocol, over SOCK_SEQPACKET: JSON requests, each answered at once by one JSON object, descriptors by SCM_RIGHTS.
First of all comes ``{"ready": …}`` or ``{"failed": stage, "errno": n, "reason": …}``. Waiting never happens here:
for a spawned process a pipe goes out, into which its exit status is written when it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import kernel
from lab.isolation import StageFailed, isolate, stage
from lab.network import Network
from lab.plan import HOSTS, MAILHOST

MESSAGE_SIZE = 1 << 17  # octets of one request: argv and environment of a spawned process
_ETC = ("hosts", "resolv.conf", "nsswitch.conf")
_SCRATCH_OPTIONS = "mode=0755,size=512m"


class Supervisor:
    """The loop. ``scratch``: a private tmpfs that nobody outside sees; each host has a directory of its own in it."""

    def __init__(self, control: socket.socket, outer: int, ipv6: bool) -> None:
        self._control = control
        self._outer = outer
        self._network = Network(ipv6)
        self._children: dict[int, int] = {}  # pid → the pipe that waits for its status
        self.scratch = ""
        self.notes: list[str] = []

    def build(self) -> None:
        """Everything before "ready". Raises `StageFailed`."""
        with stage("mounts"):
            self._mount()
        with stage("veth"):
            self._network.build()
        with stage("packet socket"):
            self._network.open_socket("your-pc", socket.AF_PACKET, socket.SOCK_RAW).close()

    def _mount(self) -> None:
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        try:
            kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        except OSError:  # refused where the machine's own /proc is masked, as in containers
            self.notes.append("no /proc of its own: ps in the lab shows the machine's processes")
        self.scratch = _scratch_place()
        kernel.mount("tmpfs", self.scratch, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _SCRATCH_OPTIONS)
        for host in HOSTS:
            os.mkdir(f"{self.scratch}/{host}", 0o700)
        os.mkdir(f"{self.scratch}/etc")
        for name, text in _names(self._network.ipv6).items():
            Path(self.scratch, "etc", name).write_text(text, encoding="ascii")

    def serve(self) -> None:
        """Answer until the program outside is gone."""
        wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler must exist for the wakeup to be written
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        poll = select.poll()
        for descriptor in (self._control.fileno(), wake, self._outer):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._outer in ready:
                return
            if wake in ready:
                os.read(wake, 512)
                self._reap()
            if self._control.fileno() in ready:
                message, descriptors = kernel.receive(self._control, MESSAGE_SIZE)
                if not message:
                    return
                self._reply(json.loads(message), descriptors)

    def _reply(self, request: dict[str, Any], descriptors: list[int]) -> None:
        given: list[int] = []
        answer: dict[str, Any] = {}
        try:
            match request.pop("do"):
                case "socket":
                    given = [self._network.open_socket(**request).detach()]
                case "spawn":
                    answer["pid"], status = self._spawn(descriptors, **request)
                    given = [status]
                case "kill":
                    self._kill(**request)
        except OSError as error:
            answer = {"errno": error.errno or 0, "reason": error.strerror or str(error)}
        socket.send_fds(self._control, [json.dumps(answer).encode()], given)
        kernel.close_all(*descriptors, *given)

    def _kill(self, pid: int, number: int) -> None:
        """Signal the process group of a spawned process: it began as the leader of one."""
        if pid not in self._children:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid} of the lab runs")
        os.killpg(pid, number)

    def _spawn(
        self, stdio: list[int], host: str, argv: list[str], env: dict[str, str], capabilities: list[int], terminal: bool
    ) -> tuple[int, int]:
        """The pid and the reading end of its status pipe. Raises what the child's exec raised."""
        failure, report = os.pipe()
        status, keep = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(failure)
            self._become(report, stdio, host, argv, env, capabilities, terminal)
        os.close(report)
        with os.fdopen(failure, "rb") as file:
            text = file.read()  # end of file: the exec has happened
        if text:
            os.waitpid(pid, 0)
            kernel.close_all(status, keep)
            raise OSError(*json.loads(text))
        self._children[pid] = keep
        return pid, status

    def _become(
        self, report: int, stdio: list[int], host: str, argv: list[str], env: dict[str, str],
        capabilities: list[int], terminal: bool,
    ) -> None:  # fmt: skip
        """In the child: move into the host, then exec. Never returns."""
        try:
            for number in range(1, signal.NSIG):
                with contextlib.suppress(OSError, ValueError):  # KILL, STOP and the C library's own
                    signal.signal(number, signal.SIG_DFL)
            os.setsid()
            self._network.enter(host)
            kernel.unshare(kernel.NEWUTS | kernel.NEWNS)
            kernel.sethostname(host)
            kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
            for name in _ETC:
                if os.path.exists(f"/etc/{name}"):
                    kernel.mount(f"{self.scratch}/etc/{name}", f"/etc/{name}", None, kernel.MS_BIND)
            report = _hand_over(stdio, report)
            if terminal:
                _control_terminal()
            if not self._network.low_ports:
                capabilities = [*capabilities, kernel.CAP_NET_BIND_SERVICE]
            if capabilities:
                kernel.keep_capabilities(*capabilities)
            os.execvpe(argv[0], argv, {**os.environ, "WIRETALK_SPOOL": f"{self.scratch}/{host}", **env})
        except OSError as error:
            os.write(report, json.dumps([error.errno, f"{error.strerror} ({argv[0]})"]).encode())
        finally:
            os._exit(127)

    def _reap(self) -> None:
        """Collect every child that ended, the orphans of the namespace too, and tell who asked."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (pipe := self._children.pop(pid, None)) is not None:
                with contextlib.suppress(BrokenPipeError):  # nobody waits for this one any more
                    os.write(pipe, b"%d" % os.waitstatus_to_exitcode(status))
                os.close(pipe)


def _hand_over(descriptors: list[int], report: int) -> int:
    """Number ``descriptors`` 0, 1, 2… for the program to come; ``report`` gets out of their way."""
    import fcntl

    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64) for descriptor in (report, *descriptors)]
    for number, descriptor in enumerate(high[1:]):
        os.dup2(descriptor, number)
    return high[0]


def _control_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _scratch_place() -> str:
    """A directory to cover with the tmpfs: an empty one if there is, never one above what programs need.

    (A checkout may lie under /mnt: on WSL the disks of Windows do.)
    """
    paths = [sys.prefix, sys.base_prefix, *sys.path, *os.get_exec_path(), os.path.expanduser("~")]
    with contextlib.suppress(FileNotFoundError):  # the directory we stand in was removed
        paths.append(os.getcwd())
    needed = [os.path.realpath(path) for path in paths]
    places = [
        place
        for place in ("/mnt", "/srv", "/media", "/opt", "/var/tmp", "/tmp")
        if os.path.isdir(place) and not any(path == place or path.startswith(place + "/") for path in needed)
    ]
    for place in places:
        with contextlib.suppress(OSError):
            if not os.listdir(place):
                return place
    if not places:
        raise OSError(errno.ENOENT, "no directory can be covered: /mnt, /srv, /media, /opt, /tmp are absent or in use")
    return places[0]


def _names(ipv6: bool) -> dict[str, str]:
    """The files by which programs in the lab find its hosts, and nothing of the machine's network."""
    rows = ["127.0.0.1 localhost", *(["::1 localhost"] if ipv6 else [])]
    for host in HOSTS.values():
        rows += [f"{address} {host.fqdn} {host.name}" for address in (host.ipv4, *([host.ipv6] if ipv6 else []))]
    return {
        "hosts": "\n".join(rows) + "\n",
        "resolv.conf": f"nameserver {MAILHOST.ipv4}\noptions timeout:1 attempts:1\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    }


def _pid_one(control: socket.socket, outer: int, ipv6: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
    kernel.die_with_parent(signal.SIGKILL)
    if kernel.has_died(outer):  # between the fork and the line above
        return
    started = time.perf_counter()
    supervisor = Supervisor(control, outer, ipv6)
    try:
        supervisor.build()
    except StageFailed as failure:
        _say_failure(control, failure)
        return
    ready = {"notes": supervisor.notes, "scratch": supervisor.scratch, "seconds": time.perf_counter() - started}
    control.sendall(json.dumps({"ready": ready}).encode())
    supervisor.serve()


def _say_failure(control: socket.socket, failure: StageFailed) -> None:
    text = json.dumps({"failed": failure.stage, "errno": failure.number, "reason": failure.reason})
    with contextlib.suppress(BrokenPipeError):  # the program did not wait
        control.sendall(text.encode())


def main(arguments: Sequence[str]) -> int:
    """The outer half: ``CONTROL_FD PROGRAM_PID MAIN_THREAD(0|1) IPV6(0|1)``."""
    descriptor, program, main_thread, ipv6 = map(int, arguments)
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    try:
        with stage("start"):
            parent = os.pidfd_open(program)
            outer = os.pidfd_open(os.getpid())
        isolate()
    except StageFailed as failure:
        _say_failure(control, failure)
        return 1
    if main_thread:  # after the change of credentials, which clears it
        kernel.die_with_parent(signal.SIGKILL)
    if kernel.has_died(parent) or os.getppid() != program:
        return 1
    pid = os.fork()
    if pid == 0:
        os.close(parent)
        try:
            _pid_one(control, outer, bool(ipv6))
        except BaseException:  # noqa: BLE001 - the last frame before _exit: the text goes to the program's LabError
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(0)
    control.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    poll.register(os.pidfd_open(pid), select.POLLIN)
    poll.poll()
    os.kill(pid, signal.SIGKILL)  # the program went first, or PID 1 is a zombie already
    os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
