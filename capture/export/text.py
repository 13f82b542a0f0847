"""Labelled lines for people: a column each for frame, time, direction, label and PDU, then the line itself.

Claim: no captured octet reaches the terminal alive. Control characters are shown by their pictures (CR LF as ␍␊),
octets above 127 as ·, so that one octet is one character; what else stands in a row is ours. Secrets are masked by as
many octets unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from capture import runs
from capture.labels import label
from capture.model import Conversation, Line, Missing, Run, Side
from capture.protocols.secrets import mask

ARROWS = {Side.CLIENT: "C▶S", Side.SERVER: "S▶C"}
_PICTURES = {octet: chr(0x2400 + octet) for octet in range(0x20)} | {0x7F: "␡"} | dict.fromkeys(range(0x80, 0x100), "·")


def visible(octets: bytes) -> str:
    """As many printable characters as there are octets."""
    return octets.decode("latin-1").translate(_PICTURES)


def lines(
    rows: Iterable[Line | Missing | Run], conversations: Mapping[int, Conversation], show_secrets: bool = False
) -> Iterator[str]:
    """A heading, then one row for each line and gap, in the order given; a row that says who talks at every change.

    Times are seconds since the first conversation began.
    """
    start: int | None = None
    current = 0
    for row in _one_by_one(rows):
        if start is None:
            start = min((one.start for one in conversations.values() if one.start), default=row.time)
            yield f"{'frame':>9}  {'seconds':>11}  {'way':3}  {'label':9}  {'of the PDU':24}  line"
        if row.conversation != current:
            current = row.conversation
            yield _who(current, conversations.get(current))
        yield _row(row, start, show_secrets)


def _one_by_one(rows: Iterable[Line | Missing | Run]) -> Iterator[Line | Missing]:
    for row in rows:
        if isinstance(row, Run):
            yield from runs.lines(row)
        else:
            yield row


def _who(ident: int, conversation: Conversation | None) -> str:
    if conversation is None:
        return f"── conversation {ident}"
    protocol = conversation.protocol or "protocol unknown"
    return f"── conversation {ident}: client {conversation.client} ↔ server {conversation.server}, {protocol}"


def _row(row: Line | Missing, start: int, show_secrets: bool) -> str:
    when = f"{(row.time - start) / 1e9:11.6f}"
    way = ARROWS[row.side]
    if isinstance(row, Missing):
        return f"{'':>9}  {when}  {way}  {'':9}  {'':24}  … {row.length} octet{'s' * (row.length != 1)} not captured"
    pdu = f"{row.pdu.name} {row.pdu.ident}"
    octets = visible(row.data if show_secrets else mask(row))
    flags = f"  ⟨{', '.join(row.flags)}⟩" if row.flags else ""
    return f"{_frames(row.frames):>9}  {when}  {way}  {label(row).value:9}  {pdu:24}  {octets}{flags}"


def _frames(frames: tuple[int, ...]) -> str:
    if len(frames) < 2:
        return str(frames[0]) if frames else ""
    return f"{frames[0]}–{frames[-1]}"
