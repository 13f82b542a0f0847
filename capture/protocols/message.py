"""The message one layer up: header fields, the empty line, the body; and its MIME parts one layer further.

Claim: a message is the user data of mail data, of the BDAT commands of a transaction, of a POP3 response or of an IMAP
literal, joined. Whatever octets it has, each is in one span of its view, and nothing raises. A view is a `Line` again:
number, offset and octets of the application's line, layer MESSAGE, and spans over those octets only that the
application carries: behind a stuffed dot they begin at 1. So the label rule is the same one (labels.md 2.1).

Header fields and the empty line are PCI, the body is user data (RFC 5322 2.1). A line is handed out when the next one
has begun, for only then is it known whether it was the whole message and whether its line end belongs to a boundary
(`capture.protocols.mime`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from capture.model import Layer, Line, Note, Pdu, Role, Span
from capture.protocols.mime import Parts, Section, tiles

PCI, UD = Role.PCI, Role.USER_DATA

CARRIED = frozenset({"content", "chunk", "line-end"})  # fields whose user data is a message's
LONGEST = 256 * 1024  # octets of a message line that are looked at together
PIECES = 4096  # lines of the application that one message line may be spread over (BDAT in tiny chunks)

_NAME_BEGUN = re.compile(rb"[\x21-\x39\x3b-\x7e]+\Z")
_ABORTS = frozenset({"RSET", "MAIL", "HELO", "EHLO", "LHLO", "QUIT", "DATA", "STARTTLS"})  # end a BDAT transaction
_LOST = frozenset({"cut-by-gap", "eod-in-gap", "incomplete"})


class Above(NamedTuple):
    """A line of the application from above.

    message: at the message layer (RFC 5322); mime: one layer further (RFC 2046), None for what is no body.
    """

    message: Line
    mime: Line | None


def carried(line: Line) -> tuple[int, int]:
    """Where the octets of a message stand in a line of the application, ``[start, end)``; equal when it has none."""
    start = end = 0
    for span in line.spans:
        if span.role is UD and span.field in CARRIED:
            if not end:
                start = span.start
            end = span.end
    return start, end


class _Slot:
    """A line of the application of which octets are still looked at."""

    __slots__ = ("assumed", "ident", "line", "mime", "part", "spans", "waits", "whole")

    def __init__(self, line: Line, ident: str) -> None:
        self.line, self.ident = line, ident
        self.spans: list[Span] = []
        self.mime: list[Span] = []
        self.part = ""
        self.waits = 0
        self.whole = self.assumed = False

    def above(self) -> Above:
        line, flags = self.line, self.line.flags
        if self.assumed and "assumed" not in flags:
            flags = tuple(sorted((*flags, "assumed")))
        unit, spans = Pdu("message", self.ident), tuple(self.spans)
        message = line._replace(pdu=unit, spans=spans, flags=flags, whole=self.whole, layer=Layer.MESSAGE)
        if not self.mime:
            return Above(message, None)
        entity = Pdu("entity", f"{self.ident}.{self.part}" if self.part else self.ident)
        return Above(message, message._replace(pdu=entity, spans=tuple(self.mime)))


class _Piece(NamedTuple):
    """Octets of a message line, and where they stand in the application's line."""

    slot: _Slot
    start: int
    end: int


class _Row(NamedTuple):
    """A message line: where its octets are, and its spans, offsets from its first octet. mime, part: of a body line."""

    pieces: list[_Piece]
    spans: tuple[Span, ...]
    mime: tuple[Span, ...] = ()
    part: str = ""
    assumed: bool = False


class Messages:
    """Reads one side of one conversation: feed it its lines in order, get the views of those that carry a message.

    for_the_reader: names of header fields, small letters, whose body counts as user data (reading C6). A line that
    comes a second time, with a flag more, gives nothing: feed it what `capture.record` gives.
    """

    def __init__(self, for_the_reader: Iterable[str] = ()) -> None:
        self._for_the_reader = frozenset(name.encode() for name in for_the_reader)
        self._slots: deque[_Slot] = deque()
        self._notes: list[Note] = []
        self._number = 0  # of the last line
        self._count = 0  # messages so far
        self._message: _Message | None = None
        self._unit = ""  # the application's PDU that carries it
        self._chunked = False  # and it is a BDAT command
        self._last = False  # and BDAT LAST

    def feed(self, line: Line) -> list[Above]:
        """One more line of the application; gives the views that became certain."""
        if line.number <= self._number:
            return []
        self._number = line.number
        start, end = carried(line)
        if start == end:
            self._without(line)
            return list(self._ready())
        chunked = line.pdu.name == "BDAT command"
        if self._message is not None and line.pdu.ident != self._unit and not (chunked and self._chunked):
            self._end(complete=False)
        if self._message is None:
            self._count += 1
            self._message = _Message(self._for_the_reader, self._notes)
        self._unit, self._chunked = line.pdu.ident, chunked
        slot = _Slot(line, f"{line.side.value}{self._count}")
        self._slots.append(slot)
        self._message.add(slot, start, end)
        return list(self._ready())

    def finish(self) -> list[Above]:
        """No line comes any more."""
        self._end(complete=False)
        return list(self._ready())

    @property
    def idle(self) -> bool:
        """No message is being read."""
        return self._message is None and not self._slots and not self._last

    def take_notes(self) -> list[Note]:
        """What is odd about the messages. Each is given once."""
        notes, self._notes[:] = self._notes[:], []
        return notes

    def _without(self, line: Line) -> None:
        """A line that carries nothing of a message announces a chunk, or ends the message."""
        verb = line.pdu.name.removesuffix(" command")
        fields = {span.field for span in line.spans}
        if verb == "BDAT":
            self._end_unless(chunked=True)
            if self._last:
                self._end(complete=True)
            self._unit, self._last = line.pdu.ident, "last" in fields
            if self._last and line.whole:  # BDAT 0 LAST
                self._end(complete=True)
        elif not self._chunked:  # the dot, or (IMAP) what stands behind a literal
            belongs = "eod-dot" in fields or line.pdu.ident == self._unit
            self._end(complete=belongs and _LOST.isdisjoint(line.flags))
        elif self._last or verb in _ABORTS:
            self._end(complete=self._last)

    def _end_unless(self, *, chunked: bool) -> None:
        if self._chunked is not chunked:
            self._end(complete=False)

    def _end(self, *, complete: bool) -> None:
        if self._message is not None:
            self._message.end(complete=complete)
        self._message, self._last, self._chunked = None, False, False

    def _ready(self) -> Iterator[Above]:
        while self._slots and not self._slots[0].waits:
            yield self._slots.popleft().above()


class _Message:
    """One message: joins its lines from pieces, takes each apart, and writes the spans into the slots."""

    def __init__(self, for_the_reader: frozenset[bytes], notes: list[Note]) -> None:
        self._for_the_reader = for_the_reader
        self._notes = notes
        self._header: Section | None = Section()  # None: in the body
        self._parts: Parts | None = None
        self._sure = True  # nothing is missing that could have ended the header section
        self._whole = True  # nothing is missing at all
        self._rest = ""  # the field of a line whose first octets were taken apart already, without its end
        self._text = b""
        self._pieces: list[_Piece] = []
        self._held: _Row | None = None
        self._rows = 0
        self._noted: set[str] = set()

    def add(self, slot: _Slot, start: int, end: int) -> None:
        """The octets ``[start, end)`` of an application's line."""
        line = slot.line
        if "after-gap" in line.flags or "start-missing" in line.flags:
            self._torn()
        data = line.data[start:end]
        slot.waits = 1
        if self._text.endswith(b"\r") and data[:1] == b"\n" and len(data) > 1:  # a CRLF in two chunks
            slot.waits = 2
            self._piece(slot, start, start + 1, ended=True)
            start, data = start + 1, data[1:]
        ended = data.endswith(b"\r\n") or (data == b"\n" and self._text.endswith(b"\r"))
        ended = ended or (data.endswith(b"\n") and line.spans[-1].field == "line-end")  # both sides use LF (rule D5)
        self._piece(slot, start, end, ended=ended)
        if not _LOST.isdisjoint(line.flags):
            self._whole = False
            self._cut()

    def end(self, *, complete: bool) -> None:
        """Nothing more belongs to it. complete: and its end was seen."""
        self._cut()
        self._let_go(whole=complete and self._whole and self._rows == 1)

    # --- lines from pieces --------------------------------------------------------------------------------------

    def _torn(self) -> None:
        """Octets are missing here: what comes next need not begin a line, and the header section may be over."""
        self._cut()
        self._whole = False
        if self._header is not None:
            self._sure, self._rest = False, "raw"
            self._header.forget()
        elif self._parts is not None:
            self._parts.torn()

    def _piece(self, slot: _Slot, start: int, end: int, *, ended: bool) -> None:
        self._pieces.append(_Piece(slot, start, end))
        self._text += slot.line.data[start:end]
        if ended:
            self._take(2 if self._text.endswith(b"\r\n") else 1)
        elif len(self._text) > LONGEST or len(self._pieces) > PIECES:
            self._cut()

    def _cut(self) -> None:
        """What there is of a line that a gap, a limit or the end cuts off."""
        if self._pieces:
            self._take(0)

    def _take(self, end: int) -> None:
        """Take the joined line apart. end: octets of its line end, 0 when that is not there."""
        row, assumed = None, not self._sure
        spans = self._header_line(end) if self._header is not None else ()
        if spans:
            row = _Row(self._pieces, spans, assumed=assumed)
        elif self._parts is not None:
            stop, size = len(self._text) - end, len(self._text)
            mime, part = self._parts.line(self._text, end)
            self._join(mime)
            row = _Row(self._pieces, tiles((stop, UD, "body"), (size, UD, "line-end")), mime, part)
        self._pieces, self._text = [], b""
        self._rows += 1
        self._let_go()
        self._held = row

    def _join(self, mime: tuple[Span, ...]) -> None:
        """The CRLF in front of a boundary is the boundary's (RFC 2046 5.1.1), if MIME has it at all."""
        row, parts = self._held, self._parts
        if mime[0].field != "boundary" or row is None or not row.mime or parts is None:
            return
        last = row.mime[-1]
        if last.field == "line-end" or (last.field == "separator-line" and not parts.first):
            self._held = row._replace(mime=(*row.mime[:-1], last._replace(role=PCI, field="boundary")))

    def _let_go(self, *, whole: bool = False) -> None:
        """The row that was held is certain: its spans go to the lines of the application."""
        row, self._held = self._held, None
        if row is None:
            return
        at = 0
        for slot, start, end in row.pieces:
            upto = at + end - start
            slot.spans += _part(row.spans, at, upto, start - at)
            slot.mime += _part(row.mime, at, upto, start - at)
            slot.part = row.part
            slot.waits -= 1
            slot.whole = whole and len(row.pieces) == 1
            slot.assumed = slot.assumed or row.assumed
            at = upto

    # --- the header section -------------------------------------------------------------------------------------

    def _header_line(self, end: int) -> tuple[Span, ...]:
        """Spans of a line of the header section; none when it is a line of the body."""
        text, header = self._text, self._header
        assert header is not None
        size, stop = len(text), len(text) - end
        line_end = (size, PCI, "crlf" if end == 2 else "lf")
        if self._rest:
            field, self._rest = self._rest, "" if end else self._rest
            if field == "field-body":
                header.more(text[:stop])
            return tiles((stop, self._role(header) if field == "field-body" else PCI, field), line_end)
        if not self._sure and text[:1] in (b" ", b"\t"):
            header.field = header.field or b"?"  # of which field is not known
        seen = header.read(text[:stop])
        if seen.kind == "empty":
            self._begin_body(header)
            return (Span(0, size, PCI, "separator-line"),)
        if seen.kind == "none":
            return self._no_field(header, stop, end, line_end)
        if seen.kind == "field":
            self._octets(text[:stop], text[: seen.name].decode())
        elif not text[:stop].strip():
            self._told("obs-fold", "A header field is continued by a line of blanks only.")
        self._rest = "" if end else "field-body"
        return tiles(
            (seen.name, PCI, "field-name"),
            (seen.colon - 1, PCI, "sp"),
            (seen.colon, PCI, "colon"),
            (stop, self._role(header), "field-body"),
            line_end,
        )

    def _no_field(self, header: Section, stop: int, end: int, line_end: tuple[int, Role, str]) -> tuple[Span, ...]:
        """A line without field name and colon, where a header field should stand."""
        if self._text[:5] == b"From " and not self._rows:
            self._told("mbox-from", "A From_ line of a mailbox file stands in front of the header; it is no field.")
            self._rest = "" if end else "raw"
            return tiles((stop, PCI, "raw"), line_end)
        if not end and _NAME_BEGUN.match(self._text):
            self._rest = "raw"
            return (Span(0, stop, PCI, "field-name"),)
        if self._rows and self._sure:
            self._told("no-separator", "The header section ends at a line that is no header field, not an empty line.")
        elif self._sure:
            self._told("no-header", "The message has no header section: its first line is no header field.")
        self._begin_body(header)
        return ()

    def _begin_body(self, header: Section) -> None:
        self._header, self._parts = None, Parts(header.content_type, self._told)
        self._sure = True

    def _role(self, header: Section) -> Role:
        return UD if header.field in self._for_the_reader else PCI

    def _octets(self, text: bytes, name: str) -> None:
        if not text.isascii():
            self._told("header-8bit", f"The header field {name} has octets above 127 that are not encoded.")
        if b"\r" in text:
            self._told("header-cr", f"The header field {name} has a carriage return that ends no line.")

    def _told(self, kind: str, text: str) -> None:
        """A note; of each kind the first of a message."""
        if kind in self._noted or not self._pieces:
            return
        self._noted.add(kind)
        line = self._pieces[0].slot.line
        frame = line.frames[0] if line.frames else 0
        self._notes.append(Note(kind, text, frame, line.conversation, line.side, line.offset))


def _part(spans: tuple[Span, ...], start: int, end: int, shift: int) -> Iterator[Span]:
    """The spans within ``[start, end)``, moved."""
    for span in spans:
        first, last = max(span.start, start), min(span.end, end)
        if first < last:
            yield Span(first + shift, last + shift, span.role, span.field)
