"""The lab's name service: one zone as data, answered over UDP and TCP (RFC 1034, 1035) with dnspython.

Claim: what a question gets is in `RECORDS` and nowhere else. The server is authoritative for ``example.`` and for the
reverse trees of the lab's addresses; for anything outside it answers REFUSED, as a server with no recursion does.
dnspython is imported when the first question arrives (or by `Zones.load`), not with this module: the MTAs only need
`has`, and a lab should start fast.
"""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple, cast

from lab import plan
from lab.listener import Listener

if TYPE_CHECKING:
    import dns.message
    import dns.name
    import dns.rrset
    import dns.zone

NULL_MX_DOMAIN = "nomail.example"  # says that it takes no mail at all (RFC 7505)
NO_MX_DOMAIN = "nomx.example"  # exists, but has neither MX nor address: mail for it cannot be routed
DOWN_DOMAIN = "down.example"  # its exchanger has an address where no host is
NO_HOST = "192.0.2.99"
TTL = 60  # seconds: short, so that asking again is seen on the wire

ORIGIN = "example."
TCP_IDLE = 30.0  # seconds
_MAX_UDP = 512  # octets without EDNS (RFC 1035 4.2.1)


class Record(NamedTuple):
    """A resource record. name: absolute, without the last dot; kind: MX, A…; data: as in a zone file."""

    name: str
    kind: str
    data: str


def _spf(*mechanisms: str) -> str:
    """An SPF record (RFC 7208 4.5): these hosts send mail for the domain, no other does."""
    return f'"{" ".join(("v=spf1", *mechanisms, "-all"))}"'


RECORDS: tuple[Record, ...] = (
    *(Record(host.fqdn, "A", host.ipv4) for host in plan.HOSTS.values()),
    # Mail of both domains may come from shannon, where everybody hands in mail, or from the domain's own exchanger.
    Record(plan.STUDENT_DOMAIN, "MX", f"10 {plan.MAILHOST.fqdn}."),
    Record(plan.STUDENT_DOMAIN, "TXT", _spf("mx", f"a:{plan.SHANNON.fqdn}")),
    Record(plan.STAFF_DOMAIN, "MX", f"10 {plan.SHANNON.fqdn}."),
    Record(plan.STAFF_DOMAIN, "TXT", _spf("mx")),
    Record(NULL_MX_DOMAIN, "MX", "0 ."),
    Record(NULL_MX_DOMAIN, "TXT", _spf()),
    Record(NO_MX_DOMAIN, "TXT", _spf()),
    Record(DOWN_DOMAIN, "MX", f"10 mx.{DOWN_DOMAIN}."),
    Record(f"mx.{DOWN_DOMAIN}", "A", NO_HOST),
)
IPV6_RECORDS: tuple[Record, ...] = tuple(Record(host.fqdn, "AAAA", host.ipv6) for host in plan.HOSTS.values())

_NAMES = frozenset(record.name for record in RECORDS)


def has(domain: str) -> bool:
    """Whether ``domain`` is a name of the lab, with records of its own."""
    return domain.lower().rstrip(".") in _NAMES


def text(records: tuple[Record, ...], origin: str) -> str:
    """A master file (RFC 1035 5.1) of those ``records`` that lie under ``origin``, with its SOA and NS."""
    server, person = f"{plan.MAILHOST.fqdn}.", f"hostmaster.{plan.STUDENT_DOMAIN}."
    lines = [f"$TTL {TTL}", f"{origin} SOA {server} {person} 1 3600 600 86400 {TTL}", f"{origin} NS {server}"]
    lines += [f"{name}. {kind} {data}" for name, kind, data in records if f"{name}.".endswith(f".{origin}")]
    return "\n".join(lines) + "\n"


class Zones:
    """Answers questions out of `RECORDS`. ``ipv6`` adds the AAAA records and their reverse tree."""

    def __init__(self, *, ipv6: bool = False) -> None:
        self._records = RECORDS + IPV6_RECORDS if ipv6 else RECORDS
        self._zones: list[dns.zone.Zone] = []

    def load(self) -> None:
        """Import dnspython and build the zones; done by the first question if not before."""
        import dns.zone

        if self._zones:
            return
        reverse = tuple(
            Record(ip_address(address).reverse_pointer, "PTR", f"{host.fqdn}.")
            for host in plan.HOSTS.values()
            for address in (host.ipv4, host.ipv6)
        )
        origins = [ORIGIN, "2.0.192.in-addr.arpa."]
        if self._records is not RECORDS:
            origins.append(".".join(ip_address(plan.YOUR_PC.ipv6).reverse_pointer.split(".")[-18:]) + ".")
        self._zones = [
            dns.zone.from_text(text(self._records + reverse, origin), origin=origin, relativize=False)
            for origin in origins
        ]

    def answer(self, octets: bytes, *, udp: bool) -> bytes | None:
        """The reply to one query as octets, or None where none is due (too short to answer, or itself a reply)."""
        import dns.exception
        import dns.flags
        import dns.message
        import dns.opcode
        import dns.rcode

        self.load()
        if len(octets) < 12 or octets[2] & 0x80:  # no header; or QR set: answering replies makes loops
            return None
        try:
            query = dns.message.from_wire(octets)
        except (dns.exception.DNSException, ValueError):
            # FORMERR with the asker's ID and opcode and nothing of the rest (RFC 1035 4.1.1)
            return octets[:2] + bytes([0x80 | octets[2] & 0x79, dns.rcode.FORMERR]) + bytes(8)
        reply = dns.message.make_response(query)
        if query.opcode() != dns.opcode.QUERY:
            reply.set_rcode(dns.rcode.NOTIMP)
        elif len(query.question) != 1:
            reply.set_rcode(dns.rcode.FORMERR)
        else:
            self._fill(reply, query.question[0])
        limit = max(query.payload, _MAX_UDP) if udp else 65535
        return reply.to_wire(max_size=limit, prefer_truncation=True)

    def _fill(self, reply: dns.message.Message, question: dns.rrset.RRset) -> None:
        import dns.flags
        import dns.rcode
        import dns.rdataclass
        import dns.rdatatype

        name, kind = question.name, question.rdtype
        zone = next((zone for zone in self._zones if zone.origin and name.is_subdomain(zone.origin)), None)
        if zone is None or question.rdclass != dns.rdataclass.IN or dns.rdatatype.is_metatype(kind):
            reply.set_rcode(dns.rcode.REFUSED)  # not ours; or ANY and AXFR, which a small server need not give
            return
        reply.flags |= dns.flags.AA
        found = zone.get_rrset(name, kind)
        if found is not None:
            reply.answer.append(found)
            self._add_addresses(reply, zone, found)
            return
        if not any(node.is_subdomain(name) for node in zone.nodes):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        soa = zone.get_rrset(zone.origin or name, dns.rdatatype.SOA)
        if soa is not None:  # how long the "no" may be remembered (RFC 2308 3)
            reply.authority.append(soa)

    def _add_addresses(self, reply: dns.message.Message, zone: dns.zone.Zone, found: dns.rrset.RRset) -> None:
        """Addresses of the hosts that an MX answer names: additional section (RFC 1035 3.3.9)."""
        import dns.rdatatype

        if found.rdtype != dns.rdatatype.MX:
            return
        for record in found:
            for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
                addresses = zone.get_rrset(record.exchange, kind)
                if addresses is not None:
                    reply.additional.append(addresses)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zones: Zones) -> None:
        self._zones = zones

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's own is no subclass of it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._zones.answer(data, udp=True)
        if reply is not None:
            self._transport.sendto(reply, addr)


class NameServer:
    """`Zones` on the wire, on UDP and TCP of one address. ``await start(...)``, then ``await close()``."""

    def __init__(self, zones: Zones) -> None:
        self._zones = zones
        self._transports: list[asyncio.BaseTransport] = []
        self._streams = Listener(self._stream)

    async def start(self, address: str, port: int = plan.DNS) -> int:
        """Listen; gives the port (useful with 0). Raises `OSError`."""
        loop = asyncio.get_running_loop()
        port = await self._streams.start(address, port)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._zones), local_addr=(address, port))
        self._transports.append(transport)
        return port

    async def close(self) -> None:
        """Stop listening and end the connections that are open."""
        for transport in self._transports:
            transport.close()
        await self._streams.close()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions on one connection, each with two octets of length before it (RFC 1035 4.2.2)."""
        # The asker closing, resetting or falling silent ends it; there is nobody left to tell.
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            while True:
                async with asyncio.timeout(TCP_IDLE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    query = await reader.readexactly(length)
                reply = self._zones.answer(query, udp=False)
                if reply is None:
                    break
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
