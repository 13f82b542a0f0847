"""`Lab`: what the program outside holds of the three hosts, and all it can do with them.

Claim: when `Lab.start` returns, the servers answer; when the program ends, however it ends, nothing is left.
Rule: the program never enters a namespace itself. It asks the supervisor, over one socket, for sockets and processes
made inside; each request is answered at once, waiting is done here on descriptors. Every method may be called from
any thread.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from capture.errors import LabError
from lab import kernel
from lab.plan import HOSTS, MAILHOST, SHANNON, STAFF_DOMAIN, STUDENT_DOMAIN
from lab.remedies import Facts, explain

SERVING = (SHANNON.name, MAILHOST.name)
_PACKAGES = str(Path(__file__).resolve().parent.parent)
_START_DEADLINE = 30.0  # seconds; a slow machine needs two
_TEXT_LIMIT = 4000  # octets of a server's last words that an error carries


class CompletedRun(NamedTuple):
    """Exit status (negative: the signal that ended it) and what it wrote to standard output and error."""

    code: int
    output: bytes


class Lab:
    """Three hosts on a private wire. A context manager; `start` and `close` do the same by hand.

    ipv6: the hosts have IPv6 addresses too; servers: shannon and mailhost serve; vrfy: shannon answers VRFY and EXPN.
    """

    def __init__(self, *, ipv6: bool = False, servers: bool = True, vrfy: bool = True) -> None:
        self.ipv6 = ipv6
        self.notes: tuple[str, ...] = ()
        self._servers = servers
        self._server_options = [*([] if vrfy else ["--no-vrfy"]), *(["--ipv6"] if ipv6 else [])]
        self._control: sockets.socket | None = None
        self._outer: subprocess.Popen[bytes] | None = None
        self._words: dict[str, int] = {}  # who → memory file with what it wrote to standard error
        self._serving: dict[str, int] = {}  # host → pid
        self._status: dict[int, int] = {}  # pid → pipe
        self._codes: dict[int, int] = {}  # pid → exit status, once known
        self._asking = threading.Lock()
        self._waiting = threading.Lock()

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> Lab:
        """Build the wire and start the servers. Raises `LabError` with the stage that failed."""
        if not sys.platform.startswith("linux"):
            raise _error("platform", 0, "")
        try:
            self._start_supervisor()
            if self._servers:
                self._start_servers()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End every process of the lab. Sockets that were given out stay the caller's to close; their wire is gone."""
        with self._asking:
            if self._control is not None:
                self._control.close()
                self._control = None
        if self._outer is not None:
            try:
                self._outer.wait(5)
            except subprocess.TimeoutExpired:
                self._outer.kill()  # PID 1 follows, and with it everything
                self._outer.wait()
            self._outer = None
        with self._waiting:
            kernel.close_all(*self._status.values(), *self._words.values())
            self._status.clear()
        self._words.clear()

    @property
    def alive(self) -> bool:
        """Whether the supervisor and every server run."""
        return not self.failure

    @property
    def failure(self) -> str:
        """A sentence on what died, or empty. Costs two system calls: ask as often as a screen is drawn."""
        if self._asking.acquire(blocking=False):  # else somebody is just being answered, or not: the next look tells
            try:
                if self._control is None:
                    return "The lab is closed."
                if _ready(self._control.fileno(), 0):  # nothing is said unasked, so this is the end of file
                    return "The lab's supervisor has ended."
            finally:
                self._asking.release()
        for host, pid in self._serving.items():
            if (code := self._poll_status(pid, 0)) is not None:
                return f"The server on {host} has ended ({_how(code)}). {self._last_words(host)}".rstrip()
        return ""

    def _start_supervisor(self) -> None:
        control, theirs = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        self._control = control
        self._words["supervisor"] = words = os.memfd_create("supervisor")
        main = threading.current_thread() is threading.main_thread()
        with theirs:
            arguments = [str(int(n)) for n in (theirs.fileno(), os.getpid(), main, self.ipv6)]
            try:
                self._outer = subprocess.Popen(
                    [*self._supervisor_command(), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=words,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is for the program
                    env={**os.environ, **_python_environment()},
                )
            except OSError as error:
                raise _error("start", error.errno or 0, f"{sys.executable}: {error.strerror}") from error
        if not _ready(control.fileno(), _START_DEADLINE):
            raise _error("start", 0, f"no answer within {_START_DEADLINE:.0f} s")
        message = control.recv(1 << 16)
        if not message:
            raise _error("start", 0, self._last_words("supervisor") or "it ended without a word")
        answer = json.loads(message)
        if "failed" in answer:
            raise _error(answer["failed"], answer["errno"], answer["reason"])
        self.notes = tuple(answer["ready"]["notes"])

    def _supervisor_command(self) -> list[str]:
        return [sys.executable, "-P", "-m", "lab.supervisor"]  # -P: the working directory may hold a socket.py

    def _start_servers(self) -> None:
        ready: dict[int, str] = {}
        try:
            for host in SERVING:
                says, said = os.pipe()
                ready[says] = host
                self._words[host] = words = os.memfd_create(host)
                try:
                    self._serving[host] = self.spawn(
                        host,
                        [*self._server_command(), host, *self._server_options],
                        stderr=words,
                        also=(said,),
                        env={**_python_environment(), "WIRETALK_READY_FD": "3"},
                    )
                except OSError as error:
                    raise _error("servers", 0, f"{host}: {error.strerror}") from error
                finally:
                    os.close(said)
            self._await_servers(ready)
        finally:
            kernel.close_all(*ready)

    def _server_command(self) -> list[str]:
        return [sys.executable, "-P", "-m", "lab.servers"]

    def _await_servers(self, ready: Mapping[int, str]) -> None:
        deadline = time.monotonic() + _START_DEADLINE
        waiting = dict(ready)
        while waiting:
            readable, _, _ = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise _error("servers", 0, f"{', '.join(waiting.values())}: not ready after {_START_DEADLINE:.0f} s")
            for says in readable:
                host = waiting.pop(says)
                if not os.read(says, 64).startswith(b"ready"):
                    self._poll_status(self._serving[host], 1)
                    raise _error("servers", 0, f"{host}: {self._last_words(host) or 'it ended without a word'}")

    def _last_words(self, who: str) -> str:
        if who not in self._words:
            return ""
        size = os.fstat(self._words[who]).st_size
        octets = os.pread(self._words[who], _TEXT_LIMIT, max(0, size - _TEXT_LIMIT))
        return octets.decode("utf-8", "replace").strip()

    # ── asking the supervisor ─────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, descriptors: Sequence[int] = (), **request: Any) -> tuple[dict[str, Any], list[int]]:
        if (host := request.get("host")) is not None and host not in (*HOSTS, "wire"):
            raise LookupError(f"the lab has no host {host}: {', '.join(HOSTS)}")
        with self._asking:
            if self._control is None:
                raise _error("closed", 0, "the lab is closed")
            try:
                sockets.send_fds(self._control, [json.dumps(request).encode()], descriptors)
                message, given = kernel.receive(self._control, 1 << 16)
            except (BrokenPipeError, ConnectionResetError):
                message, given = b"", []
        if not message:
            raise _error("supervisor", 0, self._last_words("supervisor") or "it has ended")
        answer: dict[str, Any] = json.loads(message)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["reason"])
        return answer, given

    def socket(
        self,
        host: str,
        family: int = sockets.AF_INET,
        type: int = sockets.SOCK_STREAM,
        proto: int = 0,
    ) -> sockets.socket:
        """A new socket that lives in ``host`` (``wire``: on the bridge's side). The caller closes it."""
        _, (descriptor,) = self._ask(do="socket", host=host, family=int(family), kind=int(type), protocol=proto)
        return sockets.socket(family, type, proto, fileno=descriptor)

    def packet_socket(self, host: str) -> sockets.socket:
        """An AF_PACKET socket in ``host``, deaf (protocol 0) until it is bound to ``eth0`` there: for a sniffer."""
        return self.socket(host, sockets.AF_PACKET, sockets.SOCK_RAW, 0)

    def resolve(self, name: str) -> str:
        """The address of a host, of its full name, or of the host that takes a domain's mail; an address is itself.

        With IPv6 in the lab it is the IPv6 address, as `socket.getaddrinfo` prefers it (RFC 6724).

        Raises `socket.gaierror` for a name the lab does not know, as `socket.getaddrinfo` would.
        """
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(name))
        wanted = name.lower().removesuffix(".")
        for host in HOSTS.values():
            domain = {MAILHOST: STUDENT_DOMAIN, SHANNON: STAFF_DOMAIN}.get(host)
            if wanted in (host.name, host.fqdn, domain):
                return host.ipv6 if self.ipv6 else host.ipv4
        raise sockets.gaierror(sockets.EAI_NONAME, f"the lab knows no host {name}")

    # ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def spawn(
        self,
        host: str,
        argv: Sequence[str],
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        *,
        env: Mapping[str, str] | None = None,
        capabilities: Sequence[int] = (),
        also: Sequence[int] = (),
        terminal: bool = False,
    ) -> int:
        """Start ``argv`` on ``host`` in a session of its own and return its pid (in the lab's PID namespace).

        The descriptors stay the caller's; None is /dev/null. also: further ones, numbered from 3 in the program.
        env: added to the program's environment. capabilities: kept over the exec (`lab.kernel.CAP_*`). terminal:
        stdin becomes its controlling terminal. Raises `OSError` if it cannot be executed.
        """
        null = os.open(os.devnull, os.O_RDWR)
        try:
            stdio = [null if descriptor is None else descriptor for descriptor in (stdin, stdout, stderr)]
            answer, (status,) = self._ask(
                [*stdio, *also],
                do="spawn",
                host=host,
                argv=list(argv),
                env=dict(env or {}),
                capabilities=list(capabilities),
                terminal=terminal,
            )
        finally:
            os.close(null)
        pid: int = answer["pid"]
        with self._waiting:
            self._codes.pop(pid, None)
            self._status[pid] = status
        return pid

    def wait(self, pid: int, timeout: float | None = None) -> int:
        """The exit status of a spawned process (negative: a signal). Raises `TimeoutError`, `LookupError`."""
        code = self._poll_status(pid, timeout)
        if code is None:
            raise TimeoutError(f"process {pid} of the lab still runs after {timeout} s")
        return code

    def kill(self, pid: int, number: int = signal.SIGTERM) -> None:
        """Signal a spawned process and those of its process group. Raises `ProcessLookupError` if it has ended."""
        self._ask(do="kill", pid=pid, number=int(number))

    def status(self, pid: int) -> int:
        """A descriptor that becomes readable when the process has ended: for a poll of the caller's, who closes it."""
        with self._waiting:
            if pid not in self._status:
                raise LookupError(f"the lab has no running process {pid}")
            return os.dup(self._status[pid])

    def _poll_status(self, pid: int, timeout: float | None) -> int | None:
        """Its exit status, None while it runs. A supervisor that died took the process along: SIGKILL."""
        with self._waiting:
            if pid in self._codes:
                return self._codes[pid]
            if pid not in self._status:
                raise LookupError(f"the lab has spawned no process {pid}")
            pipe = os.dup(self._status[pid])  # ours while we wait, whoever else waits or closes
        try:
            if not _ready(pipe, timeout):
                return None
            with self._waiting:
                if pid not in self._codes:
                    text = os.read(pipe, 16)
                    self._codes[pid] = int(text) if text else -signal.SIGKILL
                    if pid in self._status:
                        os.close(self._status.pop(pid))
                return self._codes[pid]
        finally:
            os.close(pipe)

    def run(
        self,
        host: str,
        argv: Sequence[str],
        input: bytes = b"",
        timeout: float = 30,
        env: Mapping[str, str] | None = None,
        capabilities: Sequence[int] = (),
    ) -> CompletedRun:
        """Run ``argv`` on ``host`` to its end. Raises `OSError`, and `TimeoutError` after killing it."""
        deadline = time.monotonic() + timeout
        with contextlib.ExitStack() as open_files:
            reads, feeds, heard, writes = (open_files.enter_context(end) for end in (*_pipe(), *_pipe()))
            descriptors = reads.fileno(), writes.fileno(), writes.fileno()
            pid = self.spawn(host, argv, *descriptors, env=env, capabilities=capabilities)
            reads.close()
            writes.close()
            output = self._converse(pid, feeds, heard, input, deadline)
        if output is None:
            with contextlib.suppress(ProcessLookupError):  # it ended between the look and the kill
                self.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"{argv[0]} on {host} still ran after {timeout} s")
        return CompletedRun(self.wait(pid, max(0.0, deadline - time.monotonic())), output)

    def _converse(self, pid: int, feeds: FileIO, heard: FileIO, rest: bytes, deadline: float) -> bytes | None:
        """Feed ``rest``, collect until end of file or (a daemon may keep the pipe) end of process. None: too late."""
        output = bytearray()
        os.set_blocking(feeds.fileno(), False)
        status = self.status(pid)
        try:
            poll = select.poll()
            feeding, hearing = feeds.fileno(), heard.fileno()
            poll.register(hearing, select.POLLIN)
            poll.register(status, select.POLLIN)
            poll.register(feeding, select.POLLOUT)
            while True:
                ready = {descriptor for descriptor, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)}
                if not ready:
                    return None
                if feeding in ready:
                    try:
                        rest = rest[os.write(feeding, rest) :] if rest else rest
                    except BrokenPipeError:  # it reads no more
                        rest = b""
                    if not rest:
                        poll.unregister(feeding)
                        feeds.close()
                        feeding = -1
                if hearing in ready:
                    octets = os.read(hearing, 1 << 16)
                    if not octets:
                        return bytes(output)
                    output += octets
                elif status in ready:
                    return bytes(output)
        finally:
            os.close(status)

    def interact(self, host: str, argv: Sequence[str]) -> int:
        """Run ``argv`` on ``host`` on the caller's own terminal or pipes; its exit status, as a shell would say it."""
        from lab.terminal import interact

        return interact(self, host, argv)


def _error(stage: str, number: int, reason: str) -> LabError:
    sentence, remedy = explain(stage, number, reason, Facts.read())
    return LabError(stage, sentence, remedy)


def _python_environment() -> dict[str, str]:
    """So that ``-m lab.…`` finds this very package."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (_PACKAGES, os.environ.get("PYTHONPATH"))))}


def _pipe() -> tuple[FileIO, FileIO]:
    """Reading and writing end as files: one that is closed twice closes nothing of another thread's."""
    reads, writes = os.pipe()
    return FileIO(reads, "r"), FileIO(writes, "w")


def _ready(descriptor: int, timeout: float | None) -> bool:
    """Whether ``descriptor`` becomes readable (or ends) within ``timeout`` seconds; None waits for ever."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
