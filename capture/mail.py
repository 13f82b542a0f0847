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
from capture.post import Post

__all__ = ["Ended", "Envelope", "Event", "Hole", "Message", "Messages", "Piece", "Recipient", "Told"]


class Messages:
    """The messages of a capture: `feed` it what the analyzer says (with runs or without)."""

    def __init__(self) -> None:
        self._posts: dict[int, Post] = {}  # of conversations that are not over

    def feed(self, update: Update) -> Iterator[Event]:
        """What this update adds to messages."""
        posts, facts = self._posts, {fact.ident: fact for fact in update.conversations}
        for ident in facts.keys() & posts.keys():
            posts[ident].facts = posts[ident].pairing.facts = facts[ident]
        touched: dict[int, Post] = {}
        for gap in update.gaps:
            post = touched[gap.conversation] = self._of(gap.conversation, facts)
            post.voices[0 if gap.side is Side.CLIENT else 1].gaps.append(gap)
            post.pairing.gap(gap)
        for line, octets in _rows(update):
            post = self._of(line.conversation, facts)
            post.line(line, octets)
            if post.events:
                yield from post.events
                post.events.clear()
        for post in touched.values():
            post.pairing.pass_gaps()
        for fact in update.conversations:
            if fact.over:
                yield from self._finish(fact.ident)

    def finish(self) -> Iterator[Event]:
        """Nothing more comes of any conversation."""
        for ident in list(self._posts):
            yield from self._finish(ident)

    def _of(self, ident: int, facts: dict[int, Conversation]) -> Post:
        post = self._posts.get(ident)
        if post is None:
            post = self._posts[ident] = Post(ident)
            post.facts = post.pairing.facts = facts.get(ident)
        return post

    def _finish(self, ident: int) -> Iterator[Event]:
        post = self._posts.pop(ident, None)
        if post is not None:
            post.finish()
            yield from post.events


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
        own = runs.get((line.conversation, line.side))
        while own and own[0].offset < line.offset:
            before = own.popleft()
            yield before, before.data
        yield line, None
    for rest in runs.values():
        for line in rest:
            yield line, line.data
