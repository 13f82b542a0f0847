"""The mail queue: a message is on disk before it is answered for, and leaves only delivered or reported.

Claim: whatever is in the queue's directory when it starts is tried again; each recipient ends in exactly one of
delivered, handed on, or reported to the sender; and nothing is ever reported about a message from ``<>``, so two
hosts cannot send reports about reports (RFC 5321 6.1). What then cannot be told to anybody goes to the postmaster.

One file a message, written under another name and renamed: a line of JSON (sender, recipients left, tries, time),
then the message. No fsync: it lies on a tmpfs that dies with the lab.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lab.address import parse
from lab.bounce import report
from lab.directory import POSTMASTER, Directory, Kind
from lab.mailbox import Mailboxes
from lab.relay import Relay, Verdict

# Seconds between tries. RFC 5321 4.5.4.1 means hours and days; a lesson has a minute.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


@dataclass(frozen=True, slots=True)
class Envelope:
    """sender: reverse path, empty for ``<>``; recipients: who is left; tries: made so far; born: s since the epoch."""

    sender: str
    recipients: tuple[str, ...]
    born: float
    tries: int = 0


class Queue:
    """Delivers locally and relays. Made inside a running loop; `resume` once, `submit` for each message, `close`."""

    def __init__(
        self,
        path: Path,
        directory: Directory,
        mailboxes: Mailboxes,
        relay: Relay,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path, self._directory, self._mailboxes, self._relay = path, directory, mailboxes, relay
        self._pauses = tuple(pauses)
        self._tasks: set[asyncio.Task[None]] = set()

    def ident(self) -> str:
        """A new name for a message, as it stands in ``Received:`` and in the reply to its data."""
        return os.urandom(5).hex().upper()

    def submit(self, ident: str, sender: str, recipients: Sequence[str], data: bytes) -> None:
        """Take responsibility for a message (lines end with CRLF). Raises `OSError` if it cannot be written."""
        unique = tuple(dict.fromkeys(recipients))
        self._write(ident, Envelope(sender, unique, datetime.now(UTC).timestamp()), data)
        self._start(ident)

    def waiting(self) -> list[str]:
        """The names of the messages that are on disk."""
        return sorted(path.name for path in self._path.iterdir() if path.suffix != ".tmp")

    def resume(self) -> None:
        """Begin trying what an earlier run left."""
        for ident in self.waiting():
            self._start(ident)

    async def close(self) -> None:
        """Stop trying; what is undelivered stays on disk."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # a defect was already told by `_ended`

    def _start(self, ident: str) -> None:
        task = asyncio.get_running_loop().create_task(self._work(ident), name=f"queue {ident}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The message is still on disk; the loop's handler prints the traceback.
            task.get_loop().call_exception_handler({"message": f"{task.get_name()} stopped", "exception": error})

    def _write(self, ident: str, envelope: Envelope, data: bytes) -> None:
        temporary = self._path / f"{ident}.tmp"
        temporary.write_bytes(json.dumps(asdict(envelope)).encode() + b"\n" + data)
        temporary.rename(self._path / ident)

    def _read(self, ident: str) -> tuple[Envelope, bytes]:
        head, _, data = (self._path / ident).read_bytes().partition(b"\n")
        fields = json.loads(head)
        return Envelope(fields["sender"], tuple(fields["recipients"]), fields["born"], fields["tries"]), data

    async def _work(self, ident: str) -> None:
        """Try until nobody is left or the schedule is at its end."""
        envelope, data = self._read(ident)
        while True:
            verdicts = await self._try(envelope, data)
            expired = envelope.tries >= len(self._pauses)
            failed = [v for v in verdicts if not v.is_done and (v.is_final or expired)]
            self._report(envelope, failed, data)
            left = tuple(v.recipient for v in verdicts if not v.is_final)
            if expired or not left:
                (self._path / ident).unlink()
                return
            pause = self._pauses[envelope.tries]
            envelope = replace(envelope, recipients=left, tries=envelope.tries + 1)
            self._write(ident, envelope, data)
            await asyncio.sleep(pause)

    async def _try(self, envelope: Envelope, data: bytes) -> list[Verdict]:
        verdicts, elsewhere = [], []
        for recipient in envelope.recipients:
            if self._directory.is_local(parse(recipient).domain):
                verdicts.append(self._deliver(recipient, envelope.sender, data))
            else:
                elsewhere.append(recipient)
        if elsewhere:
            verdicts += await self._relay.send(envelope.sender, elsewhere, data)
        return verdicts

    def _deliver(self, recipient: str, sender: str, data: bytes) -> Verdict:
        address = parse(recipient)
        kind = self._directory.kind(address)
        try:
            if kind is Kind.LOCAL:
                self._mailboxes.deliver(address.user, sender, data)
            elif kind is Kind.LIST:
                # Reports about a list go to who keeps it, not to who wrote (RFC 5321 3.9.2).
                keeper = self._directory.address(POSTMASTER) if sender else ""
                self.submit(self.ident(), keeper, self._directory.lists[address.user], data)
            elif kind is Kind.MOVED:
                new = self._directory.moved[address.user]
                return Verdict(recipient, 551, "5.1.6", f"User not local; please try <{new}>")
            else:
                return Verdict(recipient, 550, "5.1.1", "No such user here")
        except OSError as error:
            return Verdict(recipient, 452, "4.3.1", f"the mailbox cannot be written: {error.strerror}")
        return Verdict(recipient, 250, "2.0.0", "delivered")

    def _report(self, envelope: Envelope, failed: list[Verdict], data: bytes) -> None:
        """Tell the sender; or the postmaster, by the message itself, where there is no sender to tell."""
        if not failed:
            return
        if not envelope.sender:
            self._mailboxes.deliver(POSTMASTER, "", data)
            return
        told = [
            v if v.is_final else v._replace(status="4.4.7", text=f"delivery time expired: {v.text}") for v in failed
        ]
        name = self.ident()
        message = report(
            self._directory.host.fqdn,
            name,
            envelope.sender,
            told,
            data,
            arrived=datetime.fromtimestamp(envelope.born, UTC),
            now=datetime.now(UTC),
        )
        self.submit(name, "", [envelope.sender], message)
