"""Leaving the machine's namespaces for new ones, as whoever we are, one named stage after the other.

Claim: inside, the uid is the caller's own, so `whoami` and files stay what they were, and the caller has every
capability over the new namespaces and none over the machine's.
Rule: a failing stage raises `StageFailed` with its name; nobody guesses later what it was. user_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lab import kernel

# In the order in which they are reached; the reader of a report knows that all before the failing one went well.
STAGES = ("platform", "start", "unshare", "maps", "capabilities", "mounts", "veth", "packet socket", "servers")

_NAMESPACES = kernel.NEWPID | kernel.NEWNET | kernel.NEWNS | kernel.NEWUTS | kernel.NEWIPC


class StageFailed(Exception):
    """``stage`` failed with ``number`` (an errno, 0 = none) and ``reason``."""

    def __init__(self, stage: str, number: int, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.number, self.reason = stage, number, reason


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Give whatever fails inside the name of the stage."""
    try:
        yield
    except OSError as error:
        raise StageFailed(name, error.errno or 0, error.strerror or str(error)) from error


def isolate() -> None:
    """Move this single-threaded process into new namespaces; its next child is PID 1 of the new PID namespace."""
    uid, gid = os.geteuid(), os.getegid()  # after the unshare they would read as the overflow id
    if uid == 0:
        _isolate_root()
    else:
        with stage("unshare"):
            kernel.unshare(kernel.NEWUSER | _NAMESPACES)
        with stage("maps"):
            map_own(uid, gid)
    with stage("capabilities"):  # AppArmor lets unshare succeed and takes the capabilities away afterwards
        kernel.sethostname("lab")


def _isolate_root() -> None:
    """As root every id is mapped to itself, or programs could not read files of other users (a checkout of theirs).

    Where user namespaces are forbidden even to root, the other namespaces do: root needs no capability of a user
    namespace. The whole map must be written by a process that stayed outside.
    """
    outside = _Outside()
    with stage("unshare"):
        try:
            kernel.unshare(kernel.NEWUSER | _NAMESPACES)
        except OSError:
            outside.finish(write=False)
            kernel.unshare(_NAMESPACES)
            return
    with stage("maps"):
        if not outside.finish(write=True):
            map_own(0, 0)  # root that may not map others (no CAP_SETUID): itself alone, then


class _Outside:
    """A child that stays in the old user namespace and, when told to, maps all its ids into the new one."""

    def __init__(self) -> None:
        told, self._order = os.pipe()
        self._answer, answer = os.pipe()
        mother = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._order)
                if os.read(told, 1):
                    for name in ("uid_map", "gid_map"):
                        _write(f"/proc/{mother}/{name}", _identity(name))
                    os.write(answer, b"y")
            finally:
                os._exit(0)  # no answer says enough
        kernel.close_all(told, answer)

    def finish(self, write: bool) -> bool:
        """Whether both maps were written."""
        if write:
            os.write(self._order, b"w")
        os.close(self._order)
        done = os.read(self._answer, 1) == b"y"
        os.close(self._answer)
        os.waitpid(self._pid, 0)
        return done


def _identity(name: str) -> bytes:
    """The map that gives every id of this namespace to itself."""
    with open(f"/proc/self/{name}", encoding="ascii") as file:
        rows = [line.split() for line in file]
    return "\n".join(f"{inside} {inside} {count}" for inside, _, count in rows).encode()


def map_own(uid: int, gid: int) -> None:
    """What an ordinary user may write: the own ids alone, and no setgroups (CVE-2014-8989)."""
    _write("/proc/self/setgroups", b"deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1".encode())
    _write("/proc/self/gid_map", f"{gid} {gid} 1".encode())


def _write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)  # one write, unbuffered: the kernel takes a map only whole
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)
