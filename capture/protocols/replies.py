"""One SMTP reply line, taken apart into fields. Pure: octets in, spans out.

Claim: what a reply line holds depends on its own octets and on what it answers, never on guessing: the greeting and the
reply to HELO and EHLO have a grammar of their own, an enhanced status code is known by its syntax (labels.md 2.5;
RFC 5321 4.2, 4.1.1.1; RFC 2034 3, 4).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from capture.data.smtp import LIMITS
from capture.model import Role, Span
from capture.protocols.voice import end_span, line_end, odd_octets

PCI, UD = Role.PCI, Role.USER_DATA

_ENHANCED = re.compile(rb"([245])\.\d{1,3}\.\d{1,3}(?= |\Z)")


class Answers(enum.Enum):
    """What the reply answers, as far as its grammar asks."""

    CONNECTION = enum.auto()  # it is the greeting
    HELO = enum.auto()
    EHLO = enum.auto()  # or LHLO
    OTHER = enum.auto()


class Facts(NamedTuple):
    """What a reply line is before anything is known of what it answers.

    end: octets of its line end; code: its reply code, or ``b""`` when it is no reply line: ``ddd``, ``ddd-…``,
    ``ddd …``; flags: for octets that do not belong.
    """

    end: int
    code: bytes
    flags: tuple[str, ...]


def facts(line: bytes, utf8: bool) -> Facts:
    """Look at a line. utf8: SMTPUTF8 is in force."""
    return (_facts_remembered if len(line) <= LIMITS["reply_line"] else _facts)(line, utf8)


def _facts(line: bytes, utf8: bool) -> Facts:
    end = line_end(line)
    code = line[:3]
    if not (len(code) == 3 and code.isdigit() and (len(line) == 3 + end or line[3] in b" -")):
        code = b""
    return Facts(end, code, odd_octets(line, end, utf8))


def parse(line: bytes, end: int, answers: Answers, first: bool) -> tuple[Span, ...]:
    """The spans of a reply line that has a code. first: it is the first line of its reply."""
    return (_remembered if len(line) <= LIMITS["reply_line"] else _parse)(line, end, answers, first)


def _parse(line: bytes, end: int, answers: Answers, first: bool) -> tuple[Span, ...]:
    stop = len(line) - end
    spans = [Span(0, 3, PCI, "reply-code")]
    if stop > 3:
        spans.append(Span(3, 4, PCI, "separator"))
    if stop > 4:
        code = line[:3]
        _GRAMMAR[answers](line, stop, code, first, spans)
    return (*spans, *end_span(line, end))


# The same replies come again and again.
_facts_remembered = lru_cache(maxsize=2048)(_facts)
_remembered = lru_cache(maxsize=2048)(_parse)


def _words(line: bytes, at: int, stop: int, fields: tuple[str, ...], spans: list[Span]) -> None:
    """Words and the blanks between them; the last field takes all that is left, if it is ``*text``."""
    for field in fields:
        if at >= stop:
            return
        found = line.find(b" ", at, stop)
        end = stop if field[0] == "*" or found < 0 else found
        if end > at:
            spans.append(Span(at, end, PCI, field.lstrip("*")))
        at = end
        while at < stop and line[at] == 0x20:
            at += 1
        if at > end:
            spans.append(Span(end, at, PCI, "sp"))


def _greeting(line: bytes, stop: int, code: bytes, first: bool, spans: list[Span]) -> None:
    if code == b"220" and first:
        _words(line, 4, stop, ("server-domain", "*text"), spans)
    else:
        spans.append(Span(4, stop, PCI, "text"))


def _helo(line: bytes, stop: int, code: bytes, first: bool, spans: list[Span]) -> None:
    if code == b"250" and first:
        _words(line, 4, stop, ("server-domain", "*greet-text"), spans)
    elif code[0] == 0x32:
        spans.append(Span(4, stop, PCI, "text"))  # no enhanced code in a positive reply (RFC 2034 3)
    else:
        _other(line, stop, code, first, spans)


def _ehlo(line: bytes, stop: int, code: bytes, first: bool, spans: list[Span]) -> None:
    if code == b"250" and not first:
        words = line.count(b" ", 4, stop) + 1
        _words(line, 4, stop, ("ehlo-keyword", *(("ehlo-param",) * words)), spans)
    else:
        _helo(line, stop, code, first, spans)


def _other(line: bytes, stop: int, code: bytes, _first: bool, spans: list[Span]) -> None:
    if code == b"334":
        spans.append(Span(4, stop, UD, "challenge"))
        return
    found = _ENHANCED.match(line, 4, stop)
    if found is not None and found[1] == code[:1]:
        end = found.end()
        spans.append(Span(4, end, PCI, "enhanced-status-code"))
        at = end
        while at < stop and line[at] == 0x20:
            at += 1
        if at > end:
            spans.append(Span(end, at, PCI, "sp"))
        if at < stop:
            spans.append(Span(at, stop, PCI, "text"))
    else:
        spans.append(Span(4, stop, PCI, "text"))


_GRAMMAR: dict[Answers, Callable[[bytes, int, bytes, bool, list[Span]], None]] = {
    Answers.CONNECTION: _greeting,
    Answers.HELO: _helo,
    Answers.EHLO: _ehlo,
    Answers.OTHER: _other,
}
