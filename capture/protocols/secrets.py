"""Secrets on a line: found by the flag ``credential``, hidden octet for octet.

Claim: the masked line is as long as the line, so offsets, spans and sequence numbers stay true, and every exit masks
the same octets. Hidden are the SASL messages of the client (RFC 4954 4, RFC 5034 4), the arguments of PASS and APOP
(RFC 1939 7), the password of LOGIN and literals in its place (RFC 9051 6.2.3), and whole lines that may hold one of
these (a piece behind a gap, an AUTH response that was taken for a command, a command that was meant to be PASS or
AUTH). A server's challenge stays visible: it is no secret.
"""

from __future__ import annotations

import re

from capture.model import Line, Span

FLAG = "credential"
MASK = b"*"

_SECRET = frozenset({"initial-response", "auth-response", "argument", "literal"})
_PUBLIC = frozenset({"crlf", "lf", "sp"})
_UNPARSED = frozenset({"unknown command", "command (fragment)"})


_WORDS = re.compile(rb"[^A-Za-z0-9+/=]*([A-Za-z]*)[^A-Za-z0-9+/=]*(.*)", re.DOTALL)
_PASSWORD = re.compile(rb"(?i)(?<![a-z])PASS(?:WO?R?D)?(?:\s*[:=]\s*\S|\s+\S+\s*\Z)")
_MECHANISM = rb"(?:PLAIN|LOGIN|CRAM|DIGEST|SCRAM|NTLM|X?OAUTH|GSSAPI|EXTERNAL)"
_AUTH = re.compile(rb"(?i)\s*(?:AUTH\W*)?" + _MECHANISM + rb"[A-Z0-9-]*[\s:=]+[A-Za-z0-9+/]{3,}={0,2}\s*\Z")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{8,}={0,2}\Z")


def mistyped(text: bytes) -> bool:
    """Whether a line that is no command was perhaps meant to be PASS or AUTH, so that it may hold a password.

    text: without its line end. ``PASSS x``, ``PAS x``, ``PASS: x``, `` PASS x``, ``USER me PASS x``, ``AUTHPLAIN x``.
    """
    if _PASSWORD.search(text) or _AUTH.match(text):
        return True
    word, rest = _WORDS.fullmatch(text).groups()  # type: ignore[union-attr]  # it matches anything
    if not rest:
        return False
    word = word.upper()
    if _near(word, b"PASS"):
        return True
    arguments = rest.split()
    return _near(word, b"AUTH") and (len(arguments) > 1 or _BASE64.match(arguments[0]) is not None)


def _near(word: bytes, meant: bytes) -> bool:
    """One letter too many, too few or wrong, or two exchanged; or none of these."""
    if len(word) == len(meant):
        wrong = [place for place in range(len(word)) if word[place] != meant[place]]
        if len(wrong) < 2:
            return True
        first, *more = wrong
        return more == [first + 1] and word[first : first + 2] == meant[first : first + 2][::-1]
    shorter, longer = sorted((word, meant), key=len)
    return len(longer) == len(shorter) + 1 and any(
        longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer))
    )


def secret_spans(line: Line) -> tuple[Span, ...]:
    """The spans of a line that must not be shown."""
    if FLAG not in line.flags:
        return ()
    if line.pdu.name in _UNPARSED:
        return tuple(span for span in line.spans if span.field not in _PUBLIC)
    return tuple(span for span in line.spans if span.field in _SECRET)


def mask(line: Line) -> bytes:
    """The octets of a line with its secrets replaced by ``*``, of the same length."""
    if FLAG not in line.flags:
        return line.data
    data = bytearray(line.data)
    for span in secret_spans(line):
        data[span.start : span.end] = MASK * (span.end - span.start)
    return bytes(data)
