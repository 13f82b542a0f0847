"""The lines of one mail data: what is between 354 and the lone dot, or between ``+OK`` and the lone dot of POP3.

Claim: only CRLF ends a line and only CRLF.CRLF ends the data (RFC 5321 4.1.1.4), unless the other side *proves*
otherwise by its reply. Two proofs are known: both sides use LF (rule D5), and the end lies in a gap (rule G5). While a
proof is still possible, the lines it would change are written but not handed out; everything else goes out at once.

One line may already be out when a gap opens right behind it. If that gap turns out to hide the end, the line is handed
out again with the flag ``eod-in-gap``: same side, number and offset, and the later one is true.
"""

from __future__ import annotations

from collections.abc import Callable

from capture import runs
from capture.model import Line, Pdu, Role, Run, Span
from capture.protocols.voice import LONGEST_WAIT, Voice, line_end, odd_octets

PCI, UD = Role.PCI, Role.USER_DATA

EOD_SPANS = (Span(0, 1, PCI, "eod-dot"), Span(1, 3, PCI, "crlf"))
_LONGEST = runs.LONGEST

Spans = tuple[Span, ...]


def content_spans(length: int, end: int, stuffed: bool, field: str = "content") -> Spans:
    """Spans of a line of content: ``length`` octets with a line end of ``end``, a stuffed dot in front or not."""
    start = 1 if stuffed else 0
    spans = [Span(0, 1, PCI, "stuffed-dot")] if stuffed else []
    if length - end > start:
        spans.append(Span(start, length - end, UD, field))
    if end:
        spans.append(Span(length - end, length, UD, "line-end"))
    return tuple(spans)


class Content:
    """Reads mail data from a voice.

    eight_bit: 8-bit content was negotiated; always: flags of every line; limited: long lines are flagged; begun: the
    PDU has lines already; early: lines that end before this stream offset came before the greeting was complete.
    """

    __slots__ = ("_always", "_count", "_early", "_edge", "_eight_bit", "_gapped", "_held", "_held_octets", "_last",
                 "_limited", "_line_start", "_lost", "_sure", "pdu", "voice")  # fmt: skip

    def __init__(
        self,
        voice: Voice,
        pdu: Pdu,
        *,
        eight_bit: bool = False,
        always: tuple[str, ...] = (),
        limited: bool = True,
        begun: bool = False,
        early: int = 0,
    ) -> None:
        self.voice = voice
        self.pdu = pdu
        self._eight_bit = eight_bit
        self._always = always
        self._limited = limited
        self._early = early
        self._count = 1 if begun else 0  # lines of the PDU so far
        self._line_start = True  # the next octet begins a line
        self._lost = False  # a gap was crossed
        self._sure = False  # too much was held: no proof is waited for any more
        self._gapped = False  # held lines stand behind a gap
        self._edge: Line | None = None  # the last line before that gap
        self._last: Line | Run | None = None  # the last line handed out, or the run that ends with it
        self._held: list[Line] = []
        self._held_octets = 0

    # --- reading ------------------------------------------------------------------------------------------------

    def read(self, ending: bool = False) -> bool:
        """Read as far as the tape goes. True: the end of data was read. ending: the capture ends with the tape."""
        voice = self.voice
        while True:
            plain = self._line_start and not voice.after_gap and voice.offset >= self._early
            if plain and not self._held and not self._gapped:
                block = voice.block()
                if block and self._block(block):
                    return True
            data = voice.line(b"\r\n")
            if data is not None:
                if self._line(data):
                    return True
            elif voice.broken:
                self._cut(voice.rest(), "cut-by-gap")
                self._open_gap()
            elif ending:
                if len(voice):
                    self._cut(voice.rest(), "incomplete")
                self.release()
                return False
            else:
                return False

    def _block(self, block: bytes) -> bool:
        """Whole lines at once, when nothing about them is odd; else they go back on the tape, to be read one by one."""
        voice = self.voice
        if not runs.no_odd_octet(block, self._eight_bit):
            voice.unpull(len(block))
            return self._one_by_one(len(block))
        left = block
        while left:
            odd_at = runs.first_odd(left)
            if odd_at:
                self._plain(left[:odd_at] if odd_at < len(left) else left)
                left = left[odd_at:]
                continue
            if left.startswith(b".\r\n"):
                self._dot(left[:3], EOD_SPANS)
                voice.unpull(len(left) - 3)
                return True
            end = left.index(b"\n") + 1
            line = self._content(left[:end], 2)
            voice.out.append(line)
            self._last = line
            left = left[end:]
        return False

    def _plain(self, data: bytes) -> None:
        """Lines of which nothing is odd go out as they are."""
        count = data.count(b"\n")
        self._last = run = self.voice.write_run(data, count, self.pdu, self._always)
        self._count += count
        self.voice.give_run(run)

    def _one_by_one(self, octets: int) -> bool:
        while octets > 0 and (data := self.voice.line(b"\r\n")) is not None:
            octets -= len(data)
            if self._line(data):
                return True
        return False

    def _line(self, data: bytes) -> bool:
        """One line, or a piece of a very long one. True: it was the lone dot."""
        if data == b".\r\n" and self._line_start and not self.voice.after_gap:
            self.release()
            self._dot(data, EOD_SPANS)
            return True
        end = 2 if data.endswith(b"\r\n") else 0
        self._hand(self._content(data, end))
        self._line_start = end == 2
        return False

    def _content(self, data: bytes, end: int, *more: str) -> Line:
        """Write one line of content."""
        stuffed = self._line_start and not self.voice.after_gap and data[0] == 0x2E and len(data) - end > 1
        flags = (*self._always, *more, *odd_octets(data, end, self._eight_bit))
        if self._limited and len(data) - stuffed > _LONGEST:
            flags += ("overlong",)
        if self.voice.after_gap:
            flags += ("after-gap",)
        if self.voice.offset + len(data) <= self._early:
            flags += ("early-talker",)
        self._count += 1
        return self.voice.write(data, self.pdu, content_spans(len(data), end, stuffed), flags)

    def _dot(self, data: bytes, spans: Spans, *flags: str) -> None:
        if self.voice.offset + len(data) <= self._early:
            flags += ("early-talker",)
        self.voice.give(data, self.pdu, spans, (*self._always, *flags), whole=self._count == 0)

    def _cut(self, data: bytes, flag: str) -> None:
        """What is left of a line at a gap or at the end of the capture."""
        if not data:
            return
        if self._line_start and not self.voice.after_gap and data in (b".", b".\r"):
            # stuffed or lone: the dot is PCI either way
            spans = (Span(0, 1, PCI, "eod-dot"), *((Span(1, 2, PCI, "raw"),) if len(data) > 1 else ()))
            self._count += 1
            line = self.voice.write(data, self.pdu, spans, (*self._always, flag))
        else:
            line = self._content(data, 0, flag)
        self._line_start = False
        self._hold(line)

    # --- what is held back --------------------------------------------------------------------------------------

    def _hand(self, line: Line) -> None:
        """Hand a line out, or hold it while a proof could still change it."""
        if not self._sure and (self._held or self._gapped or ("bare-lf" in line.flags and not self._lost)):
            self._hold(line)
            if self._held_octets > LONGEST_WAIT:
                self.release()
                self._sure = True
        else:
            self.voice.out.append(line)
            self._last = line

    def _hold(self, line: Line) -> None:
        self._held.append(line)
        self._held_octets += len(line.data)

    def release(self) -> None:
        """Hand out what is held: nothing will change it any more."""
        if self._held:
            self.voice.out.extend(self._held)
            self._last = self._held[-1]
            self._held, self._held_octets = [], 0
        self._gapped, self._edge = False, None

    def _open_gap(self) -> None:
        """Cross a gap: from here the lines are held, for the end may have been in it."""
        cut = self._held.pop() if self._held and "cut-by-gap" in self._held[-1].flags else None
        self.release()
        self._edge = cut or (runs.last(self._last) if isinstance(self._last, Run) else self._last)
        if cut is not None:
            self._hold(cut)
        self.voice.cross()
        self._lost = self._gapped = True
        self._sure = False

    @property
    def settled(self) -> int:
        """The stream offset up to which nothing will change."""
        if self._held:
            return self._held[0].offset if self._edge is None else min(self._held[0].offset, self._edge.offset)
        if self._edge is not None:
            return self._edge.offset
        last = self._last
        if last is None:
            return self.voice.offset
        return runs.last_offset(last) if isinstance(last, Run) else last.offset

    # --- the proofs ---------------------------------------------------------------------------------------------

    def answered(self, is_command: Callable[[bytes], bool]) -> bool:
        """The other side answered although no end was read. True: it is proved where the end is; reading is over.

        is_command: whether a line could be a whole command; lines behind a gap that hides the end must be.
        """
        return self._end_in_gap(is_command) if self._lost else self._end_by_lf(is_command)

    def _end_in_gap(self, is_command: Callable[[bytes], bool]) -> bool:
        """Rule G5: the last gap hides the end; what stands behind it is commands again."""
        if not self._gapped:
            return False
        edge = self._edge
        held = self._held
        cut = held[:1] if edge is not None and held and held[0].number == edge.number else []
        behind = held[len(cut) :]
        if behind and behind[0].data in (b".\r\n", b"\n.\r\n"):
            return self._dot_behind_gap(behind)
        if not all(is_command(line.data) for line in behind[1:]):
            return False
        if edge is not None:
            self.voice.out.append(edge._replace(flags=tuple(sorted({*edge.flags, "eod-in-gap"})), whole=False))
        self._held = []
        if behind:
            self.voice.back(behind)
            self.voice.after_gap = True
        return True

    def _dot_behind_gap(self, behind: list[Line]) -> bool:
        """A dot right behind the gap was not taken for the end (G4); the reply proves that it is."""
        self._held = self._held[: -len(behind)]
        self.release()
        self.voice.back(behind)
        self._count = max(1, self._count - len(behind))
        if behind[0].data[:1] == b"\n":  # the gap ends between CR and LF
            self.voice.after_gap = True
            self.voice.out.append(self._content(self.voice.take(1), 1, "assumed"))
        self._dot(self.voice.take(3), EOD_SPANS, "after-gap", "assumed")
        return True

    def _end_by_lf(self, is_command: Callable[[bytes], bool]) -> bool:
        """Rule D5: the data end in LF.LF or LF.CRLF and the other side took that for the end.

        Commands, and empty lines, may already stand behind that end: the client did not wait either.
        """
        voice, held = self.voice, self._held
        if voice.broken:
            return False
        octets = b"".join(line.data for line in held) + voice.peek()
        begins = self._line_start if not held else True  # a bare LF is looked for from a line start on
        rows = octets.split(b"\n")
        if rows.pop():
            return False  # the last line is not complete
        dots = [place for place, row in enumerate(rows) if row in (b".", b".\r") and (place or begins)]
        if not dots or not all(row in (b"", b"\r") or is_command(row + b"\n") for row in rows[dots[0] + 1 :]):
            return False
        if held:
            self._count -= len(held)
            voice.back(held)
            self._held, self._held_octets = [], 0
        else:
            voice.unpull(0)  # searched for CRLF so far
        self._line_start = begins
        while (data := voice.line(b"\n")) is not None:
            if self._line_start and data in (b".\n", b".\r\n"):
                spans = (Span(0, 1, PCI, "eod-dot"), Span(1, len(data), PCI, "lf" if len(data) == 2 else "crlf"))
                self._dot(data, spans, "nonstandard-eod", "bare-lf")
                return True
            end = line_end(data)
            voice.out.append(self._content(data, end, "bare-lf"))
            self._line_start = end > 0
        return False
