"""Where the lab is forbidden, the stage, the reason and the remedy are named: the forbidding is real, not pretended.

Each case runs in a process of its own that first takes away from itself what the case says (a seccomp filter, a limit
of 0, capabilities dropped, a read-only /proc), and then probes and starts the lab as anybody would.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab import probe
from lab.isolation import STAGES
from lab.probe import Finding
from lab.remedies import OFFLINE, Facts, explain

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="the lab needs Linux")

# The child's own tools: a classic BPF program that answers EPERM to one system call, perhaps only if its first
# argument is one number (seccomp(2)); system call numbers of x86-64 and of aarch64.
CHILD = """
import ctypes, json, os, platform, struct, sys
from lab import isolation, kernel
from lab.laboratory import Lab
from lab.probe import namespaces
from capture.errors import LabError

CALLS = {
    "x86_64": {"unshare": 272, "socket": 41, "mount": 165, "sethostname": 170, "setns": 308},
    "aarch64": {"unshare": 97, "socket": 198, "mount": 40, "sethostname": 161, "setns": 268},
}[platform.machine()]

def forbid(name, first=None):
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1 if first is None else 3, CALLS[name])]
    if first is not None:
        steps += [(0x20, 0, 0, 16), (0x15, 0, 1, first)]
    steps += [(0x06, 0, 0, 0x50000 | 1), (0x06, 0, 0, 0x7FFF0000)]
    octets = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = ctypes.create_string_buffer(octets)
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, filter, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP

def nest():
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.NEWUSER | kernel.NEWNS)
    isolation.map_own(uid, gid)

def limit(name):
    nest()
    with open(f"/proc/sys/user/max_{name}_namespaces", "w") as file:
        file.write("0")

def freeze_proc():
    nest()
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("/proc", "/proc", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("none", "/proc", None, kernel.MS_BIND | 32 | 1)  # MS_REMOUNT, MS_RDONLY

CAPLESS = '''
import ctypes, sys
from lab import isolation, supervisor
def drop(uid, gid, real=isolation.map_own):
    real(uid, gid)
    empty()
def empty():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
isolation.map_own = drop
finish = isolation._Outside.finish
def finish_and_drop(self, write):
    done = finish(self, write)
    if done: empty()
    return done
isolation._Outside.finish = finish_and_drop
sys.exit(supervisor.main(sys.argv[1:]))
'''

class Capless(Lab):
    def __init__(self):
        super().__init__(servers=False)
    def _supervisor_command(self):
        return [sys.executable, "-P", "-c", CAPLESS]

make = lambda: Lab(servers=False)
"""
TELL = """
findings = namespaces(make)
try:
    with make() as lab:
        failed = None
except LabError as error:
    failed = [error.stage, error.sentence, error.remedy]
print(json.dumps({"findings": findings, "failed": failed}))
"""


def under(condition: str) -> dict[str, Any]:
    """What the probe finds and what `Lab` raises under ``condition``."""
    run = subprocess.run(
        [sys.executable, "-P", "-c", f"{CHILD}\n{condition}\n{TELL}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


@pytest.mark.lab
@linux
@pytest.mark.parametrize(
    ("condition", "stage", "sentence", "remedy"),
    [
        ("forbid('unshare')", "unshare", "seccomp", "--security-opt seccomp=unconfined"),
        ("limit('net')", "unshare", "max_net_namespaces = 0", "sudo sysctl -w user.max_net_namespaces="),
        ("limit('pid')", "unshare", "max_pid_namespaces = 0", "sudo sysctl -w user.max_pid_namespaces="),
        ("freeze_proc()", "maps", "Read-only", OFFLINE),
        ("forbid('sethostname')", "capabilities", "capabilities", "--cap-add"),
        ("forbid('mount')", "mounts", "mounts", "--cap-add"),
        ("forbid('socket', 16)", "veth", "veth", "--cap-add"),
        ("forbid('setns')", "veth", "veth", "--cap-add"),
        ("forbid('socket', 17)", "packet socket", "packet socket", "--cap-add"),
        ("make = Capless", "capabilities", "capabilities", ""),
    ],
)
def test_the_stage_that_is_forbidden_is_named_with_its_remedy(
    condition: str, stage: str, sentence: str, remedy: str
) -> None:  # fmt: skip
    answer = under(condition)
    *good, bad = answer["findings"]
    assert [row[0] for row in good] == list(STAGES[: STAGES.index(stage)])
    assert all(ok for _, ok, _, _ in good)
    assert (bad[0], bad[1]) == (stage, False)
    assert sentence in bad[2]
    assert remedy in bad[3]
    assert bad[3]
    assert answer["failed"] == [bad[0], bad[2], bad[3]], "the lab itself says what the probe says"


@pytest.mark.lab
@linux
def test_without_user_namespaces_root_still_has_a_lab_and_others_are_told() -> None:
    answer = under("limit('user')")
    if os.geteuid() == 0:
        assert answer["failed"] is None
        assert all(ok for _, ok, _, _ in answer["findings"])
    else:
        stage, sentence, remedy = answer["failed"]
        assert (stage, remedy) == ("unshare", "sudo sysctl -w user.max_user_namespaces=15000")
        assert "max_user_namespaces = 0" in sentence


@pytest.mark.lab
@linux
def test_where_all_is_allowed_every_stage_is_good() -> None:
    findings = probe.namespaces()
    assert [finding.stage for finding in findings] == list(STAGES[: STAGES.index("servers")])
    assert all(finding.ok and finding.reason and not finding.remedy for finding in findings)


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_another_system_is_told_so_and_offline_use_is_offered(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    (finding,) = probe.namespaces()
    assert (finding.stage, finding.ok) == ("platform", False)
    assert "Linux" in finding.reason
    assert OFFLINE in finding.remedy


@pytest.mark.parametrize(
    ("stage", "number", "facts", "sentence", "remedy"),
    [
        ("maps", errno.EACCES, Facts(apparmor=True), "AppArmor", "apparmor_restrict_unprivileged_userns=0"),
        ("veth", errno.EPERM, Facts(apparmor=True), "AppArmor", "or run the lab with sudo"),
        ("unshare", errno.EPERM, Facts(userns_clone_off=True), "userns_clone = 0", "unprivileged_userns_clone=1"),
        ("unshare", errno.EPERM, Facts(seccomp=True, container=True), "Docker", "--cap-add SYS_ADMIN"),
        ("unshare", errno.EPERM, Facts(), "denies new namespaces", "sudo"),
        ("unshare", errno.EPERM, Facts(root=True, apparmor=True), "denies new namespaces", "CAP_SYS_ADMIN"),
        ("unshare", errno.ENOSPC, Facts(limits=("max_uts_namespaces",)), "no new", "user.max_uts_namespaces=15000"),
        ("unshare", errno.ENOSPC, Facts(), "as many namespaces", "raise user.max_user_namespaces"),
        ("unshare", errno.EINVAL, Facts(), "threads", "CONFIG_USER_NS"),
        ("veth", errno.EOPNOTSUPP, Facts(), "veth pairs or a bridge", "modprobe veth bridge"),
        ("mounts", errno.EPERM, Facts(container=True), "container or sandbox", "--security-opt apparmor=unconfined"),
        ("mounts", errno.EIO, Facts(), "stopped at mounts", OFFLINE),
        ("servers", 0, Facts(), "did not start: why", "doctor"),
    ],
)  # fmt: skip
def test_each_known_obstacle_has_its_own_words(
    stage: str, number: int, facts: Facts, sentence: str, remedy: str
) -> None:  # fmt: skip
    said, mends = explain(stage, number, "why", facts)
    assert sentence in said
    assert remedy in mends
    assert said[0].isupper()


@linux
def test_facts_are_read_without_error() -> None:
    facts = Facts.read()
    assert facts.platform == "linux"
    assert facts.root == (os.geteuid() == 0)


def test_the_doctor_reports_on_everything_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "namespaces", lambda: [Finding("unshare", True, "new namespaces made")])
    rows = [finding.stage for finding in probe.doctor()]
    assert rows == ["Python", "scapy", "libpcap", "raw sockets", "unshare", "terminal", "colours"]


@pytest.mark.parametrize(
    ("environment", "ok", "reason"),
    [
        ({"NO_COLOR": "1", "TERM": "xterm"}, True, "none, as NO_COLOR asks"),
        ({"COLORTERM": "truecolor", "TERM": "xterm"}, True, "16 million"),
        ({"TERM": "xterm-256color"}, True, "256"),
        ({"TERM": "linux"}, True, "those of linux"),
        ({"TERM": "dumb"}, False, "TERM is 'dumb': no colours, no cursor"),
        ({}, False, "TERM is '': no colours, no cursor"),
    ],
)
def test_colours_are_what_the_environment_says(
    environment: dict[str, str], ok: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    for name in ("NO_COLOR", "COLORTERM", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert probe.colours()[1:3] == (ok, reason)


@pytest.mark.parametrize(("size", "ok"), [((80, 24), True), ((79, 24), False), ((80, 23), False), ((200, 60), True)])
def test_the_terminal_has_to_be_80_by_24(size: tuple[int, int], ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size(size))
    finding = probe.terminal()
    assert (finding.ok, finding.reason) == (ok, f"{size[0]}x{size[1]}")
    assert bool(finding.remedy) is not ok
