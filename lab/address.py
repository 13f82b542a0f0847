"""Addresses as they stand in MAIL and RCPT: the grammar of RFC 5321 4.1.2, and nothing more lenient.

Claim: what `parse` returns can be written back as ``<local@domain>`` and means the same mailbox. aiosmtpd's own
parser is that of RFC 5322 header fields: it takes ``<a@b`` and quotes ``<a b@c>``, which a lesson in SMTP must not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
# Underscore is no part of a sub-domain, yet hosts have it; a name is looked up, not judged.
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_DOMAIN = rf"{_NAME}(?:\.{_NAME})*"
_LITERAL = r"\[[!-Z^-~]+\]"
_ROUTE = rf"@{_DOMAIN}(?:,@{_DOMAIN})*:"

_MAILBOX = re.compile(rf"(?P<local>{_DOT_STRING}|{_QUOTED})@(?P<domain>{_DOMAIN}|{_LITERAL})")
_UNQUOTE = re.compile(r"\\(.)")


class Mailbox(NamedTuple):
    """``local@domain`` as it was written; `user` is the local part as a key: unquoted, in lower case."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def user(self) -> str:
        """The local part for looking up. Whose mail it is knows whether case counts (RFC 5321 2.4); ours ignores it."""
        local = self.local
        if local.startswith('"'):
            local = _UNQUOTE.sub(r"\1", local[1:-1])
        return local.lower()


class AddressSyntaxError(ValueError):
    """The path is not one of RFC 5321 4.1.2; the text is a sentence for the person who typed it."""


def parse(text: str) -> Mailbox:
    """``local@domain`` → `Mailbox`. Raises `AddressSyntaxError`."""
    match = _MAILBOX.fullmatch(text)
    if match is None:
        raise AddressSyntaxError(_what_is_wrong(text))
    return Mailbox(match["local"], match["domain"])


def split_path(text: str) -> tuple[str, str]:
    """``<path> parameters`` → (``path``, ``parameters``), the angle brackets taken off. Raises `AddressSyntaxError`.

    A ``>`` inside a quoted local part does not end the path.
    """
    if not text.startswith("<"):
        raise AddressSyntaxError("the address must stand in angle brackets, <user@domain>")
    quoted = escaped = False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            rest = text[at + 1 :]
            if rest and not rest.startswith(" "):
                raise AddressSyntaxError("something follows the closing angle bracket")
            return text[1:at], rest.strip()
    raise AddressSyntaxError("the closing angle bracket is missing")


def parse_path(path: str) -> Mailbox:
    """What stood between the angle brackets, source route and all → `Mailbox`. Raises `AddressSyntaxError`.

    A source route (``@a,@b:user@c``) must be accepted and may be ignored (RFC 5321 appendix C).
    """
    match = re.match(_ROUTE, path)
    return parse(path[match.end() :] if match else path)


def _what_is_wrong(text: str) -> str:
    if not text:
        return "the address is empty"
    if "@" not in text:
        return "the address lacks @domain"
    if " " in text:
        return "an address holds no space"
    if "<" in text or ">" in text:
        return "angle brackets do not nest"
    return "this is no mailbox of the form user@domain"
