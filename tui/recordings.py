"""Where recordings go: one file a session, in the user's state directory, readable by the user alone.

Claim: nobody else can read them (directory 0700; the recorder makes files 0600), for a recording holds whatever was
typed, passwords included.
"""

from __future__ import annotations

import os
import re
import tempfile
from datetime import datetime
from pathlib import Path

from platformdirs import user_state_path

from capture.errors import WiretalkError

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


def directory() -> Path:
    """The directory, made if need be. A user without a usable home gets one below the temporary directory.

    Raises `WiretalkError` when neither can be made, or when the second belongs to somebody else.
    """
    wanted = user_state_path("wiretalk") / "recordings"
    try:
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK):
            return wanted
    except OSError:
        pass  # no home, or one that cannot be written: the temporary directory serves
    spare = Path(tempfile.gettempdir()) / f"wiretalk-{os.getuid()}"
    try:
        spare.mkdir(mode=0o700, exist_ok=True)
        found = spare.lstat()
    except OSError as error:
        raise WiretalkError(f"No place for recordings: {error}.", "name one: --record FILE") from error
    if found.st_uid != os.getuid() or spare.is_symlink():
        raise WiretalkError(f"{spare} belongs to somebody else.", "name a file: --record FILE")
    return spare


def new_path(title: str, now: datetime | None = None) -> Path:
    """A path that does not exist yet: time of day and ``title`` (``shannon:25``), made safe for a file name."""
    stamp = (now or datetime.now()).strftime("%Y-%m-%dT%H-%M-%S")
    stem = f"{stamp}-{_UNSAFE.sub('-', title).strip('-.') or 'session'}"
    place = directory()
    path, count = place / f"{stem}.pcapng", 1
    while path.exists():
        count += 1
        path = place / f"{stem}-{count}.pcapng"
    return path
