"""Two voices and the order in which they are read: what every dialogue shares.

Claim: the lines depend on the octets, their gaps and their causal order alone, never on how they were cut into chunks.
So after every line of the answering side the asking side is read as far as it goes, because that line may have moved
its phase; and nobody is read before the other side was heard, because only then is it known whether one side is all
there is (rules O1 and O2 of the labelling scheme).

Bytes never make a dialogue raise: what is wrong on the wire is in the names and flags of the lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from capture.model import Chunk, Gap, Line, Note, Role, Run, Side, Span
from capture.protocols.records import Records, is_record
from capture.protocols.voice import LONGEST_WAIT, Voice


class Dialogue(Protocol):
    """What the analyzer asks of a protocol.

    ``protocol`` may change as the dialogue learns. Lines come without frames, time and order. A line may come a second
    time, with the same side, number and offset and one flag more: the later one is true (`capture.protocols.content`).
    """

    protocol: str

    def feed(self, chunk: Chunk) -> list[Line]:
        """Octets of one side, in order. Returns the lines that became certain, of either side."""
        ...

    def gap(self, gap: Gap) -> list[Line]:
        """Octets that are missing from one side, in their place."""
        ...

    def finish(self) -> list[Line]:
        """The capture ends: everything that was held back, and what is left of unfinished units."""
        ...

    def settled(self, side: Side) -> int:
        """The stream offset of that side before which every line was handed out and none will change."""
        ...

    def take_notes(self) -> list[Note]:
        """What was seen that is not a line's own affair: limits that were passed. Each is given once."""
        ...


class Exchange(ABC):
    """Two sides, one asking and one answering. Subclasses read one line (or unit) at a time."""

    protocol = ""

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        self.conversation = conversation
        self.midstream = midstream
        self._out: list[Line] = []
        self._notes: list[Note] = []
        self._asks = Voice(conversation, Side.CLIENT, self._out)
        self._answers = Voice(conversation, Side.SERVER, self._out)
        self._heard_asks = False
        self._heard_answers = False
        self._alone = False  # one side is all there is, as far as can be known
        self._presuming = False  # what waits for an answer waits no longer
        self._ending = False
        self._hurried = False  # nothing waits for an answer, this once
        self._swapped = False  # the sides exchanged roles just now: what waited on the answering side is being read
        self._records: dict[Side, Records] = {}  # sides that speak TLS, or through a SASL layer

    # --- the contract -------------------------------------------------------------------------------------------

    def feed(self, chunk: Chunk) -> list[Line]:
        side = chunk.side
        if not (self._heard_asks and self._heard_answers):
            self._hear(side)
        (self._asks if self._asks.side is side else self._answers).put(chunk.data)
        return self._read()

    def gap(self, gap: Gap) -> list[Line]:
        self._hear(gap.side)
        self._voice(gap.side).put_gap(gap.length)
        return self._read()

    def finish(self) -> list[Line]:
        if not self._ending:
            self._alone = not (self._heard_asks and self._heard_answers)
            self._heard_asks = self._heard_answers = self._presuming = True
            self._pump()
            self._ending = True
            self._pump()
            self._end()
        return self._drain()

    def settled(self, side: Side) -> int:
        return self._voice(side).offset

    def take_notes(self) -> list[Note]:
        notes = self._notes
        if notes:
            self._notes = []
        return notes

    def hurry(self) -> None:
        """What waits for an answer when the next octets are fed, or none, is labelled as if none would come."""
        self._hurried = True

    def in_runs(self) -> list[Run]:
        """From now on plain lines of mail data go into the list that is answered, as runs, and not out as lines.

        Whoever asked empties it after each feed.
        """
        runs: list[Run] = []
        self._asks.runs = self._answers.runs = runs
        return runs

    # --- for subclasses -----------------------------------------------------------------------------------------

    @abstractmethod
    def _ask(self) -> bool:
        """Read one unit of the asking side; False when it has to wait."""

    @abstractmethod
    def _answer(self) -> bool:
        """Read one unit of the answering side; False when it has to wait."""

    @abstractmethod
    def _end(self) -> None:
        """Hand out what is still held."""

    def _before_answers(self) -> bool:
        """The answering side was not heard yet: read what is certain all the same (TLS); False when nothing is."""
        return False

    def _encrypted(self, voice: Voice) -> bool | None:
        """Whether TLS records begin here; ``None`` while there are too few octets to say."""
        begins = is_record(voice.peek(3))
        if begins is None and (self._ending or voice.broken):
            begins = len(voice) > 1  # nothing contradicts it
        if begins:
            self._records[voice.side] = Records(voice)
        return begins

    # --- the order ----------------------------------------------------------------------------------------------

    def _voice(self, side: Side) -> Voice:
        return self._asks if self._asks.side is side else self._answers

    def _hear(self, side: Side) -> None:
        """The first octet of a side sets the other one free, before itself is read."""
        if side is self._asks.side:
            if not self._heard_asks:
                self._heard_asks = True
                self._pump()
        elif not self._heard_answers:
            self._heard_answers = True
            self._pump()

    def _read(self) -> list[Line]:
        self._pump()
        allowed = 0 if self._hurried else LONGEST_WAIT
        for voice in (self._asks, self._answers):
            if voice.received - voice.offset > allowed:
                self._waited_too_long(voice)
        self._hurried = False
        return self._drain()

    def _pump(self) -> None:
        # The tests for octets that wait are `Voice.waiting`, written out: this runs for every line there is.
        while True:
            asks, answers = self._asks, self._answers
            if self._heard_answers:
                while asks.received > asks.offset and self._ask():
                    asks = self._asks
            else:
                while asks.waiting and self._before_answers():
                    pass
            if not (answers.received > answers.offset and self._answer()):
                return
            if self._swapped:  # what waited came before anything that is still to be asked
                while self._answers.waiting and self._answer():
                    pass
                self._swapped = False

    def _waited_too_long(self, voice: Voice) -> None:
        """Octets waited for the other side until the limit: go on as if it would never be heard."""
        before, waited = voice.offset, voice.waiting
        heard = self._heard_asks, self._heard_answers
        self._presuming = True
        if not all(heard):
            self._alone = self._heard_asks = self._heard_answers = True
        self._pump()
        self._presuming = False
        if voice.offset != before:
            text = f"{waited} octets waited for an answer that was not captured; their labels are presumed."
            self._notes.append(Note("held-back", text, conversation=self.conversation, side=voice.side, offset=before))

    def _drain(self) -> list[Line]:
        lines = self._out[:]
        if lines:
            self._out.clear()
        return lines


def raw(data: bytes, end: int = 0) -> tuple[Span, ...]:
    """One span of what cannot be decoded, its line end apart."""
    stop = len(data) - end
    spans: tuple[Span, ...] = (Span(0, stop, Role.PCI, "raw"),) if stop else ()
    if end:
        spans += (Span(stop, len(data), Role.PCI, "crlf" if end == 2 else "lf"),)
    return spans
