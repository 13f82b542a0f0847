"""The next sensible line, from what the server answered.

Claim: a suggestion follows from captured lines alone, never from what was typed, so it is as late and as right as the
wire. The stages and their lines are the tables below; a command the server refused is suggested again. RFC 5321 4.1.4
gives SMTP's order, RFC 1939 4 to 6 that of POP3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from textual.suggester import Suggester

from capture.model import Line, Side


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A line to type and why. ``line`` None: nothing to type now. An empty ``line`` means Enter alone."""

    line: str | None
    why: str


WAIT = Suggestion(None, "wait for the server")
OVER = Suggestion(None, "the conversation is over")

SMTP: dict[str, Suggestion] = {
    "hello": Suggestion("HELO your-pc", "say who you are"),
    "mail": Suggestion("MAIL FROM:<you'll-never-know@student.example>", "say who sends: nobody checks"),
    "rcpt": Suggestion("RCPT TO:<student@student.example>", "say for whom it is"),
    "data": Suggestion("DATA", "ask to send the text"),
    "quit": Suggestion("QUIT", "say goodbye"),
}
# Which stage an accepted command leads to; the 354 to DATA leads to TEXT, which is a list of lines.
SMTP_NEXT = {"HELO": "mail", "EHLO": "mail", "LHLO": "mail", "MAIL": "rcpt", "RCPT": "data", "RSET": "mail"}
TEXT: tuple[Suggestion, ...] = (
    Suggestion("From: You'll-never-know-for-sure", "header: user data to SMTP"),
    Suggestion("To: student@student.example", "header: user data to SMTP"),
    Suggestion("Subject: Talking SMTP", "header: user data to SMTP"),
    Suggestion("", "press Enter: an empty line ends the header"),
    Suggestion("Guess who typed this.", "the body: any text"),
    Suggestion(".", "a lone dot ends the text: it is PCI"),
)
POP3: dict[str, Suggestion] = {
    "": Suggestion("USER student", "say whose mailbox"),
    "USER": Suggestion("PASS talking", "the password, in clear"),
    "PASS": Suggestion("STAT", "how much mail?"),
    "STAT": Suggestion("LIST", "one line for each message"),
    "LIST": Suggestion("RETR 1", "fetch the first message"),
    "RETR": Suggestion("QUIT", "say goodbye"),
}
VERBS = (
    ("HELO ", "EHLO ", "MAIL FROM:<", "RCPT TO:<", "DATA", "RSET", "NOOP", "QUIT", "VRFY ", "EXPN ", "HELP"),
    ("USER ", "PASS ", "STAT", "LIST", "UIDL", "TOP 1 0", "RETR 1", "DELE 1", "RSET", "NOOP", "QUIT", "CAPA"),
)


@dataclass(slots=True)
class Guide:
    """Follows one conversation. `feed` its lines in the order they were captured; `next` is what to type."""

    next: Suggestion = WAIT
    asks_secret: bool = False
    """A 334 is unanswered: whatever is typed now is a secret (RFC 4954 4)."""
    _pop3: bool = False
    _greeted: bool = False
    _outstanding: list[str] = field(default_factory=list)
    _stage: str = ""
    _text: int = -1

    @property
    def verbs(self) -> tuple[str, ...]:
        """Every command that a beginning may be completed to."""
        return () if self._text >= 0 else VERBS[self._pop3]

    def feed(self, line: Line) -> None:
        """Take note of one captured line of either side."""
        if line.side is Side.CLIENT:
            self._said(line)
        elif self._is_last(line):
            self._answered(line.data)

    def _said(self, line: Line) -> None:
        if line.pdu.name.startswith("mail data"):
            ends = any(span.field == "eod-dot" for span in line.spans)
            self._text = -1 if ends else self._text + 1
            self.next = WAIT if ends else TEXT[min(self._text, len(TEXT) - 1)]
            if ends:
                self._outstanding.append("mail data")
            return
        self._outstanding.append(line.pdu.name.removesuffix(" command"))
        self.next = WAIT
        self.asks_secret = False

    def _is_last(self, line: Line) -> bool:
        if line.data[:1] in (b"+", b"-"):
            self._pop3 = True
            return True
        return not self._pop3 and line.data[:3].isdigit() and line.data[3:4] != b"-"

    def _answered(self, data: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            self._stage = "" if self._pop3 else "hello"
            self.next = POP3[""] if self._pop3 else SMTP["hello"] if data[:1] == b"2" else OVER
            return
        command = self._outstanding.pop(0) if self._outstanding else ""
        if self._pop3:
            if data[:1] == b"+":
                self._stage = command if command in POP3 else self._stage
            self.next = OVER if command == "QUIT" else POP3[self._stage]
            return
        code = data[:3]
        self.asks_secret = code == b"334"
        if code in (b"221", b"421"):
            self.next = OVER
        elif code == b"354":
            self._text = 0
            self.next = TEXT[0]
        elif code == b"334":
            self.next = Suggestion(None, "answer the challenge in base64, or * to give up")
        else:
            if code[:1] == b"2":
                self._stage = "quit" if command == "mail data" else SMTP_NEXT.get(command, self._stage)
            elif command == "mail data":
                self._stage = "mail"
            self.next = SMTP[self._stage]


class GhostText(Suggester):
    """Completes what is typed to the next sensible line, else to a command."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.guide = Guide()

    def complete(self, value: str) -> str | None:
        """The line that ``value`` is the beginning of, or None."""
        if not value:
            return None
        for line in (self.guide.next.line or "", *self.guide.verbs):
            if line.casefold().startswith(value.casefold()) and len(line) > len(value):
                # What was typed stays as typed: the wire gets those octets, not ours.
                rest, verb = line[len(value) :], len(line.split(" ")[0]) - len(value)
                return value + (rest[:verb].lower() + rest[verb:] if value.islower() and verb > 0 else rest)
        return None

    async def get_suggestion(self, value: str) -> str | None:
        return self.complete(value)
