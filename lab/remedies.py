"""Why a stage of the lab failed on this machine, and the exact step that mends it: a table over facts that were read.

Rule: the facts come from the kernel's own files, the failing stage and errno from the attempt itself; a reason is
named only where both agree, otherwise the kernel's words stand alone.
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

OFFLINE = "`wiretalk label FILE` works without the lab"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the machine says of itself. ``limits``: the user.max_*_namespaces that are 0, by name."""

    platform: str = "linux"
    apparmor: bool = False
    userns_clone_off: bool = False
    limits: tuple[str, ...] = ()
    container: bool = False
    seccomp: bool = False
    root: bool = False

    @classmethod
    def read(cls) -> Facts:
        names = ("user", "net", "pid", "mnt", "uts", "ipc")
        return cls(
            platform=sys.platform,
            apparmor=_read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1",
            userns_clone_off=_read("/proc/sys/kernel/unprivileged_userns_clone") == "0",
            limits=tuple(f"max_{n}_namespaces" for n in names if _read(f"/proc/sys/user/max_{n}_namespaces") == "0"),
            container=any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv")),
            seccomp="\nSeccomp:\t2" in _read("/proc/self/status"),
            root=hasattr(os, "geteuid") and os.geteuid() == 0,
        )


def explain(stage: str, number: int, reason: str, facts: Facts) -> tuple[str, str]:
    """A sentence that says why ``stage`` failed with errno ``number``, and the remedy."""
    denied = number in (errno.EPERM, errno.EACCES)
    if facts.platform != "linux":
        where = {"darwin": "macOS", "win32": "Windows"}.get(facts.platform, facts.platform)
        remedy = "run wiretalk in WSL2" if facts.platform == "win32" else "run wiretalk in a Linux virtual machine"
        return f"The lab is made of Linux network namespaces, and {where} has none.", f"{remedy}; {OFFLINE}"
    if stage == "servers":
        return f"A server of the lab did not start: {reason}", "`wiretalk doctor` checks what it needs"
    if number == errno.ENOSPC and facts.limits:
        settings = " ".join(f"user.{limit}=15000" for limit in facts.limits)
        return (
            f"This machine allows no new namespaces: {', '.join(facts.limits)} = 0.",
            f"sudo sysctl -w {settings}",
        )
    if number == errno.ENOSPC:
        return (
            "This user has as many namespaces as the machine allows.",
            "end other sandboxes, or raise user.max_user_namespaces and user.max_net_namespaces with sudo sysctl -w",
        )
    if number == errno.EINVAL and stage == "unshare":
        return (
            "The kernel refused new namespaces: it has none, or threads ran before the lab's process began.",
            "use a kernel with CONFIG_USER_NS and CONFIG_NET_NS; take threads out of sitecustomize",
        )
    if denied and facts.apparmor and not facts.root:
        return (
            "AppArmor lets ordinary users make namespaces but takes the capabilities in them away "
            f"(Ubuntu 23.10 and later): {stage}: {reason}.",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run the lab with sudo",
        )
    if denied and facts.userns_clone_off and not facts.root:
        return (
            "This machine forbids user namespaces to ordinary users: kernel.unprivileged_userns_clone = 0.",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1, or run the lab with sudo",
        )
    if denied and stage == "unshare" and (facts.seccomp or facts.container):
        return (
            f"A seccomp filter, as Docker sets it, forbids new namespaces: {reason}.",
            "start the container with --security-opt seccomp=unconfined, or with --cap-add SYS_ADMIN",
        )
    if denied and (facts.seccomp or facts.container):
        return (
            f"This container or sandbox denies what the lab needs inside its own namespaces: {stage}: {reason}.",
            "start the container with --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add NET_RAW "
            "--security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        )
    if denied:
        return (
            f"The kernel denied capabilities inside the lab's own namespaces: {stage}: {reason}."
            if stage != "unshare"
            else f"The kernel denies new namespaces to this user: {reason}.",
            "run the lab with sudo" if not facts.root else "give this root CAP_SYS_ADMIN and CAP_NET_ADMIN",
        )
    if stage == "veth" and number in (errno.EOPNOTSUPP, errno.ENODEV, errno.ENOENT):
        return (
            f"The kernel cannot make veth pairs or a bridge: {reason}.",
            "sudo modprobe veth bridge",
        )
    return f"The lab stopped at {stage}: {reason}.", OFFLINE


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # this kernel has no such setting
        return ""
