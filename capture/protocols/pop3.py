"""The POP3 dialogue (RFC 1939): one answer for each command, some of them with many lines.

Claim: whether a response has several lines depends on the command it answers, so responses are matched by counting. A
response of many lines is one PDU from its status line to its lone dot, because POP3 has no second turn between them
(`pop3.json`); its message lines are user data, its listings PCI.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from capture.data.pop3 import COMMANDS
from capture.model import Pdu, Role, Side, Span
from capture.protocols.commands import is_base64
from capture.protocols.content import Content
from capture.protocols.dialogue import Exchange, raw
from capture.protocols.secrets import mistyped
from capture.protocols.voice import LONGEST_LINE, Voice, end_span, line_end, odd_octets

PCI, UD = Role.PCI, Role.USER_DATA

LONGEST_COMMAND = 255  # RFC 2449 4
LONGEST_RESPONSE = 512  # RFC 1939 3

_KNOWN = {command.encode(): command for command in COMMANDS}
_STATUS = re.compile(rb"(\+OK|-ERR)(?= |\r|\n|\Z)")
_LISTED = re.compile(rb"\d+ [\x21-\x7e]+\r?\n\Z")


class Owed(NamedTuple):
    """A command that will be answered. content: what its lines are after +OK, ``""`` when there is one line only;
    late: sent behind a gap."""

    command: str
    content: str = ""
    late: bool = False


class Pop3Dialogue(Exchange):
    """POP3, with AUTH (RFC 5034) and STLS (RFC 2595)."""

    protocol = "pop3"

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        super().__init__(conversation=conversation, midstream=midstream)
        self._owed: deque[Owed] = deque() if midstream else deque((Owed("greeting"),))
        self._greeted_at = 0 if midstream else -1
        self._waits = ""  # AUTH or STLS: the response decides
        self._auth = False  # the next client line is a SASL message
        self._tls = False  # STLS was accepted
        self._asked = not midstream
        self._lost_commands = midstream
        self._lost_responses = False
        self._found_again = False  # a command behind the gap was answered: the next one is counted right
        self._quit = False
        self._secret = False
        self._after_auth = False  # AUTH was the last command
        self._response: Pdu | None = None  # a response of many lines, being read
        self._content: Content | None = None
        self._listing_of = ""
        self._listing_broken = False  # a gap may hide its end

    def settled(self, side: Side) -> int:
        if self._content is not None and side is Side.SERVER:
            return self._content.settled
        return super().settled(side)

    def _end(self) -> None:
        if self._content is not None:
            self._content.release()

    # --- the client ---------------------------------------------------------------------------------------------

    def _before_answers(self) -> bool:
        """TLS from the first octet (port 995)."""
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
                self._owed.clear()
        return begins

    def _ask(self) -> bool:
        voice = self._asks
        if voice.side in self._records:
            return self._records[voice.side].read(self._ending)
        if self._tls or self._waits == "STLS" or voice.after_gap:
            begins = self._hello(voice)
            if begins is not False:
                return bool(begins)
        if self._waits and not (self._presuming or self._lost_responses):
            return False
        data, cut = _next_line(voice, self._ending)
        if not data:
            if cut:
                voice.cross()
                self._lost_commands = True
                self._secret = self._secret or self._auth  # what follows may be the end of a SASL message
                self._auth = False
            return bool(cut)
        self._client_line(data, cut)
        return True

    def _client_line(self, data: bytes, cut: str) -> None:
        voice = self._asks
        end = line_end(data)
        text = data[: len(data) - end]
        assumed = False
        if self._waits:  # its answer was not captured (as rule O1)
            known = text.split(b" ", 1)[0].upper() in _KNOWN
            self._auth = assumed = self._waits == "AUTH" and is_base64(text) and not known
            self._waits = ""
        spans, name, flags = _sasl(text) if self._auth else _command(text, bool(cut) or not end)
        flags += odd_octets(data, end, True)
        if len(data) > LONGEST_COMMAND and not self._auth:
            flags += ("overlong",)
        if "unknown-command" in flags and (self._secret or self._after_auth) and is_base64(text):
            flags += ("credential",)  # an AUTH that was refused, or lost, and a client that went on all the same
        if cut:
            flags += (cut,)
        if assumed:
            flags += ("assumed",)
        if not self._alone and (self._greeted_at < 0 or voice.offset + len(data) <= self._greeted_at):
            flags += ("early-talker",)
        if self._quit:
            flags += ("after-quit",)
        if self._tls:
            flags += ("after-starttls",)
        command = name.removesuffix(" command")
        fragment = bool(cut) and command not in COMMANDS and not self._auth
        if voice.after_gap and not self._auth:
            flags += ("after-gap",)
            fragment = fragment or command not in COMMANDS or bool({"syntax", "unexpected-argument"} & {*flags})
            if not fragment:
                flags += ("assumed",)
        if fragment:
            flags = tuple(f for f in flags if f not in ("unknown-command", "syntax", "unexpected-argument"))
            if self._secret:
                flags += ("credential",)
            voice.give(data, voice.pdu("command (fragment)"), raw(data, end), flags)
        else:
            voice.give(data, voice.pdu(name), (*spans, *end_span(data, end)), flags, whole=bool(end))
        self._secret = "credential" in flags
        self._after_auth = command == "AUTH"
        if self._quit or self._tls or fragment:
            self._auth = False
            return
        self._expect("AUTH" if self._auth else command, b" " in text.rstrip())

    def _expect(self, command: str, argument: bool) -> None:
        """This line will be answered; by how many lines, the table says."""
        self._asked = True
        self._auth = False
        if self._content is not None and self._content.answered(lambda _line: False):
            self._content = self._response = None  # D5: the client went on, so to it the response had ended
        content = ""
        if command in COMMANDS:
            when = COMMANDS[command][2]
            if when == "always" or (when == "bare" and not argument):
                content = COMMANDS[command][3]
        if command == "AUTH":
            self._waits = "AUTH"
            if not argument and not self._secret:
                content = "listing"  # AUTH alone lists the mechanisms on many servers; RFC 5034 does not know it
        elif command == "STLS":
            self._waits = "STLS"
        elif command == "QUIT":
            self._quit = True
        if self._lost_responses:
            self._owed.clear()  # the answers to what came before lie in the gap
        self._straying = False
        if self._found_again:
            self._lost_commands = self._found_again = False
        self._owed.append(Owed(command, content, self._lost_commands))

    # --- the server ---------------------------------------------------------------------------------------------

    def _answer(self) -> bool:
        voice = self._answers
        if voice.side in self._records:
            return self._records[voice.side].read(self._ending)
        if self._content is not None:
            if not self._content.read(self._ending):
                return False
            self._content = self._response = None
            return True
        if not self._heard_asks and self._greeted_at >= 0 and not self.midstream:
            return False
        if self._tls and len(voice):
            encrypted = self._encrypted(voice)
            if encrypted is None:
                return False
            if encrypted:
                return True
        elif self.midstream and voice.offset == 0 and len(voice):
            begins = self._begins_inside(voice)
            if begins is not False:
                return bool(begins)
        data, cut = _next_line(voice, self._ending)
        if not data:
            if cut:
                voice.cross()
                self._lost_responses = self._listing_broken = True
            return bool(cut)
        end = line_end(data)
        if self._response is not None and not self._interrupts(data):
            self._listing(data, end, cut)
        elif self._response is None and self._strays(data, cut):
            self._stray(data, end, cut)
        else:
            self._status(data, end, cut)
        return True

    def _begins_inside(self, voice: Voice) -> bool | None:
        """Mid-stream: a first line that is no status line is taken for message text (as rule M3)."""
        first = voice.peek(LONGEST_LINE)
        found = first.find(b"\n")
        if found < 0 and len(first) < LONGEST_LINE and not (self._ending or voice.broken):
            return None
        if _is_status(first, "cut" if found < 0 else "") or first.startswith(b"+ "):
            return False
        data, cut = _next_line(voice, self._ending)
        pdu = voice.pdu("+OK response")
        flags = ("assumed", "start-missing", *((cut,) if cut else ()), *odd_octets(data, line_end(data), True))
        end = line_end(data)
        spans: tuple[Span, ...] = (Span(0, len(data) - end, UD, "content"),) if len(data) > end else ()
        if end:
            spans += (Span(len(data) - end, len(data), UD, "line-end"),)
        voice.give(data, pdu, spans, flags)
        self._response = pdu
        self._content = Content(voice, pdu, eight_bit=True, always=("assumed",), limited=False, begun=True)
        return True

    def _strays(self, data: bytes, cut: str) -> bool:
        """Whether a line is one more of the response before it, though no command that is known asked for many.

        So it is where only the server was captured (as rule O2), and where a gap made the count uncertain.
        """
        if self._straying:
            return True
        if _is_status(data, cut) or data.startswith(b"+ "):
            return False
        if self._alone and not self._owed:
            return True
        if self._last_response is None or not (self._lost_commands or self._lost_responses):
            return False
        asked = [place for place, owed in enumerate(self._owed) if owed.content]
        for _ in range(asked[0] + 1 if asked else 0):  # the response before it answers this one
            self._owed.popleft()
        self._straying = True
        return True

    _straying = False

    def _goes_on(self, voice: Voice) -> bool:
        """Whether the next line is no status line: only asked when all there will ever be is there."""
        line = voice.peek(LONGEST_LINE).split(b"\n", 1)[0]
        return bool(line) and not _is_status(line, "cut") and not line.startswith(b"+ ")

    def _stray(self, data: bytes, end: int, cut: str) -> None:
        """Only the server was captured (as rule O2): what is no status line belongs to the response before it."""
        voice = self._answers
        flags = ("assumed", *odd_octets(data, end, True), *((cut,) if cut else ()))
        pdu = self._last_response or voice.pdu("+OK response")
        if data == b".\r\n":
            voice.give(data, pdu, (Span(0, 1, PCI, "eod-dot"), Span(1, 3, PCI, "crlf")), flags)
            self._last_response = None
            self._straying = False
            return
        stop = len(data) - end
        if _LISTED.match(data):
            spans: tuple[Span, ...] = (Span(0, stop, PCI, "listing"), *end_span(data, end))
        else:
            at = 1 if data[:1] == b"." and stop > 1 else 0
            spans = (Span(0, 1, PCI, "stuffed-dot"),) if at else ()
            spans += (Span(at, stop, UD, "content"),) if stop > at else ()
            spans += (Span(stop, len(data), UD, "line-end"),) if end else ()
        self._last_response = pdu
        voice.give(data, pdu, spans, flags)

    _last_response: Pdu | None = None

    def _interrupts(self, data: bytes) -> bool:
        """A status line inside what may be no listing at all: the answer to a bare AUTH had one line only.

        Or what is one no more: its dot may lie in a gap, and the client has gone on.
        """
        if _STATUS.match(data) is None:
            return False
        return self._listing_of == "AUTH" or (self._listing_broken and bool(self._owed))

    def _listing(self, data: bytes, end: int, cut: str) -> None:
        """A line of LIST, UIDL, CAPA, or the dot behind them."""
        voice = self._answers
        pdu = self._response or voice.pdu("+OK response")
        flags = (*odd_octets(data, end, True), *((cut,) if cut else ()))
        stop = len(data) - end
        if data[:stop] == b"." and end and not voice.after_gap:
            spans = (Span(0, 1, PCI, "eod-dot"), *end_span(data, end))
            self._response = None
        else:
            if voice.after_gap:
                flags += ("after-gap",)
            at = 1 if data[:1] == b"." and stop > 1 and not voice.after_gap else 0
            spans = (Span(0, 1, PCI, "stuffed-dot"),) if at else ()
            spans += (Span(at, stop, PCI, "listing"),) if stop > at else ()
            spans += end_span(data, end)
        voice.give(data, pdu, spans, flags)

    def _status(self, data: bytes, end: int, cut: str) -> None:
        """The first line of a response, often its only one."""
        voice = self._answers
        self._response = None
        owed = self._owed[0] if self._owed else None
        stop = len(data) - end
        flags = (*odd_octets(data, end, True), *((cut,) if cut else ()))
        if len(data) > LONGEST_RESPONSE:
            flags += ("overlong",)
        found = _STATUS.match(data)
        challenge = found is None and data[:1] == b"+" and data[1:2] in (b" ", b"\r", b"\n")
        challenge = challenge and (self._waits == "AUTH" or not voice.after_gap)
        if found is None and not challenge and (cut or voice.after_gap):
            voice.give(data, voice.pdu("reply (fragment)"), raw(data, end),
                       (*flags, *(("after-gap",) if voice.after_gap else ())))  # fmt: skip
            if end and self._owed:
                self._answered(self._owed.popleft(), "")
            return
        if voice.after_gap:
            flags += ("after-gap", "assumed")
        elif self._lost_responses or (self._lost_commands and (owed is None or not self.midstream)):
            flags += ("assumed",)
        kind = "greeting" if owed is not None and owed.command == "greeting" else "response"
        status = data[: found.end()].decode() if found else ""
        many = bool(owed and owed.content and status == "+OK")
        if owed is None and self._alone and status == "+OK" and self._goes_on(voice):
            many = True  # O2: the lines behind it tell
            flags += ("assumed",)
        if owed is None and self._asked and not self._lost_commands and not self._alone:
            flags += ("unsolicited",)
        if found or challenge:
            at = found.end() if found else 1
            spans = [Span(0, at, PCI, "status-indicator")]
            text = at
            while text < stop and data[text] == 0x20:
                text += 1
            if text > at:
                spans.append(Span(at, text, PCI, "sp"))
            if stop > text:
                spans.append(Span(text, stop, UD, "challenge") if challenge else Span(text, stop, PCI, "text"))
            name = f"{status} {kind}" if found else "+ challenge"
            spans += end_span(data, end)
        else:
            name, spans = "malformed reply", list(raw(data, end))
            flags += ("malformed-reply",)
        pdu = voice.pdu(name)
        voice.give(data, pdu, tuple(spans), flags, whole=bool(end) and not many)
        if not end and not cut:
            return
        if self._owed:
            self._owed.popleft()
        elif challenge and self._lost_commands:
            self._auth = True  # of an AUTH that was not captured
        self._last_response = pdu if status == "+OK" else None
        if many and owed is not None:
            self._response, self._listing_of, self._listing_broken = pdu, owed.command, cut == "cut-by-gap"
            if owed.content == "content":
                self._content = Content(voice, pdu, eight_bit=True, limited=False, begun=True)
        if owed is not None:
            self._answered(owed, "+" if challenge else status)

    def _answered(self, owed: Owed, status: str) -> None:
        """What a response decides."""
        if owed.command == "greeting":
            self._greeted_at = self._asks.received
        elif owed.command == "QUIT":
            self._quit = status != "-ERR"
        elif owed.command == self._waits:
            self._waits = ""
            self._tls = owed.command == "STLS" and status == "+OK"
            self._auth = owed.command == "AUTH" and status == "+"
        if not self._owed:
            self._lost_responses = False
            self._found_again = owed.late


def _next_line(voice: Voice, ending: bool) -> tuple[bytes, str]:
    """The next line and ``""``; or what is left of one, and why; or nothing, and why when a gap is to be crossed."""
    data = voice.line()
    if data is not None:
        return data, ""
    if voice.broken:
        return voice.rest(), "cut-by-gap"
    if ending:
        rest = voice.rest()
        return rest, "incomplete" if rest else ""
    return b"", ""


def _is_status(data: bytes, cut: str) -> bool:
    return _STATUS.match(data) is not None or bool(cut and data in (b"+", b"+O", b"-", b"-E", b"-ER"))


def _sasl(text: bytes) -> tuple[tuple[Span, ...], str, tuple[str, ...]]:
    """A line of a SASL exchange (RFC 5034 4)."""
    if text == b"*":
        return (Span(0, 1, PCI, "auth-cancel"),), "AUTH cancel", ()
    if not text:
        return (), "AUTH response", ()
    return (Span(0, len(text), UD, "auth-response"),), "AUTH response", ("credential",)


def _command(text: bytes, cut: bool) -> tuple[tuple[Span, ...], str, tuple[str, ...]]:
    """Keyword and arguments of a command line; name of the PDU; flags."""
    word = text.split(b" ", 1)[0]
    keyword = _KNOWN.get(word.upper(), "")
    if not keyword:
        spans = [Span(0, len(word), PCI, "verb")] if word else []
        _arguments(text, len(word), len(text), ("argument",), spans)
        return tuple(spans), "unknown command", ("unknown-command", *(("credential",) if mistyped(text) else ()))
    required, most = COMMANDS[keyword][:2]
    stop = len(text)
    if most >= 0 and not cut:  # a password may end in blanks
        stop = max(len(word), len(text.rstrip(b" \t")))
    spans = [Span(0, len(word), PCI, "keyword")]
    fields = ("mechanism", "*initial-response") if keyword == "AUTH" else ("argument",) * max(most, 1)
    if most < 0 or text.count(b" ", 0, stop) > most:
        fields = ("argument",)
    given = _arguments(text, len(word), stop, fields, spans)
    flags: tuple[str, ...] = ()
    if stop < len(text):
        spans.append(Span(stop, len(text), PCI, "trailing-ws"))
        flags += ("trailing-ws",)
    if (keyword in ("PASS", "APOP") and given) or (keyword == "AUTH" and given > 1):
        flags += ("credential",)
    words = len(text[len(word) : stop].split())
    if keyword == "USER" and words > most:  # USER me PASS x, or USER me x
        flags += ("credential",)
    if not cut and words < required:
        flags += ("syntax",)
    elif most >= 0 and words > most:
        flags += ("syntax" if most else "unexpected-argument",)
    return tuple(spans), f"{keyword} command", flags


def _arguments(text: bytes, at: int, stop: int, fields: tuple[str, ...], spans: list[Span]) -> int:
    """Blanks and words; the last field takes all that is left. Returns how many arguments there were."""
    given = 0
    for place, field in enumerate(fields):
        start = at
        while at < stop and text[at] == 0x20:
            at += 1
        if at > start:
            spans.append(Span(start, at, PCI, "sp"))
        if at >= stop:
            break
        found = text.find(b" ", at, stop)
        end = stop if found < 0 or place == len(fields) - 1 else found
        name = field.lstrip("*")
        if name == "initial-response":
            if text[at:end] == b"=":
                spans.append(Span(at, end, PCI, "empty-initial-response"))
                break
            spans.append(Span(at, end, UD, name))
        else:
            spans.append(Span(at, end, PCI, name))
        given += 1
        at = end
    return given
