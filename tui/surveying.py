"""``wiretalk conversations``: saved captures to one row for each conversation on standard output.

Claim: what a damaged file still holds is printed before its damage is told. A row of ``jsonl`` is one object:

    {"conversation": n, "client": "address:port", "server": "address:port", "protocol": "smtp"|"lmtp"|"pop3"|…|"",
     "start": seconds since 1970, "duration": seconds, "frames": n, "octets": {"C": n, "S": n},
     "sha256": {"C": hex, "S": hex}, "gaps": {"C": [[stream offset, length], …], "S": […]}, "commands": n,
     "messages": n, "mail_from": [paths], "rcpt_to": [paths], "last_reply": code|null, "notes": {kind: n}}

Times have all their nine decimals. ``octets`` are the captured ones, those that ``sha256`` is taken over; what the
other figures count is defined in `capture.facts`. Numbers are those of ``wiretalk label``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import TextIO

from capture.errors import ExitCode
from capture.facts import Facts
from capture.front import STRANGERS, Front
from capture.intake import take_in
from capture.model import Endpoint
from capture.sources.files import DAMAGE
from tui.progress import Progress

_SECOND = 1_000_000_000
_HEADING = (
    f"{'no':>6}  {'start (UTC)':19}  {'seconds':>10}  {'client':>24} ▶ {'server':24}  {'protocol':8}  {'frames':>7}  "
    f"{'octets C▶S':>11}  {'octets S▶C':>11}  {'commands':>8}  {'messages':>8}  {'reply':>5}  from ▶ to, oddities"
)


def list_conversations(files: Sequence[str], form: str, out: TextIO, err: TextIO, *, every: bool = False) -> int:
    """Read ``files``, write a row for each conversation as ``form`` to ``out``, and what was odd to ``err``.

    every: however many of them are no mail; else `STRANGERS` of these are listed. Rows are written as soon as nothing
    can change them. Returns an `ExitCode`: OK, NOTHING_FOUND (no conversation), USAGE (a file is damaged). Raises
    `CaptureError` for a file that is no capture at all.
    """
    front, found = Front(strangers=None if every else STRANGERS), 0
    write, printed = out.write, FORMS[form]()

    def passed(frames: int, octets: int) -> None:
        nonlocal found
        progress.counted(frames, octets)
        for row in front.rows():
            found += 1
            progress.end()  # the terminal may be the same
            write(printed(row) + "\n")

    with Progress(files, err) as progress, _uncollected():
        notes = take_in(front, files, passed)
        front.finish()
        passed(0, 0)
    for note in notes:
        err.write(f"wiretalk: {note.text}\n")
    if front.passed:
        err.write(f"wiretalk: {front.passed} more conversations are no mail; --all lists them too.\n")
    if any(note.kind in DAMAGE for note in notes):
        return ExitCode.USAGE
    if not found:
        err.write("wiretalk: no conversation: no TCP segment in this capture.\n")
        return ExitCode.NOTHING_FOUND
    return ExitCode.OK


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cyclic garbage collector: what is made here refers to nothing that refers back, and is much."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def jsonl() -> Callable[[Facts], str]:
    """A printer of JSON objects, without line ends, in printable ASCII."""
    return _object


def _object(row: Facts) -> str:
    (client, server), (client_sum, server_sum), (client_gaps, server_gaps) = row.octets, row.sha256, row.gaps
    code = row.last_reply
    last = "null" if code is None else quote(code) if isinstance(code, str) else code
    return (
        f'{{"conversation": {row.ident}, "client": "{_end(*row.client)}", "server": "{_end(*row.server)}", '
        f'"protocol": "{row.protocol}", "start": {_seconds(row.start)}, '
        f'"duration": {_seconds(row.end - row.start)}, '
        f'"frames": {row.frames}, "octets": {{"C": {client}, "S": {server}}}, '
        f'"sha256": {{"C": "{client_sum}", "S": "{server_sum}"}}, '
        f'"gaps": {{"C": {_gaps(client_gaps)}, "S": {_gaps(server_gaps)}}}, '
        f'"commands": {row.commands}, "messages": {row.messages}, "mail_from": {_strings(row.mail_from)}, '
        f'"rcpt_to": {_strings(row.rcpt_to)}, "last_reply": {last}, "notes": {_notes(row.notes)}}}'
    )


def table() -> Callable[[Facts], str]:
    """A printer of rows for people, a heading above the first. No captured octet reaches the terminal alive."""
    heading = _HEADING + "\n"

    def printed(row: Facts) -> str:
        nonlocal heading
        above, heading = heading, ""
        reply = "" if row.last_reply is None else str(row.last_reply)
        return above + (
            f"{row.ident:6}  {_moment(row.start)}  {(row.end - row.start) / _SECOND:10.3f}  "
            f"{row.client!s:>24} ▶ {row.server!s:24}  "
            f"{row.protocol or '?':8}  {row.frames:7}  {row.octets[0]:11}  {row.octets[1]:11}  {row.commands:8}  "
            f"{row.messages:8}  {reply:>5}  {_oddities(row)}"
        )

    return printed


FORMS: dict[str, Callable[[], Callable[[Facts], str]]] = {"table": table, "jsonl": jsonl}


def _oddities(row: Facts) -> str:
    """Who wrote to whom, what is missing, and what was noted."""
    from capture.export.text import visible  # a table is printed at leisure

    parts = []
    if row.mail_from or row.rcpt_to:
        names = [", ".join(visible(path.encode("latin-1")) or "<>" for path in paths) for paths in row[12:14]]
        parts.append(" ▶ ".join(names))
    missing = sum(length for gaps in row.gaps for _, length in gaps)
    if missing:
        parts.append(f"{missing} octets not captured")
    parts += [f"{kind} ×{times}" for kind, times in row.notes.items()]
    return "; ".join(parts)


def _end(address: bytes, port: int) -> str:
    return f"{_host(address)}:{port}"


@lru_cache(maxsize=4096)
def _host(address: bytes) -> str:
    return str(Endpoint(address, 0)).rpartition(":")[0]


def _gaps(gaps: tuple[tuple[int, int], ...]) -> str:
    return f"[{', '.join(f'[{offset}, {length}]' for offset, length in gaps)}]"


def _strings(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(map(quote, texts))}]"


def _notes(notes: dict[str, int]) -> str:
    return f"{{{', '.join(f'{quote(kind)}: {count}' for kind, count in notes.items())}}}"


def _seconds(time: int) -> str:
    """Nanoseconds as seconds, exactly."""
    whole, fraction = divmod(abs(time), _SECOND)
    return f"{'-' if time < 0 else ''}{whole}.{fraction:09d}"


def _moment(time: int) -> str:
    """Date and time of day; a broken file may say any year."""
    try:
        return datetime.fromtimestamp(time // _SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{time // _SECOND:19}"
