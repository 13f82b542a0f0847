"""The SMTP and LMTP dialogue: which octets are commands, replies, mail data, chunks, SASL messages, TLS records.

Claim: the reply moves the state. Replies are matched to what they answer by counting (RFC 2920 3.1), and only behind a
gap, where counting has lost its footing, by what a code can legally answer. The rules carry the names they have in the
labelling scheme: D1-D5 data, G1-G6 gaps, O1-O2 one side only, M1-M3 the middle of a session. The client's octets are
read in `capture.protocols.asking`; the tables of phases are in `capture.protocols.phases`.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from capture.data.smtp import LIMITS
from capture.model import Note, Pdu, Side
from capture.protocols import commands, replies
from capture.protocols.asking import Asking
from capture.protocols.dialogue import raw
from capture.protocols.phases import ONLY, OPENS, WAITS, Owed, Phase
from capture.protocols.replies import Answers
from capture.protocols.voice import line_end

GRAMMARS = {"greeting": Answers.CONNECTION, "HELO": Answers.HELO, "EHLO": Answers.EHLO, "LHLO": Answers.EHLO}

GREETING_CODES = (b"220", b"421", b"554")
_REPLY_BEGINS = re.compile(rb"[2-5][0-9]{2}[ -]")


class Open(NamedTuple):
    """A reply whose last line was not read yet. owed: what it answers; lines: how many were read; flags: of each line;
    over: its last line was seen, cut by a gap."""

    pdu: Pdu
    code: bytes
    owed: Owed | None
    lines: int = 0
    flags: tuple[str, ...] = ()
    over: bool = False


class SmtpDialogue(Asking):
    """SMTP, LMTP as soon as LHLO is seen, TLS when it starts with it."""

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        super().__init__(conversation=conversation, midstream=midstream)
        self._open: Open | None = None
        self._spoken_at = 0  # server octets that had come when the client first spoke
        self._spoken_since = 0  # client octets that had come when the last line of an open reply was read
        self._run_into = False  # the open reply began behind a greeting without line end

    def _hear(self, side: Side) -> None:
        if side is self._asks.side and not self._heard_asks:
            self._spoken_at = self._answers.received
        super()._hear(side)

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
        return True

    def _reply_line(self, data: bytes, cut: str) -> None:
        voice = self._answers
        end, code, flags = replies.facts(data, self._utf8)
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
        reply, others = self._open, self._run_into or (self._open is not None and code not in (b"", self._open.code))
        if reply is not None and others and self._asks.received > self._spoken_since:
            self._open = None  # it was all of the reply to the client, which went on
            self._replied(reply.owed, reply.code)
        self._run_into = False
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
            spans = replies.parse(data, end, answers, reply.lines == 0)
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
                self._spoken_since = self._asks.received
            elif reply.owed is not None and reply.owed.what == "greeting":
                self._run_together(data)
        else:
            self._open = reply._replace(lines=reply.lines + 1)
            self._spoken_since = self._asks.received

    def _run_together(self, greeting: bytes) -> None:
        """A greeting without a line end: the client took it for one, and the reply to its HELO stands in the same line.

        By L2 it is one line; but it is two replies, and who counts one pairs every later reply with the wrong command.
        """
        line_at = self._answers.offset - len(greeting)
        second = greeting[max(0, self._spoken_at - line_at) :]
        if not line_at < self._spoken_at < self._answers.offset or not _REPLY_BEGINS.match(second):
            return
        text = "The greeting has no line end, so the next reply stands in the same line; they are counted as two."
        self._notes.append(Note("run-together", text, 0, self.conversation, self._answers.side, self._spoken_at))
        reply = self._begin_reply(second[:3])
        if second[3:4] == b" ":
            self._replied(reply.owed, reply.code)
        else:
            self._open = reply._replace(lines=1)
            self._run_into, self._spoken_since = True, self._asks.received

    def _fragment(self, data: bytes, end: int, flags: tuple[str, ...], ended: bool = True) -> None:
        """A piece of a reply behind a gap: the end of one reply (G3)."""
        voice = self._answers
        voice.give(data, voice.pdu("reply (fragment)"), raw(data, end), flags)
        if self._open is not None and self._open.over and self._asks.received > self._spoken_since:
            self._open = None  # the client had its end, and went on: this is of another reply
        if self._open is None:
            self._prove_end()
            if self._owed:
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
        self._prove_end()
        if self._phase is Phase.UNKNOWN and not owed and self._asks.waiting:
            waits = self._asks.peek()
            if waits.endswith(b"\n") and b"\r\n" not in waits:
                self._by_lf = True  # answered without a CRLF
                self._asks.unpull(0)  # searched for CRLF so far
            self._turn_over = True
            while self._asks.waiting and self._ask():
                pass
            self._turn_over = False
        if (self._lost_replies or self.midstream) and owed:
            wanted = ONLY.get(code, "")
            if owed[0].what == "greeting" and code not in GREETING_CODES and not self._greeted_by_gap():
                return self._match(code)
            if wanted and owed[0].what != wanted:
                for place, unit in enumerate(owed):
                    if unit.what == wanted or (wanted == "AUTH" and unit.what == "SASL"):
                        for _ in range(place):
                            owed.popleft()
                        break
                else:
                    if self._lost_commands:
                        return None  # it answers a command that lies in the gap
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

    def _prove_end(self) -> None:
        """D5, G5: a reply comes though no end of the mail data was seen, and nothing else waits for one."""
        content = self._content if self._phase is Phase.MAIL and not self._owed else None
        if content is not None and content.answered(_is_command):
            self._lost_commands = self._asks.after_gap or self._asks.broken
            self._mail_over()

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
        if self._phase is Phase.AUTH and self._lost_commands and code != b"334":
            self._phase = Phase.COMMAND  # the message that it answers lies in the gap
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


def _is_command(line: bytes) -> bool:
    end = line_end(line)
    return end > 0 and commands.parse(line, end).complete
