"""One conversation of the MTA: RFC 5321's order of commands, on aiosmtpd.

Claim: every 2yz, 4yz and 5yz reply carries an enhanced status code, except the greeting and the replies to HELO and
EHLO (RFC 2034); a reply is one write; no number of typing errors ends a session; and whatever a client sends, a reply
is made for each line in order.

aiosmtpd reads the lines, keeps the order of replies and takes the data; what it says itself is put into our words in
`Receiver.push`. Its five-typos limit is a module global, and there is no other way to lift it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, cast

import aiosmtpd.smtp
from aiosmtpd.smtp import SMTP

from lab.address import AddressSyntaxError, parse_path, split_path
from lab.directory import POSTMASTER
from lab.replies import NOT_SERVED, SYNTAX, quoted, reply, unrecognized

if TYPE_CHECKING:
    from lab.mta import Mta

aiosmtpd.smtp.BOGUS_LIMIT = sys.maxsize
logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd warns of each unknown command; a lesson has many

GREETING = "Simple Mail Transfer Service ready"  # RFC 821 appendix F
SIZE_LIMIT = 32 * 2**20  # octets of a message (RFC 1870)
LINE_LIMIT = 2**20  # octets of a line of data; RFC 5321 4.5.3.1.6 asks for 1000 and for no limit where possible
COMMAND_LIMIT = 1000  # octets of a command line with its CRLF; RFC 5321 4.5.3.1.4 asks for 512
RECIPIENT_LIMIT = 100  # RFC 5321 4.5.3.1.8 asks for at least that
IDLE_LIMIT = 3600.0  # seconds; RFC 5321 4.5.3.2.7 asks for 300, a student thinks longer

_HELLO_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.:\[\]-]+")
_PARAMETER = re.compile(r"(?P<key>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~]+))?")

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
            text = unrecognized(match[1])
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
                return reply(501, "5.5.4", f"Syntax error in the parameter {quoted(word)}")
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
                return reply(555, "5.5.4", f"MAIL FROM parameter {quoted(key)} not recognized or not implemented")
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
            await self._answer(504, "5.5.4", f"HELP topic {quoted(arg)} unknown")

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
