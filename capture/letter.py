"""A message as it was carried: its octets' places, its envelope, what is missing of it; and what is told of it in turn.

Claim: what was not captured has a place and a length, and a message that lacks an octet, its beginning or its end is
never `complete`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

from capture.envelope import Envelope
from capture.model import Conversation, Side

HOLES = 1000  # listed of one message; what exceeds it is counted


class Hole(NamedTuple):
    """Octets that were not captured.

    at: how many octets of the message were captured before it; offset: in the stream; octets: on the wire, stuffed dots
    included; whole: all of them are this message's, else the hole may hold its end, its beginning or something else.
    """

    at: int
    offset: int
    octets: int
    whole: bool


@dataclass(slots=True, eq=False)
class Message:
    """A message, growing while its octets come. Do not change it.

    ordinal: the n-th of its conversation, from 1; side: who sent it; command: ``DATA``, ``BDAT``, ``RETR 3``;
    [offset, end): in the stream of its side, its control information included; octets: captured ones, without it;
    began, ended: whether its first and its last octet are known to be its first and its last; ending: ``CRLF.CRLF``,
    ``LAST``, ``nonstandard`` (the other side took it for the end all the same) or ``""``; replies: to its end, the
    first line of each, several in LMTP; reply: the code of the last one; frames: first and last; time: ns; presumed:
    where it begins, or which lines it has, rests on what was not captured; across: stream offset on the other side
    behind what belongs to it there: its last reply, or the RETR that asked for it; 0 if there is none.
    """

    conversation: int
    side: Side
    ordinal: int
    command: str
    envelope: Envelope
    offset: int
    time: int
    frames: tuple[int, int]
    end: int = 0
    octets: int = 0
    began: bool = True
    ended: bool = False
    presumed: bool = False
    ending: str = ""
    holes: list[Hole] = field(default_factory=list)
    more_holes: int = 0
    replies: list[str] = field(default_factory=list)
    reply: str = ""
    across: int = 0
    facts: Conversation | None = None
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def complete(self) -> bool:
        """Every octet from the first to the last is there."""
        return self.began and self.ended and not self.holes and not self.presumed

    @property
    def sha256(self) -> str:
        """Of the captured octets, gaps closed up; in hex."""
        return self.digest.hexdigest()

    @property
    def why(self) -> tuple[str, ...]:
        """Sentences: what it lacks to be complete."""
        said = []
        if not self.began:
            said.append("The beginning of the message was not captured.")
        if self.presumed:
            said.append("Which octets it has is presumed: what would show it was not captured.")
        lost = sum(hole.octets for hole in self.holes)
        if lost:
            places = len(self.holes) + self.more_holes
            said.append(f"{lost} octets in {places} place{'s' * (places != 1)} were not captured.")
        if not self.ended:
            said.append("The end of the message was not captured.")
        return tuple(said)


class Piece(NamedTuple):
    """The next octets of a message."""

    message: Message
    octets: bytes


class Ended(NamedTuple):
    """No more octets of this message come."""

    message: Message


class Told(NamedTuple):
    """Everything about this message is known, its reply too if there was one."""

    message: Message


Event = Piece | Ended | Told
