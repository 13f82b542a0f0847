"""What this machine allows, found out by doing it: for `wiretalk doctor` and for whoever cannot start the lab.

Claim: a stage is called good only because it was just done, by the very code that the lab runs.
Rule: findings are values; nothing here raises because a machine is poor.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Callable
from typing import NamedTuple

from capture.errors import LabError
from lab.isolation import STAGES
from lab.laboratory import Lab

_COLUMNS, _LINES = 80, 24
_STAGE_WORDS = {
    "platform": "Linux",
    "start": "the lab's own process started",
    "unshare": "new namespaces made",
    "maps": "own user and group mapped",
    "capabilities": "capabilities hold inside",
    "mounts": "private mounts made",
    "veth": "bridge and three hosts connected, each port forwards",
    "packet socket": "packet socket opened on your-pc",
    "servers": "shannon and mailhost answer",
}


class Finding(NamedTuple):
    """One row: what was looked at, whether it is good enough, what was found, and what mends it if it is not."""

    stage: str
    ok: bool
    reason: str
    remedy: str = ""


def namespaces(make: Callable[[], Lab] = lambda: Lab(servers=False)) -> list[Finding]:
    """Build the lab's wire and take it down again; a row for each stage that was reached (0.2 s)."""
    lab = make()
    try:
        lab.start()
    except LabError as error:
        reached = STAGES.index(error.stage) if error.stage in STAGES else 0
        good = [Finding(stage, True, _STAGE_WORDS[stage]) for stage in STAGES[:reached]]
        return [*good, Finding(error.stage, False, error.sentence, error.remedy)]
    lab.close()
    return [Finding(stage, True, _STAGE_WORDS[stage]) for stage in STAGES[: STAGES.index("servers")]]


def doctor() -> list[Finding]:
    """Everything `wiretalk doctor` reports, in its order."""
    return [python(), scapy(), libpcap(), raw_sockets(), *namespaces(), terminal(), colours()]


def python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, platform.python_version(), "" if ok else "install Python 3.11 or later")


def scapy() -> Finding:
    try:
        return Finding("scapy", True, importlib.metadata.version("scapy"))
    except importlib.metadata.PackageNotFoundError:
        return Finding("scapy", False, "not installed", "pip install scapy")


def libpcap() -> Finding:
    """Only reported: the capture filter is our own program, so nothing needs it."""
    name = ctypes.util.find_library("pcap")
    return Finding("libpcap", True, f"{name} (not needed)" if name else "absent (not needed)")


def raw_sockets() -> Finding:
    """The right to sniff the machine's own interfaces. The lab's wire needs no right."""
    if not hasattr(socket, "AF_PACKET"):
        return Finding("raw sockets", False, "this system has no packet sockets", "use Linux to sniff")
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return Finding(
            "raw sockets",
            False,
            f"{error.strerror}: interfaces of this machine cannot be sniffed (the lab's wire can)",
            "run wiretalk with sudo to sniff other interfaces",
        )
    return Finding("raw sockets", True, "interfaces of this machine can be sniffed")


def terminal() -> Finding:
    try:
        columns, lines = os.get_terminal_size(1)
    except OSError:
        return Finding("terminal", True, "standard output is no terminal")
    ok = columns >= _COLUMNS and lines >= _LINES
    return Finding("terminal", ok, f"{columns}x{lines}", "" if ok else f"make it {_COLUMNS}x{_LINES} or larger")


def colours() -> Finding:
    """NO_COLOR (no-color.org) is a wish, not a fault."""
    term, depth = os.environ.get("TERM", ""), os.environ.get("COLORTERM", "")
    if os.environ.get("NO_COLOR"):
        return Finding("colours", True, "none, as NO_COLOR asks")
    if depth in ("truecolor", "24bit"):
        return Finding("colours", True, "16 million")
    if term in ("", "dumb"):
        return Finding(
            "colours", False, f"TERM is {term!r}: no colours, no cursor", "use another terminal, or set TERM"
        )
    return Finding("colours", True, "256" if "256" in term else f"those of {term}")
