"""One side of a dialogue: a tape of octets not yet labelled, and the pen that writes lines from it.

Claim: what is written tiles the stream. A line is only ever made of the next octets of the tape, so offsets, line
numbers and PDU numbers follow from the order of writing and cannot be wrong. The reader *pulls* from the tape (a line,
n octets, all there is), in whatever way the phase of the dialogue asks for; nothing splits lines in front of it.

Gaps travel on the same tape, in their place, because octets may wait (for a reply) on both sides of a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from capture import runs
from capture.model import Layer, Line, Pdu, Role, Run, Side, Span

# A command line is 512 octets (RFC 5321 4.5.3.1.4), a text line 1000; the longest line in our captures of real mail is
# 35 kB. What has no line end in this many octets is given out in pieces, so that no stream can fill the memory.
LONGEST_LINE = 256 * 1024

# Octets that may wait for the other side. A client may talk early or push a whole small message behind DATA; what waits
# longer than this is presumed to be a capture of one side (rule O1).
LONGEST_WAIT = 256 * 1024

LONG_RUN = 4096  # a run this long is not copied for every segment that is added to it

# Flags that say a unit is not all there (flags.json, pdu_incomplete): it is never a whole PDU (labels.md L6).
INCOMPLETE = frozenset({"start-missing", "cut-by-gap", "eod-in-gap", "incomplete"})

# A flag of ours, on every line of the PDU ``unknown``: by the rule its octets count as PCI, and nobody knows.
NOT_UNDERSTOOD = "not-understood"

new_line = tuple.__new__  # Line(...) checks nothing either, and takes twice the time


class Voice:
    """One side's octets and lines. ``out`` is shared with the other side: lines in the order of making.

    runs: where plain lines of content go, for who wants them in runs; None: they go to ``out`` one by one.
    """

    __slots__ = ("_later", "_letter", "_pos", "_run", "_seen", "_tail", "_tail_ends", "_tail_length", "after_gap",
                 "conversation", "number", "offset", "out", "pdus", "received", "runs", "side")  # fmt: skip

    def __init__(self, conversation: int, side: Side, out: list[Line]) -> None:
        self.conversation = conversation
        self.side = side
        self._letter = side.value
        self.out = out
        self.runs: list[Run] | None = None
        self.offset = 0  # stream offset of the first octet not yet written
        self.received = 0  # stream offset behind the last octet or gap that came
        self.number = 0  # of the last line written
        self.pdus = 0  # of the last PDU begun
        self.after_gap = False  # the next octets follow a gap
        self._run = b""  # captured octets, from _pos on not yet written, up to the next gap
        self._pos = 0
        self._seen = 0  # octets behind _pos that were searched for a line end in vain
        self._tail: list[bytes] = []  # the end of the run, not yet joined to it
        self._tail_length = 0
        self._tail_ends = False  # a line may end in the tail
        self._later: deque[bytes | int] = deque()  # gaps (lengths) and runs behind the run

    # --- the tape -----------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Octets arrived."""
        self.received += len(data)
        if self._later:
            self._later.append(data)
        elif self._pos == len(self._run) and not self._tail:
            self._run, self._pos = data, 0
        elif len(self._run) - self._pos < LONG_RUN:
            self._run, self._pos = self._run[self._pos :] + data, 0
        else:  # joined when something can end in it: a long run that grows octet by octet is not copied each time
            self._tail.append(data)
            self._tail_length += len(data)
            self._tail_ends = self._tail_ends or b"\n" in data

    def _join(self) -> None:
        if self._tail:
            self._run = b"".join((self._run[self._pos :], *self._tail))
            self._pos, self._tail, self._tail_length, self._tail_ends = 0, [], 0, False

    def put_gap(self, length: int) -> None:
        """Octets are known to be missing."""
        self.received += length
        self._later.append(length)

    @property
    def waiting(self) -> int:
        """How many octets (gaps included) are not yet written."""
        return self.received - self.offset

    def __len__(self) -> int:
        """Octets that can be pulled before the next gap."""
        return len(self._run) - self._pos + self._tail_length

    @property
    def broken(self) -> bool:
        """A gap follows the octets that can be pulled."""
        return bool(self._later)

    def peek(self, count: int = -1) -> bytes:
        """The next octets, at most ``count``, left where they are."""
        self._join()
        return self._run[self._pos :] if count < 0 else self._run[self._pos : self._pos + count]

    def cross(self) -> int:
        """Step over the gap at the head of the tape, whose length is answered; the run before it must be used up."""
        length = self._later.popleft()
        assert isinstance(length, int)  # runs and gaps alternate
        self.offset += length
        runs = []
        while self._later and isinstance(run := self._later[0], bytes):
            runs.append(run)
            self._later.popleft()
        self._run, self._pos, self._seen = b"".join(runs), 0, 0
        self.after_gap = True
        return length

    def line(self, end: bytes = b"\n") -> bytes | None:
        """Pull the next line, line end included; ``None`` while it has no end.

        A line longer than `LONGEST_LINE` comes in pieces of that length, the same pieces however it was segmented.
        """
        if self._tail:
            if not self._tail_ends and len(self) < LONGEST_LINE:
                return None
            self._join()
        start = self._pos
        if start == len(self._run):
            return None
        limit = start + LONGEST_LINE
        found = self._run.find(end, start + max(0, self._seen - 1), limit)
        if found >= 0:
            self._pos, self._seen = found + len(end), 0
            return self._run[start : self._pos]
        if len(self._run) >= limit:
            self._pos, self._seen = limit, 0
            return self._run[start:limit]
        self._seen = len(self._run) - start
        return None

    def block(self) -> bytes:
        """Pull every whole CRLF-ended line there is, in one piece; empty when `line` should look for one at a time."""
        if self._tail:
            return b""
        start = self._pos
        found = self._run.rfind(b"\r\n", start + max(0, self._seen - 1))
        if found < 0 or found - start > LONGEST_LINE:
            return b""
        self._pos, self._seen = found + 2, 0
        return self._run[start : self._pos]

    def unpull(self, count: int) -> None:
        """The last ``count`` octets pulled were not written: they are on the tape again."""
        self._pos, self._seen = self._pos - count, 0

    def take(self, count: int) -> bytes:
        """Pull ``count`` octets, or all that can be pulled if there are fewer."""
        self._join()
        start = self._pos
        self._pos, self._seen = min(start + count, len(self._run)), 0
        return self._run[start : self._pos]

    def rest(self) -> bytes:
        """Pull everything up to the next gap."""
        return self.take(len(self))

    def back(self, lines: Sequence[Line]) -> None:
        """Unwrite the last lines written: their octets are on the tape again."""
        self._join()
        first = lines[0]
        octets = b"".join(line.data for line in lines)
        self._run, self._pos, self._seen = octets + self._run[self._pos :], 0, 0
        self.offset, self.number = first.offset, first.number - 1

    # --- the pen ------------------------------------------------------------------------------------------------

    def pdu(self, name: str) -> Pdu:
        """Begin a PDU."""
        self.pdus += 1
        pdu: Pdu = new_line(Pdu, (name, f"{self._letter}{self.pdus}"))
        return pdu

    def write(
        self,
        data: bytes,
        pdu: Pdu,
        spans: tuple[Span, ...],
        flags: tuple[str, ...] = (),
        whole: bool = False,
        layer: Layer = Layer.APPLICATION,
    ) -> Line:
        """Make the line of the octets just pulled. Its flags stand in alphabetical order."""
        self.number += 1
        if len(flags) > 1:
            flags = tuple(sorted(set(flags)))
        if whole and flags and not INCOMPLETE.isdisjoint(flags):
            whole = False
        line: Line = new_line(
            Line,
            (self.conversation, self.side, self.number, self.offset, data, pdu, spans, flags, whole, layer, (), 0, 0),
        )
        self.offset += len(data)
        self.after_gap = False
        return line

    def write_run(self, data: bytes, count: int, pdu: Pdu, flags: tuple[str, ...]) -> Run:
        """Make a run of so many plain lines of content, just pulled."""
        if len(flags) > 1:
            flags = tuple(sorted(set(flags)))
        run: Run = new_line(
            Run, (self.conversation, self.side, self.number + 1, self.offset, data, pdu, flags, count, (), 0, 0)
        )
        self.number += count
        self.offset += len(data)
        return run

    def give_run(self, run: Run) -> None:
        """Hand it out, line by line where nobody asked for runs."""
        if self.runs is None:
            self.out.extend(runs.lines(run))
        else:
            self.runs.append(run)

    def give(
        self,
        data: bytes,
        pdu: Pdu,
        spans: tuple[Span, ...],
        flags: tuple[str, ...] = (),
        whole: bool = False,
        layer: Layer = Layer.APPLICATION,
    ) -> None:
        """`write` and hand out at once."""
        self.out.append(self.write(data, pdu, spans, flags, whole, layer))


def line_end(line: bytes) -> int:
    """Octets of the line end: 2 for CRLF, 1 for a bare LF, 0 for none (RFC 5321 2.3.8)."""
    if line.endswith(b"\r\n"):
        return 2
    return 1 if line.endswith(b"\n") else 0


def end_span(line: bytes, end: int) -> tuple[Span, ...]:
    """The span of a command's or reply's line end: field ``crlf`` or, against the rules, ``lf``."""
    if not end:
        return ()
    return (Span(len(line) - end, len(line), Role.PCI, "crlf" if end == 2 else "lf"),)


def odd_octets(line: bytes, end: int, eight_bit: bool = False) -> tuple[str, ...]:
    """Flags for octets that do not belong: bare LF, bare CR, NUL, and 8-bit unless negotiated (labels.md L3, L4)."""
    flags: tuple[str, ...] = ()
    if not eight_bit and not line.isascii():
        flags = ("8bit",)
    body = line[:-end] if end else line
    if b"\r" in (body if end else body[:-1]):  # the CR at the end of a cut piece may have had its LF
        flags += ("bare-cr",)
    if end == 1 or b"\n" in body:
        flags += ("bare-lf",)
    if b"\0" in line:
        flags += ("nul",)
    return flags
