"""Commands and replies, paired by counting, with their times: who waited how long, and what pipelining saved.

Claim: the k-th reply belongs to the k-th unit that asks for one (RFC 2920 3.1: "Matching on the basis of either the
error code value or associated text is expressly forbidden"). A reply of many lines is one unit. A reply that nothing
asked for stays alone, and so does what a gap deprived of its partner; only behind a gap, where counting has lost its
footing, does a code that can answer one thing only help (as in `capture.protocols.smtp`). IMAP is paired by its tags.

Lines must come in the order in which the analyzer gave them: that is the order in which commands and replies were
counted when they were labelled.

* *Latency* of a reply: from the last octet of the unit that asked (the frame that brought it) to the reply's first.
* *Round trips*: how often the client waited. A unit begins one if, when its first octet came, everything asked before
  was answered. Without pipelining (RFC 2920) every unit that is answered costs one; the difference is what it saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from capture.model import Frame, Update
from capture.pairing import Pairing
from capture.unit import Clock, Pair, Trips, Unit

__all__ = ["Clock", "Pair", "Pairs", "Trips", "Unit"]


class Pairs:
    """All conversations of a capture: `tell` it frames (for their times), `feed` it what the analyzer says of them."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._pairings: dict[int, Pairing] = {}
        self._over: dict[int, Trips] = {}  # what conversations came to that are over

    def tell(self, frame: Frame) -> None:
        """When a frame came; before the update that it leads to is fed."""
        self._clock.tell(frame)

    def feed(self, update: Update) -> Iterator[Pair]:
        """The pairs that became complete."""
        for fact in update.conversations:
            if fact.ident in self._pairings:
                self._pairings[fact.ident].facts = fact
            elif update.lines or update.gaps:
                self._of(fact.ident).facts = fact
        touched = set()
        for gap in update.gaps:
            self._of(gap.conversation).gap(gap)
            touched.add(gap.conversation)
        for line in update.lines:
            yield from self._of(line.conversation).line(line)
        for ident in touched:
            self._of(ident).pass_gaps()
        for fact in update.conversations:
            if fact.over and fact.ident in self._pairings:
                pairing = self._pairings.pop(fact.ident)
                yield from pairing.finish()
                self._over[fact.ident] = pairing.trips

    def finish(self) -> Iterator[Pair]:
        """Nothing more comes."""
        for pairing in self._pairings.values():
            yield from pairing.finish()

    def trips(self) -> Iterable[Trips]:
        """What each conversation comes to, in order of first sight; those that neither asked nor answered left out."""
        known = self._over | {ident: pairing.trips for ident, pairing in self._pairings.items()}
        for _, trips in sorted(known.items()):
            if trips.commands or trips.replies:
                yield trips

    def _of(self, ident: int) -> Pairing:
        pairing = self._pairings.get(ident)
        if pairing is None:
            pairing = self._pairings[ident] = Pairing(ident, self._clock)
        return pairing
