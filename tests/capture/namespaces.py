"""A private network namespace for one test: real interfaces, real frames, no privilege, nothing left behind.

Claim: a test marked `in_a_namespace` runs in a child of its own that has unshared user and network, so it may make
interfaces whoever runs it, and the kernel takes them away with it. Where namespaces are forbidden it is skipped.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

FORBIDDEN = 77
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 1, 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def in_a_namespace(test: Callable[[], None]) -> Callable[[], None]:
    """Run the test in a child that has a network of its own, warnings as errors, and nothing said on standard error."""

    @functools.wraps(test)
    def outside() -> None:
        program = (
            "from tests.capture import namespaces; namespaces.enter(); "
            f"from {test.__module__} import {test.__name__} as test; test.__wrapped__()"
        )
        done = subprocess.run(
            [sys.executable, "-bb", "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
        )
        if done.returncode == FORBIDDEN:
            pytest.skip(done.stderr.strip())
        if done.returncode or done.stderr:
            pytest.fail(f"exit code {done.returncode}\n{done.stderr}", pytrace=False)

    return outside


def enter() -> None:
    """Leave for a user and network namespace; ``lo`` is up, IPv6 is off, the user stays who it was."""
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_NEWUSER | _NEWNET):
        sys.stderr.write(f"no namespaces here: {os.strerror(ctypes.get_errno())}")
        os._exit(FORBIDDEN)
    try:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{user} {user} 1")
        write("/proc/self/gid_map", f"{group} {group} 1")
        set_up("lo")
    except OSError as error:
        sys.stderr.write(f"no rights in a namespace here: {error}")
        os._exit(FORBIDDEN)
    quiet()


def another_network() -> None:
    """Leave this thread's network for an empty one. Sockets that are open stay in the old one."""
    assert _libc.unshare(_NEWNET) == 0


def give_up_rights() -> None:
    """Drop every capability of this process."""
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    assert _libc.capset(header, none) == 0


def quiet() -> None:
    """No router solicitations and no multicast reports: only what a test sends is on its wires."""
    for which in ("all", "default"):
        path = f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6"
        if os.path.exists(path):
            write(path, "1")


def write(path: str, content: str) -> None:
    with open(path, "w") as file:
        file.write(content)


def set_up(name: str, up: bool = True) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = _IFF_UP | _IFF_RUNNING if up else 0
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags))


def veth(mtu: int = 1500) -> socket.socket:
    """A wire from ``a`` to ``b``, both up; gives a socket whose frames leave at ``a`` and arrive at ``b``."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.link("add", ifname="a", kind="veth", mtu=mtu, peer={"ifname": "b", "mtu": mtu})
    set_up("a")
    set_up("b")
    return sender("a")


def sender(name: str) -> socket.socket:
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.bind((name, 0))
    return out


def frame(number: int, size: int = 60, kind: int = 0x88B5, tags: bytes = b"") -> bytes:
    """A frame of the EtherType for local experiments (or another), with its number in it."""
    head = b"\x02\0\0\0\0\x25\x02\0\0\0\0\x10" + tags + struct.pack(">HI", kind, number)
    return head + bytes(max(0, size - len(head)))


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Poll; fail when it never comes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)
