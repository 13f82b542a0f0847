"""The Linux calls that Python 3.11 does not offer: each raises `OSError` as `os` would, none remembers anything.

Rule: no policy here. Numbers are of the kernel's headers (sched.h, prctl.h, mount.h, sockios.h, ethtool.h); libc is
loaded at the first call, so that importing the module works on every system.
"""

from __future__ import annotations

import array
import ctypes
import errno
import functools
import os
import socket
import struct

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 1 << 18
CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE = 21, 12, 13, 10

_PR_SET_PDEATHSIG, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_SIOCETHTOOL = 0x8946
# TSO, GSO, GRO, scatter-gather, transmit checksum: the five that make frames of more than the MTU or no checksum.
_OFFLOADS = (0x1F, 0x24, 0x2C, 0x19, 0x17)
_MAX_DESCRIPTORS = 16


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """unshare(2): move the calling thread into new namespaces."""
    _call("unshare", ctypes.c_int(flags))


def setns(descriptor: int, kind: int = NEWNET) -> None:
    """setns(2): move the calling thread into the namespace that ``descriptor`` holds."""
    _call("setns", ctypes.c_int(descriptor), ctypes.c_int(kind))


def sethostname(name: str) -> None:
    """sethostname(2) in the UTS namespace of the caller."""
    octets = name.encode()
    _call("sethostname", octets, ctypes.c_size_t(len(octets)))


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )


def die_with_parent(signal: int) -> None:
    """PR_SET_PDEATHSIG: ``signal`` comes when the *thread* that made this process ends.

    Set it after every change of credentials (the kernel clears it there), then check that the parent still lives.
    """
    _call("prctl", ctypes.c_int(_PR_SET_PDEATHSIG), *(ctypes.c_ulong(n) for n in (signal, 0, 0, 0)))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_capabilities(*capabilities: int) -> None:
    """Make ``capabilities`` ambient, so that they outlive the exec of a program under an ordinary uid."""
    header, data = _CapabilityHeader(_CAPABILITY_VERSION_3, 0), (_CapabilityData * 2)()
    _call("capget", ctypes.byref(header), data)
    for capability in capabilities:
        data[capability // 32].inheritable |= 1 << capability % 32
    _call("capset", ctypes.byref(header), data)
    for capability in capabilities:
        rest = (ctypes.c_ulong(n) for n in (_PR_CAP_AMBIENT_RAISE, capability, 0, 0))
        _call("prctl", ctypes.c_int(_PR_CAP_AMBIENT), *rest)


def offloads_off(interface: str) -> None:
    """Switch segmentation and checksum offload off on ``interface`` of the caller's network namespace.

    Then the frames that a packet socket sees are those of a real wire: at most MTU + 14 octets, checksums filled in.
    """
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS:
            value = array.array("I", [command, 0])
            request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
            try:
                fcntl.ioctl(control, _SIOCETHTOOL, request)
            except OSError as error:
                if error.errno not in (
                    errno.EOPNOTSUPP,
                    errno.EINVAL,
                ):  # a kernel without this switch has no such offload
                    raise


def receive(control: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """One message and the descriptors that came with it, none of them inheritable.

    `socket.recv_fds` drops its ``flags`` (so MSG_CMSG_CLOEXEC cannot be asked for) and what it yields would leak into
    every program spawned later; a daemon holding such a copy would keep pipes open for ever.
    """
    message, descriptors, _, _ = socket.recv_fds(control, size, _MAX_DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return message, descriptors


def has_died(pidfd: int) -> bool:
    """Whether the process that ``pidfd`` holds has ended, asked without waiting."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def close_all(*descriptors: int) -> None:
    """Close each. One that is closed already raises: in a program with threads its number may be another's by now."""
    for descriptor in descriptors:
        os.close(descriptor)
