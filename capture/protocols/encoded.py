"""Header text for people: encoded words, raw 8-bit and folding undone. For display only; no label rests on it.

Claim: `display` never raises and leaves what it cannot decode as it stands. What it gives may hold any character, also
one that a terminal obeys: the exit that shows it escapes it, as everything captured (RFC 2047, RFC 2231 5).
"""

from __future__ import annotations

import base64
import codecs
import quopri
import re

_WORD = re.compile(rb"=\?([^?\s*]{1,40})(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*)\?=")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_NO_CHARSETS = frozenset(
    {"unicode-escape", "raw-unicode-escape", "unicode_escape", "raw_unicode_escape", "idna", "punycode"}
)
LONGEST = 64 * 1024  # octets that are decoded; the rest of a longer field is shown as it stands


def display(field_body: bytes) -> str:
    """The body of a header field as text. Neighbouring encoded words are joined without the blanks between them."""
    octets = _FOLD.sub(b"", field_body.removesuffix(b"\n").removesuffix(b"\r"))
    octets, rest = octets[:LONGEST], octets[LONGEST:]
    shown: list[str] = []
    run: tuple[str, bytes] = "", b""  # neighbouring words of one charset: a character may be cut between them
    at = 0
    for found in _WORD.finditer(octets):
        charset, between = found[1].decode("latin-1").lower(), octets[at : found.start()]
        at = found.end()
        if run[0] and not between.strip(b" \t") and run[0] == charset:
            run = charset, run[1] + _decoded(found)
            continue
        shown += (_run(*run), "" if run[0] and not between.strip(b" \t") else text(between))
        run = charset, _decoded(found)
    shown += (_run(*run), text(octets[at:] + rest))
    return "".join(shown).strip(" \t")


def text(octets: bytes, charset: str = "") -> str:
    """Octets as text: in this charset, if Python knows it and they are; else in UTF-8; else each octet by itself."""
    for name in (charset, "utf-8"):
        try:
            if name and codecs.lookup(name).name not in _NO_CHARSETS:
                return octets.decode(name)
        except (LookupError, ValueError):  # no such charset, or not in it
            continue
    return octets.decode("latin-1")


def _run(charset: str, octets: bytes) -> str:
    return text(octets, charset) if charset else ""


def _decoded(found: re.Match[bytes]) -> bytes:
    """The octets of an encoded word; the word itself when its base64 is none."""
    if found[2] in b"qQ":
        return quopri.decodestring(found[3], header=True)
    try:
        return base64.b64decode(found[3] + b"=" * (-len(found[3]) % 4), validate=True)
    except ValueError:
        return found[0]
