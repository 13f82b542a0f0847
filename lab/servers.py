"""What a host of the lab serves: ``python -m lab.servers HOST`` is shannon's MTA, or mailhost's MTA, POP3 and DNS.

Claim: when ``ready`` is written, every socket listens. Runs inside the host's network namespace with no capability at
all (the lab lets everybody bind low ports there); WIRETALK_SPOOL names its private directory, WIRETALK_READY_FD the
descriptor for ``ready``. SIGTERM or SIGINT ends it: 421 to who is still talking, exit status 0. Every address and
port can be given, so that two of them also work on loopback, without a lab.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from lab import directory, plan
from lab.mailbox import Mailboxes
from lab.mta import Mta
from lab.queue import PAUSES, Queue
from lab.relay import Relay, Resolver
from lab.zone import NameServer, Zones

SPOOL, READY_FD = "WIRETALK_SPOOL", "WIRETALK_READY_FD"

# What student finds before any mail came. Its date is fixed, so that the lab is the same each time.
WELCOME = (
    f"From: {plan.STAFF['postmaster'].name} <postmaster@{plan.STAFF_DOMAIN}>\r\n"
    f"To: {plan.STUDENTS['student'].name} <student@{plan.STUDENT_DOMAIN}>\r\n"
    "Subject: Welcome to the lab\r\n"
    "Date: Mon, 02 Aug 1982 09:00:00 +0000\r\n"
    f"Message-ID: <welcome@{plan.MAILHOST.fqdn}>\r\n"
    "\r\n"
    f"Mail for {plan.STUDENT_DOMAIN} arrives here.\r\n"
    f"Hand yours in at {plan.SHANNON.fqdn}, port {plan.SMTP}.\r\n"
    ".\r\n"
    "The line above is a single dot: look how it crosses the wire.\r\n"
).encode("ascii")


class Services:
    """Everything that one host runs. ``await start()``, then ``await close()``."""

    def __init__(self, options: argparse.Namespace, spool: Path) -> None:
        self._options = options
        self._is_mailhost = options.host == plan.MAILHOST.name
        known = directory.of(plan.HOSTS[options.host])
        fresh = not spool.joinpath("mail").exists()
        mailboxes = Mailboxes(spool / "mail")
        resolver = Resolver(*options.resolver, ipv6=options.ipv6)
        relay = Relay(known.host.fqdn, resolver, via=dict(options.via))
        self._queue = Queue(spool / "queue", known, mailboxes, relay, options.retry)
        self._mta = Mta(known, self._queue, vrfy=options.vrfy)
        self._zones = Zones(ipv6=options.ipv6)
        if self._is_mailhost:
            from lab.pop3 import Pop3Server

            self._pop3 = Pop3Server(known.host.fqdn, known.people, mailboxes)
            self._names = NameServer(self._zones)
            if fresh:
                mailboxes.deliver("student", f"postmaster@{plan.STAFF_DOMAIN}", WELCOME)

    async def start(self) -> None:
        """Bind and listen. Raises `OSError`."""
        for address in self._options.bind:
            await self._mta.start(address, self._options.smtp_port)
            if self._is_mailhost:
                await self._pop3.start(address, self._options.pop3_port)
                await self._names.start(address, self._options.dns_port)
        self._queue.resume()

    def warm(self) -> None:
        """Import now what the first question would otherwise wait for."""
        if self._is_mailhost:
            self._zones.load()

    async def close(self) -> None:
        await self._mta.close()
        if self._is_mailhost:
            await self._pop3.close()
            await self._names.close()
        await self._queue.close()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, with the plan's addresses where none are given."""
    parser = argparse.ArgumentParser(prog="python -m lab.servers", description=__doc__.partition("\n")[0])
    parser.add_argument("host", choices=[plan.SHANNON.name, plan.MAILHOST.name])
    parser.add_argument("--no-vrfy", dest="vrfy", action="store_false", help="answer VRFY with 252")
    parser.add_argument("--ipv6", action="store_true", help="also bind the IPv6 address; AAAA records in the zone")
    parser.add_argument("--bind", action="append", metavar="ADDRESS", help="instead of the host's own (repeatable)")
    parser.add_argument("--smtp-port", type=int, default=plan.SMTP)
    parser.add_argument("--pop3-port", type=int, default=plan.POP3)
    parser.add_argument("--dns-port", type=int, default=plan.DNS)
    parser.add_argument(
        "--resolver", type=_endpoint, default=(plan.MAILHOST.ipv4, plan.DNS), metavar="ADDRESS#PORT", help="name server"
    )
    parser.add_argument(
        "--via",
        type=_detour,
        action="append",
        default=[],
        metavar="ADDRESS=ADDRESS#PORT",
        help="where a next hop with that address is really reached (repeatable)",
    )
    parser.add_argument(
        "--retry", type=_pauses, default=PAUSES, metavar="SECONDS,…", help="pauses between tries to relay"
    )
    options = parser.parse_args(arguments)
    host = plan.HOSTS[options.host]
    options.bind = options.bind or ([host.ipv4, host.ipv6] if options.ipv6 else [host.ipv4])
    return options


def _endpoint(text: str) -> tuple[str, int]:
    address, _, port = text.partition("#")
    return address, int(port)


def _detour(text: str) -> tuple[str, tuple[str, int]]:
    address, _, target = text.partition("=")
    return address, _endpoint(target)


def _pauses(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(",") if word)


async def serve(options: argparse.Namespace, spool: Path, ready_fd: int | None) -> None:
    """Run until SIGTERM or SIGINT. Raises `OSError` if an address cannot be had."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    services = Services(options, spool)
    await services.start()
    if ready_fd is not None:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
    services.warm()
    await stop.wait()
    await services.close()


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 ended by a signal, 1 an address cannot be had, 2 usage."""
    options = parse(arguments)
    spool = os.environ.get(SPOOL)
    if not spool:
        print(f"lab.servers: {SPOOL} must name a directory", file=sys.stderr)
        return 2
    ready = os.environ.get(READY_FD)
    try:
        asyncio.run(serve(options, Path(spool), int(ready) if ready else None))
    except OSError as error:
        print(f"lab.servers: {options.host}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
