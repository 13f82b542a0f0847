"""The lab's MTA: RFC 5321 as a receiver, on aiosmtpd, with replies that a person at a keyboard can learn from.

Claim: every reply is one that RFC 5321 4.3.2 lists for its command (and 554 where RCPT asks for relaying, as Postfix
has it); every 2yz, 4yz and 5yz reply carries an enhanced status code, except the greeting and the replies to HELO and
EHLO (RFC 2034); a reply is one write; and no number of typing errors ends a session. `Mta` is what the host is and
decides; `Receiver` is one conversation.

aiosmtpd reads the lines, keeps the order of replies and takes the data; what it says itself is put into our words in
`Receiver.push`. Its five-typos limit is a module global, and there is no other way to lift it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import traceback
from collections import defaultdict
from email.utils import formatdate
from ipaddress import ip_address
from typing import cast

import aiosmtpd.smtp
from aiosmtpd.smtp import SMTP, Envelope, Session

from lab import plan
from lab.address import AddressSyntaxError, Mailbox, parse, parse_path, split_path
from lab.directory import POSTMASTER, Directory, Kind, full_name
from lab.mailbox import with_crlf
from lab.queue import Queue

aiosmtpd.smtp.BOGUS_LIMIT = sys.maxsize
logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd warns of each unknown command; a lesson has many

GREETING = "Simple Mail Transfer Service ready"  # RFC 821 appendix F
SIZE_LIMIT = 32 * 2**20  # octets of a message (RFC 1870)
LINE_LIMIT = 2**20  # octets of a line of data; RFC 5321 4.5.3.1.6 asks for 1000 and for no limit where possible
COMMAND_LIMIT = 1000  # octets of a command line with its CRLF; RFC 5321 4.5.3.1.4 asks for 512
RECIPIENT_LIMIT = 100  # RFC 5321 4.5.3.1.8 asks for at least that
HOP_LIMIT = 25  # Received fields; RFC 5321 6.3 asks for at least 100, a lab of two hops loops sooner
IDLE_LIMIT = 3600.0  # seconds; RFC 5321 4.5.3.2.7 asks for 300, a student thinks longer

SYNTAX = {  # RFC 5321 4.1.1
    "HELO": "HELO <SP> <domain>",
    "EHLO": "EHLO <SP> <domain or address literal>",
    "MAIL": "MAIL FROM:<reverse-path> [<SP> <parameters>]",
    "RCPT": "RCPT TO:<forward-path>",
    "DATA": "DATA",
    "RSET": "RSET",
    "VRFY": "VRFY <SP> <user name or address>",
    "EXPN": "EXPN <SP> <mailing list>",
    "HELP": "HELP [<SP> <command>]",
    "NOOP": "NOOP [<SP> <anything>]",
    "QUIT": "QUIT",
}
# Commands that exist and are not served here: 502, where a word that is no command gets 500 (RFC 5321 4.2.4).
NOT_SERVED = {
    "SEND": "RFC 821 3.4",
    "SOML": "RFC 821 3.4",
    "SAML": "RFC 821 3.4",
    "TURN": "RFC 821 3.8",
    "AUTH": "RFC 4954",
    "STARTTLS": "RFC 3207",
    "BDAT": "RFC 3030",
    "ETRN": "RFC 1985",
    "ATRN": "RFC 2645",
    "BURL": "RFC 4468",
    "LHLO": "RFC 2033",
}

_HELLO_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.:\[\]-]+")
_PARAMETER = re.compile(r"(?P<key>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~]+))?")
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_POLICY = re.compile(rb"^%s[ \t]*:" % re.escape(plan.POLICY_WORD.encode()), re.IGNORECASE | re.MULTILINE)
_HEADER_FIELD = re.compile(r"[A-Z][A-Z0-9-]*:")

# aiosmtpd's words → ours. What it may say besides gets a general enhanced code in `Receiver.push`.
_IN_OUR_WORDS = {
    "354 End data with <CR><LF>.<CR><LF>": "354 Start mail input; end with <CRLF>.<CRLF>",
    "500 Error: bad syntax": "500 5.5.2 Syntax error: a line begins with a command of US-ASCII letters; try HELP",
    "500 Error: strict ASCII mode": "500 5.5.2 Syntax error: octets above 127 in a command (RFC 5321 2.4)",
    "500 Command line too long": f"500 5.5.2 Command line too long: at most {COMMAND_LIMIT} octets",
    "500 Line too long (see RFC5321 4.5.3.1.6)": f"500 5.5.2 Line of mail data too long: at most {LINE_LIMIT} octets",
    "552 Error: Too much mail data": f"552 5.3.4 Message too big: at most {SIZE_LIMIT} octets",
}
_UNRECOGNIZED = re.compile(r'500 Error: command "(.*)" not recognized', re.DOTALL)
_NEEDS_STATUS = re.compile(r"([245])[0-9]{2}[ -](?![245]\.\d{1,3}\.\d{1,3}(?: |$))")


def reply(code: int, status: str, *lines: str) -> str:
    """A reply, multi-line if there are several ``lines``, the enhanced ``status`` on each (RFC 2034 4)."""
    prefix = f"{status} " if status else ""
    return "\r\n".join(
        f"{code}{'-' if at < len(lines) else ' '}{prefix}{line}" for at, line in enumerate(lines, start=1)
    )


class Mta:
    """A mail host: whom it knows, what it takes, where it puts it. The handler of its `Receiver`s.

    vrfy: whether VRFY and EXPN tell who exists; without it VRFY answers 252, as public servers do.
    """

    def __init__(self, directory: Directory, queue: Queue, *, vrfy: bool = True) -> None:
        self.directory, self.vrfy = directory, vrfy
        self.fqdn = directory.host.fqdn
        self._queue = queue
        self._receivers: set[Receiver] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self, address: str, port: int = plan.SMTP) -> int:
        """Listen; gives the port (useful with 0). Raises `OSError`."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Receiver(self, self._receivers, loop), address, port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and say 421 to who is still talking (RFC 5321 3.8)."""
        for server in self._servers:
            server.close()
        for receiver in list(self._receivers):
            receiver.dismiss(reply(421, "4.3.2", f"{self.fqdn} Service not available, closing transmission channel"))

    def verify(self, text: str) -> str:
        """The reply to VRFY (RFC 5321 3.5)."""
        if not self.vrfy:
            return reply(252, "2.0.0", "Cannot VRFY user, but will accept message and attempt delivery")
        bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
        if "@" not in bare:
            bare = self._qualify(bare)
        if "@" in bare:
            return self._verify_address(bare)
        people = self.directory.find(bare)
        entries = [f"{person.name} <{self.directory.address(person.user)}>" for person in people]
        if len(entries) > 1:
            return reply(553, "5.1.4", "User ambiguous; possibilities are", *entries)
        if entries:
            return reply(250, "2.1.5", *entries)
        return reply(550, "5.1.1", "String does not match anything")

    def _qualify(self, word: str) -> str:
        """A local part that stands for something here other than a person gets its domain; any other text stays."""
        known = word.lower() in self.directory.moved or word.lower() in self.directory.lists
        return self.directory.address(word) if known else word

    def _verify_address(self, text: str) -> str:
        try:
            address = parse(text)
        except AddressSyntaxError as error:
            return reply(501, "5.1.3", f"Syntax error: {error}")
        kind = self.directory.kind(address)
        if kind is Kind.LOCAL:
            person = self.directory.people[address.user]
            return reply(250, "2.1.5", f"{person.name} <{self.directory.address(person.user)}>")
        if kind is Kind.LIST:
            return reply(550, "5.1.1", "That is a mailing list, not a user; try EXPN")
        if kind is Kind.REMOTE:
            return reply(252, "2.0.0", "Cannot VRFY user, but will accept message and attempt delivery")
        if kind is Kind.FOREIGN:  # 554 is no reply to VRFY
            return reply(550, "5.7.1", f"<{address}>: not here, and not relayed")
        return self.refusal(address, kind)

    def expand(self, text: str) -> str:
        """The reply to EXPN (RFC 5321 3.5)."""
        if not self.vrfy:
            return reply(550, "5.7.2", "Access denied to you")
        bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
        try:
            address = parse(bare if "@" in bare else self.directory.address(bare))
        except AddressSyntaxError as error:
            return reply(501, "5.1.3", f"Syntax error: {error}")
        kind = self.directory.kind(address)
        if kind is Kind.LIST:
            members = self.directory.lists[address.user]
            return reply(250, "2.1.5", *(f"{full_name(m)} <{m}>".lstrip() for m in members))
        if kind is Kind.LOCAL:
            return reply(550, "5.1.1", "That is a user name, not a mailing list; try VRFY")
        return reply(550, "5.1.1", "No such mailing list here")

    def refusal(self, address: Mailbox, kind: Kind) -> str:
        """Why mail for ``address`` is not taken; empty if it is."""
        if kind is Kind.UNKNOWN:
            return reply(550, "5.1.1", f"<{address}>: No such user here")
        if kind is Kind.MOVED:
            return reply(551, "5.1.6", f"User not local; please try <{self.directory.moved[address.user]}>")
        if kind is Kind.FOREIGN:
            return reply(554, "5.7.1", f"<{address}>: Relay access denied")
        return ""

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd with the whole message, dots taken off: judge it, then answer for it."""
        content = envelope.content
        assert isinstance(content, bytes)
        content = with_crlf(content)  # a bare LF would be a line end to one host and none to the next
        header = b"" if content.startswith(b"\r\n") else content.partition(b"\r\n\r\n")[0]
        if _POLICY.search(header):
            return reply(554, "5.7.1", f"Transaction failed: policy forbids the header field {plan.POLICY_WORD}")
        if len(_RECEIVED.findall(header)) > HOP_LIMIT:
            return reply(554, "5.4.6", f"Transaction failed: too many hops, more than {HOP_LIMIT} Received fields")
        ident = self._queue.ident()
        try:
            self._queue.submit(
                ident, envelope.mail_from or "", envelope.rcpt_tos, self._trace(ident, session, envelope) + content
            )
        except OSError as error:
            return reply(452, "4.3.1", f"Insufficient system storage: {error.strerror}")
        return reply(250, "2.0.0", f"OK, queued as {ident}")

    def _trace(self, ident: str, session: Session, envelope: Envelope) -> bytes:
        """The Received field that each host puts on top (RFC 5321 4.4): the name the client gave, its true address."""
        assert session.peer is not None
        peer = ip_address(session.peer[0])
        literal = f"[{peer}]" if peer.version == 4 else f"[IPv6:{peer}]"
        protocol = "ESMTP" if session.extended_smtp else "SMTP"
        # Only one recipient is named: of several, each would learn of the others, Bcc included (RFC 5321 7.2).
        whom = f"\r\n\tfor <{envelope.rcpt_tos[0]}>" if len(envelope.rcpt_tos) == 1 else ""
        return (
            f"Received: from {session.host_name} ({literal})\r\n"
            f"\tby {self.fqdn} with {protocol} id {ident}{whom};\r\n"
            f"\t{formatdate(localtime=True)}\r\n"
        ).encode("ascii")

    async def handle_exception(self, error: Exception) -> str:
        """Called by aiosmtpd for what should not happen: told on stderr, and the client may try again."""
        traceback.print_exception(error)
        return reply(451, "4.3.0", "Requested action aborted: error in processing")


class _Lines:
    """aiosmtpd's view of its stream reader, with two differences.

    A client that sends its last commands and closes its half at once still gets its replies; the end of the stream
    is then noticed where a line is waited for, and ends the task as aiosmtpd's own cancelling does. And each line
    that arrives, be it a typing error or mail data, shows that somebody is there.
    """

    def __init__(self, reader: asyncio.StreamReader, receiver: Receiver) -> None:
        self._reader, self._receiver = reader, receiver

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        try:
            line = await self._reader.readuntil(separator)
        except asyncio.IncompleteReadError:
            raise asyncio.CancelledError from None
        self._receiver.someone_is_there()
        return line

    async def read(self, n: int = -1) -> bytes:
        return await self._reader.read(n)


class Receiver(SMTP):
    """One conversation. The methods ``smtp_…`` are found by name."""

    line_length_limit = LINE_LIMIT
    command_size_limit = COMMAND_LIMIT - 2

    def __init__(self, mta: Mta, peers: set[Receiver], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            mta,
            hostname=mta.fqdn,
            ident=GREETING,
            data_size_limit=SIZE_LIMIT,
            timeout=IDLE_LIMIT,
            loop=loop,
        )
        # aiosmtpd keeps the limits of ESMTP sessions in a table that all its objects share
        self.command_size_limits = defaultdict(lambda: self.command_size_limit)
        self._mta, self._peers = mta, peers
        self._refused = False  # a recipient of the current transaction was

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peers.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._peers.discard(self)
        super().connection_lost(error)

    def eof_received(self) -> bool | None:
        return asyncio.StreamReaderProtocol.eof_received(self)

    def _cb_client_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = cast(asyncio.StreamReader, _Lines(reader, self))
        self._writer = writer

    async def _handle_client(self) -> None:
        try:
            await super()._handle_client()
        except ConnectionError:
            self._writer.close()  # reset by the client while we wrote: nobody is left to be told

    def _timeout_cb(self) -> None:
        self.dismiss(reply(421, "4.4.2", f"{self._mta.fqdn} Timeout, closing transmission channel"))

    def someone_is_there(self) -> None:
        """Restart the idle timer."""
        self._reset_timeout()

    def dismiss(self, farewell: str) -> None:
        """Say ``farewell`` and close."""
        self._writer.write(farewell.encode("ascii") + b"\r\n")
        self._writer.close()

    async def push(self, status: str | bytes) -> None:
        """Send a reply in one write; what aiosmtpd says itself is put into our words."""
        text = status if isinstance(status, str) else status.decode("ascii")
        text = _IN_OUR_WORDS.get(text, text)
        if match := _UNRECOGNIZED.fullmatch(text):
            text = _unrecognized(match[1])
        if not text.startswith("220 ") and (match := _NEEDS_STATUS.match(text)):
            text = f"{text[:4]}{match[1]}.0.0 {text[4:]}"
        await super().push(text)

    async def _answer(self, code: int, status: str, *lines: str) -> None:
        await self.push(reply(code, status, *lines))

    async def _syntax_error(self, verb: str, why: str = "") -> None:
        await self._answer(501, "5.5.4", f"Syntax: {SYNTAX[verb]}{f' ({why})' if why else ''}")

    def _set_post_data_state(self) -> None:
        self.envelope = self._create_envelope()
        self._refused = False

    def _set_rset_state(self) -> None:
        self._set_post_data_state()

    # Who is there

    async def smtp_HELO(self, hostname: str | None) -> None:
        if await self._hello("HELO", hostname):
            await super().push(f"250 {self._mta.fqdn}")

    async def smtp_EHLO(self, hostname: str | None) -> None:
        if await self._hello("EHLO", hostname):
            words = [f"SIZE {SIZE_LIMIT}", "8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES"]
            words += ["EXPN"] if self._mta.vrfy else []  # must be listed if it is served (RFC 5321 3.5.2)
            await super().push(reply(250, "", f"{self._mta.fqdn} greets {hostname}", *words, "HELP"))

    async def _hello(self, verb: str, hostname: str | None) -> bool:
        # No enhanced code in any reply to HELO and EHLO (RFC 2034 3).
        if not hostname:
            await super().push(reply(501, "", f"Syntax: {SYNTAX[verb]} (who are you?)"))
            return False
        if not _HELLO_NAME.fullmatch(hostname):
            await super().push(reply(501, "", f"Syntax: {SYNTAX[verb]} (one name, without spaces)"))
            return False
        self._set_rset_state()
        assert self.session is not None
        self.session.extended_smtp = verb == "EHLO"
        self.session.host_name = hostname
        return True

    # A transaction

    async def smtp_MAIL(self, arg: str | None) -> None:
        assert self.session is not None
        assert self.envelope is not None
        if not self.session.host_name:
            await self._answer(503, "5.5.1", "Bad sequence of commands: say HELO or EHLO first")
            return
        if self.envelope.mail_from is not None:
            await self._answer(503, "5.5.1", "Bad sequence of commands: nested MAIL; RSET ends the open transaction")
            return
        argument = _after_keyword("FROM:", arg)
        if argument is None:
            await self._syntax_error("MAIL")
            return
        try:
            path, rest = split_path(argument)
            sender = str(parse_path(path)) if path else ""
        except AddressSyntaxError as error:
            await self._answer(501, "5.1.7", f"Syntax error in the reverse-path: {error}")
            return
        refusal = self._judge_parameters(rest)
        if refusal:
            await self.push(refusal)
            return
        self.envelope.mail_from = sender
        await self._answer(250, "2.1.0", "OK")

    def _judge_parameters(self, rest: str) -> str:
        """The refusal that MAIL's parameters call for, or empty. SIZE: RFC 1870; BODY: RFC 6152."""
        assert self.session is not None
        if rest and not self.session.extended_smtp:
            return reply(501, "5.5.4", "Syntax: MAIL FROM:<reverse-path> (parameters need EHLO in place of HELO)")
        for word in rest.split():
            match = _PARAMETER.fullmatch(word)
            if match is None:
                return reply(501, "5.5.4", f"Syntax error in the parameter {_quoted(word)}")
            key, value = match["key"].upper(), match["value"]
            if key == "SIZE":
                if value is None or not re.fullmatch(r"[0-9]{1,20}", value):
                    return reply(501, "5.5.4", "Syntax: SIZE=<number of octets>")
                if int(value) > SIZE_LIMIT:
                    return reply(552, "5.3.4", f"Message size exceeds fixed maximum of {SIZE_LIMIT} octets")
            elif key == "BODY":
                if (value or "").upper() not in ("7BIT", "8BITMIME"):
                    return reply(501, "5.5.4", "Syntax: BODY=7BIT or BODY=8BITMIME")
            else:
                return reply(555, "5.5.4", f"MAIL FROM parameter {_quoted(key)} not recognized or not implemented")
        return ""

    async def smtp_RCPT(self, arg: str | None) -> None:
        assert self.envelope is not None
        if self.envelope.mail_from is None:
            await self._answer(503, "5.5.1", "Bad sequence of commands: MAIL comes before RCPT")
            return
        argument = _after_keyword("TO:", arg)
        if argument is None:
            await self._syntax_error("RCPT")
            return
        try:
            path, rest = split_path(argument)
            if path.lower() == POSTMASTER:  # the one address that needs no domain (RFC 5321 4.5.1)
                path = self._mta.directory.address(path)
            address = parse_path(path)
        except AddressSyntaxError as error:
            self._refused = True
            await self._answer(501, "5.1.3", f"Syntax error in the forward-path: {error}")
            return
        if rest:
            self._refused = True
            await self._answer(555, "5.5.4", "RCPT TO parameters not recognized or not implemented")
            return
        refusal = self._mta.refusal(address, self._mta.directory.kind(address))
        if refusal:
            self._refused = True
            await self.push(refusal)
            return
        if len(self.envelope.rcpt_tos) >= RECIPIENT_LIMIT:
            await self._answer(452, "4.5.3", f"Too many recipients: at most {RECIPIENT_LIMIT} a transaction")
            return
        self.envelope.rcpt_tos.append(str(address))
        await self._answer(250, "2.1.5", "OK")

    async def smtp_DATA(self, arg: str | None) -> None:
        assert self.envelope is not None
        if arg:
            await self._syntax_error("DATA", "the text follows after 354")
        elif self.envelope.mail_from is None:
            await self._answer(503, "5.5.1", "Bad sequence of commands: MAIL and RCPT come before DATA")
        elif self.envelope.rcpt_tos:
            await super().smtp_DATA("")
        elif self._refused:
            await self._answer(554, "5.5.1", "No valid recipients")  # RFC 5321 3.3
        else:
            await self._answer(503, "5.5.1", "Bad sequence of commands: RCPT comes before DATA")

    async def smtp_RSET(self, arg: str | None) -> None:
        if arg:
            await self._syntax_error("RSET")
            return
        self._set_rset_state()
        await self._answer(250, "2.0.0", "OK")

    # Questions

    async def smtp_VRFY(self, arg: str | None) -> None:
        await (self.push(self._mta.verify(arg)) if arg else self._syntax_error("VRFY"))

    async def smtp_EXPN(self, arg: str | None) -> None:
        await (self.push(self._mta.expand(arg)) if arg else self._syntax_error("EXPN"))

    async def smtp_HELP(self, arg: str | None) -> None:
        if not arg:
            verbs = list(SYNTAX)
            await self._answer(
                214, "2.0.0", "Commands:", f"  {' '.join(verbs)}", "For more on one of them: HELP <SP> <command>"
            )
        elif arg.upper() in SYNTAX:
            await self._answer(214, "2.0.0", f"Syntax: {SYNTAX[arg.upper()]}")
        elif arg.upper() in NOT_SERVED:
            await self._answer(214, "2.0.0", f"{arg.upper()} is defined in {NOT_SERVED[arg.upper()]}, not served here")
        else:
            await self._answer(504, "5.5.4", f"HELP topic {_quoted(arg)} unknown")

    async def smtp_NOOP(self, _arg: str | None) -> None:
        await self._answer(250, "2.0.0", "OK")

    async def smtp_QUIT(self, arg: str | None) -> None:
        if arg:
            await self._syntax_error("QUIT")
            return
        await self._answer(221, "2.0.0", f"{self._mta.fqdn} Service closing transmission channel")
        self._writer.close()
        raise asyncio.CancelledError  # how a conversation ends in aiosmtpd

    async def _not_served(self, _arg: str | None) -> None:
        await self._answer(502, "5.5.1", "Command not implemented")

    smtp_SEND = smtp_SOML = smtp_SAML = smtp_TURN = smtp_AUTH = smtp_STARTTLS = _not_served
    smtp_BDAT = smtp_ETRN = smtp_ATRN = smtp_BURL = smtp_LHLO = _not_served


def _after_keyword(keyword: str, arg: str | None) -> str | None:
    """What follows ``FROM:`` or ``TO:``, or None. A space after the colon is no part of the grammar (RFC 5321 3.3)
    but typed so often, and understood by so many servers, that refusing it would teach nothing."""
    if arg is None or arg[: len(keyword)].upper() != keyword:
        return None
    return arg[len(keyword) :].lstrip(" ")


def _quoted(word: str) -> str:
    """A word of the client's as it may stand in a reply: printable, and not endless."""
    return '"' + re.sub(r"[^ -~]", "?", word)[:40] + '"'


def _unrecognized(word: str) -> str:
    """The reply to a word that is no command, with a guess at what was meant."""
    import difflib

    hint = "try HELP"
    known = next((verb for verb in SYNTAX if len(word) > len(verb) and word.startswith(verb)), "")
    close = difflib.get_close_matches(word, list(SYNTAX), n=1)
    if _HEADER_FIELD.fullmatch(word):
        hint = "a header field of a message? It comes after DATA"
    elif known:
        hint = f"the syntax is {SYNTAX[known]}"
    elif close:
        hint = f"did you mean {close[0]}?"
    return reply(500, "5.5.2", f"Syntax error, command unrecognized: {_quoted(word)}; {hint}")
