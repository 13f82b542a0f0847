"""``wiretalk notes``: the oddities of a capture, each with its place, a sentence and a source.

Claim: every note is printed, in the order in which it was made: those on the capture file, on the streams and
conversations, and on the messages in them. The octets that a note keeps (the other copy, in a conflict) may be secret:
how many they are is printed, and they themselves, in hex, only when asked for.

As JSON, one object a line: ``{"kind", "text", "frame": n|null, "conversation": n|null, "side": "C"|"S"|null, "offset":
n|null, "octets": n, "sentence", "citation"}``, with ``"hex"`` when octets are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from capture.analyzer import Analyzer
from capture.errors import ExitCode
from capture.export.text import visible
from capture.glossary import explain
from capture.model import Note, Side, Update
from capture.protocols.message import Messages
from tui.reading import Reading, beside

OCTETS = 64  # of a note's octets that are shown in hex
HEADING = f"{'frame':>9}  {'conv':>5}  {'side':4}  {'offset':>10}  {'kind':20}  what"


def note_files(
    files: Sequence[str],
    form: str,
    out: TextIO,
    err: TextIO,
    *,
    conversation: int | None = None,
    octets: bool = False,
) -> int:
    """Print the notes on ``files`` as ``form`` (``table`` or ``jsonl``) to ``out``; octets: those that notes keep too.

    Returns an `ExitCode`: OK, NOTHING_FOUND (nothing is odd), USAGE (a file is damaged). Raises `CaptureError`.
    """
    analyzer, messages, reading = Analyzer(), _OfMessages(), Reading(files, err, beside(out, files, err))
    found, kinds = False, dict[str, int]()

    def tell(notes: Iterable[Note]) -> None:
        nonlocal found
        for note in notes:
            if conversation is None or note.conversation == conversation:
                if not found and form == "table":
                    out.write(HEADING + "\n")
                found = True
                kinds[note.kind] = kinds.get(note.kind, 0) + 1
                out.write(FORMATS[form](note, octets) + "\n")

    for batch in reading.batches():
        update = analyzer.feed_all(batch)
        tell(_all(update))
        tell(messages.feed(update))
    for update in analyzer.finishing():
        tell(_all(update))
        tell(messages.feed(update))
    tell(messages.finish())
    tell(reading.notes)
    if form == "table":
        for kind, count in sorted(kinds.items()):
            entry = explain(kind)
            out.write(f"{count} × {kind}: {entry.sentence} ({entry.citation})\n")
    if reading.damaged:
        return ExitCode.USAGE
    if not found:
        err.write("wiretalk: nothing odd in this capture.\n")
    return ExitCode.OK if found else ExitCode.NOTHING_FOUND


def _all(update: Update) -> Iterator[Note]:
    """The notes of an update, and its gaps as such."""
    yield from update.notes
    for gap in update.gaps:
        text = f"{gap.length} octets were not captured."
        yield Note("gap", text, 0, gap.conversation, gap.side, gap.offset)


class _OfMessages:
    """What is odd about messages: header fields, MIME parts."""

    def __init__(self) -> None:
        self._readers: dict[tuple[int, Side], Messages] = {}

    def feed(self, update: Update) -> Iterator[Note]:
        for line in update.lines:
            key = line.conversation, line.side
            reader = self._readers.get(key)
            if reader is None:
                reader = self._readers[key] = Messages()
            reader.feed(line)
            yield from reader.take_notes()
        for fact in update.conversations:
            if fact.over:
                yield from self._close(fact.ident)

    def finish(self) -> Iterator[Note]:
        for ident, _ in list(self._readers):
            yield from self._close(ident)

    def _close(self, ident: int) -> Iterator[Note]:
        """A conversation said its last word."""
        for side in Side:
            reader = self._readers.pop((ident, side), None)
            if reader is not None:
                reader.finish()
                yield from reader.take_notes()


def _json(note: Note, octets: bool) -> str:
    entry = explain(note.kind)
    return json.dumps(
        {
            "kind": note.kind,
            "text": note.text,
            "frame": note.frame or None,
            "conversation": note.conversation or None,
            "side": note.side.value if note.side is not None else None,
            "offset": note.offset if note.offset >= 0 else None,
            "octets": len(note.octets),
            "sentence": entry.sentence,
            "citation": entry.citation,
            **({"hex": note.octets[:OCTETS].hex()} if octets else {}),
        }
    )


def _row(note: Note, octets: bool) -> str:
    frame, talk = str(note.frame or ""), str(note.conversation or "")
    side, offset = note.side.value if note.side is not None else "", str(note.offset) if note.offset >= 0 else ""
    text = visible(note.text.encode("latin-1", "replace"))  # a file's name may stand in it
    text += f"  {note.octets[:OCTETS].hex(' ')}" if octets and note.octets else ""
    return f"{frame:>9}  {talk:>5}  {side:4}  {offset:>10}  {note.kind:20}  {text}"


FORMATS: dict[str, Callable[[Note, bool], str]] = {"table": _row, "jsonl": _json}
