"""What a container says besides its frames: interfaces, comments, and notes on what is wrong with it.

Claim: memory stays bounded whatever the file holds; passing a limit is itself a note, never a silent loss.
"""

from __future__ import annotations

from typing import NamedTuple

from capture.model import Note

NOTES_PER_KIND = 100  # a file with a million bad blocks is one finding, not a million; the count goes on
COMMENT_OCTETS = 16 << 20  # comments are kept in memory until the capture is closed: as much as one largest block

COMMENT = 128  # what a comment costs besides its octets
INTERFACES = 1 << 16  # that one file may describe; the most that a capture card and its channels need is some hundreds

CUT = "cut-file"  # the file ends inside a record
BROKEN = "bad-record"  # a block that contradicts itself is skipped; a length nobody can believe ends the reading
SKIPPED = "unknown-block"  # a block type that we do not know, or comments past their limit
TIMELESS = "no-time"  # frames of a Simple Packet Block have no time
DAMAGE = frozenset({CUT, BROKEN})  # the file is not whole; the other kinds only say what a whole file does not tell


class Interface(NamedTuple):
    """Where frames came from. link: LINKTYPE_ number; snap: most octets kept of a frame, 0 = no limit;
    fcs: octets of frame check sequence at each frame's end, 0 = none or unknown; name: ``""`` if not told."""

    link: int
    snap: int = 0
    fcs: int = 0
    name: str = ""


class Comment(NamedTuple):
    """A person's words in the file. frame: the number of the frame they belong to, 0 = the section or an interface."""

    frame: int
    text: str


class Findings:
    """Collects what the walkers of `pcap` and `pcapng` meet. Lists grow while the frames are read."""

    def __init__(self) -> None:
        self.interfaces: list[Interface] = []
        self.comments: list[Comment] = []
        self.notes: list[Note] = []
        self._told: dict[str, int] = {}
        self._said: set[str] = set()
        self._comment_octets = 0

    def note(self, kind: str, text: str, frame: int = 0) -> None:
        told = self._told[kind] = self._told.get(kind, 0) + 1
        if told <= NOTES_PER_KIND:
            self.notes.append(Note(kind, text, frame))

    def once(self, kind: str, text: str, frame: int = 0) -> None:
        """Note it unless exactly these words were noted before."""
        if text in self._said:
            return
        if self._told.get(kind, 0) < NOTES_PER_KIND:
            self._said.add(text)
        self.note(kind, text, frame)

    def comment(self, octets: bytes, frame: int = 0) -> None:
        self._comment_octets += len(octets) + COMMENT
        if self._comment_octets > COMMENT_OCTETS:
            self.once(SKIPPED, f"the comments exceed {COMMENT_OCTETS} octets of memory; the rest of them is not kept")
            return
        self.comments.append(Comment(frame, octets.decode("utf-8", "backslashreplace")))

    def close(self) -> None:
        """Say what the limit kept back."""
        for kind, told in self._told.items():
            if told > NOTES_PER_KIND:
                self.notes.append(Note(kind, f"and {told - NOTES_PER_KIND} more notes of this kind"))
        self._told.clear()
