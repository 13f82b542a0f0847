"""A mail host of the lab: whom it knows, what it takes, what it says to who asks.

Claim: every reply is one that RFC 5321 4.3.2 lists for its command (and 554 where RCPT asks for relaying, as Postfix
has it); each has a reason that the lab really has; and a message is answered for only when the queue has it on disk.
`Mta` is what the host is and decides; `lab.receiver.Receiver` is one conversation.
"""

from __future__ import annotations

import asyncio
import re
import traceback
from email.utils import formatdate
from ipaddress import ip_address

from aiosmtpd.smtp import SMTP, Envelope, Session

from lab import plan
from lab.address import AddressSyntaxError, Mailbox, parse
from lab.directory import Directory, Kind, full_name
from lab.mailbox import with_crlf
from lab.queue import Queue
from lab.receiver import Receiver
from lab.replies import reply

HOP_LIMIT = 25  # Received fields; RFC 5321 6.3 asks for at least 100, a lab of two hops loops sooner

_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_POLICY = re.compile(rb"^%s[ \t]*:" % re.escape(plan.POLICY_WORD.encode()), re.IGNORECASE | re.MULTILINE)


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
