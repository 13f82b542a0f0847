"""Plays lines into a session as a patient person would, and says what came of it.

Claim: a line counts as typed only when it came off the wire. After each line the player waits for its captured twin,
named by its stream offset; a twin that is user data needs no answer, anything else waits for the end of a reply
behind it. So the same player serves SMTP, POP3, and whatever answers line by line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from capture.labels import label
from capture.model import Conversation, Label, Line, Side
from capture.record import Record
from tui.messages import Closed, Failed, Opened, Received, Said, Session

TICK = 0.005  # seconds between looks; the ring hands its frames over every 5 ms anyway


@dataclass(slots=True)
class Outcome:
    """unseen: typed lines that never came off the wire; unanswered: lines whose reply did not come in time;
    sentences: what the session said (closed by…, refused…); failed: no connection at all."""

    typed: int = 0
    unseen: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    failed: bool = False


class Player:
    """Plays into one `Session`, connection after connection; everything captured is in ``record``.

    wait: wait for replies, or send everything at once as a paste does. patience: seconds to wait for one reply.
    """

    def __init__(self, session: Session, *, wait: bool = True, patience: float = 30.0) -> None:
        self.record = Record()
        self._session = session
        self._wait = wait
        self._patience = patience
        self._opened: Opened | None = None
        self._over = False
        self._heard = False
        self._conversation = 0
        self._lines: dict[int, Line] = {}  # the client's, by offset
        self._ended = -1  # order of the newest server line that ends a reply

    async def play(self, lines: Iterable[str]) -> Outcome:
        """Open a connection, type ``lines``, wait until the server or we have closed it."""
        outcome, sent = Outcome(), 0
        self._opened, self._over, self._heard, self._conversation = None, False, False, 0
        self._lines, self._ended = {}, -1
        await self._session.open()
        await self._until(lambda: self._is_open() or self._over, outcome)
        if not self._is_open():
            outcome.failed = True
            return outcome
        # On a port of no protocol a greeting has no label before the client has spoken, but it can be heard.
        if self._wait and not await self._until(lambda: self._ended >= 0 or self._heard or self._over, outcome):
            outcome.unanswered.append("(greeting)")
        offsets: list[tuple[int, str]] = []
        for text in lines:
            if self._over:
                outcome.unseen.append(text)
                continue
            offsets.append((sent, text))
            outcome.typed += 1
            await self._session.send_line(text)
            if self._wait:
                await self._answer(sent, text, outcome)
            sent += len(text.encode()) + 2
        if not self._over:
            await self._session.half_close()
        await self._until(lambda: self._over, outcome)
        await self._until(self._known, outcome, patience=2.0)
        outcome.unseen += [text for offset, text in offsets if not self._seen(offset, text)]
        return outcome

    def settle(self) -> None:
        """Take what is still in the queue: after the session's ``close``, the half lines of the end."""
        self._look(Outcome())

    async def _answer(self, offset: int, text: str, outcome: Outcome) -> None:
        if not await self._until(lambda: offset in self._lines or self._over, outcome):
            outcome.unanswered.append(text)  # held back by an answer that does not come
            return
        twin = self._lines.get(offset)
        if twin is None or label(twin) is Label.USER_DATA:
            return
        if not await self._until(lambda: self._ended > twin.order or self._over, outcome):
            outcome.unanswered.append(text)

    async def _until(self, true: Callable[[], bool], outcome: Outcome, patience: float | None = None) -> bool:
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        while True:
            self._look(outcome)
            if true():
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(TICK)

    def _look(self, outcome: Outcome) -> None:
        for event in self._session.events():
            match event:
                case Opened():
                    self._opened = event
                case Received():
                    self._heard = True
                case Closed(sentence) | Failed(sentence):
                    self._over = True
                    outcome.sentences.append(sentence)
                case Said(sentence):
                    outcome.sentences.append(sentence)
        for update in self._session.drain():
            self.record.apply(update)
            for conversation in update.conversations:
                if self._is_ours(conversation):
                    self._conversation = conversation.ident
            for line in update.lines:
                self._hear(line)

    def _is_open(self) -> bool:
        return self._opened is not None

    def _is_ours(self, conversation: Conversation) -> bool:
        opened = self._opened
        return opened is not None and (conversation.client, conversation.server) == (opened.client, opened.server)

    def _hear(self, line: Line) -> None:
        # A line can be captured before the event of its connection was read; the endpoints then tell.
        if line.conversation != self._conversation:
            known = self.record.conversation(line.conversation)
            if known is None or not self._is_ours(known):
                return
            self._conversation = line.conversation
        if line.side is Side.CLIENT:
            self._lines[line.offset] = line
        elif ends_reply(line):
            self._ended = max(self._ended, line.order)

    def _seen(self, offset: int, text: str) -> bool:
        line = self._lines.get(offset)
        return line is not None and line.data == text.encode() + b"\r\n"

    def _known(self) -> bool:
        conversation = self.record.conversation(self._conversation)
        return conversation is not None and conversation.closed


def ends_reply(line: Line) -> bool:
    """Whether a server's line is the last of its reply: RFC 5321 4.2.1 (separator), RFC 1939 3 (the dot)."""
    if line.whole:
        return True
    fields = {span.field: line.data[span.start : span.end] for span in line.spans}
    if "reply-code" in fields:
        return fields.get("separator", b" ") == b" "
    return "eod-dot" in fields or "raw" in fields
