"""The phases of the asking side of SMTP, and what leads from one to another.

Claim: a reply opens a phase or closes it, and these tables say which (labels.md 2.3). Replies are matched to what they
answer by counting; `ONLY` is asked only behind a gap, where counting has lost its footing.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Phase(enum.Enum):
    """What the asking side's next octets are (labels.md 2.3)."""

    COMMAND = enum.auto()
    DATA_ASKED = enum.auto()  # waits for 354
    MAIL = enum.auto()
    CHUNK = enum.auto()  # BDAT: length-counted, no reply matters
    AUTH_ASKED = enum.auto()  # waits for 334
    AUTH = enum.auto()  # one line of SASL
    TLS_ASKED = enum.auto()  # waits for 220
    TLS = enum.auto()  # TLS was agreed; plaintext may precede the first record
    RECORDS = enum.auto()  # TLS records (or SASL buffers) until the end
    TURN_ASKED = enum.auto()  # waits for 250, then the sides swap roles
    UNKNOWN = enum.auto()  # mid-stream, or behind a gap that swallowed a boundary


class Owed(NamedTuple):
    """A unit that will be answered.

    what: its verb, or ``greeting``, ``mail data``, ``SASL``, or ``""`` for an unknown command; late: sent behind a gap.
    """

    what: str
    late: bool = False


# Which command makes the client's next octets wait, and for what.
WAITS = {"DATA": Phase.DATA_ASKED, "AUTH": Phase.AUTH_ASKED, "STARTTLS": Phase.TLS_ASKED,
         "TURN": Phase.TURN_ASKED, "ATRN": Phase.TURN_ASKED}  # fmt: skip

# (waiting phase, reply code) that opens another phase; every other code leads back to COMMAND.
OPENS = {(Phase.DATA_ASKED, b"354"): Phase.MAIL, (Phase.AUTH_ASKED, b"334"): Phase.AUTH,
         (Phase.TLS_ASKED, b"220"): Phase.TLS}  # fmt: skip

# Behind a gap: the reply codes that can answer one thing only.
ONLY = {b"354": "DATA", b"334": "AUTH", b"235": "AUTH", b"221": "QUIT"}
