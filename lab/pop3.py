"""A POP3 server by RFC 1939: the student fetches what came, as any mail program would.

Claim: the octets that `RETR` announces are the octets that follow, dots stuffed for transparency not counted; message
numbers do not change within a session; nothing is deleted but by a QUIT in the TRANSACTION state; and what an
unknown user hears is what a known one with a wrong password hears.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab import plan
from lab.listener import Listener
from lab.mailbox import Mailboxes, Maildrop, Message
from lab.plan import Person

IDLE_LIMIT = 3600.0  # seconds; RFC 1939 3 asks for at least 600, a student thinks longer
LINE_LIMIT = 512  # octets of a command line with its CRLF; RFC 2449 4 asks for 255

CAPABILITIES = ("TOP", "UIDL", "USER", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "IMPLEMENTATION wiretalk")


_Proof = Callable[[Person], bool]
_Column = Callable[[Message], str]


class _Refused(Exception):
    """The command gets -ERR with this text."""


class Pop3Server:
    """POP3 over ``mailboxes`` for ``people``. ``await start(...)``, then ``await close()``."""

    def __init__(self, fqdn: str, people: Mapping[str, Person], mailboxes: Mailboxes) -> None:
        self.fqdn, self.people, self.mailboxes = fqdn, people, mailboxes
        self.locked: set[str] = set()  # users whose maildrop a session has (RFC 1939 4: exclusive access)
        self._listener = Listener(self._serve, limit=LINE_LIMIT)

    async def start(self, address: str, port: int = plan.POP3) -> int:
        """Listen; gives the port (useful with 0). Raises `OSError`."""
        return await self._listener.start(address, port)

    async def close(self) -> None:
        """Stop listening and end the sessions that are open; no message is deleted by that."""
        await self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self)
        try:
            writer.write(session.greeting())
            while not session.is_over:
                await writer.drain()
                async with asyncio.timeout(IDLE_LIMIT):
                    line = await _read_line(reader)
                writer.write(session.obey(line) if line is not None else b"-ERR line too long\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            pass  # gone or silent: closed without a word and without the UPDATE state (RFC 1939 3)
        finally:
            session.unlock()


async def _read_line(reader: asyncio.StreamReader) -> str | None:
    """The next line without its end, any octet as one character; None for a line that was too long and is skipped."""
    skipped = False
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            await reader.readexactly(error.consumed)
            skipped = True
            continue
        return None if skipped else line.decode("latin-1").rstrip("\r\n")


@dataclass
class _Session:
    """One session: AUTHORIZATION until `maildrop` is there, then TRANSACTION. Text in, octets out; no I/O but disk."""

    server: Pop3Server
    is_over: bool = False
    user: str = ""  # whose maildrop is locked
    candidate: str | None = None  # named by USER, not yet let in
    maildrop: Maildrop | None = None
    messages: list[Message] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    stamp: str = ""  # for APOP (RFC 1939 7)

    def greeting(self) -> bytes:
        self.stamp = f"<{os.getpid()}.{time.time_ns()}@{self.server.fqdn}>"
        return f"+OK POP3 server ready {self.stamp}\r\n".encode("ascii")

    def unlock(self) -> None:
        self.server.locked.discard(self.user)

    def obey(self, line: str) -> bytes:
        """The whole reply to one command line."""
        verb, _, argument = line.partition(" ")
        commands = {"CAPA": self._capa, "QUIT": self._quit}
        if self.maildrop is None:
            commands |= {"USER": self._user, "PASS": self._pass, "APOP": self._apop}
        else:
            commands |= {
                "STAT": self._stat,
                "LIST": self._list,
                "UIDL": self._uidl,
                "TOP": self._top,
                "RETR": self._retr,
                "DELE": self._dele,
                "RSET": self._rset,
                "NOOP": self._noop,
            }
        command = commands.get(verb.upper())
        try:
            if command is None:
                raise _Refused(self._why_not(verb.upper()))
            return command(argument)
        except _Refused as refusal:
            return f"-ERR {refusal}\r\n".encode("ascii")

    def _why_not(self, verb: str) -> str:
        if verb in ("STAT", "LIST", "UIDL", "TOP", "RETR", "DELE", "RSET", "NOOP"):
            return "not before USER and PASS"
        if verb in ("USER", "PASS", "APOP"):
            return "you are in already"
        return "unknown command"

    # AUTHORIZATION (RFC 1939 4, 7)

    def _user(self, argument: str) -> bytes:
        if not argument.strip():
            raise _Refused("syntax: USER name")
        self.candidate = argument.strip()
        return _ok("now the password")  # to everybody: who exists is not told

    def _pass(self, argument: str) -> bytes:
        if self.candidate is None:
            raise _Refused("USER comes before PASS")
        user, self.candidate = self.candidate, None
        # A space is part of the password (RFC 1939 7).
        return self._enter(user, lambda person: hmac.compare_digest(person.password.encode(), argument.encode()))

    def _apop(self, argument: str) -> bytes:
        user, _, digest = argument.rpartition(" ")

        def proves(person: Person) -> bool:
            secret = (self.stamp + person.password).encode()
            right = hashlib.md5(secret, usedforsecurity=False).hexdigest()
            return hmac.compare_digest(right.encode(), digest.encode())

        return self._enter(user, proves)

    def _enter(self, user: str, proves: _Proof) -> bytes:
        person = self.server.people.get(user.lower())
        if person is None or not proves(person):
            raise _Refused("[AUTH] invalid user name or password")
        if person.user in self.server.locked:
            raise _Refused("[IN-USE] another session has this maildrop")
        maildrop = self.server.mailboxes.of(person.user)
        self.messages = maildrop.messages()
        self.server.locked.add(person.user)
        self.user, self.maildrop = person.user, maildrop
        return _ok(self._summary())

    # TRANSACTION (RFC 1939 5, 7)

    def _stat(self, argument: str) -> bytes:
        _no_argument("STAT", argument)
        left = self._left()
        return _ok(f"{len(left)} {sum(message.octets for _, message in left)}")

    def _list(self, argument: str) -> bytes:
        return self._listing(argument, self._summary(), lambda message: str(message.octets))

    def _uidl(self, argument: str) -> bytes:
        return self._listing(argument, "unique identifiers follow", lambda message: message.uid)

    def _listing(self, argument: str, title: str, of: _Column) -> bytes:
        if argument.strip():
            number, message = self._choose(argument)
            return _ok(f"{number} {of(message)}")
        return _ok(title) + _multi("".join(f"{n} {of(message)}\r\n" for n, message in self._left()).encode("ascii"))

    def _retr(self, argument: str) -> bytes:
        _, message = self._choose(argument)
        data = self._read(message)
        return _ok(f"{len(data)} octets") + _multi(data)

    def _top(self, argument: str) -> bytes:
        number, _, count = argument.strip().partition(" ")
        if not re.fullmatch(r"[0-9]{1,9}", count.strip()):
            raise _Refused("syntax: TOP message lines")
        _, message = self._choose(number)
        header, gap, body = self._read(message).partition(b"\r\n\r\n")
        if not gap:
            return _ok("top of message follows") + _multi(header)
        lines = body.split(b"\r\n", int(count))
        rest = len(lines.pop()) if len(lines) > int(count) else 0
        return _ok("top of message follows") + _multi(header + gap + body[: len(body) - rest])

    def _dele(self, argument: str) -> bytes:
        number, _ = self._choose(argument)
        self.deleted.add(number)
        return _ok(f"message {number} deleted")

    def _rset(self, argument: str) -> bytes:
        _no_argument("RSET", argument)
        self.deleted.clear()
        return _ok(self._summary())

    def _noop(self, argument: str) -> bytes:
        _no_argument("NOOP", argument)
        return _ok()

    # In both states

    def _capa(self, argument: str) -> bytes:
        """RFC 2449 5."""
        _no_argument("CAPA", argument)
        return _ok("capability list follows") + _multi("".join(f"{word}\r\n" for word in CAPABILITIES).encode("ascii"))

    def _quit(self, argument: str) -> bytes:
        """The UPDATE state (RFC 1939 6): now the marked messages go."""
        _no_argument("QUIT", argument)
        self.is_over = True
        stayed = 0
        if self.maildrop is not None:
            for number in sorted(self.deleted):
                try:
                    self.maildrop.remove(self.messages[number - 1].key)
                except (KeyError, OSError):
                    stayed += 1
        if stayed:
            raise _Refused(f"{stayed} deleted messages not removed")
        return _ok(f"{self.server.fqdn} POP3 server signing off")

    # What is there

    def _left(self) -> list[tuple[int, Message]]:
        return [(n, message) for n, message in enumerate(self.messages, start=1) if n not in self.deleted]

    def _summary(self) -> str:
        left = self._left()
        return f"{len(left)} messages ({sum(message.octets for _, message in left)} octets)"

    def _choose(self, argument: str) -> tuple[int, Message]:
        word = argument.strip()
        number = int(word) if re.fullmatch(r"[0-9]{1,9}", word) else 0
        if not 1 <= number <= len(self.messages):
            raise _Refused("no such message")
        if number in self.deleted:
            raise _Refused(f"message {number} is deleted")
        return number, self.messages[number - 1]

    def _read(self, message: Message) -> bytes:
        assert self.maildrop is not None
        try:
            return self.maildrop.read(message.key)
        except KeyError:
            raise _Refused("the message is gone") from None


def _ok(text: str = "") -> bytes:
    return f"+OK {text}".rstrip().encode("ascii") + b"\r\n"


def _multi(data: bytes) -> bytes:
    """The rest of a multi-line reply: dots stuffed, then the line that ends it (RFC 1939 3)."""
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"


def _no_argument(verb: str, argument: str) -> None:
    if argument.strip():
        raise _Refused(f"syntax: {verb}")
