"""Handing a message on: which host takes mail for a domain, and RFC 821's sender-SMTP talking to it.

Claim: `Relay.send` gives a `Verdict` for every recipient, whatever the name server or the next hop does; a verdict is
the reply that was got, or the reply that stands for a connection that was not. On the wire: verbs in upper case, one
command per segment, nothing corrected in the message.

asyncio streams rather than smtplib: smtplib needs a thread that cannot be ended while it waits for a dead host,
writes its verbs in lower case, and reads addresses with the grammar of header fields.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lab import plan
from lab.address import parse

# RFC 5321 4.5.3.2 asks for minutes; on the lab's wire a host that is silent so long is gone.
CONNECT_TIMEOUT = 10.0  # seconds
REPLY_TIMEOUT = 60.0
LOOKUP_TIMEOUT = 3.0
_REPLY_LINE = 4096  # octets; 512 by RFC 5321 4.5.3.1.5, more is taken
_REPLY_LINES = 100

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3}) ?(.*)", re.DOTALL)


class Reply(NamedTuple):
    """A reply to an SMTP command: code, enhanced status code (RFC 2034) or empty, the text of all its lines."""

    code: int
    status: str
    text: str


class Verdict(NamedTuple):
    """What became of one recipient.

    code: 2yz delivered or handed on, 4yz may be tried again, 5yz never; status: RFC 3463, always there;
    host: the next hop that said so, empty if it was decided here.
    """

    recipient: str
    code: int
    status: str
    text: str
    host: str = ""

    @property
    def is_done(self) -> bool:
        return self.code < 400

    @property
    def is_final(self) -> bool:
        return not 400 <= self.code < 500


class Unroutable(Exception):
    """No host can be found that takes mail for the domain. code: 4yz if asking again may help, else 5yz."""

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.code, self.status, self.text = code, status, text


class Exchanger(NamedTuple):
    """A host to try for a domain: its name and one of its addresses."""

    name: str
    address: str


class Resolver:
    """Asks the lab's name server, over the wire, who takes mail for a domain (RFC 5321 5.1)."""

    def __init__(self, address: str = plan.MAILHOST.ipv4, port: int = plan.DNS, *, ipv6: bool = False) -> None:
        self._address, self._port, self._ipv6 = address, port, ipv6

    async def exchangers(self, domain: str, own_name: str = "") -> list[Exchanger]:
        """The hosts to try, best first. Raises `Unroutable`.

        ``own_name``: exchangers from this host's own preference on are left out, so that mail never runs in a circle.
        """
        import dns.asyncresolver
        import dns.exception
        import dns.resolver

        if domain.startswith("["):
            address = domain[1:-1]
            return [Exchanger(domain, address[5:] if address.lower().startswith("ipv6:") else address)]
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [self._address]
        resolver.port = self._port
        resolver.lifetime = LOOKUP_TIMEOUT
        try:
            try:
                answer = await resolver.resolve(f"{domain}.", "MX")
                ranked = sorted((rr.preference, rr.exchange.to_text(omit_final_dot=True)) for rr in answer)
            except dns.resolver.NoAnswer:
                ranked = [(0, domain)]  # no MX: the domain's own address counts as one (RFC 5321 5.1)
            if ranked in ([(0, ".")], [(0, "")]):
                raise Unroutable(556, "5.1.10", f"{domain} says that it takes no mail (null MX, RFC 7505)")
            own_rank = min((rank for rank, name in ranked if name.lower() == own_name.lower()), default=None)
            names = [name for rank, name in ranked if own_rank is None or rank < own_rank]
            if not names:
                raise Unroutable(554, "5.4.6", f"mail for {domain} loops back to {own_name}")
            found = []
            for name in names:
                for kind in ("AAAA", "A") if self._ipv6 else ("A",):
                    with contextlib.suppress(dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
                        found += [Exchanger(name, rr.address) for rr in await resolver.resolve(f"{name}.", kind)]
        except dns.resolver.NXDOMAIN:
            raise Unroutable(550, "5.1.2", f"no domain {domain}") from None
        except dns.exception.DNSException as error:
            raise Unroutable(451, "4.4.3", f"the name server gave no answer for {domain}: {error}") from error
        if not found:
            raise Unroutable(550, "5.4.4", f"{domain} has no exchanger and no address")
        return found


class Relay:
    """Sends messages to the next hop.

    name: what this host says in EHLO; via: where an address of the lab is really reached, ``address → (address,
    port)``, for trying it outside the lab; port: of the next hop where ``via`` does not say.
    """

    def __init__(
        self,
        name: str,
        resolver: Resolver,
        *,
        via: Mapping[str, tuple[str, int]] | None = None,
        port: int = plan.SMTP,
    ) -> None:
        self._name, self._resolver, self._via, self._port = name, resolver, dict(via or {}), port

    async def send(self, sender: str, recipients: Sequence[str], data: bytes) -> list[Verdict]:
        """Try once to hand ``data`` (lines end with CRLF) on to all ``recipients``, all domains at the same time."""
        by_domain: dict[str, list[str]] = {}
        for recipient in recipients:
            by_domain.setdefault(parse(recipient).domain.lower(), []).append(recipient)
        tries = [self._send_to(domain, sender, those, data) for domain, those in by_domain.items()]
        return [verdict for verdicts in await asyncio.gather(*tries) for verdict in verdicts]

    async def _send_to(self, domain: str, sender: str, recipients: list[str], data: bytes) -> list[Verdict]:
        try:
            exchangers = await self._resolver.exchangers(domain, self._name)
        except Unroutable as error:
            return [Verdict(r, error.code, error.status, error.text) for r in recipients]
        trouble = ""
        for name, address in exchangers:
            where = self._via.get(address, (address, self._port))
            dialogue = _Dialogue(name)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await dialogue.open(*where)
            except OSError as error:  # TimeoutError is one
                trouble = f"connect to {name} [{address}]: {_why(error)}"
                continue
            try:
                return await dialogue.deliver(self._name, sender, recipients, data)
            except (OSError, EOFError) as error:
                trouble = f"conversation with {name} [{address}]: {_why(error)}"
            finally:
                dialogue.close()
        return [Verdict(r, 451, "4.4.1", trouble) for r in recipients]


class _Dialogue:
    """One conversation with a next hop, as its client."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def open(self, address: str, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection(address, port, limit=_REPLY_LINE)

    def close(self) -> None:
        self._writer.close()

    async def deliver(self, name: str, sender: str, recipients: list[str], data: bytes) -> list[Verdict]:
        """Greeting to QUIT. Raises `OSError` or `EOFError` if the connection breaks before there is a verdict."""
        greeting = await self._reply()
        if greeting.code != 220:
            return self._all(recipients, greeting)
        hello, extensions = await self._say_hello(name)
        if hello.code != 250:
            return await self._quit_with(self._all(recipients, hello))
        parameters = f" SIZE={len(data)}" if "SIZE" in extensions else ""
        if "8BITMIME" in extensions and not data.isascii():
            parameters += " BODY=8BITMIME"
        reply = await self._command(f"MAIL FROM:<{sender}>{parameters}")
        if reply.code != 250:
            return await self._quit_with(self._all(recipients, reply))
        verdicts, accepted = [], []
        for recipient in recipients:
            reply = await self._command(f"RCPT TO:<{recipient}>")
            if reply.code in (250, 251):
                accepted.append(recipient)
            else:
                verdicts.append(self._verdict(recipient, reply))
        if accepted:
            reply = await self._command("DATA")
            if reply.code == 354:
                self._writer.write(_transparent(data) + b".\r\n")
                await self._writer.drain()
                reply = await self._reply()
            elif reply.code < 400:
                reply = Reply(451, "4.5.0", f"DATA was answered with {reply.code} {reply.text}")
            verdicts += self._all(accepted, reply)
        return await self._quit_with(verdicts)

    async def _say_hello(self, name: str) -> tuple[Reply, set[str]]:
        reply = await self._command(f"EHLO {name}")
        if reply.code == 250:
            return reply, {line.split()[0].upper() for line in reply.text.splitlines()[1:] if line.split()}
        return await self._command(f"HELO {name}"), set()  # RFC 5321 3.2: an old server

    async def _quit_with(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Say QUIT; what was decided stands, even if the connection breaks now."""
        with contextlib.suppress(OSError, EOFError):
            await self._command("QUIT")
        return verdicts

    async def _command(self, line: str) -> Reply:
        self._writer.write(line.encode("ascii") + b"\r\n")
        await self._writer.drain()
        return await self._reply()

    async def _reply(self) -> Reply:
        """A whole reply, multi-line or not (RFC 5321 4.2.1). Raises `EOFError` if it is cut off, or is none."""
        lines: list[str] = []
        async with asyncio.timeout(REPLY_TIMEOUT):
            while len(lines) < _REPLY_LINES:
                try:
                    octets = await self._reader.readline()
                except ValueError as error:  # longer than the reader's limit
                    raise EOFError("a reply line without end") from error
                line = octets.decode("ascii", "replace").rstrip("\r\n")
                if not octets.endswith(b"\n"):
                    raise EOFError("the connection was closed in place of a reply")
                if not re.match(r"[2-5][0-9]{2}(?:[ -]|$)", line):
                    raise EOFError(f"no reply line: {line[:80]!r}")
                lines.append(line[4:])
                if line[3:4] != "-":
                    return _reply_of(int(line[:3]), lines)
        raise EOFError("a reply without end")

    def _verdict(self, recipient: str, reply: Reply) -> Verdict:
        code = reply.code if reply.code >= 400 or reply.code in (250, 251) else 451
        return Verdict(recipient, code, reply.status or f"{code // 100}.0.0", reply.text, self._host)

    def _all(self, recipients: list[str], reply: Reply) -> list[Verdict]:
        return [self._verdict(recipient, reply) for recipient in recipients]


def _reply_of(code: int, lines: list[str]) -> Reply:
    status = ""
    texts = []
    for line in lines:
        match = _ENHANCED.match(line)
        if match and match[1][0] == str(code)[0]:  # class and first digit agree (RFC 2034 4)
            status = match[1]
            texts.append(match[2])
        else:
            texts.append(line)
    return Reply(code, status, "\n".join(texts))


def _transparent(data: bytes) -> bytes:
    """A dot before each line that begins with one (RFC 5321 4.5.2); the last line gets its CRLF if it has none."""
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed if not stuffed or stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own text is of its calls
    return str(error) or type(error).__name__
