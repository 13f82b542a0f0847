"""Mailboxes on disk: one Maildir a user, by the standard library, exact to the octet.

Claim: the octets that `Mailboxes.deliver` was given are the octets that `Maildrop.read` gives back, lone CR, NUL and
8-bit ones included; `Message.octets` is their number as they cross the wire, CRLF counted as two (RFC 1939 11).
On disk lines end with LF, as in any Maildir. That loses nothing because a bare LF never gets in: it becomes CRLF
on delivery, and every LF on disk therefore stands for one CRLF.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import mailbox

_BARE_LF = re.compile(rb"(?<!\r)\n")
_KEY = re.compile(r"(\d+)\.M(\d+)P\d+Q(\d+)")
_UID_LIMIT = 70  # characters (RFC 1939 7); what makes a Maildir name unique stands at its beginning


def with_crlf(data: bytes) -> bytes:
    """``data`` with every bare LF made CRLF, nothing else changed."""
    return _BARE_LF.sub(b"\r\n", data)


class Message(NamedTuple):
    """A message in a maildrop. key: its Maildir name; uid: for UIDL; octets: its size on the wire."""

    key: str
    uid: str
    octets: int


class Maildrop:
    """The messages of one user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _maildir(self) -> mailbox.Maildir:
        # Imported on first use (11 ms); a new object each time, because Maildir caches what it saw by mtime.
        import mailbox

        return mailbox.Maildir(str(self._path), factory=None, create=True)

    def messages(self) -> list[Message]:
        """What is there, oldest first."""
        maildir = self._maildir()
        found = []
        for key in sorted(maildir.keys(), key=_age):
            disk = maildir.get_bytes(key)
            found.append(Message(key, key[:_UID_LIMIT], len(_to_wire(disk))))
        return found

    def add(self, data: bytes) -> str:
        """Store a message; gives its key. Raises `OSError` if the disk does not take it."""
        return self._maildir().add(with_crlf(data).replace(b"\r\n", b"\n"))

    def read(self, key: str) -> bytes:
        """The message as it crosses the wire. Raises `KeyError` if it is gone."""
        return _to_wire(self._maildir().get_bytes(key))

    def remove(self, key: str) -> None:
        """Delete a message. Raises `KeyError` if it is gone."""
        self._maildir().remove(key)


class Mailboxes:
    """All maildrops of a host, under one directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def of(self, user: str) -> Maildrop:
        """The maildrop of ``user``, a local part that a `Directory` knows."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", user):
            raise ValueError(f"no name for a directory: {user!r}")
        return Maildrop(self._directory / user)

    def deliver(self, user: str, sender: str, data: bytes) -> None:
        """Final delivery: the reverse path is kept as Return-Path (RFC 5321 4.4). Raises `OSError`."""
        self.of(user).add(f"Return-Path: <{sender}>\r\n".encode("ascii") + data)


def _to_wire(disk: bytes) -> bytes:
    wire = disk.replace(b"\n", b"\r\n")
    return wire if not wire or wire.endswith(b"\r\n") else wire + b"\r\n"


def _age(key: str) -> tuple[int, int, int, str]:
    """Sorts keys by time: the microseconds in them are not padded, so as text they would not."""
    match = _KEY.match(key)
    return (int(match[1]), int(match[2]), int(match[3]), key) if match else (0, 0, 0, key)
