"""Labelled lines as JSON, one object a line: the contract for programs.

Claim: each line is pure printable ASCII, ``json.loads`` gives back every captured octet (as latin-1), and the time has
all its nine decimals. A line is

    {"conversation": n, "side": "C"|"S", "n": its number within the side, "offset": stream offset, "time": seconds,
     "line": octets as latin-1, "label": "PDU"|"PCI"|"user data", "pdu": name, "pdu_id": "C3",
     "spans": [[start, end, "pci"|"ud", field], …], "flags": […], "frames": [numbers]}

and a gap is ``{"conversation": n, "side": …, "offset": …, "gap": octets}``. Secrets are masked, octet for octet, unless
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from json.encoder import encode_basestring_ascii as quote

from capture.labels import label
from capture.model import Conversation, Line, Missing
from capture.protocols.secrets import mask


def lines(
    rows: Iterable[Line | Missing],
    conversations: Mapping[int, Conversation],  # noqa: ARG001  # the signature of every format
    show_secrets: bool = False,
) -> Iterator[str]:
    """One JSON object for each row, in the order given (by contract that of `Line.order`), without line ends."""
    for row in rows:
        yield _gap(row) if isinstance(row, Missing) else _line(row, show_secrets)


def _line(line: Line, show_secrets: bool) -> str:
    octets = line.data if show_secrets else mask(line)
    spans = ", ".join(f'[{start}, {end}, "{role.value}", {quote(name)}]' for start, end, role, name in line.spans)
    return (
        f'{{"conversation": {line.conversation}, "side": "{line.side.value}", "n": {line.number}, '
        f'"offset": {line.offset}, "time": {_seconds(line.time)}, "line": {quote(octets.decode("latin-1"))}, '
        f'"label": "{label(line).value}", "pdu": {quote(line.pdu.name)}, "pdu_id": {quote(line.pdu.ident)}, '
        f'"spans": [{spans}], "flags": [{", ".join(map(quote, line.flags))}], '
        f'"frames": [{", ".join(map(str, line.frames))}]}}'
    )


def _gap(gap: Missing) -> str:
    return (
        f'{{"conversation": {gap.conversation}, "side": "{gap.side.value}", '
        f'"offset": {gap.offset}, "gap": {gap.length}}}'
    )


def _seconds(time: int) -> str:
    """Nanoseconds as seconds, exactly: a float would lose the last two or three digits."""
    whole, fraction = divmod(abs(time), 1_000_000_000)
    return f"{'-' if time < 0 else ''}{whole}.{fraction:09d}"
