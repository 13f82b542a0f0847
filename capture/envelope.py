"""What is said of a message before it: MAIL, RCPT and BDAT, read from their lines.

Claim: a path is what stood between the brackets, and a line that is cut has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from capture.model import Line, Span
from capture.unit import CUT

RECIPIENTS = 1000  # listed of one message: ten times what every server must take (RFC 5321 4.5.3.1.8)


@dataclass(slots=True)
class Recipient:
    """An envelope recipient, and the reply code to its RCPT, ``""`` when it was not seen."""

    address: str
    code: str = ""


@dataclass(slots=True)
class Envelope:
    """What was said of a message before it. mail_from None: no MAIL was captured; whole: nothing is missing between
    MAIL and the message; more: recipients beyond `RECIPIENTS`."""

    mail_from: str | None = None
    recipients: list[Recipient] = field(default_factory=list)
    whole: bool = True
    more: int = 0


def _span(line: Line, name: str) -> Span | None:
    return next((span for span in line.spans if span.field == name), None)


def chunk(line: Line) -> tuple[int, bool]:
    """Size and LAST of a BDAT line; -1 when it is no such line."""
    size = _span(line, "chunk-size")
    if size is None or "syntax" in line.flags:
        return -1, False
    return int(line.data[size.start : size.end]), _span(line, "last") is not None


def path(line: Line, name: str) -> str | None:
    """The address of a path, without brackets; None when the line lacks it, or may lack a part of it."""
    span = _span(line, name)
    if span is None or not CUT.isdisjoint(line.flags):
        return None
    octets = line.data[span.start : span.end]
    if octets[:1] == b"<" and octets[-1:] == b">":
        octets = octets[1:-1]
    try:
        return octets.decode()  # RFC 6531 3.3
    except UnicodeDecodeError:
        return octets.decode("latin-1")
