"""Labelled lines as JSON, one object a line: the contract for programs.

Claim: each line is pure printable ASCII, ``json.loads`` gives back every captured octet (as latin-1), and the time has
all its nine decimals. A line is

    {"conversation": n, "side": "C"|"S", "n": its number within the side, "offset": stream offset, "time": seconds,
     "line": octets as latin-1, "label": "PDU"|"PCI"|"user data", "pdu": name, "pdu_id": "C3",
     "spans": [[start, end, "pci"|"ud", field], …], "flags": […], "frames": [numbers], "layer": "application"|"tls"|…}

and a gap is ``{"conversation": n, "side": …, "offset": …, "gap": octets}``. Secrets are masked, octet for octet, unless
asked for.

A capture of mail is lines of mail data, millions of them, so these are printed a run at a time: what they share is
written once, their octets are escaped together. Other lines come again and again; what was printed of one is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote

from capture import runs
from capture.labels import label
from capture.model import Conversation, Layer, Line, Missing, Pdu, Run, Side, Span
from capture.protocols.secrets import mask

_CLIENT = Side.CLIENT
_ITSELF = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\') + b"\r\n"  # stands for itself in a run
_KEPT_OCTETS = 512  # of a line that is kept; longer ones do not come again
_KEPT = 4096  # lines of which the print is kept; a mail session has some dozens of different ones


def lines(
    rows: Iterable[Line | Missing | Run],
    conversations: Mapping[int, Conversation],  # noqa: ARG001  # the signature of every format
    show_secrets: bool = False,
) -> Iterator[str]:
    """One JSON object for each row, in the order given (by contract that of `Line.order`), without line ends.

    The lines of a run come in one piece, with line ends between them.
    """
    yield from map(Printer(show_secrets).row, rows)


class Printer:
    """Prints rows, and keeps what was printed of the latest lines."""

    __slots__ = ("_kept", "_names", "_show_secrets")

    def __init__(self, show_secrets: bool) -> None:
        self._show_secrets = show_secrets
        self._names: dict[Pdu, str] = {}
        self._kept: dict[tuple[object, ...], tuple[tuple[Span, ...], str, str, str]] = {}

    def row(self, row: Line | Missing | Run) -> str:
        """The row as `lines` gives it."""
        if isinstance(row, Run):
            return self._run(row)
        return self._line(row) if isinstance(row, Line) else _gap(row)

    def _line(self, line: Line) -> str:
        conversation, side, number, offset, data, pdu, spans, flags, whole, layer, frames, time, _ = line
        # The spans are those of the same reading of the line when they are the same object, which is kept with them.
        key = data, pdu.name, id(spans), flags, whole, layer
        kept = self._kept.get(key)
        if kept is None:
            kept = spans, *self._parts(line)
            if len(data) <= _KEPT_OCTETS:
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                self._kept[key] = kept
        _, text, name, rest = kept
        letter = "C" if side is _CLIENT else "S"
        return (
            f'{{"conversation": {conversation}, "side": "{letter}", "n": {number}, "offset": {offset}, '
            f'"time": {_seconds(time)}, "line": {text}, {name}, "pdu_id": "{pdu.ident}", '
            f'{rest}, "frames": {[*frames]}, "layer": "{_LAYERS[layer]}"}}'
        )

    def _parts(self, line: Line) -> tuple[str, str, str]:
        octets = line.data if self._show_secrets else mask(line)
        return (
            quote(octets.decode("latin-1")),
            f'"label": "{label(line).value}", "pdu": {quote(line.pdu.name)}',
            f'"spans": {_spans(line.spans)}, "flags": [{", ".join(map(quote, line.flags))}]',
        )

    def _run(self, run: Run) -> str:
        conversation, side, number, offset, data, pdu, flags, total, frames, time, _ = run
        name = self._names.get(pdu)
        if name is None:
            if len(self._names) >= _KEPT:
                self._names.clear()
            name = self._names[pdu] = (
                f'\\r\\n", "label": "user data", "pdu": {quote(pdu.name)}, "pdu_id": "{pdu.ident}", "spans": '
            )
        letter = "C" if side is _CLIENT else "S"
        head = f'{{"conversation": {conversation}, "side": "{letter}", "n": '
        middle = f', "time": {_seconds(time)}, "line": "'
        marks = ", ".join(map(quote, flags)) if flags else ""
        tail = f', "flags": [{marks}], "frames": {[*frames]}, "layer": "application"}}'
        as_it_is = not data.translate(None, _ITSELF)
        if as_it_is and total == 1:
            text = data[:-2].decode("ascii")
            return f'{head}{number}, "offset": {offset}{middle}{text}{name}{_PLAIN[len(data)]}{tail}'
        printed = []
        if as_it_is:
            parts = data.decode("ascii").split("\r\n")
            parts.pop()
            for text in parts:
                size = len(text) + 2
                printed.append(f'{head}{number}, "offset": {offset}{middle}{text}{name}{_PLAIN[size]}{tail}')
                number += 1
                offset += size
        else:
            # An escaped line ends in these four characters, and they stand nowhere else: what looks like a line end and
            # is none has its backslash doubled.
            parts = quote(data.decode("latin-1"))[1:-1].split("\\r\\n")
            parts.pop()
            for text, octets in zip(parts, data.splitlines(True), strict=True):
                printed.append(f'{head}{number}, "offset": {offset}{middle}{text}{name}{_PLAIN[len(octets)]}{tail}')
                number += 1
                offset += len(octets)
        return "\n".join(printed)


def _gap(gap: Missing) -> str:
    return (
        f'{{"conversation": {gap.conversation}, "side": "{gap.side.value}", '
        f'"offset": {gap.offset}, "gap": {gap.length}}}'
    )


@lru_cache(maxsize=64)
def _seconds(time: int) -> str:
    """Nanoseconds as seconds, exactly: a float would lose the last two or three digits."""
    whole, fraction = divmod(abs(time), 1_000_000_000)
    return f"{'-' if time < 0 else ''}{whole}.{fraction:09d}"


def _spans(spans: tuple[Span, ...]) -> str:
    each = (f'[{start}, {end}, "{role.value}", {quote(name)}]' for start, end, role, name in spans)
    return f"[{', '.join(each)}]"


_LAYERS = {layer: layer.name.lower() for layer in Layer}
_PLAIN = [_spans(runs.plain(size)) for size in range(runs.LONGEST + 1)]
