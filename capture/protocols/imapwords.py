"""Lines of IMAP taken apart: tags, commands, results, data, and the size of a literal at their end (RFC 9051 9).

Claim: the spans tile the text that was given, whatever it is; what has no form is not refused but is one ``argument``
or ``listing``. No line of IMAP is remembered here: what it means depends on the dialogue.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from capture.data.imap import COMMANDS, STATUSES
from capture.model import Role, Span

PCI, UD = Role.PCI, Role.USER_DATA

_COMMAND = re.compile(rb"([^\s(){%*\"\\+]+)( +)([A-Za-z0-9]+)(?= |\Z)")
_RESULT = re.compile(rb"([^\s(){%*\"\\+]+)( +)(OK|NO|BAD)(?= |\Z)", re.IGNORECASE)
_UNTAGGED = re.compile(rb"\*( +)((?:\d+ +)?[A-Za-z][A-Za-z0-9.-]*)(?=[ \[]|\Z)")
_SIZE = re.compile(rb"~?\{(\d{1,20})(\+?)\}\Z")  # literal, literal8; with + it is sent without being asked for
_CODE = re.compile(rb"\[[^\]]*\](?= |\Z)")
_ASTRING = re.compile(rb"\"(?:[^\"\\]|\\.)*\"|[^ \"{]+")
_MESSAGE = re.compile(rb"(?:(?:BODY\[(?:HEADER[^\]]*)?\]|BINARY\[\])(?:<0>)?|RFC822(?:\.HEADER)?) +\Z", re.IGNORECASE)
_PIECE = re.compile(rb"(?:(?:BODY|BINARY)\[[^\]]*\](?:<\d+>)?|RFC822\.TEXT) +\Z", re.IGNORECASE)


class Literal(NamedTuple):
    """The announcement of a literal. at: where it stands in its line; at_once: nobody has to agree to it first."""

    at: int
    size: int
    at_once: bool


class Parsed(NamedTuple):
    """A line. name: the command or the kind of response, capital letters; secret: it may show a password."""

    tag: bytes
    name: str
    spans: tuple[Span, ...]
    secret: bool = False


class _Cursor:
    """A text being taken apart from left to right."""

    def __init__(self, text: bytes, stop: int) -> None:
        self.text, self.stop = text, stop
        self.at = 0
        self.spans: list[Span] = []

    def to(self, end: int, field: str, role: Role = PCI) -> bytes:
        start, self.at = self.at, max(self.at, min(end, self.stop))
        if self.at > start:
            self.spans.append(Span(start, self.at, role, field))
        return self.text[start : self.at]

    def blanks(self) -> None:
        end = self.at
        while end < self.stop and self.text[end] == 0x20:
            end += 1
        self.to(end, "sp")

    def word(self) -> int:
        found = self.text.find(b" ", self.at, self.stop)
        return self.stop if found < 0 else found

    def end(self) -> tuple[Span, ...]:
        """The literal's size, if the text ends in one."""
        self.stop = len(self.text)
        self.to(self.stop, "literal-size")
        return tuple(self.spans)


def literal(text: bytes) -> Literal | None:
    """The literal that a line announces at its end (RFC 9051 4.3)."""
    found = _SIZE.search(text)
    return None if found is None else Literal(found.start(), int(found[1]), found[2] == b"+")


def command(text: bytes, stop: int) -> Parsed:
    """A line of the client; ``name`` is empty when it is no command that we know. stop: where its literal's size is."""
    cursor = _Cursor(text, stop)
    found = _COMMAND.match(text, 0, stop)
    if found is None:
        cursor.to(stop, "argument")
        return Parsed(b"", "", cursor.end())
    tag = cursor.to(found.end(1), "tag")
    cursor.to(found.end(2), "sp")
    verb = cursor.to(found.end(3), "verb").decode().upper()
    cursor.blanks()
    secret = False
    if verb == "LOGIN":
        secret = cursor.at < len(text)
        user = _ASTRING.match(text, cursor.at, stop)
        if user is not None:
            cursor.to(user.end(), "string")
            cursor.blanks()
    elif verb == "AUTHENTICATE":
        cursor.to(cursor.word(), "mechanism")
        cursor.blanks()
        if text[cursor.at : stop] == b"=":
            cursor.to(stop, "empty-initial-response")
        else:
            secret = bool(cursor.to(stop, "initial-response", UD))
    elif verb == "UID":
        cursor.to(cursor.word(), "verb")
        cursor.blanks()
    cursor.to(stop, "argument")
    return Parsed(tag, verb if verb in COMMANDS else "", cursor.end(), secret)


def more_of_command(text: bytes, stop: int) -> tuple[Span, ...]:
    """What follows a literal of the client."""
    cursor = _Cursor(text, stop)
    cursor.blanks()
    cursor.to(stop, "argument")
    return cursor.end()


def result(text: bytes) -> Parsed | None:
    """A tagged response: tag, OK, NO or BAD, a code in brackets, text."""
    found = _RESULT.match(text)
    if found is None:
        return None
    cursor = _Cursor(text, len(text))
    tag = cursor.to(found.end(1), "tag")
    cursor.to(found.end(2), "sp")
    return Parsed(tag, found[3].decode().upper(), _condition(cursor, found.end()))


def untagged(text: bytes, stop: int) -> Parsed | None:
    """``* OK …``, ``* 3 EXISTS``, ``* LIST …``: name is the last word of what kind of response it is."""
    found = _UNTAGGED.match(text, 0, stop)
    if found is None:
        return None
    cursor = _Cursor(text, stop)
    cursor.to(1, "tag")
    cursor.to(found.end(1), "sp")
    name = found[2].split()[-1].decode().upper()
    if found[2].decode().upper() in STATUSES:
        cursor.stop = len(text)
        return Parsed(b"*", name, _condition(cursor, found.end()))
    cursor.to(found.end(), "response-name")
    cursor.blanks()
    cursor.to(stop, "listing")
    return Parsed(b"*", name, cursor.end())


def more_of_data(text: bytes, stop: int) -> tuple[Span, ...]:
    """What follows a literal of the server."""
    cursor = _Cursor(text, stop)
    cursor.blanks()
    cursor.to(stop, "listing")
    return cursor.end()


def carries(before: bytes) -> tuple[str, Role]:
    """Field and role of a literal in the server's data, by what stands in front of its size (RFC 9051 6.4.5, 7.5.2).

    A message from its beginning on is ``chunk``, as BDAT's; a piece from its middle is user data too, but no view of
    the message can be had of it. Anything else is a string that quotes could not hold.
    """
    if _MESSAGE.search(before):
        return "chunk", UD
    return "literal", UD if _PIECE.search(before) else PCI


def _condition(cursor: _Cursor, end: int) -> tuple[Span, ...]:
    cursor.to(end, "status-indicator")
    cursor.blanks()
    code = _CODE.match(cursor.text, cursor.at)
    if code is not None:
        cursor.to(code.end(), "response-code")
        cursor.blanks()
    cursor.to(cursor.stop, "text")
    return tuple(cursor.spans)
