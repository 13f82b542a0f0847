"""The label of a line: *Whole? PDU. Somebody else's octets in it? User data. Else PCI.*

Claim: a label is computed from what a line is and which layer asks, never stored (X.200 5.6.1.1-5.6.1.3). The readings
on which the sources disagree are switched in one frozen value, `Readings`, and nowhere else. Two of them join lines to
other PDUs, and two need the line behind or in front: `capture.readings.reread` does that, for a whole conversation; the
roles alone are here.
"""

from __future__ import annotations

from dataclasses import dataclass

from capture.model import Label, Layer, Line, Role, Span


@dataclass(frozen=True, slots=True)
class Readings:
    """The contested readings (labels.md 2.6, `capture.glossary.readings`); the defaults are the scheme's.

    addresses (C1): role of envelope addresses; reply_text (C2): of the text of replies.
    data_is_one (C3): the DATA command and the mail data are one PDU.
    auth_is_one, sasl (C4): AUTH and its responses are one PDU; role of the base64 of an AUTH exchange.
    dot_line_end (C5): role of the CRLF in front of the lone dot.
    for_the_reader (C6): names of header fields, small letters, whose body is user data of the message layer.
    """

    addresses: Role = Role.PCI
    reply_text: Role = Role.PCI
    data_is_one: bool = False
    auth_is_one: bool = False
    sasl: Role = Role.USER_DATA
    dot_line_end: Role = Role.USER_DATA
    for_the_reader: frozenset[str] = frozenset()


DEFAULT = Readings()

_ADDRESSES = frozenset({"reverse-path", "forward-path"})
_REPLY_TEXT = frozenset({"text", "greet-text"})
_SASL = frozenset({"initial-response", "auth-response", "challenge"})


def spans(line: Line, readings: Readings = DEFAULT, *, before_dot: bool = False) -> tuple[Span, ...]:
    """The spans of a line with the roles that the readings give them. before_dot: the lone dot is the next line."""
    if readings == DEFAULT:
        return line.spans
    return tuple(span._replace(role=_role(span, readings, before_dot)) for span in line.spans)


def _role(span: Span, readings: Readings, before_dot: bool) -> Role:
    if span.field in _ADDRESSES:
        return readings.addresses
    if span.field in _REPLY_TEXT:
        return readings.reply_text
    if span.field in _SASL:
        return readings.sasl
    if before_dot and span.field == "line-end":
        return readings.dot_line_end
    return span.role


def label(
    line: Line, layer: Layer = Layer.APPLICATION, readings: Readings = DEFAULT, *, before_dot: bool = False
) -> Label:
    """What a line is to the layer in view.

    Units of every layer are lines: of the message (`capture.protocols.message`), the application, TLS; and segments,
    packets and frames (`capture.layers`).

    To every layer below the line's own, it is a part of what that layer carries unread: user data. To a layer above,
    the question is not asked: the answer is that of the line's own layer.
    """
    if layer < line.layer:
        return Label.USER_DATA
    if line.whole:
        return Label.PDU
    user_data = Role.USER_DATA
    for span in spans(line, readings, before_dot=before_dot):
        if span.role is user_data:
            return Label.USER_DATA
    return Label.PCI
