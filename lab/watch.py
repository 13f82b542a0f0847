"""Watching a mailbox fill, from where the student's wire does not see it.

Claim: the questions asked here are POP3 between shannon and mailhost; a bridge carries them past your-pc, so the
capture of the exercise holds the student's own session and nothing else.
"""

from __future__ import annotations

import poplib
import socket
import time

from lab.laboratory import Lab
from lab.plan import MAILHOST, POP3, SHANNON, STUDENTS

_PAUSE = 0.05  # seconds between questions; delivery takes some 0.3
_ANSWER = 5.0  # seconds for one answer


class _FromShannon(poplib.POP3):
    """poplib over a socket that was made inside shannon."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        super().__init__(MAILHOST.ipv4, POP3, timeout=_ANSWER)

    def _create_socket(self, timeout: float) -> socket.socket:  # poplib's own hook for subclasses (POP3_SSL uses it)
        made = self._lab.socket(SHANNON.name)
        made.settimeout(timeout)
        made.connect((self.host, self.port))
        return made


def count_messages(lab: Lab, user: str = "student") -> int:
    """How many messages the mailbox holds now (STAT). Raises OSError or poplib.error_proto when it cannot be asked."""
    box = _FromShannon(lab)
    try:
        box.user(user)
        box.pass_(STUDENTS[user].password)
        return box.stat()[0]
    finally:
        box.quit()


def wait_for_mail(lab: Lab, wanted: int, patience: float, user: str = "student") -> int:
    """Wait until the mailbox holds ``wanted`` messages, ``patience`` seconds at most; returns how many it holds."""
    deadline = time.monotonic() + patience
    while (count := count_messages(lab, user)) < wanted and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return count
