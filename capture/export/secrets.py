"""Passwords out of sight: `mask` gives a line's octets with a star for each octet that may tell one.

Claim: as many octets come out as went in, so offsets, spans and sequence numbers stay true; and in a line that the
dialogue flagged ``credential`` only what the protocol itself says is left to read. Source: RFC 4954 (AUTH), RFC 1939
(PASS, APOP).
"""

from __future__ import annotations

from capture.model import Line

FLAG = "credential"

# The protocol's own words in such a line. Whatever is not among them may be a password, also an argument that is
# malformed, or the rest of a command that a gap cut.
_PLAIN = frozenset({"verb", "keyword", "sp", "mechanism", "empty-initial-response", "auth-cancel"}) | frozenset(
    {"reply-code", "status-indicator", "separator", "crlf", "lf"}
)


def mask(line: Line) -> bytes:
    """The line's octets, secrets as ``*``."""
    if FLAG not in line.flags:
        return line.data
    octets = bytearray(line.data)
    for start, end, _role, name in line.spans:
        if name not in _PLAIN:
            octets[start:end] = b"*" * (end - start)
    return bytes(octets)
