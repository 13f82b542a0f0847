"""A conversation written down for a test, and what a dialogue made of it.

``say("C: HELO c", "S: 250 mx")`` is one chunk each, CRLF added; ``\\n`` inside a string is a line end too (CRLF);
``raw`` gives octets as they are, ``lost`` a gap. ``told`` shows lines as ``"C2 user data | mail data C5 | [flags]"``.
"""

from __future__ import annotations

from capture.labels import label
from capture.model import Chunk, Gap, Line, Side
from capture.protocols.dialogue import Dialogue
from capture.protocols.registry import make

Event = tuple[Side, bytes | int]

GREETED = ("S: 220 mx ready", "C: HELO c", "S: 250 mx")
ENVELOPE = (*GREETED, "C: MAIL FROM:<a@c>", "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok")
IN_DATA = (*ENVELOPE, "C: DATA", "S: 354 go")
DONE = ("S: 250 ok", "C: QUIT", "S: 221 bye")


def raw(side: str, octets: bytes) -> Event:
    return Side(side), octets


def lost(side: str, octets: int) -> Event:
    return Side(side), octets


def event(said: str | Event) -> Event:
    if not isinstance(said, str):
        return said
    return Side(said[0]), (said[3:] + "\n").replace("\n", "\r\n").encode("latin-1")


class Heard:
    """A dialogue that is fed piece by piece, with offsets kept."""

    def __init__(self, protocol: str = "smtp", midstream: bool = False) -> None:
        self.dialogue: Dialogue = make(protocol, conversation=1, midstream=midstream)
        self._at = {Side.CLIENT: 0, Side.SERVER: 0}

    def say(self, *said: str | Event) -> list[Line]:
        lines: list[Line] = []
        for side, data in map(event, said):
            if isinstance(data, int):
                lines += self.dialogue.gap(Gap(side, self._at[side], data, 1, 1))
                self._at[side] += data
            else:
                lines += self.dialogue.feed(Chunk(side, self._at[side], data, 1, 1))
                self._at[side] += len(data)
        return lines


def lines(*said: str | Event, protocol: str = "smtp", midstream: bool = False) -> list[Line]:
    """All lines of a whole conversation; of two with one number the later."""
    heard = Heard(protocol, midstream)
    made = heard.say(*said) + heard.dialogue.finish()
    newest = {(line.side, line.number): line for line in made}
    return sorted(newest.values(), key=lambda line: (line.side.value, line.number))


def show(line: Line) -> str:
    flags = f" | {' '.join(line.flags)}" if line.flags else ""
    return f"{line.side.value}{line.number} {label(line, line.layer).value} | {line.pdu.name} {line.pdu.ident}{flags}"


def told(*said: str | Event, protocol: str = "smtp", midstream: bool = False) -> list[str]:
    return [show(line) for line in lines(*said, protocol=protocol, midstream=midstream)]


def fields(line: Line) -> list[str]:
    """``text=field`` of each span; a capital UD in front of what is user data."""
    return [
        f"{'UD ' if s.role.value == 'ud' else ''}{line.data[s.start : s.end].decode('latin-1')!r}={s.field}"
        for s in line.spans
    ]
