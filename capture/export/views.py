"""Labelled units of the other layers, as text for people and JSON for programs: what ``--layer`` shows.

Claim: one row for each PDU of the layer (a frame, a packet, a segment, a TLS record), or for each line of the message,
with the keys of `capture.export.jsonl`. What differs: for frames, packets and segments ``offset`` is the unit's place
in its frame, ``frames`` has that one number, ``line`` its octets, and spans count from its first octet. A unit that
belongs to no conversation has conversation 0 and side null. ``layer`` is the name that was asked for.

Secrets are masked octet for octet in whatever carries them, copies too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from json.encoder import encode_basestring_ascii as quote

from capture.export.text import ARROWS, visible
from capture.labels import DEFAULT, Readings, label
from capture.layers import BELOW, units
from capture.model import Frame, Layer, Line, Missing, Pdu, Role, Side, Span
from capture.places import Places, Secrets
from capture.protocols.message import Messages, carried

Row = Line | Missing
Start = Callable[[], int | None]

LAYERS = ("application", "message", "mime", "tls", "transport", "network", "link")  # ``mime`` is one above ``message``
IN_FRAMES = {layer.name.lower(): layer for layer in BELOW}
NOBODY = 0  # the conversation of a unit that belongs to none; its side says nothing

WAITING = 16_384  # rows behind a line of a message that is not finished; then they are printed before it
READERS = 65_536  # sides of conversations whose messages are counted; silent ones are forgotten first


def message(rows: Iterable[Row], *, mime: bool = False, readings: Readings = DEFAULT) -> Iterator[Row]:
    """The rows that carry messages, as the message layer sees them, or as MIME does; and the gaps in messages."""
    readers: dict[tuple[int, Side], Messages] = {}
    queue: deque[Row | None] = deque()  # None: its view is not made yet
    places: dict[tuple[int, Side, int], int] = {}  # where in the queue, counted from the first row ever
    gone = 0

    def seen(reader: Messages | None, line: Line | None) -> None:
        if reader is None:
            return
        for view in reader.finish() if line is None else reader.feed(line):
            shown = view.mime if mime else view.message
            place = places.pop((view.message.conversation, view.message.side, view.message.number), -1)
            if place >= gone:
                queue[place - gone] = shown if shown is not None else _EMPTY

    for row in rows:
        key = row.conversation, row.side
        reader = readers.get(key)
        if isinstance(row, Missing):
            if reader is not None and not reader.idle:
                queue.append(row)
        else:
            start, end = carried(row)
            if reader is None and (start < end or row.pdu.name == "BDAT command"):
                _forget(readers)
                reader = readers[key] = Messages(readings.for_the_reader)
            if start < end:
                places[(*key, row.number)] = gone + len(queue)
                queue.append(None)
            seen(reader, row)
        while queue and (queue[0] is not None or len(queue) > WAITING):
            gone += 1
            if (ready := queue.popleft()) is not None and ready is not _EMPTY:
                yield ready
    for reader in readers.values():
        seen(reader, None)
    yield from (row for row in queue if row is not None and row is not _EMPTY)


_EMPTY = Missing(0, Side.CLIENT, 0, 0)  # a line of which the layer sees nothing


def _forget(readers: dict[tuple[int, Side], Messages]) -> None:
    if len(readers) >= READERS:
        for key in [key for key, reader in readers.items() if reader.idle][: READERS // 4]:
            del readers[key]


def records(rows: Iterable[Row]) -> Iterator[Row]:
    """The TLS records among the rows, and the gaps between and behind them."""
    secured: dict[tuple[int, Side], None] = {}
    for row in rows:
        key = row.conversation, row.side
        if isinstance(row, Line) and row.layer is Layer.TLS:
            if len(secured) >= READERS:
                secured.clear()
            secured[key] = None
            yield row
        elif isinstance(row, Missing) and key in secured:
            yield row


def in_frames(frames: Iterable[Frame], layer: Layer, places: Places, secrets: Secrets | None = None) -> Iterator[Line]:
    """The units of LINK, NETWORK or TRANSPORT in these frames, as lines. places: was fed the whole capture.

    secrets: masked, if given. A unit's number counts within its conversation and side.
    """
    counts: dict[tuple[int, Side], int] = {}
    order = 0
    for frame in frames:
        found = [unit for unit in units(frame) if unit.layer is layer]
        if not found:
            continue
        where = places.of(frame.number)
        conversation, side = where[0][:2] if where else (NOBODY, Side.CLIENT)
        data = frame.data if secrets is None else secrets.hide(frame.data, where)
        for unit in found:
            number = counts[conversation, side] = counts.get((conversation, side), 0) + 1
            pdu = Pdu(unit.name, f"{side.value if conversation else 'F'}{number}")
            flags = () if unit.whole else ("incomplete",)
            yield Line(conversation, side, number, unit.start, data[unit.start : unit.end], pdu, unit.spans, flags,
                       unit.whole, layer, (frame.number,), frame.time, order)  # fmt: skip
            order += 1


def jsonl(rows: Iterable[Row], name: str, start: Start = lambda: None) -> Iterator[str]:  # noqa: ARG001
    """One JSON object for each row, without line ends. name: of `LAYERS`; start: as for `text`, not needed here."""
    for row in rows:
        side = f'"{row.side.value}"' if row.conversation != NOBODY else "null"
        head = f'{{"conversation": {row.conversation}, "side": {side}, '
        if isinstance(row, Missing):
            yield f'{head}"offset": {row.offset}, "gap": {row.length}}}'
            continue
        yield (
            f'{head}"n": {row.number}, "offset": {row.offset}, "time": {_seconds(row.time)}, '
            f'"line": {quote(row.data.decode("latin-1"))}, "label": "{label(row, row.layer).value}", '
            f'"pdu": {quote(row.pdu.name)}, "pdu_id": "{row.pdu.ident}", "spans": {_spans(row.spans)}, '
            f'"flags": [{", ".join(map(quote, row.flags))}], "frames": {[*row.frames]}, "layer": "{name}"}}'
        )


def text(rows: Iterable[Row], name: str, start: Start = lambda: None) -> Iterator[str]:
    """A heading, then one row for each unit: its label, how many of its octets are PCI, and what it says.

    name: of `LAYERS`; start: gives the time, ns, from which times count; of the first row if it has none to give.
    """
    zero: int | None = None
    for row in rows:
        if zero is None:
            zero = start() or row.time
            head = f"{'frame':>9}  {'seconds':>11}  {'conv':>5} way  {'label':9}  {'of the PDU':24}"
            yield f"{head}  {'PCI':>5} {'data':>5}  what"
        when, way = f"{(row.time - zero) / 1e9:11.6f}", ARROWS[row.side] if row.conversation else "   "
        who = f"{row.conversation or '-':>5} {way}"
        if isinstance(row, Missing):
            yield f"{'':>9}  {when}  {who}  … {row.length} octet{'s' * (row.length != 1)} not captured"
            continue
        pci, carries = (
            sum(s.end - s.start for s in row.spans if s.role is role) for role in (Role.PCI, Role.USER_DATA)
        )
        what = _fields(row) if name in IN_FRAMES else visible(_seen(row))
        flags = f"  ⟨{', '.join(row.flags)}⟩" if row.flags else ""
        pdu = f"{row.pdu.name} {row.pdu.ident}"
        about = f"{_frames(row.frames):>9}  {when}  {who}  {label(row, row.layer).value:9}  {pdu:24}"
        yield f"{about}  {pci:5} {carries:5}  {what}{flags}"


FORMATS: dict[str, Callable[[Iterable[Row], str, Start], Iterator[str]]] = {"text": text, "jsonl": jsonl}


@lru_cache(maxsize=4096)
def _spans(spans: tuple[Span, ...]) -> str:
    """As JSON. The same ones come again and again."""
    each = (f'[{start}, {end}, "{role.value}", {quote(field)}]' for start, end, role, field in spans)
    return f"[{', '.join(each)}]"


def _seen(row: Line) -> bytes:
    """The octets that the layer sees."""
    return row.data[row.spans[0].start : row.spans[-1].end] if row.spans else b""


def _fields(row: Line) -> str:
    """The fields that a person reads a header for."""
    told = (
        f"{field} {_VALUES[field](row.data[start:end])}"
        for start, end, role, field in row.spans
        if role is Role.PCI and field in _VALUES
    )
    return ", ".join(told)


def _address(octets: bytes) -> str:
    return str(ip_address(octets)) if len(octets) in (4, 16) else octets.hex(":")


def _number(octets: bytes) -> str:
    return str(int.from_bytes(octets, "big"))


def _vlan(octets: bytes) -> str:
    return str(int.from_bytes(octets, "big") & 0x0FFF)


def _flags(octets: bytes) -> str:
    names = (name for bit, name in zip((1 << n for n in range(8)), _FLAGS, strict=True) if octets[0] & bit)
    return " ".join(names) or "none"


_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_VALUES: dict[str, Callable[[bytes], str]] = {
    "source-address": _address,
    "destination-address": _address,
    "ethertype": bytes.hex,
    "tci": _vlan,
    "protocol": _number,
    "next-header": _number,
    "source-port": _number,
    "destination-port": _number,
    "sequence-number": _number,
    "acknowledgment-number": _number,
    "flags": _flags,
    "pad": lambda octets: f"{len(octets)} octets",
}


def _frames(frames: tuple[int, ...]) -> str:
    return "–".join(map(str, dict.fromkeys((frames[0], frames[-1])))) if frames else ""


def _seconds(time: int) -> str:
    whole, fraction = divmod(abs(time), 1_000_000_000)
    return f"{'-' if time < 0 else ''}{whole}.{fraction:09d}"
