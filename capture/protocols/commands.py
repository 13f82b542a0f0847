"""One SMTP command line, taken apart into fields. Pure: octets in, spans and flags out.

Claim: anything framed as a line in the command phase is one command, whatever is in it; what cannot be parsed is a
field ``argument`` and a flag, never an error (labels.md 2.5; RFC 5321 4.1.1, 4.3.2). The verbs, the fields of their
arguments and the length limits come from `capture.data.smtp`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from capture.data.smtp import INCREMENTS, LIMITS, VERBS
from capture.model import Role, Span
from capture.protocols.voice import end_span, odd_octets

PCI, UD = Role.PCI, Role.USER_DATA

_KNOWN = {verb.encode(): verb for verb in VERBS}
_KEYWORDS = {"FROM": (b"FROM:", "reverse-path"), "TO": (b"TO:", "forward-path")}
_PATHS = {"MAIL": "FROM", "SEND": "FROM", "SOML": "FROM", "SAML": "FROM", "RCPT": "TO"}
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:(=)([^ ]*))?\Z")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}\Z")


class Command(NamedTuple):
    """A parsed command line.

    verb: in capitals, ``""`` when it is not in the table; complete: it parses and nothing is odd about its syntax;
    size, last: of BDAT, size -1 when there is none; parameters: keywords and values of MAIL and RCPT, in capitals.
    """

    verb: str
    spans: tuple[Span, ...]
    flags: tuple[str, ...]
    complete: bool
    size: int = -1
    last: bool = False
    parameters: tuple[tuple[bytes, bytes], ...] = ()


def is_base64(text: bytes) -> bool:
    """Whether a line could be a SASL message (RFC 4954 8), ``*`` and the empty line included."""
    return text == b"*" or (_BASE64.match(text) is not None and len(text) % 4 == 0)


def known(line: bytes) -> bool:
    """Whether the line's first word is a verb of the table."""
    return line.split(b" ", 1)[0].rstrip(b"\r\n").upper() in _KNOWN


class _Line:
    """A line being taken apart from left to right: ``at`` is how far, ``stop`` where its text ends."""

    __slots__ = ("at", "flags", "line", "spans", "stop")

    def __init__(self, line: bytes, stop: int) -> None:
        self.line, self.stop, self.at = line, stop, 0
        self.spans: list[Span] = []
        self.flags: list[str] = []

    def to(self, end: int, field: str, role: Role = PCI) -> bytes:
        """Everything up to ``end`` is this field; an empty field has no span."""
        if end <= self.at:
            return b""
        self.spans.append(Span(self.at, end, role, field))
        text = self.line[self.at : end]
        self.at = end
        return text

    def blanks(self) -> bool:
        """One or more SP between elements."""
        end = self.at
        while end < self.stop and self.line[end] == 0x20:
            end += 1
        return bool(self.to(end, "sp"))

    def word(self) -> int:
        """Where the next word ends."""
        found = self.line.find(b" ", self.at, self.stop)
        return found if found >= 0 else self.stop

    def fail(self, flag: str) -> None:
        """The rest cannot be parsed."""
        self.to(self.stop, "argument")
        self.flags.append(flag)


def parse(line: bytes, end: int, cut: bool = False, utf8: bool = False) -> Command:
    """Take a command line apart.

    end: octets of its line end (2, 1 or 0); cut: it is not whole, so that what is missing is no fault of its
    sender; utf8: SMTPUTF8 is in force, so that 8-bit octets are not odd.
    """
    return (_remembered if len(line) <= LIMITS["command_line"] else _parse)(line, end, cut, utf8)


def _parse(line: bytes, end: int, cut: bool, utf8: bool) -> Command:
    text_end = len(line) - end
    first = line.find(b" ", 0, text_end)
    word = line[: first if first >= 0 else text_end]
    verb = _KNOWN.get(word.upper(), "")
    stop = text_end
    trailing = 0
    if verb:
        while stop > len(word) and line[stop - 1] in b" \t":
            stop -= 1
        trailing = text_end - stop
        if cut and trailing:  # more may have followed
            stop, trailing = text_end, 0
    text = _Line(line, stop)
    text.to(len(word), "verb")
    size, last = -1, False
    parameters: list[tuple[bytes, bytes]] = []
    if not verb:
        text.blanks()
        text.to(stop, "argument")
        text.flags.append("unknown-command")
    else:
        text.blanks()
        if verb in _PATHS:
            parameters = _path(text, *_KEYWORDS[_PATHS[verb]], cut)
        elif verb == "BDAT":
            size, last = _bdat(text, cut)
        elif verb == "AUTH":
            _auth(text, cut)
        else:
            _plain(text, verb, cut)
        if trailing:
            text.to(text_end, "trailing-ws")
            text.flags.append("trailing-ws")
    complete = bool(verb) and not text.flags and not cut
    if len(line) > limit(parameters):
        text.flags.append("overlong")
    eight_bit = utf8 or any(keyword == b"SMTPUTF8" for keyword, _ in parameters)
    if verb in ("VRFY", "EXPN") and line[:text_end].upper().endswith(b" SMTPUTF8"):
        eight_bit = True  # RFC 6531 3.7.4.2
    flags = (*text.flags, *odd_octets(line, end, eight_bit))
    return Command(verb, (*text.spans, *end_span(line, end)), flags, complete, size, last, tuple(parameters))


_remembered = lru_cache(maxsize=2048)(_parse)  # the same commands come again and again


def limit(parameters: list[tuple[bytes, bytes]]) -> int:
    """Octets a command line may have: 512, and more for each parameter that allows it (RFC 5321 4.5.3.1.4)."""
    longest = LIMITS["command_line"]
    if parameters:
        grown = {INCREMENTS[k][1]: INCREMENTS[k][0] for key, _ in parameters if (k := key.decode()) in INCREMENTS}
        longest += sum(grown.values())
    return longest


def path_end(line: bytes, at: int, stop: int) -> int:
    """Where the path that begins at ``at`` ends: behind its ``>``, quoted strings respected (RFC 5321 4.1.2)."""
    quoted = False
    index = at
    while index < stop:
        octet = line[index]
        if quoted and octet == 0x5C:  # quoted pair
            index += 1
        elif octet == 0x22:
            quoted = not quoted
        elif octet == 0x3E and not quoted:
            return index + 1
        index += 1
    return -1


def _path(text: _Line, keyword: bytes, field: str, cut: bool) -> list[tuple[bytes, bytes]]:
    """``FROM:<path>`` or ``TO:<path>`` and the ESMTP parameters behind it."""
    line, stop = text.line, text.stop
    here = text.at
    if line[here : here + len(keyword)].upper() != keyword or here + len(keyword) > stop:
        if cut:
            text.to(stop, "argument")
        else:
            text.fail("syntax")
        return []
    text.to(here + len(keyword), "keyword")
    if text.blanks():
        text.flags.append("space-after-colon")
    if text.at >= stop:
        if not cut:
            text.fail("syntax")
        return []
    if line[text.at] == 0x3C:
        end = path_end(line, text.at, stop)
        if end < 0:
            end = stop if cut else text.word()
            if not cut:
                text.flags.append("syntax")
    else:
        end = text.word()
        text.flags.append("path-without-brackets")
    path = text.to(end, field)
    if path == b"<>" and field == "forward-path":
        text.flags.append("syntax")  # a forward-path names a mailbox (RFC 5321 4.1.1.3)
    parameters: list[tuple[bytes, bytes]] = []
    while text.at < stop:
        if not text.blanks():
            text.fail("syntax")
            break
        found = _PARAMETER.match(line[text.at : text.word()])
        if found is None:
            text.fail("syntax")
            break
        start = text.at
        text.to(start + found.end(1), "esmtp-keyword")
        if found[2]:
            text.to(start + found.end(2), "eq")
            text.to(start + found.end(3), "esmtp-value")
        parameters.append((found[1].upper(), (found[3] or b"").upper()))
    return parameters


def _bdat(text: _Line, cut: bool) -> tuple[int, bool]:
    """``chunk-size [SP LAST]`` (RFC 3030 2)."""
    line, stop = text.line, text.stop
    words = line[text.at : stop].split()
    digits = words[0] if words else b""
    # more than 20 digits is no number of octets that anyone could send
    fits = len(digits) <= 20 and digits.isdigit() and (len(words) == 1 or [w.upper() for w in words[1:]] == [b"LAST"])
    if not fits:
        if cut:
            text.to(stop, "argument")
        else:
            text.fail("syntax")
        return -1, False
    text.to(text.word(), "chunk-size")
    text.blanks()
    return (-1 if cut else int(digits)), bool(text.to(stop, "last"))


def _auth(text: _Line, cut: bool) -> None:
    """``mechanism [SP initial-response]``; whatever stands in place of the response may be a secret (RFC 4954 4)."""
    if not text.to(text.word(), "mechanism"):
        if not cut:
            text.flags.append("syntax")
        return
    text.blanks()
    response = text.line[text.at : text.stop]
    if response == b"=":
        text.to(text.stop, "empty-initial-response")
    elif response:
        text.to(text.stop, "initial-response", UD)
        text.flags.append("credential")
        if not cut and not is_base64(response):
            text.flags.append("syntax")


def _plain(text: _Line, verb: str, cut: bool) -> None:
    """Every other command: nothing, one word, or all the rest, as the table says."""
    fields, required = VERBS[verb][0], VERBS[verb][1]
    if text.at >= text.stop:
        if required and not cut:
            text.flags.append("syntax")
        return
    if not fields:
        text.fail("unexpected-argument")
        return
    if fields[0] == "string":  # VRFY, EXPN, HELP, NOOP: to the end of the line
        text.to(text.stop, "string")
        return
    text.to(text.word(), fields[0])
    text.blanks()
    if text.at < text.stop:
        if len(fields) > 1 and text.line[text.at : text.stop].upper() == b"LAST":
            text.to(text.stop, fields[1])
        else:
            text.fail("unexpected-argument" if fields[0] == "client-domain" else "syntax")
