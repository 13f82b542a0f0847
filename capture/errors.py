"""The error tree. Errors are for us being misused; what is wrong on the wire is a `Note`.

    WiretalkError                 says one clear sentence, and a remedy where there is one
    ├── CaptureError
    │   ├── BadCapture            not a capture, empty, truncated before its first record
    │   ├── UnreadableCapture     no such file, a directory, no permission
    │   └── SniffError            an interface or a raw socket cannot be had (permission, link down)
    └── LabError                  the lab cannot start: stage, reason, remedy

Raised at the edges, caught once in the command line and once in the app. Exit codes: `ExitCode`.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What every command answers with."""

    OK = 0
    NOTHING_FOUND = 1
    USAGE = 2
    PERMISSION = 3
    INTERRUPTED = 130


class WiretalkError(Exception):
    """One clear sentence; ``remedy`` is a command or a step that mends it, or empty."""

    exit_code = ExitCode.USAGE

    def __init__(self, sentence: str, remedy: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy


class CaptureError(WiretalkError):
    """Something about a capture."""


class BadCapture(CaptureError):
    """The file holds no capture that can be read."""


class UnreadableCapture(CaptureError):
    """The file cannot be opened at all."""


class SniffError(CaptureError):
    """The wire cannot be listened to."""

    exit_code = ExitCode.PERMISSION


class LabError(WiretalkError):
    """The lab cannot start. ``stage`` names what failed: unshare, maps, veth, packet socket, servers…"""

    exit_code = ExitCode.PERMISSION

    def __init__(self, stage: str, sentence: str, remedy: str = "") -> None:
        super().__init__(sentence, remedy)
        self.stage = stage
