"""Secrets on a line: found by the flag ``credential``, hidden octet for octet.

Claim: the masked line is as long as the line, so offsets, spans and sequence numbers stay true, and every exit masks
the same octets. Hidden are the SASL messages of the client (RFC 4954 4, RFC 5034 4), the arguments of PASS and APOP
(RFC 1939 7), the password of LOGIN and literals in its place (RFC 9051 6.2.3), and whole lines that may hold one of
these (a piece behind a gap, an AUTH response that was taken for a command). A server's challenge stays visible: it is
no secret.
"""

from __future__ import annotations

from capture.model import Line, Span

FLAG = "credential"
MASK = b"*"

_SECRET = frozenset({"initial-response", "auth-response", "argument", "literal"})
_PUBLIC = frozenset({"crlf", "lf", "sp"})
_UNPARSED = frozenset({"unknown command", "command (fragment)"})


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
