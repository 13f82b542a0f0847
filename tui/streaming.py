"""``wiretalk stream``: what one side of one conversation sent, as octets.

Claim: standard output gets the captured octets of the stream, each once, in order, and nothing else; what is missing
between them is told on standard error. Octets go out as they come into order, so memory does not grow with them. They
are never written to a terminal, which would obey some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, TextIO

from capture.analyzer import Analyzer
from capture.errors import ExitCode, WiretalkError
from capture.model import Chunk, Conversation, Gap, Line, Missing, Note, Pdu, Role, Side, Span, Update
from tui.progress import Progress
from tui.reading import Reading

GAPS = 20  # told one by one; the others are counted


def stream_file(
    files: Sequence[str], conversation: int, side: Side, out: BinaryIO, err: TextIO, *, terminal: bool = False
) -> int:
    """Write the octets of ``side`` of ``conversation`` to ``out``, the gaps between them to ``err``.

    terminal: ``out`` is one. Returns an `ExitCode`: OK (also when that side sent nothing), NOTHING_FOUND (there is no
    such conversation), USAGE (a file is damaged; what it still held is written). Raises `CaptureError`.
    """
    if terminal:
        raise WiretalkError("Captured octets are not written to a terminal.", "add '> FILE', or '| xxd'")
    analyzer, reading, told = (
        Analyzer(chooser=_plain),
        Reading(files, err, Progress(files, err)),
        _Told(conversation, side, out, err),
    )
    for batch in reading.batches():
        told.take(analyzer.feed_all(batch))
    for update in analyzer.finishing():
        told.take(update)
    told.rest()
    if not told.found:
        count = told.conversations
        has = f"this capture has {count}" if count else "there is none in this capture"
        err.write(f"wiretalk: There is no conversation {conversation}; {has}.\n")
    if reading.damaged:
        return ExitCode.USAGE
    return ExitCode.OK if told.found else ExitCode.NOTHING_FOUND


class _Told:
    """The octets and gaps of one side."""

    def __init__(self, conversation: int, side: Side, out: BinaryIO, err: TextIO) -> None:
        self.conversations = 0
        self.found = False
        self._conversation, self._side, self._out, self._err = conversation, side, out, err
        self._gaps = 0
        self._lost = 0

    def take(self, update: Update) -> None:
        for fact in update.conversations:
            self.conversations = max(self.conversations, fact.ident)
            self.found = self.found or fact.ident == self._conversation
        for line in update.lines:
            if line.conversation == self._conversation and line.side is self._side:
                self._out.write(line.data)
        for gap in update.gaps:
            if gap.conversation == self._conversation and gap.side is self._side:
                self._gap(gap)

    def _gap(self, gap: Missing) -> None:
        self._gaps += 1
        self._lost += gap.length
        if self._gaps <= GAPS:
            self._err.write(f"wiretalk: {gap.length} octets from offset {gap.offset} on were not captured.\n")

    def rest(self) -> None:
        """How many gaps were not told one by one."""
        self._out.flush()
        if self._gaps > GAPS:
            self._err.write(f"wiretalk: in all, {self._lost} octets in {self._gaps} places were not captured.\n")


class _Plain:
    """A dialogue that hands every chunk on as it is."""

    protocol = "opaque"

    def __init__(self, conversation: int) -> None:
        self._conversation = conversation
        self._ends = dict.fromkeys(Side, 0)
        self._numbers = dict.fromkeys(Side, 0)

    def feed(self, chunk: Chunk) -> list[Line]:
        self._numbers[chunk.side] += 1
        number, size = self._numbers[chunk.side], len(chunk.data)
        self._ends[chunk.side] = chunk.offset + size
        pdu, spans = Pdu("unknown", f"{chunk.side.value}{number}"), (Span(0, size, Role.PCI, "raw"),)
        return [Line(self._conversation, chunk.side, number, chunk.offset, chunk.data, pdu, spans, (), False)]

    def gap(self, gap: Gap) -> list[Line]:
        self._ends[gap.side] = gap.offset + gap.length
        return []

    def finish(self) -> list[Line]:
        return []

    def settled(self, side: Side) -> int:
        return self._ends[side]

    def take_notes(self) -> list[Note]:
        return []


def _plain(facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> _Plain:  # noqa: ARG001  # a `Chooser`
    return _Plain(facts.ident)
