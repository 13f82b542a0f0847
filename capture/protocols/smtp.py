"""The SMTP and LMTP dialogue: which octets are commands, replies, mail data, chunks, SASL messages, TLS records.

Claim: the reply moves the state. Behind a command whose reply decides what comes next (DATA, AUTH, STARTTLS, TURN) the
client's octets wait for that reply; replies are matched to what they answer by counting (RFC 2920 3.1), and only behind
a gap, where counting has lost its footing, by what a code can legally answer. The rules carry the names they have in
the labelling scheme: D1-D5 data, G1-G6 gaps, O1-O2 one side only, M1-M3 the middle of a session.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import NamedTuple

from capture.data.smtp import LIMITS
from capture.model import Pdu, Role, Side, Span
from capture.protocols import commands, replies
from capture.protocols.content import Content, content_spans
from capture.protocols.dialogue import Exchange, raw
from capture.protocols.records import Records
from capture.protocols.replies import Answers
from capture.protocols.voice import end_span, line_end, odd_octets

PCI, UD = Role.PCI, Role.USER_DATA


class Phase(enum.Enum):
    """What the asking side's next octets are (labels.md 2.3)."""

    COMMAND = enum.auto()
    DATA_ASKED = enum.auto()  # waits for 354
    MAIL = enum.auto()
    CHUNK = enum.auto()  # BDAT: length-counted, no reply matters
    AUTH_ASKED = enum.auto()  # waits for 334
    AUTH = enum.auto()  # one line of SASL
    TLS_ASKED = enum.auto()  # waits for 220
    TLS = enum.auto()  # TLS was agreed; plaintext may precede the first record
    RECORDS = enum.auto()  # TLS records (or SASL buffers) until the end
    TURN_ASKED = enum.auto()  # waits for 250, then the sides swap roles
    UNKNOWN = enum.auto()  # mid-stream, or behind a gap that swallowed a boundary


class Owed(NamedTuple):
    """A unit that will be answered.

    what: its verb, or ``greeting``, ``mail data``, ``SASL``, or ``""`` for an unknown command; late: sent behind a gap.
    """

    what: str
    late: bool = False


class Open(NamedTuple):
    """A reply whose last line was not read yet. owed: what it answers; lines: how many were read; flags: of each line;
    over: its last line was seen, cut by a gap."""

    pdu: Pdu
    code: bytes
    owed: Owed | None
    lines: int = 0
    flags: tuple[str, ...] = ()
    over: bool = False


# Which command makes the client's next octets wait, and for what.
WAITS = {"DATA": Phase.DATA_ASKED, "AUTH": Phase.AUTH_ASKED, "STARTTLS": Phase.TLS_ASKED,
         "TURN": Phase.TURN_ASKED, "ATRN": Phase.TURN_ASKED}  # fmt: skip

# (waiting phase, reply code) that opens another phase; every other code leads back to COMMAND.
OPENS = {(Phase.DATA_ASKED, b"354"): Phase.MAIL, (Phase.AUTH_ASKED, b"334"): Phase.AUTH,
         (Phase.TLS_ASKED, b"220"): Phase.TLS}  # fmt: skip

# Behind a gap: the reply codes that can answer one thing only.
ONLY = {b"354": "DATA", b"334": "AUTH", b"235": "AUTH", b"221": "QUIT"}

GRAMMARS = {"greeting": Answers.CONNECTION, "HELO": Answers.HELO, "EHLO": Answers.EHLO, "LHLO": Answers.EHLO}

GREETING_CODES = (b"220", b"421", b"554")


class SmtpDialogue(Exchange):
    """SMTP, LMTP as soon as LHLO is seen, TLS when it starts with it."""

    protocol = "smtp"

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        super().__init__(conversation=conversation, midstream=midstream)
        self._phase = Phase.UNKNOWN if midstream else Phase.COMMAND
        self._owed: deque[Owed] = deque() if midstream else deque((Owed("greeting"),))
        self._open: Open | None = None
        self._content: Content | None = None
        self._greeted_at = 0 if midstream else -1  # client octets that had come when the greeting was complete
        self._asked = not midstream  # a client PDU was seen, so that an unmatched reply is unsolicited
        self._lost_commands = False  # a gap may have swallowed commands: replies may answer those
        self._lost_replies = False  # a gap may have swallowed replies
        self._pipelines = False  # the client sends commands without waiting
        self._quit = False
        self._utf8 = False  # SMTPUTF8 of this transaction
        self._eight_bit = False  # BODY=8BITMIME or BINARYMIME
        self._binary = False  # BODY=BINARYMIME: every octet is legal
        self._accepted = 0  # recipients of this transaction (LMTP: replies to its mail data)
        self._chunk: Pdu | None = None
        self._chunk_left = 0
        self._long: Pdu | None = None  # a command line that does not end
        self._secret = False  # the last client line held, or was, a credential
        self._fresh = midstream  # no M3 line was written yet
        self._unknown: Pdu | None = None  # mail data of the UNKNOWN phase
        self._sasl_layer = False  # 235 was the last reply: the client may go on through a security layer

    def settled(self, side: Side) -> int:
        if self._content is not None and side is self._asks.side:
            return self._content.settled
        return super().settled(side)

    def _end(self) -> None:
        if self._content is not None:
            self._content.release()

    # --- the asking side ----------------------------------------------------------------------------------------

    def _before_answers(self) -> bool:
        """TLS from the first octet (RFC 8314 3.3): the client does not wait for a greeting."""
        if self._phase is Phase.RECORDS:
            return self._records[self._asks.side].read(self._ending)
        if self._asks.offset == 0 and not self.midstream and self._asks.peek(2) == b"\x16\x03":
            self._start_tls_at_once()
            return True
        return False

    def _start_tls_at_once(self) -> None:
        self.protocol = "tls"
        self._records = {voice.side: Records(voice) for voice in (self._asks, self._answers)}
        self._owed.clear()
        self._phase = Phase.RECORDS

    def _ask(self) -> bool:
        phase = self._phase
        if phase is Phase.MAIL:
            return self._mail()
        if phase is Phase.COMMAND:
            return self._command()
        if phase is Phase.RECORDS:
            return self._records[self._asks.side].read(self._ending)
        if phase is Phase.CHUNK:
            return self._chunk_piece()
        if phase is Phase.AUTH:
            return self._auth_line()
        if phase is Phase.TLS:
            return self._after_starttls()
        if phase is Phase.UNKNOWN:
            return self._unknown_line()
        return self._wait()

    def _wait(self) -> bool:
        """A reply decides; without hope of one, rule O1 does."""
        if self._phase is Phase.TLS_ASKED and self._asks.peek(2) == b"\x16\x03":
            self._phase = Phase.TLS
            return True
        if not (self._presuming or self._lost_replies):
            return False
        return self._presume()

    def _presume(self) -> bool:
        """Rule O1: the next line tells what the reply that was not captured must have been."""
        voice = self._asks
        if not voice.waiting:
            return False
        text = voice.peek(LIMITS["auth_line"] + 2)
        found = text.find(b"\n")
        if found < 0 and not (self._ending or voice.broken or self._presuming):
            return False
        line = text[: found + 1 if found >= 0 else len(text)].rstrip(b"\r\n")
        phase, self._phase = self._phase, Phase.COMMAND
        self._forget(phase)
        if phase is Phase.DATA_ASKED and line.upper() not in (b"QUIT", b"RSET"):
            self._start_mail(assumed=True)
        elif phase is Phase.AUTH_ASKED and commands.is_base64(line) and not commands.known(line):
            self._phase = Phase.AUTH
        return True

    def _forget(self, phase: Phase) -> None:
        """The reply that was waited for will not come: nothing is owed for what waits."""
        if self._owed and WAITS.get(self._owed[-1].what, Phase.AUTH_ASKED) is phase:
            self._owed.pop()

    def _owe(self, what: str) -> None:
        """This unit will be answered."""
        self._asked = True
        if self._owed and not self._lost_replies and self._owed[-1].what != "greeting":
            self._pipelines = True
        if self._lost_replies and not self._pipelines:
            self._owed.clear()  # who never pipelines had an answer before going on
        self._owed.append(Owed(what, self._lost_commands))

    def _early(self, length: int) -> tuple[str, ...]:
        """The flag of a line of that length that came before the greeting was complete (RFC 5321 4.3.1)."""
        if self._alone:
            return ()
        greeted = self._greeted_at
        return ("early-talker",) if greeted < 0 or self._asks.offset + length <= greeted else ()

    # --- commands -----------------------------------------------------------------------------------------------

    def _command(self) -> bool:
        voice = self._asks
        if self._sasl_layer and len(voice):
            self._sasl_layer = False
            if voice.peek(1) == b"\0":  # no command begins so: a SASL security layer (RFC 4422 3.7)
                self._records = {v.side: Records(v, sasl=True) for v in (self._asks, self._answers)}
                self._phase = Phase.RECORDS
                return True
        if self._lost_commands and self._lost_tls():
            return True
        data = voice.line()
        cut = ""
        if data is None:
            if not (voice.broken or self._ending):
                return False
            data = voice.rest()
            if not data:
                return self._cross()
            cut = "cut-by-gap" if voice.broken else "incomplete"
        if self._long is not None:
            self._long_line(data, cut)
        else:
            self._command_line(data, cut)
        return True

    def _cross(self) -> bool:
        """Cross a gap in front of a command."""
        if not self._asks.broken:
            return False
        self._asks.cross()
        self._lost_commands = True
        self._long = None
        return True

    def _lost_tls(self) -> bool:
        """STARTTLS and its reply may lie in a gap; a handshake record is proof enough."""
        if self._asks.after_gap and self._asks.peek(2) == b"\x16\x03":
            self._phase = Phase.TLS
            return True
        return False

    def _long_line(self, data: bytes, cut: str) -> None:
        """The next piece of a line that passed `LONGEST_LINE`."""
        end = line_end(data)
        pdu = self._long or self._asks.pdu("command (fragment)")
        self._asks.give(data, pdu, raw(data, end), ("overlong", *((cut,) if cut else ()), *odd_octets(data, end)))
        if end or cut:
            self._long = None

    def _command_line(self, data: bytes, cut: str, *more: str) -> None:
        voice = self._asks
        end = line_end(data)
        proxy = voice.offset == 0 and not cut and data.startswith((b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"))
        command = commands.parse(data, end, bool(cut) or not end, self._utf8)
        flags = (*more, *command.flags, *self._early(len(data)))
        if cut:
            flags += (cut,)
        if self._quit:
            flags += ("after-quit",)
        if self._phase is Phase.TLS:
            flags += ("after-starttls",)
        fragment = False
        if voice.after_gap:
            flags += ("after-gap",)
            fragment = not command.complete  # G2
            if not fragment:
                flags += ("assumed",)
        if fragment or (cut and not command.verb):
            fragment = True
            flags = tuple(f for f in flags if f not in _OF_COMMANDS)
            if self._secret:
                flags += ("credential",)
        elif self._secret and not command.verb and commands.is_base64(data.strip()):
            flags += ("credential",)  # an AUTH that was refused, and a client that went on all the same
        if not end and not cut:
            flags += ("overlong",)
        if proxy:
            voice.give(data, voice.pdu("PROXY header"), raw(data, end), (), True)
            return
        if fragment:
            voice.give(data, voice.pdu("command (fragment)"), raw(data, end), flags)
        else:
            pdu = voice.pdu(f"{command.verb} command" if command.verb else "unknown command")
            whole = bool(end) and not (command.verb == "BDAT" and command.size > 0)
            voice.give(data, pdu, command.spans, flags, whole)
            if not end and not cut:
                self._long = pdu
            self._turn(command, pdu)
        self._secret = "credential" in flags or command.verb == "AUTH"

    def _turn(self, command: commands.Command, pdu: Pdu) -> None:
        """What a command changes as soon as it is sent."""
        verb = command.verb
        silent = self._quit or self._phase is Phase.TLS  # nobody will answer
        if not silent:
            self._owe("BDAT LAST" if verb == "BDAT" and command.last else verb)
        if verb == "BDAT":
            if command.size > 0:
                self._chunk, self._chunk_left = pdu, command.size
                self._phase = Phase.CHUNK
            elif command.size < 0 and "cut-by-gap" in self._last_flags():
                self._phase, self._unknown = Phase.UNKNOWN, None  # G6: the size is not known
        elif verb == "MAIL":
            self._transaction(command)
        elif verb in ("RSET", "HELO", "EHLO", "LHLO"):
            self._utf8 = self._eight_bit = self._binary = False
            if verb == "LHLO":
                self.protocol = "lmtp"
        if silent:
            return
        if verb == "QUIT":
            self._quit = True
        elif verb in WAITS:
            self._phase = WAITS[verb]

    def _last_flags(self) -> tuple[str, ...]:
        return self._out[-1].flags if self._out else ()

    def _transaction(self, command: commands.Command) -> None:
        """MAIL says which octets are legal until the transaction ends (RFC 6152 2, RFC 3030 3, RFC 6531 3.4)."""
        parameters = dict(command.parameters)
        body = parameters.get(b"BODY", b"")
        self._utf8 = b"SMTPUTF8" in parameters
        self._binary = body == b"BINARYMIME"
        self._eight_bit = self._utf8 or self._binary or body == b"8BITMIME"

    # --- mail data ----------------------------------------------------------------------------------------------

    def _start_mail(self, assumed: bool = False) -> None:
        self._phase = Phase.MAIL
        self._content = None
        self._assumed_mail = ("assumed",) if assumed else ()

    _assumed_mail: tuple[str, ...] = ()

    def _mail(self) -> bool:
        voice = self._asks
        content = self._content
        if content is None:
            if not voice.waiting:
                return False
            begun = self._unknown
            content = self._content = Content(
                voice,
                begun or voice.pdu("mail data"),
                eight_bit=self._eight_bit,
                always=self._assumed_mail,
                begun=begun is not None,
            )
            self._unknown = None
        if not content.read(self._ending):
            return False
        self._mail_over()
        return True

    def _mail_over(self) -> None:
        """The end of data was read, or proved: the server owes a reply (LMTP: one for each accepted recipient)."""
        self._content = None
        self._phase = Phase.COMMAND
        self._owe("mail data")
        self._utf8 = self._eight_bit = self._binary = False

    def _chunk_piece(self) -> bool:
        """Octets of a BDAT chunk, shown split at CRLF (D4)."""
        voice, pdu = self._asks, self._chunk
        if pdu is None or not self._chunk_left:
            self._phase = Phase.COMMAND
            return True
        if not len(voice) and voice.broken:
            self._chunk_left -= voice.cross()
            if self._chunk_left < 0:  # G6
                self._phase, self._unknown, self._lost_commands = Phase.UNKNOWN, None, True
            return True
        cut = ""
        data = voice.line(b"\r\n") if len(voice) else None
        if data is None:
            if len(voice) < self._chunk_left and not (voice.broken or self._ending):
                return False
            data = voice.take(self._chunk_left)
            if not data:
                return False
        elif len(data) > self._chunk_left:
            voice.unpull(len(data) - self._chunk_left)
            data = data[: self._chunk_left]
        self._chunk_left -= len(data)
        end = 2 if data.endswith(b"\r\n") else 0
        if not end and self._chunk_left and not len(voice):
            cut = "cut-by-gap" if voice.broken else "incomplete" if self._ending else ""
        flags: tuple[str, ...] = (cut,) if cut else ()
        if not self._binary:
            flags += odd_octets(data, end, self._eight_bit)
            if len(data) > LIMITS["text_line"]:
                flags += ("overlong",)
        if voice.after_gap:
            flags += ("after-gap",)
        voice.give(data, pdu, content_spans(len(data), end, False, "chunk"), flags)
        if not self._chunk_left:
            self._phase = Phase.COMMAND
        return True

    # --- AUTH, STARTTLS -----------------------------------------------------------------------------------------

    def _auth_line(self) -> bool:
        """One SASL message, even if it looks like a command (RFC 4954 4)."""
        voice = self._asks
        data = voice.line()
        cut = ""
        if data is None:
            if not (voice.broken or self._ending):
                return False
            data = voice.rest()
            if not data:
                return self._cross()
            cut = "cut-by-gap" if voice.broken else "incomplete"
        end = line_end(data)
        text = data[: len(data) - end]
        flags = odd_octets(data, end)
        if cut or not end:
            flags += (cut or "overlong",)
        elif len(data) > LIMITS["auth_line"]:
            flags += ("overlong",)
        if voice.after_gap:
            flags += ("after-gap",)
        if self._presuming or self._alone:
            flags += ("assumed",)
        flags += self._early(len(data))
        if text == b"*":
            name, spans = "AUTH cancel", (Span(0, 1, PCI, "auth-cancel"), *end_span(data, end))
        else:
            name = "AUTH response"
            spans = (*((Span(0, len(text), UD, "auth-response"),) if text else ()), *end_span(data, end))
            if text:
                flags += ("credential",)
        voice.give(data, voice.pdu(name), spans, flags, whole=bool(end))
        self._secret = True
        if end or cut:
            self._owe("SASL")
            self._phase = Phase.AUTH_ASKED
        return True

    def _after_starttls(self) -> bool:
        """TLS was agreed: records from the first one on, before it plaintext that should not be there (RFC 3207 4)."""
        voice = self._asks
        if len(voice):
            encrypted = self._encrypted(voice)
            if encrypted is None:
                return False
            if encrypted:
                self._phase = Phase.RECORDS
                return True
        return self._command()

    # --- the middle of a session --------------------------------------------------------------------------------

    def _unknown_line(self) -> bool:
        """Rules M1 to M3: a command, the end of mail data, or a line of mail data; all of it assumed."""
        voice = self._asks
        if (voice.offset == 0 or voice.after_gap) and len(voice):
            encrypted = self._encrypted(voice)
            if encrypted is None:
                return False
            if encrypted:
                self._phase = Phase.RECORDS
                if voice.offset == 0:
                    self.protocol = "tls"
                return True
        data = voice.line(b"\r\n")
        cut = ""
        if data is None:
            if not (voice.broken or self._ending):
                return False
            data = voice.rest()
            if not data:
                if not voice.broken:
                    return False
                voice.cross()
                return True
            cut = "cut-by-gap" if voice.broken else "incomplete"
        end = 2 if data.endswith(b"\r\n") else 0
        gap = ("after-gap",) if voice.after_gap else ()
        if end and commands.parse(data, end).complete:
            self._phase = Phase.COMMAND  # M1
            self._command_line(data, "", "assumed")
            return True
        pdu = self._unknown or voice.pdu("mail data")
        if data == b".\r\n":
            spans = (Span(0, 1, PCI, "eod-dot"), Span(1, 3, PCI, "crlf"))
            voice.give(data, pdu, spans, ("assumed", *gap))  # M2
            self._unknown = None
            self._mail_over()
            return True
        flags = ("assumed", *gap, *odd_octets(data, end, True))
        if cut:
            flags += (cut,)
        stuffed = data[0] == 0x2E and not self._fresh and not gap and len(data) > end + 1
        if self._fresh:
            flags += ("start-missing",)
        self._fresh = False
        self._unknown = pdu
        voice.give(data, pdu, content_spans(len(data), end, stuffed), flags)  # M3
        return True

    # --- the answering side -------------------------------------------------------------------------------------

    def _answer(self) -> bool:
        voice = self._answers
        records = self._records.get(voice.side)
        if records is not None:
            return records.read(self._ending)
        if not self._heard_asks and self._greeted_at >= 0 and not self.midstream:
            return False  # O2 is not ruled out yet: these may be replies to commands that are not captured
        if self._phase in (Phase.TLS, Phase.RECORDS) or (self.midstream and voice.offset == 0):
            encrypted = self._encrypted(voice) if len(voice) else False
            if encrypted is None:
                return False
            if encrypted:
                return True
        data = voice.line()
        cut = ""
        if data is None:
            if not (voice.broken or self._ending):
                return False
            data = voice.rest()
            if not data:
                return self._cross_answers()
            cut = "cut-by-gap" if voice.broken else "incomplete"
        self._reply_line(data, cut)
        return True

    def _cross_answers(self) -> bool:
        voice = self._answers
        if not voice.broken:
            return False
        voice.cross()
        self._lost_replies = True
        if self._open is not None and self._open.over:
            self._open = None
        return True

    def _reply_line(self, data: bytes, cut: str) -> None:
        voice = self._answers
        end = line_end(data)
        code = replies.code_of(data, end)
        flags = odd_octets(data, end, self._utf8)
        if cut:
            flags += (cut,)
        if voice.after_gap:
            flags += ("after-gap",)
            if not (code and end):
                self._fragment(data, end, flags)  # G3
                return
            flags += ("assumed",)
        if self._open is not None and self._open.over:
            self._open = None
        if not code and (cut or (self.midstream and voice.offset == 0 and not self._owed)):
            if not cut:
                flags += ("start-missing",)
            self._fragment(data, end, flags, ended=not cut)
            return
        if self._open is None:
            self._open = self._begin_reply(code)
        reply = self._open
        flags += reply.flags
        if len(data) > LIMITS["auth_line" if code == b"334" else "reply_line"]:
            flags += ("overlong",)
        last = not code or len(data) == 3 + end or data[3:4] == b" "
        if not code:
            spans = raw(data, end)
            flags += ("malformed-reply",)
            last = reply.lines == 0  # inside a reply of several lines it ends nothing
        else:
            answers = GRAMMARS.get(reply.owed.what, Answers.OTHER) if reply.owed else Answers.OTHER
            spans = (*replies.parse(data, end, answers, reply.lines == 0), *end_span(data, end))
            if code != reply.code and reply.code:
                flags += ("code-mismatch",)
            if len(data) == 3 + end and end:
                flags += ("no-separator",)
        voice.give(data, reply.pdu, spans, flags, whole=last and reply.lines == 0 and bool(end))
        if last and cut and len(data) == 3:
            last = False  # "250" and nothing behind it: it may go on with "-"
        if last and (end or cut):
            self._open = None
            self._replied(reply.owed, reply.code)
            if cut == "cut-by-gap":
                self._open = reply._replace(over=True)  # a piece behind the gap belongs to it
        else:
            self._open = reply._replace(lines=reply.lines + 1)

    def _fragment(self, data: bytes, end: int, flags: tuple[str, ...], ended: bool = True) -> None:
        """A piece of a reply behind a gap: the end of one reply (G3)."""
        voice = self._answers
        voice.give(data, voice.pdu("reply (fragment)"), raw(data, end), flags)
        if self._open is None and self._owed:
            self._open = Open(Pdu("", ""), b"", self._owed.popleft())
        reply, self._open = self._open, None
        if reply is None or reply.over:
            return
        if ended and end:
            self._replied(reply.owed, reply.code)
        else:
            self._open = reply._replace(lines=reply.lines + 1)

    def _begin_reply(self, code: bytes) -> Open:
        """The first line of a reply: what does it answer?"""
        owed = self._match(code)
        flags: tuple[str, ...] = ()
        if owed is None and self._asked and not self._lost_commands and not self._alone:
            flags = ("unsolicited",)
        if self._phase in (Phase.TLS, Phase.RECORDS) and owed is None:
            flags += ("after-starttls",)
        if not code:
            name = "malformed reply"
        elif owed is not None and owed.what == "greeting":
            name = f"{code.decode()} greeting"
        else:
            name = "334 challenge" if code == b"334" else f"{code.decode()} reply"
        return Open(self._answers.pdu(name), code, owed, flags=flags)

    def _match(self, code: bytes) -> Owed | None:
        """Counting; where a gap made the count uncertain, what a code can only answer."""
        owed = self._owed
        content = self._content if self._phase is Phase.MAIL and not owed else None
        if content is not None and content.answered(_is_command):  # D5, G5
            self._lost_commands = self._asks.after_gap or self._asks.broken
            self._mail_over()
        if self._lost_replies and owed:
            wanted = ONLY.get(code, "")
            if owed[0].what == "greeting" and code not in GREETING_CODES and not self._greeted_by_gap():
                return self._match(code)
            if wanted and owed[0].what != wanted:
                for place, unit in enumerate(owed):
                    if unit.what == wanted or (wanted == "AUTH" and unit.what == "SASL"):
                        for _ in range(place):
                            owed.popleft()
                        break
        if self._lost_commands and owed and owed[0].what == "DATA" and code[:1] == b"2":
            return None  # no answer to DATA: it answers a command that lies in the gap
        if not owed:
            return None
        head = owed[0]
        if self.protocol == "lmtp" and head.what in ("mail data", "BDAT LAST") and self._accepted > 1:
            self._accepted -= 1  # RFC 2033 4.2: one reply for each accepted recipient
        else:
            owed.popleft()
        if not owed:
            self._lost_replies = False
            if head.late:
                self._lost_commands = False
        return head

    def _greeted_by_gap(self) -> bool:
        """The greeting lies in a gap: drop it. Always False, for the reply at hand answers something else."""
        self._owed.popleft()
        self._greeted_at = self._asks.received
        return False

    def _replied(self, owed: Owed | None, code: bytes) -> None:
        """A reply is complete: it moves the phase."""
        what = owed.what if owed is not None else None
        good = code[:1] == b"2"
        self._sasl_layer = False
        if what == "greeting":
            self._greeted_at = self._asks.offset if self._swapped else self._asks.received
        elif what == "RCPT":
            self._accepted += good
        elif what == "QUIT":
            self._quit = good or not code  # refused: the session goes on
        elif what in ("RSET", "MAIL", "HELO", "EHLO", "LHLO"):
            self._accepted = 0 if good else self._accepted
        elif what in ("mail data", "BDAT LAST"):
            if not (self._owed and self._owed[0] is owed):  # LMTP: not the last of its replies
                self._accepted = 0
        elif what in ("TURN", "ATRN"):
            if self._phase is Phase.TURN_ASKED:
                self._swap() if code == b"250" else self._resume()
        elif what in ("DATA", "AUTH", "SASL", "STARTTLS"):
            self._decided(what, code)
        elif owed is None:
            self._unmatched(code)

    def _decided(self, what: str, code: bytes) -> None:
        """The reply that the client's octets were waiting for."""
        phase = self._phase
        if WAITS.get(what, Phase.AUTH_ASKED) is not phase:
            return
        if not code:  # its code lies in a gap
            self._lost_replies = True
            return
        following = OPENS.get((phase, code), Phase.COMMAND)
        if following is Phase.MAIL:
            self._start_mail()
        else:
            self._phase = following
        self._sasl_layer = phase is Phase.AUTH_ASKED and code == b"235"

    def _resume(self) -> None:
        self._phase = Phase.COMMAND

    def _unmatched(self, code: bytes) -> None:
        """A reply to something that was not captured tells the phase all the same."""
        if self._phase not in (Phase.COMMAND, Phase.UNKNOWN) or not (self._lost_commands or not self._asked):
            return
        if code == b"354":
            self._start_mail(assumed=True)
        elif code == b"334":
            self._phase = Phase.AUTH
        elif self._phase is Phase.UNKNOWN and code and not self._asks.received:
            # the client has said nothing since: it is between commands
            self._phase, self._lost_commands = Phase.COMMAND, True

    def _swap(self) -> None:
        """TURN and ATRN: the sides exchange roles and begin anew with a greeting (RFC 821 3.8, RFC 2645 5.2)."""
        self._asks, self._answers = self._answers, self._asks
        self._swapped = True
        self._phase = Phase.COMMAND
        self._owed = deque((Owed("greeting"),))
        self._greeted_at = -1
        self._quit = self._secret = False
        self._accepted = 0


# Flags that speak of a command's syntax: a fragment has none.
_OF_COMMANDS = frozenset({"unknown-command", "syntax", "unexpected-argument", "space-after-colon", "trailing-ws",
                          "path-without-brackets", "credential"})  # fmt: skip


def _is_command(line: bytes) -> bool:
    end = line_end(line)
    return end > 0 and commands.parse(line, end).complete
