"""The IMAP dialogue (RFC 9051): commands with tags, responses with and without, literals that are counted.

Claim: a line is the unit unless it ends in a literal's size; then so many octets belong to it whatever they are, and
the unit goes on behind them (the BDAT rule, labels.md 2.7). A synchronising literal is sent when the server says ``+``,
and not when it refuses the command; so the octets behind ``{n}`` wait for that word. Answers are known by their tags.

One PDU is one command with its literals and lines, or one response; the untagged responses to a command are units of
their own, for a server may send them unasked. A message in a literal (APPEND, BODY[], RFC822) is user data; a literal
that is an argument (a mailbox, a password) is PCI, as it would be in quotes.
"""

from __future__ import annotations

from capture.data.imap import GREETINGS, STATUSES
from capture.model import Pdu, Role, Side, Span
from capture.protocols import imapwords
from capture.protocols.commands import is_base64
from capture.protocols.content import content_spans
from capture.protocols.dialogue import Exchange, raw
from capture.protocols.imapwords import Literal, Parsed
from capture.protocols.mime import tiles
from capture.protocols.voice import Voice, end_span, line_end, odd_octets

PCI, UD = Role.PCI, Role.USER_DATA

OWED = 1024  # commands whose answers are waited for; more than any client sends at once
UNKNOWN_PIECE = 1024  # octets of a line of what is compressed


class _Unit:
    """A command or response that goes on behind a literal. left: octets of the literal that are still to come."""

    __slots__ = ("field", "flags", "left", "pdu", "role", "secret")

    def __init__(self, pdu: Pdu, left: int, field: str, role: Role, secret: bool) -> None:
        self.pdu, self.left, self.field, self.role, self.secret = pdu, left, field, role, secret
        self.flags: tuple[str, ...] = ()


class ImapDialogue(Exchange):
    """IMAP4rev1 and rev2, with STARTTLS, AUTHENTICATE, IDLE, literals of both kinds, COMPRESS."""

    protocol = "imap"

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        super().__init__(conversation=conversation, midstream=midstream)
        self._greeted_at = 0 if midstream else -1
        self._command: _Unit | None = None
        self._response: _Unit | None = None
        self._owed: dict[bytes, str] = {}  # tags of commands that were not answered yet
        self._waits = ""  # what the next answer decides: literal, AUTHENTICATE, STARTTLS, COMPRESS
        self._tag = b""  # of the command that waits
        self._auth = False  # the next line of the client is a SASL message
        self._idle = False
        self._tls = False
        self._compressed = False
        self._quit = False
        self._secret = False  # what follows the last command may be a password
        self._asked = not midstream
        self._lost_commands = False
        self._lost_responses = False
        self._fresh = {Side.CLIENT: midstream, Side.SERVER: midstream}  # the next line is where the capture begins

    def _end(self) -> None:
        """Nothing is held back."""

    # --- both sides ---------------------------------------------------------------------------------------------

    def _before_answers(self) -> bool:
        """TLS from the first octet (port 993)."""
        voice = self._asks
        if voice.side in self._records:
            return self._records[voice.side].read(self._ending)
        return not self.midstream and bool(self._hello(voice))

    def _hello(self, voice: Voice) -> bool | None:
        """Whether the client begins TLS here; ``None`` while there are too few octets to say."""
        if voice.peek(1) != b"\x16":
            return False
        begins = self._encrypted(voice)
        if begins:
            self._tls = True
            if voice.offset == 0:
                self.protocol = "tls"
        return begins

    def _literal(self, voice: Voice, unit: _Unit) -> bool:
        """Octets of a literal, shown split at CRLF, as those of a chunk (labels.md D4)."""
        if not len(voice) and voice.broken:
            unit.left -= voice.cross()
            if unit.left < 0:  # G6
                self._lost(voice)
            return True
        data = voice.line(b"\r\n") if len(voice) else None
        if data is None:
            if len(voice) < unit.left and not (voice.broken or self._ending):
                return False
            data = voice.take(unit.left)
            if not data:
                return False
        elif len(data) > unit.left:
            voice.unpull(len(data) - unit.left)
            data = data[: unit.left]
        unit.left -= len(data)
        end = 2 if data.endswith(b"\r\n") else 0
        flags = (*unit.flags, *odd_octets(data, end, True), *(("after-gap",) if voice.after_gap else ()))
        if not end and unit.left and not len(voice):
            flags += ("cut-by-gap",) if voice.broken else ("incomplete",) if self._ending else ()
        if unit.field == "chunk":
            spans = content_spans(len(data), end, False, "chunk")
        else:
            spans = (Span(0, len(data), unit.role, unit.field),)
        voice.give(data, unit.pdu, spans, (*flags, *(("credential",) if unit.secret else ())))
        return True

    def _lost(self, voice: Voice) -> None:
        """A gap swallowed the end of a unit."""
        if voice is self._asks:
            self._command, self._lost_commands = None, True
        else:
            self._response, self._lost_responses = None, True

    def _next_line(self, voice: Voice) -> tuple[bytes, str] | None:
        """A line and ``""``, or what is left of one and why; None when there is nothing, or a gap was crossed."""
        data = voice.line()
        if data is not None:
            return data, ""
        if len(voice) and (voice.broken or self._ending):
            return voice.rest(), "cut-by-gap" if voice.broken else "incomplete"
        return None

    def _crossed(self, voice: Voice) -> bool:
        """Nothing can be pulled: is it a gap, and is it behind us now?"""
        if len(voice) or not voice.broken:
            return False
        voice.cross()
        if voice is self._asks:
            self._lost_commands, self._command = True, None
            self._secret = self._secret or self._auth  # what follows may be the end of a SASL message
            self._auth = False
        else:
            self._lost_responses, self._response = True, None
        return True

    def _unknown(self, voice: Voice) -> bool:
        """COMPRESS was agreed (RFC 4978): nothing can be read any more."""
        if len(voice) < UNKNOWN_PIECE and not (voice.broken or self._ending):
            return False
        data = voice.take(UNKNOWN_PIECE)
        if not data:
            return self._crossed(voice)
        flags = ("after-gap",) if voice.after_gap else ()
        voice.give(data, voice.pdu("unknown"), (Span(0, len(data), PCI, "raw"),), flags)
        return True

    # --- the client ---------------------------------------------------------------------------------------------

    def _ask(self) -> bool:
        voice, unit = self._asks, self._command
        if voice.side in self._records:
            return self._records[voice.side].read(self._ending)
        if self._waits == "literal" and not self._waiting:  # its answer was not captured (as rule O1)
            self._waits = ""
            if unit is not None:
                unit.flags = ("assumed",)
        if unit is not None and unit.left and not self._waits:
            return self._literal(voice, unit)
        if self._tls or self._waits == "STARTTLS" or voice.after_gap:
            begins = self._hello(voice)
            if begins is not False:
                return bool(begins)
        if self._waiting:
            return False
        if self._compressed:
            return self._unknown(voice)
        found = self._next_line(voice)
        if found is None:
            return self._crossed(voice)
        self._client_line(*found)
        return True

    @property
    def _waiting(self) -> bool:
        return bool(self._waits) and not (self._presuming or self._lost_responses)

    def _client_line(self, data: bytes, cut: str) -> None:
        voice, unit = self._asks, self._command
        end = line_end(data)
        text = data[: len(data) - end]
        flags = (*odd_octets(data, end, True), *((cut,) if cut else ()))
        if not self._alone and (self._greeted_at < 0 or voice.offset + len(data) <= self._greeted_at):
            flags += ("early-talker",)
        if self._quit:
            flags += ("after-quit",)
        if self._tls:
            flags += ("after-starttls",)
        if self._waits:  # AUTHENTICATE, STARTTLS: the answer was not captured
            self._auth = self._waits == "AUTHENTICATE" and is_base64(text)
            flags += ("assumed",) if self._auth else ()
            self._waits = ""
        if unit is not None:
            self._rest_of_command(unit, data, end, flags)
        elif self._auth:
            self._sasl(data, text, end, flags)
        elif self._idle and text.upper() == b"DONE":
            self._idle = False
            voice.give(data, voice.pdu("IDLE end"), (Span(0, 4, PCI, "verb"), *end_span(data, end)), flags, bool(end))
        else:
            self._begin_command(data, text, end, flags)

    def _sasl(self, data: bytes, text: bytes, end: int, flags: tuple[str, ...]) -> None:
        """One line of an AUTHENTICATE exchange (RFC 9051 6.2.2)."""
        voice, self._auth = self._asks, False
        cancel = text == b"*"
        spans = tiles((len(text), PCI if cancel else UD, "auth-cancel" if cancel else "auth-response"))
        if text and not cancel:
            flags += ("credential",)
        name = "AUTH cancel" if cancel else "AUTH response"
        voice.give(data, voice.pdu(name), (*spans, *end_span(data, end)), flags, bool(end))
        self._waits, self._secret = "AUTHENTICATE", True

    def _begin_command(self, data: bytes, text: bytes, end: int, flags: tuple[str, ...]) -> None:
        voice = self._asks
        size = imapwords.literal(text) if end else None
        found = imapwords.command(text, size.at if size else len(text))
        doubtful = voice.after_gap or self._fresh[voice.side]
        start_missing = self._fresh[voice.side] and not voice.after_gap
        self._fresh[voice.side] = False
        if voice.after_gap:
            flags += ("after-gap",)
        if (doubtful and not (found.name and end)) or (not end and not found.name):  # rule G2
            flags += ("start-missing",) if start_missing else ()
            hidden = ("credential",) if self._tail_of_secret(text) else ()
            voice.give(data, voice.pdu("command (fragment)"), raw(data, end), (*flags, *hidden))
            return
        flags += ("assumed",) if doubtful else ()
        if found.name:
            self._known(data, found, size, end, flags)
            return
        hidden = ("credential",) if self._secret and text and is_base64(text) else ()
        self._secret = bool(hidden)
        spans = (*found.spans, *end_span(data, end))
        voice.give(data, voice.pdu("unknown command"), spans, (*flags, "unknown-command", *hidden), bool(end))
        if found.tag and end:
            self._owe(found.tag, "")

    def _known(self, data: bytes, found: Parsed, size: Literal | None, end: int, flags: tuple[str, ...]) -> None:
        voice = self._asks
        self._secret = found.secret or found.name == "AUTHENTICATE"  # a client may go on although it was refused
        pdu = voice.pdu(f"{found.name} command")
        flags += ("credential",) if found.secret else ()
        voice.give(data, pdu, (*found.spans, *end_span(data, end)), flags, bool(end) and size is None)
        self._expect(found.tag, found.name)
        if size is not None:
            # APPEND has the mailbox in front of the message; the mailbox may be a literal too.
            mail = found.name == "APPEND" and any(span.field == "argument" for span in found.spans)
            self._announce(pdu, size, mail, found.name == "LOGIN")

    def _tail_of_secret(self, text: bytes) -> bool:
        """A piece that may be the end of AUTHENTICATE or LOGIN, or of a line of their exchange."""
        return self._secret or self._waits == "AUTHENTICATE" or (bool(text) and is_base64(text))

    def _announce(self, pdu: Pdu, size: Literal, mail: bool, secret: bool) -> None:
        field, role = ("chunk", UD) if mail else ("literal", PCI)
        self._command = _Unit(pdu, size.size, field, role, secret)
        if not size.at_once:
            self._waits = "literal"

    def _rest_of_command(self, unit: _Unit, data: bytes, end: int, flags: tuple[str, ...]) -> None:
        """What follows a literal: more of the command, perhaps another literal."""
        voice = self._asks
        text = data[: len(data) - end]
        size = imapwords.literal(text) if end else None
        spans = imapwords.more_of_command(text, size.at if size else len(text))
        flags += ("after-gap",) if voice.after_gap else ()
        flags += ("credential",) if unit.secret else ()
        voice.give(data, unit.pdu, (*spans, *end_span(data, end)), flags)
        self._command = None
        if size is not None:
            self._announce(unit.pdu, size, unit.pdu.name == "APPEND command", unit.secret)

    def _owe(self, tag: bytes, verb: str) -> None:
        self._asked = True
        if len(self._owed) >= OWED:
            self._owed.clear()
            self._lost_commands = True  # as far as is remembered
        self._owed[tag] = verb

    def _expect(self, tag: bytes, verb: str) -> None:
        self._owe(tag, verb)
        self._tag = tag
        self._idle = verb == "IDLE"
        if verb in ("AUTHENTICATE", "STARTTLS", "COMPRESS"):
            self._waits = verb
        elif verb == "LOGOUT":
            self._quit = True

    # --- the server ---------------------------------------------------------------------------------------------

    def _answer(self) -> bool:
        voice = self._answers
        if voice.side in self._records:
            return self._records[voice.side].read(self._ending)
        if self._response is not None and self._response.left:
            return self._literal(voice, self._response)
        if not self._heard_asks and self._greeted_at >= 0 and not self.midstream:
            return False
        if self._tls and len(voice):
            encrypted = self._encrypted(voice)
            if encrypted is None:
                return False
            if encrypted:
                return True
        if self._compressed:
            return self._unknown(voice)
        found = self._next_line(voice)
        if found is None:
            return self._crossed(voice)
        self._server_line(*found)
        return True

    def _server_line(self, data: bytes, cut: str) -> None:
        voice, unit = self._answers, self._response
        end = line_end(data)
        text = data[: len(data) - end]
        flags = (*odd_octets(data, end, True), *((cut,) if cut else ()))
        unsure, self._fresh[voice.side] = self._fresh[voice.side], False
        size = imapwords.literal(text) if end else None
        if unit is not None:
            self._more(unit, data, text, end, flags, size)
        elif text[:1] == b"+" and text[1:2] in (b" ", b"") and not (voice.after_gap or (cut and len(text) < 2)):
            self._continue(data, text, end, flags)
        elif (found := imapwords.result(text)) is not None:
            self._result(data, end, self._placed(flags, unsure), found)
        elif (found := imapwords.untagged(text, size.at if size else len(text))) is not None:
            self._untagged(data, text, end, self._placed(flags, unsure), found, size)
        elif cut or voice.after_gap or unsure:
            flags += ("after-gap",) if voice.after_gap else ("start-missing",) if unsure else ()
            voice.give(data, voice.pdu("reply (fragment)"), raw(data, end), flags)
        else:
            flags += ("malformed-reply",)
            voice.give(data, voice.pdu("malformed response"), raw(data, end), flags, bool(end))

    def _placed(self, flags: tuple[str, ...], unsure: bool) -> tuple[str, ...]:
        """Flags of a line that may not be what it looks like, for what stands in front of it was not captured."""
        if self._answers.after_gap:
            return (*flags, "after-gap", "assumed")
        return (*flags, "assumed") if unsure else flags

    def _continue(self, data: bytes, text: bytes, end: int, flags: tuple[str, ...]) -> None:
        """``+``: go on (RFC 9051 7.5)."""
        voice = self._answers
        blank = min(2, len(text))
        challenge = self._waits == "AUTHENTICATE" and is_base64(text[2:])
        role, field = (UD, "challenge") if challenge else (PCI, "text")
        spans = tiles((1, PCI, "tag"), (blank, PCI, "sp"), (len(text), role, field))
        name = "+ challenge" if self._waits == "AUTHENTICATE" else "continuation request"
        voice.give(data, voice.pdu(name), (*spans, *end_span(data, end)), flags, bool(end))
        if end and self._waits in ("literal", "AUTHENTICATE"):
            self._auth = self._waits == "AUTHENTICATE"
            self._waits = ""

    def _result(self, data: bytes, end: int, flags: tuple[str, ...], found: Parsed) -> None:
        """The tagged response: the command's result (RFC 9051 2.2.2)."""
        voice = self._answers
        verb = self._owed.pop(found.tag, None)
        if verb is None and self._asked and not (self._lost_commands or self._alone or self.midstream):
            flags += ("unsolicited",)
        voice.give(data, voice.pdu(f"{found.name} response"), (*found.spans, *end_span(data, end)), flags, bool(end))
        self._lost_responses = False
        if self._waits and found.tag == self._tag:
            if self._waits == "literal":
                self._command = None
            self._tls = self._tls or (self._waits == "STARTTLS" and found.name == "OK")
            self._compressed = self._waits == "COMPRESS" and found.name == "OK"
            self._waits = ""
        if verb == "IDLE":
            self._idle = False

    def _untagged(
        self, data: bytes, text: bytes, end: int, flags: tuple[str, ...], found: Parsed, size: Literal | None
    ) -> None:
        """``* OK``, ``* BYE`` (the first of a session is the greeting), or data."""
        voice = self._answers
        status = found.name in STATUSES and any(span.field == "status-indicator" for span in found.spans)
        greets = status and self._greeted_at < 0 and found.name in GREETINGS
        size = None if status else size
        pdu = voice.pdu(f"{found.name} {'greeting' if greets else 'response'}")
        voice.give(data, pdu, (*found.spans, *end_span(data, end)), flags, bool(end) and size is None)
        if greets and end:
            self._greeted_at = self._asks.received
        self._respond(pdu, text, size)

    def _more(
        self, unit: _Unit, data: bytes, text: bytes, end: int, flags: tuple[str, ...], size: Literal | None
    ) -> None:
        """What follows a literal in a response."""
        voice = self._answers
        flags += ("after-gap",) if voice.after_gap else ()
        spans = imapwords.more_of_data(text, size.at if size else len(text))
        voice.give(data, unit.pdu, (*spans, *end_span(data, end)), flags)
        self._respond(unit.pdu, text, size)

    def _respond(self, pdu: Pdu, text: bytes, size: Literal | None) -> None:
        self._response = None
        if size is not None:
            field, role = imapwords.carries(text[: size.at])
            self._response = _Unit(pdu, size.size, field, role, False)
