"""A small session for the tests: a scripted server, real frames from the forge, lines labelled by a table.

Claim: it keeps the promises of `tui.messages.Session`, so what the screen does with it, it does with a live one. The
test decides when captured octets arrive: at once, or held back until `release`.
"""

from __future__ import annotations

from pathlib import Path

from capture.errors import LabError
from capture.model import (
    Conversation,
    Endpoint,
    Frame,
    Line,
    Missing,
    Note,
    Pdu,
    Role,
    Side,
    Span,
    Update,
)
from tests.capture.forge import Wire
from tui.messages import Closed, Event, Failed, Opened, Received, Said, Status

C, S = Side.CLIENT, Side.SERVER
PCI, UD = Role.PCI, Role.USER_DATA
CLIENT, SERVER = Endpoint(bytes((192, 0, 2, 10)), 49152), Endpoint(bytes((192, 0, 2, 25)), 25)

REPLIES = {
    "HELO": "250 shannon.cs.utwente.example",
    "EHLO": "250-shannon.cs.utwente.example\n250-SIZE 10485760\n250 8BITMIME",
    "MAIL": "250 2.1.0 sender ok",
    "RCPT": "250 2.1.5 recipient ok",
    "DATA": "354 end with <CRLF>.<CRLF>",
    "mail data": "250 2.0.0 queued as 7F3A",
    "QUIT": "221 2.0.0 shannon.cs.utwente.example closing",
    "PASS": "502 5.5.1 this is not POP3",
    "": "500 5.5.2 what?",
}
GREETING = "220 shannon.cs.utwente.example ESMTP"
LINES = (
    "HELO your-pc",
    "MAIL FROM:<you'll-never-know@student.example>",
    "RCPT TO:<student@student.example>",
    "DATA",
    "From: You'll-never-know-for-sure",
    "Subject: Talking SMTP",
    "",
    "..a line that began with a dot",
    "Guess who typed this.",
    ".",
    "QUIT",
)


def spans_of(side: Side, body: bytes, *, in_data: bool) -> tuple[Span, ...]:
    """Spans as labels.md 2.5 has them, coarsely: enough for a screen."""
    end = len(body)
    if side is S:
        cuts = [(3, PCI, "reply-code"), (4, PCI, "separator"), (end, PCI, "text"), (end + 2, PCI, "crlf")]
    elif in_data and body == b".":
        cuts = [(1, PCI, "eod-dot"), (3, PCI, "crlf")]
    elif in_data:
        dot = 1 if body.startswith(b".") else 0
        cuts = [(dot, PCI, "stuffed-dot"), (end, UD, "content"), (end + 2, UD, "line-end")]
    else:
        verb, _, rest = body.partition(b" ")
        at = len(verb)
        keyword = rest.find(b":<") + 1
        secret = verb.upper() == b"PASS"
        path = (
            "argument"
            if secret
            else "reverse-path"
            if verb.upper() == b"MAIL"
            else "forward-path"
            if keyword
            else "client-domain"
        )
        cuts = [(at, PCI, "verb"), (at + bool(rest), PCI, "sp"), (at + 1 + keyword if rest else at, PCI, "keyword")]
        cuts += [(end, PCI, path), (end + 2, PCI, "crlf")]
    spans, start = [], 0
    for stop, role, field in cuts:
        if stop > start:
            spans.append(Span(start, stop, role, field))
            start = stop
    return tuple(spans)


class FakeSession:
    """See `tui.messages.Session`. hold: captured lines wait for `release`; answers: REPLIES, or none at all."""

    title: str = "shannon:25"

    def __init__(self, *, answers: bool = True, hold: bool = False, status: Status | None = None) -> None:
        self.answers = answers
        self.hold = hold
        self.sent: list[str] = []
        self.refuse_to_open = False
        self.failure = ""
        self.closed = False
        self.half_closed = False
        self._status = status or Status(recording=Path("/var/lib/session.pcapng"))
        self._updates: list[Update] = []
        self._held: list[Update] = []
        self._events: list[Event] = []
        self._frames: dict[int, Frame] = {}
        self._conversations = 0
        self._order = 0
        self._number = 0
        self._in_data = False

    # what the screen calls

    @property
    def status(self) -> Status:
        state = self._status
        return Status(
            state.source,
            not self.closed,
            self._number,
            state.lost,
            state.sniffed,
            state.notice,
            state.recording,
            self.failure,
        )

    async def open(self) -> None:
        if self.refuse_to_open:
            raise LabError("veth", "The lab cannot start.", "run wiretalk doctor")
        self._conversations += 1
        self._wire = Wire(cport=49151 + self._conversations, number=self._number)
        self._offset = {C: 0, S: 0}
        self._pdus = {C: 0, S: 0}
        self._lines = {C: 0, S: 0}
        client = Endpoint(CLIENT.address, self._wire.cport)
        for frame in self._wire.open():
            self._keep(frame)
        self._give(Update(conversations=(Conversation(self._conversations, client, SERVER, "smtp", self._wire.time),)))
        self._events.append(Opened(client, SERVER))
        if self.answers:
            self.answer(GREETING)

    async def send_line(self, text: str) -> None:
        self.sent.append(text)
        self.typed(text.encode())

    async def half_close(self) -> None:
        self.half_closed = True

    async def close(self) -> None:
        self.closed = True

    def drain(self) -> list[Update]:
        updates, self._updates = self._updates, []
        return updates

    def events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def frame(self, number: int) -> Frame | None:
        return self._frames.get(number)

    # what a test calls

    def release(self) -> None:
        """What was captured arrives now, and from now on at once."""
        self._updates += self._held
        self._held, self.hold = [], False

    def typed(self, body: bytes) -> None:
        """The client's line is on the wire, and what the server answers."""
        verb = body.split(b" ")[0].upper().decode("latin-1")
        if self._in_data:
            first = self._in_data is True and self._data_begun is False
            self._pdus[C] += first
            self._data_begun = True
            self.line(C, body, Pdu("mail data", f"C{self._pdus[C]}"), whole=False)
            self._in_data = body != b"."
            if body == b"." and self.answers:
                self.answer(REPLIES["mail data"])
            return
        self._pdus[C] += 1
        known = verb if verb in REPLIES else ""
        self.line(C, body, Pdu(f"{verb} command" if known else "unknown command", f"C{self._pdus[C]}"), whole=True)
        if self.answers:
            self.answer(REPLIES[known])
        self._in_data = verb == "DATA"
        self._data_begun = False
        if verb == "QUIT" and self.answers:
            self._events.append(Closed("shannon closed the connection."))

    def answer(self, text: str) -> None:
        """A reply of one or more lines, from the server, one segment each."""
        self._pdus[S] += 1
        lines = text.split("\n")
        name = "220 greeting" if self._pdus[S] == 1 else f"{lines[0][:3]} reply"
        for part in lines:
            self._events.append(Received(part.encode() + b"\r\n"))
            self.line(S, part.encode(), Pdu(name, f"S{self._pdus[S]}"), whole=len(lines) == 1)

    def line(
        self, side: Side, body: bytes, pdu: Pdu, *, whole: bool, order: int | None = None, flags: tuple[str, ...] = ()
    ) -> Line:
        """One captured line in one frame of its own. flags: besides ``credential``, which follows from its fields."""
        data = body + b"\r\n"
        frame = self._wire.say(side, data)
        self._keep(frame)
        self._order += 1
        self._lines[side] += 1
        spans = spans_of(side, body, in_data=pdu.name == "mail data")
        line = Line(
            self._conversations,
            side,
            self._lines[side],
            self._offset[side],
            data,
            pdu,
            spans,
            (*flags, *(("credential",) if any(span.field == "argument" for span in spans) else ())),
            whole,
            frames=(frame.number,),
            time=frame.time,
            order=self._order if order is None else order,
        )
        self._offset[side] += len(data)
        self._give(Update(lines=(line,)))
        return line

    def lose(self, side: Side, octets: int) -> None:
        """Octets that the capture did not get."""
        self._wire.lose(side, octets)
        self._order += 1
        gap = Missing(self._conversations, side, self._offset[side], octets, self._wire.time, self._order)
        self._offset[side] += octets
        self._give(Update(gaps=(gap,)))

    def note(self, text: str) -> None:
        """An oddity in the newest frame."""
        self._give(Update(notes=(Note("odd", text, self._number, self._conversations),)))

    def tell(self, event: Event) -> None:
        """Something happens at the socket."""
        self._events.append(event)

    def _keep(self, frame: Frame) -> None:
        self._number = frame.number
        self._frames[frame.number] = frame

    def _give(self, update: Update) -> None:
        (self._held if self.hold else self._updates).append(update)


__all__ = ["LINES", "REPLIES", "Failed", "FakeSession", "Said"]
