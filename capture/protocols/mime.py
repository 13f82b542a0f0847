"""Header sections, and the parts of a MIME message: one layer above the message itself.

Claim: boundaries are found as RFC 2046 5.1.1 defines them (a whole line, blanks behind it allowed, the innermost
multipart first), and the CRLF in front of one is the boundary's. Whatever the octets, each is in one span; a multipart
that its own header does not let divide is content.

To MIME the message's own header section is not there: it is PCI of the layer below. A boundary and the header of a part
are PCI; parts, preamble and epilogue (which RFC 2046 keeps for readers without MIME) are user data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from capture.model import Role, Span

PCI, UD = Role.PCI, Role.USER_DATA

DEPTH = 32  # multiparts in multiparts; what is deeper is content
LONGEST_TYPE = 8192  # octets of a Content-Type that are kept; RFC 2046 allows a boundary of 70

_FIELD = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")  # RFC 5322 2.2; 4.5: blanks in front of the colon
_MULTIPART = re.compile(rb"[ \t\r\n]*multipart/", re.IGNORECASE)
_BOUNDARY = re.compile(
    rb";[ \t\r\n]*boundary[ \t\r\n]*=[ \t\r\n]*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]+))", re.IGNORECASE
)

Told = Callable[[str, str], None]  # a kind of note and its sentence


class Seen(NamedTuple):
    """What a line of a header section is: ``field`` (its name and colon end there), ``more``, ``empty`` or ``none``."""

    kind: str
    name: int = 0
    colon: int = 0


class Section:
    """A header section being read, of a message or of a part. field: the one that may be continued, small letters."""

    __slots__ = ("_keeps", "content_type", "field")

    def __init__(self) -> None:
        self.field = b""
        self.content_type = b""  # of the first field of that name
        self._keeps = False

    def read(self, text: bytes) -> Seen:
        """One line without its line end."""
        if not text:
            return Seen("empty")
        if text[0] in b" \t" and self.field:
            self.more(text)
            return Seen("more")
        found = _FIELD.match(text)
        if found is None:
            return Seen("none")
        self.field = found[1].lower()
        self._keeps = self.field == b"content-type" and not self.content_type
        self.more(text[found.end() :])
        return Seen("field", found.end(1), found.end())

    def more(self, text: bytes) -> None:
        """More of the field's body."""
        if self._keeps and len(self.content_type) < LONGEST_TYPE:
            self.content_type += text

    def forget(self) -> None:
        """What comes next continues no field that is known."""
        self.field, self._keeps = b"", False


def boundary_of(content_type: bytes) -> bytes:
    """The boundary of a multipart by its Content-Type field body (RFC 2046 5.1.1); empty when it has none."""
    found = _BOUNDARY.search(content_type) if _MULTIPART.match(content_type) else None
    if found is None:
        return b""
    quoted: bytes | None = found[1]
    return found[2] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted).rstrip(b" ")


class _Multipart:
    """Its boundary with the two hyphens; number: of its part; place: preamble, part-header, body or epilogue."""

    __slots__ = ("boundary", "header", "number", "parts", "place")

    def __init__(self, boundary: bytes, number: str) -> None:
        self.boundary = b"--" + boundary
        self.number = number
        self.parts = 0
        self.place = "preamble"
        self.header = Section()

    @property
    def part(self) -> str:
        """The number of the part that is read: 2, 2.1, as IMAP numbers them (RFC 9051 6.4.5)."""
        return ".".join(filter(None, (self.number, str(self.parts or ""))))


class Parts:
    """The body of a message, line by line. content_type: the field body of the message's Content-Type, or empty."""

    __slots__ = ("_stack", "_told", "first", "rest")

    def __init__(self, content_type: bytes, told: Told) -> None:
        self._stack: list[_Multipart] = []
        self._told = told
        self.rest = ""  # the field of a line whose first octets were read already, without its end
        self.first = False  # the last boundary was the first of its multipart: an empty line in front is not its own
        self._divide(content_type, "")

    def line(self, text: bytes, end: int) -> tuple[tuple[Span, ...], str]:
        """Spans of a line of the body and the number of its part, ``""`` for the whole. end: octets of its line end."""
        size = len(text)
        stop = size - end
        inner = self._stack[-1] if self._stack else None
        if self.rest:
            field, part = self.rest, inner.part if inner else ""
        elif inner is None:
            field, part = "body", ""
        elif text[:2] == b"--" and self._delimits(text[:stop]):
            field, part = "boundary", self._stack[-1].number
        elif inner.place == "part-header":
            part = inner.part
            field = self._part_header(inner, text[:stop])
        else:
            field, part = inner.place, inner.part if inner.place == "body" else inner.number
        self.rest = "" if end else field
        if field in ("boundary", "separator-line"):
            return (Span(0, size, PCI, field),), part
        if field == "part-header":
            return tiles((stop, PCI, field), (size, PCI, "crlf" if end == 2 else "lf")), part
        return tiles((stop, UD, field), (size, UD, "line-end")), part

    def torn(self) -> None:
        """Octets are missing: what comes next need not begin a line."""
        inner = self._stack[-1] if self._stack else None
        self.rest = inner.place if inner else "body"
        if inner is not None:
            inner.header.forget()

    def _delimits(self, text: bytes) -> bool:
        """Whether this line divides a multipart, the innermost one or one around it; then its place moves."""
        for depth in range(len(self._stack) - 1, -1, -1):
            here = self._stack[depth]
            if here.place == "epilogue" or not text.startswith(here.boundary):
                continue
            behind = text[len(here.boundary) :]
            closes = behind[:2] == b"--"
            if behind[2 * closes :].strip(b" \t"):
                continue  # another, longer boundary; or text
            del self._stack[depth + 1 :]
            self.first = here.place == "preamble"
            here.place = "epilogue" if closes else "part-header"
            here.parts += not closes
            here.header = Section()
            return True
        return False

    def _part_header(self, inner: _Multipart, text: bytes) -> str:
        seen = inner.header.read(text)
        if seen.kind in ("field", "more"):
            return "part-header"
        inner.place = "body"
        if seen.kind == "none":
            self._told("no-separator", "The header of a part ends at a line that is no header field.")
            return "body"
        self._divide(inner.header.content_type, inner.part)
        return "separator-line"

    def _divide(self, content_type: bytes, number: str) -> None:
        """A multipart begins, if this Content-Type says so."""
        boundary = boundary_of(content_type)
        if boundary and len(self._stack) < DEPTH:
            self._stack.append(_Multipart(boundary, number))
        elif not boundary and _MULTIPART.match(content_type):
            self._told("no-boundary", "A multipart whose Content-Type gives no boundary cannot be divided.")


def tiles(*ends: tuple[int, Role, str]) -> tuple[Span, ...]:
    """Spans one behind the other by their ends; empty ones are left out."""
    made, at = [], 0
    for end, role, field in ends:
        if end > at:
            made.append(Span(at, end, role, field))
            at = end
    return tuple(made)
