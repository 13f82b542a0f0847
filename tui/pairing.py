"""``wiretalk pairs``: commands and replies side by side, with how long each reply took.

Claim: no captured octet is printed but verbs and reply codes, so no secret can be; a pair is printed as soon as its
reply is complete, and what a conversation comes to stands behind all pairs.

As JSON, one object a line: ``{"conversation": n, "command": UNIT|null, "reply": UNIT|null, "latency": seconds|null}``,
a UNIT being ``{"side", "pdu", "pdu_id", "verb"|"code", "offset", "octets", "lines", "time", "frames": [first, last]}``
(the time as text, exact to its nine decimals);
then for each conversation ``{"conversation", "summary": {"commands", "replies", "alone", "round_trips",
"round_trips_without_pipelining", "saved", "latency": {"count", "least", "mean", "most"}}}``, times in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from capture.analyzer import Analyzer
from capture.errors import ExitCode
from capture.pairs import Pair, Pairs, Trips, Unit
from tui.reading import Reading, beside

HEADING = f"{'conv':>5}  {'command':24} {'reply':24} {'latency ms':>12}  frames"


def pair_files(files: Sequence[str], form: str, out: TextIO, err: TextIO, *, conversation: int | None = None) -> int:
    """Print the pairs of ``files`` as ``form`` (``table`` or ``jsonl``) to ``out``.

    Returns an `ExitCode`: OK, NOTHING_FOUND (no command and no reply), USAGE (a file is damaged). Raises
    `CaptureError`.
    """
    pair_row, trips_row = FORMATS[form]
    analyzer, pairs, reading = Analyzer(), Pairs(), Reading(files, err, beside(out, files, err))
    found = False

    def tell(pair: Pair) -> None:
        nonlocal found
        if conversation is None or pair.conversation == conversation:
            if not found and form == "table":
                out.write(HEADING + "\n")
            found = True
            out.write(pair_row(pair) + "\n")

    for batch in reading.batches():
        for frame in batch:
            pairs.tell(frame)
        for pair in pairs.feed(analyzer.feed_all(batch)):
            tell(pair)
    for update in analyzer.finishing():
        for pair in pairs.feed(update):
            tell(pair)
    for pair in pairs.finish():
        tell(pair)
    for trips in pairs.trips():
        if conversation is None or trips.conversation == conversation:
            out.write(trips_row(trips) + "\n")
    if not found:
        err.write("wiretalk: no command and no reply in this capture.\n")
    if reading.damaged:
        return ExitCode.USAGE
    return ExitCode.OK if found else ExitCode.NOTHING_FOUND


def _seconds(time: int | None) -> float | None:
    return None if time is None else time / 1e9


def _unit(unit: Unit | None, name: str) -> dict[str, Any] | None:
    if unit is None:
        return None
    return {
        "side": unit.side.value,
        "pdu": unit.name,
        "pdu_id": unit.ident,
        name: unit.verb if name == "verb" else unit.code,
        "offset": unit.offset,
        "octets": unit.end - unit.offset,
        "lines": unit.lines,
        "time": f"{unit.begin // 1_000_000_000}.{unit.begin % 1_000_000_000:09}",
        "frames": list(unit.frames),
    }


def _pair_json(pair: Pair) -> str:
    return json.dumps(
        {
            "conversation": pair.conversation,
            "command": _unit(pair.command, "verb"),
            "reply": _unit(pair.reply, "code"),
            "latency": _seconds(pair.latency),
        }
    )


def _trips_json(trips: Trips) -> str:
    latency = {
        "count": trips.latencies,
        "least": _seconds(trips.least),
        "mean": _seconds(trips.mean),
        "most": _seconds(trips.most),
    }
    summary = {
        "commands": trips.commands,
        "replies": trips.replies,
        "alone": trips.alone,
        "round_trips": trips.round_trips,
        "round_trips_without_pipelining": trips.commands if trips.replies else None,
        "saved": trips.saved,
        "latency": latency,
    }
    return json.dumps({"conversation": trips.conversation, "summary": summary})


def _pair_row(pair: Pair) -> str:
    asked = f"{pair.command.name} {pair.command.ident}" if pair.command is not None else "–"
    said = f"{pair.reply.name} {pair.reply.ident}" if pair.reply is not None else "–"
    latency = pair.latency
    took = f"{latency / 1e6:.3f}" if latency is not None else ""
    frames = [str(unit.frames[0]) for unit in (pair.command, pair.reply) if unit is not None]
    return f"{pair.conversation:>5}  {asked:24} {said:24} {took:>12}  {' → '.join(frames)}"


def _trips_row(trips: Trips) -> str:
    text = f"conversation {trips.conversation}: {trips.commands} commands, {trips.replies} replies"
    if trips.alone:
        text += f" ({trips.alone} without a command)"
    if trips.round_trips is not None:
        text += f"; {trips.round_trips} round trips, pipelining saved {trips.saved}"
    if trips.least is not None and trips.mean is not None and trips.most is not None:
        text += f"; latency {trips.least / 1e6:.3f} to {trips.most / 1e6:.3f} ms, {trips.mean / 1e6:.3f} on average"
    return text


FORMATS: dict[str, tuple[Callable[[Pair], str], Callable[[Trips], str]]] = {
    "table": (_pair_row, _trips_row),
    "jsonl": (_pair_json, _trips_json),
}
