"""The asking side of SMTP and LMTP: commands, mail data, chunks, SASL messages, TLS records.

Claim: behind a command whose reply decides what comes next (DATA, AUTH, STARTTLS, TURN) the client's octets wait for
that reply. Where it was not captured, the next line tells what it must have been (rule O1), and says so by a flag.
"""

from __future__ import annotations

from collections import deque

from capture.data.smtp import LIMITS
from capture.model import Pdu, Role, Side, Span
from capture.protocols import commands
from capture.protocols.content import Content, content_spans
from capture.protocols.dialogue import Exchange, raw
from capture.protocols.phases import WAITS, Owed, Phase
from capture.protocols.records import Records
from capture.protocols.secrets import mistyped
from capture.protocols.voice import end_span, line_end, odd_octets

PCI, UD = Role.PCI, Role.USER_DATA

# Flags that speak of a command's syntax: a fragment has none.
_OF_COMMANDS = frozenset({"unknown-command", "syntax", "unexpected-argument", "space-after-colon", "trailing-ws",
                          "path-without-brackets", "credential"})  # fmt: skip


class Asking(Exchange):
    """The half of an SMTP dialogue that reads the asking side; `capture.protocols.smtp` has the other half."""

    protocol = "smtp"

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        super().__init__(conversation=conversation, midstream=midstream)
        self._phase = Phase.UNKNOWN if midstream else Phase.COMMAND
        self._owed: deque[Owed] = deque() if midstream else deque((Owed("greeting"),))
        self._content: Content | None = None
        self._greeted_at = 0 if midstream else -1  # client octets that had come when the greeting was complete
        self._asked = not midstream  # a client PDU was seen, so that an unmatched reply is unsolicited
        self._lost_commands = False  # a gap may have swallowed commands: replies may answer those
        self._lost_replies = False  # a gap may have swallowed replies
        self._pipelines = False  # the client sends commands without waiting
        self._heard_before = -1  # octets of the server, gaps included, that had come when a unit was last owed for
        self._quit = False
        self._utf8 = False  # SMTPUTF8 of this transaction
        self._eight_bit = False  # BODY=8BITMIME or BINARYMIME
        self._binary = False  # BODY=BINARYMIME: every octet is legal
        self._accepted = 0  # recipients of this transaction (LMTP: replies to its mail data)
        self._chunk: Pdu | None = None
        self._chunk_left = 0
        self._long: Pdu | None = None  # a command line that does not end
        self._secret = False  # the last client line held, or was, a credential
        self._by_lf = False  # ... and its lines end in LF, as a reply proved
        self._fresh = midstream  # no M3 line was written yet
        self._doubtful = False  # the last line was a fragment behind a gap
        self._quoting = False  # the middle of a session is of a message that quotes one
        self._turn_over = False  # the server answers what the client said in the middle of a session
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
        self._records[self._asks.side] = Records(self._asks)  # the server may answer in plain, against the rules
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
        heard = self._answers.received
        if self._owed and not self._lost_replies and self._owed[-1].what != "greeting":
            self._pipelines = True
        if self._lost_replies and not self._pipelines and heard != self._heard_before:
            self._owed.clear()  # who never pipelines had an answer before going on
        self._heard_before = heard
        self._owed.append(Owed(what, self._lost_commands))

    def _early(self, length: int) -> tuple[str, ...]:
        """The flag of a line of that length that came before the greeting was complete (RFC 5321 4.3.1)."""
        greeted = self._greeted_at
        if self._alone or (greeted < 0 and self._lost_replies):
            return ()
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
        if (
            voice.offset == 0 and voice.peek(1) == b"\x16"
        ):  # TLS from the first octet, though the server greeted in plain
            encrypted = self._encrypted(voice)
            if encrypted is None:
                return False
            if encrypted:
                self._phase = Phase.RECORDS
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
        if self._asks.after_gap and self._asks.peek(1) == b"\x16" and self._encrypted(self._asks):
            self._phase = Phase.RECORDS
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
        if self._doubtful:
            self._doubtful = False
            if end and not command.verb and (self._alone or self._lost_replies):
                voice.unpull(len(data))  # DATA may lie in the gap, and no reply says that it does not
                self._phase, self._unknown = Phase.UNKNOWN, None
                return
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
            if self._secret or (not command.verb and mistyped(data[: len(data) - end])):
                flags += ("credential",)
        elif not command.verb and (
            mistyped(data[: len(data) - end])
            # an AUTH that was refused, and a client that went on all the same
            or (self._secret and commands.is_base64(data.strip()))
        ):
            flags += ("credential",)
        if not end and not cut:
            flags += ("overlong",)
        if proxy:
            voice.give(data, voice.pdu("PROXY header"), raw(data, end), (), True)
            return
        if fragment:
            voice.give(data, voice.pdu("command (fragment)"), raw(data, end), flags)
            self._doubtful = "after-gap" in flags
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
                early=self._greeted_at,
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
        flags = (*self._early(len(data)), *((cut,) if cut else ()))
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
        if voice.after_gap and end and commands.parse(data, end).complete:  # G2; the message lies in the gap
            voice.unpull(len(data))
            self._phase = Phase.COMMAND
            return True
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

    def _prose(self, verb: str, behind: bytes) -> bool | None:
        """Whether what looks like a command (M1) is of a message that quotes one; ``None`` until the server speaks.

        It is, when the same turn goes on with lines that are no commands and ends in a lone dot, and one reply follows.
        """
        if self._quoting:
            return True
        if self._alone or (self._presuming and not self._ending) or verb in WAITS or verb == "BDAT":
            return False  # behind such a verb anything may follow
        if not (self._turn_over or self._ending):
            return None
        lines = (b"\r\n" + behind).split(b"\r\n")[1:-1]
        if b"." not in lines and not self._asks.broken:  # behind a gap there may be one
            return False
        for line in lines:
            found = commands.parse(line + b"\r\n", 2).verb
            if found in WAITS or found == "BDAT":
                return False
            if not found:
                self._quoting = line != b"."
                return self._quoting
        return False

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
        data = voice.line(b"\n" if self._by_lf else b"\r\n")
        if data is None and self._ending:
            voice.unpull(0)  # searched for CRLF so far
            data = voice.line()
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
        end = line_end(data)
        gap = ("after-gap",) if voice.after_gap else ()
        command = commands.parse(data[: len(data) - end] + b"\r\n", 2)
        if end and command.complete:
            prose = self._prose(command.verb, voice.peek())
            if prose is None:
                voice.unpull(len(data))
                return False
            if not prose:
                self._phase = Phase.COMMAND  # M1
                self._command_line(data, "", "assumed")
                return True
        pdu = self._unknown or voice.pdu("mail data")
        if data == b".\r\n" or (data == b".\n" and self._by_lf):
            odd = () if end == 2 else ("bare-lf", "nonstandard-eod")
            voice.give(data, pdu, (Span(0, 1, PCI, "eod-dot"), *end_span(data, end)), ("assumed", *gap, *odd))  # M2
            self._unknown = None
            self._quoting = False
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
