"""Messages out of labelled lines: what DATA, BDAT, LMTP and the answers to RETR and TOP of POP3 carried.

Claim: a message is exactly the octets with the role *user data* of its mail data (labels.md I4): stuffed dots are away,
the lone dot is away, every other octet is as it was sent. What was not captured is a `Hole` with a place and a length,
never closed in silence, and a message of which an octet, its beginning or its end is missing is never called complete.

`Messages` takes updates and gives events in their order: `Piece` (octets of a message), `Ended` (no more octets of it)
and `Told` (its reply came, or never will): memory does not grow with the size of messages, nor with their number.
Several messages, of several conversations, may be under way at one time.

* *DATA*: from the line behind the 354 to the lone dot. *BDAT*: all chunks of a transaction, up to LAST.
* *POP3*: the lines of the response to RETR or TOP; what TOP gives may be the beginning of a message only, and says so.
* *The envelope* is what MAIL and RCPT of the same transaction said; a MAIL that was refused does not replace it, nor
  does an EHLO that was refused (RFC 5321 4.1.1.4, 4.1.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from capture.envelope import Envelope, Recipient
from capture.letter import Ended, Event, Hole, Message, Piece, Told
from capture.model import Conversation, Line, Side, Update
from capture.post import NOTHING, Post, Rest

__all__ = ["Ended", "Envelope", "Event", "Hole", "Message", "Messages", "Piece", "Recipient", "Told"]

FORGET = 65_000_000_000  # ns after a conversation closed: the analyzer waits for late octets no longer (LINGER_FIN)


class Messages:
    """The messages of a capture: `feed` it what the analyzer says (with runs or without)."""

    def __init__(self) -> None:
        self._talks: dict[int, Post] = {}
        self._rests: dict[int, Rest] = {}
        self._closed: deque[tuple[int, int]] = deque()  # when, which
        self._known: set[int] = set()  # those in that queue
        self._now = 0

    def feed(self, update: Update) -> Iterator[Event]:
        """What this update adds to messages."""
        ended: list[int] = []
        for fact in update.conversations:
            self._now = max(self._now, fact.end)
            talk = self._talks.get(fact.ident)
            if talk is not None:
                talk.facts = talk.pairing.facts = fact
            if fact.closed:
                ended.append(fact.ident)
        facts = {fact.ident: fact for fact in update.conversations} if update.lines or update.runs else {}
        touched: dict[int, Post] = {}
        for gap in update.gaps:
            talk = touched[gap.conversation] = self._of(gap.conversation, facts)
            talk.voices[0 if gap.side is Side.CLIENT else 1].gaps.append(gap)
            talk.pairing.gap(gap)
        for line, octets in _rows(update):
            talk = self._of(line.conversation, facts)
            talk.line(line, octets)
            if talk.events:
                yield from talk.events
                talk.events.clear()
        for talk in touched.values():
            talk.pairing.pass_gaps()
        for note in update.notes:
            if note.kind == "conversation-limit":
                yield from self._finish(note.conversation)
        for ident in ended:
            self._rest(ident)
        while self._closed and self._now - self._closed[0][0] > FORGET:
            ident = self._closed.popleft()[1]
            yield from self._finish(ident)
            self._rests.pop(ident, None)
            self._known.discard(ident)

    def finish(self) -> Iterator[Event]:
        """Nothing more comes of any conversation."""
        for ident in list(self._talks):
            yield from self._finish(ident)
        self._rests.clear()

    def _of(self, ident: int, facts: dict[int, Conversation]) -> Post:
        talk = self._talks.get(ident)
        if talk is None:
            talk = self._talks[ident] = Post(ident, self._rests.pop(ident, NOTHING))
            talk.facts = talk.pairing.facts = facts.get(ident)
        return talk

    def _finish(self, ident: int) -> Iterator[Event]:
        talk = self._talks.pop(ident, None)
        if talk is None:
            return
        talk.finish()
        self._rests[ident] = talk.rest
        yield from talk.events

    def _rest(self, ident: int) -> None:
        """A conversation closed. Late lines may come, but an idle one needs little to go on."""
        if ident not in self._known:
            self._known.add(ident)
            self._closed.append((self._now, ident))
        talk = self._talks.get(ident)
        if talk is not None and talk.idle:
            del self._talks[ident]
            self._rests[ident] = talk.rest


def _rows(update: Update) -> Iterable[tuple[Line, bytes | None]]:
    """Lines and runs, those of one side in order of offset, else in the order in which they were made."""
    if not update.runs:
        return ((line, None) for line in update.lines)
    return _merged(update)


def _merged(update: Update) -> Iterator[tuple[Line, bytes | None]]:
    runs: dict[tuple[int, Side], deque[Line]] = {}
    for run in update.runs:
        line = Line(run.conversation, run.side, run.number, run.offset, run.data, run.pdu, (), run.flags, False,
                    frames=run.frames, time=run.time, order=run.order)  # fmt: skip
        runs.setdefault((run.conversation, run.side), deque()).append(line)
    for line in update.lines:
        before = runs.get((line.conversation, line.side))
        while before and before[0].offset < line.offset:
            run_line = before.popleft()
            yield run_line, run_line.data
        yield line, None
    for rest in runs.values():
        for line in rest:
            yield line, line.data
