"""The zone: asked over UDP and TCP by dnspython, and with octets that are no question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import plan, zone
from lab.zone import NameServer, Zones

HOST = "127.0.0.1"


@pytest.fixture(params=["udp", "tcp"])
async def ask(request: pytest.FixtureRequest) -> AsyncIterator[object]:
    server = NameServer(Zones())
    port = await server.start(HOST, 0)
    send = getattr(dns.asyncquery, request.param)

    async def question(name: str, kind: str = "A", **more: object) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **more)
        return await send(query, HOST, port=port, timeout=5)

    yield question
    await server.close()


def rows(section: list[object]) -> list[str]:
    return [f"{rrset.name} {line.split(' ', 3)[3]}" for rrset in section for line in rrset.to_text().splitlines()]


ANSWERS = [
    ("shannon.cs.utwente.example", "A", ["192.0.2.25"]),
    ("MailHost.Student.Example", "A", ["192.0.2.110"]),
    ("your-pc.student.example", "A", ["192.0.2.10"]),
    ("student.example", "MX", ["10 mailhost.student.example."]),
    ("cs.utwente.example", "MX", ["10 shannon.cs.utwente.example."]),
    ("student.example", "TXT", ['"v=spf1 mx a:shannon.cs.utwente.example -all"']),
    ("cs.utwente.example", "TXT", ['"v=spf1 mx -all"']),
    ("nomail.example", "MX", ["0 ."]),
    ("nomail.example", "TXT", ['"v=spf1 -all"']),
    ("down.example", "MX", ["10 mx.down.example."]),
    ("example", "NS", ["mailhost.student.example."]),
    ("example", "SOA", ["mailhost.student.example. hostmaster.student.example. 1 3600 600 86400 60"]),
    ("25.2.0.192.in-addr.arpa", "PTR", ["shannon.cs.utwente.example."]),
    ("2.0.192.in-addr.arpa", "NS", ["mailhost.student.example."]),
]


@pytest.mark.parametrize(("name", "kind", "expected"), ANSWERS)
async def test_what_is_in_the_zone_is_answered_with_authority(ask, name: str, kind: str, expected: list[str]) -> None:
    reply = await ask(name, kind)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.flags & dns.flags.AA
    assert not reply.flags & dns.flags.RA
    assert [rdata.to_text() for rrset in reply.answer for rdata in rrset] == expected
    assert all(rrset.ttl == zone.TTL for rrset in reply.answer)


async def test_an_mx_brings_the_address_of_its_host(ask) -> None:
    reply = await ask("student.example", "MX")
    assert [rrset.to_text() for rrset in reply.additional] == ["mailhost.student.example. 60 IN A 192.0.2.110"]


NOTHING = [
    ("nomx.example", "MX", dns.rcode.NOERROR),
    ("nomx.example", "A", dns.rcode.NOERROR),
    ("shannon.cs.utwente.example", "AAAA", dns.rcode.NOERROR),
    ("utwente.example", "A", dns.rcode.NOERROR),  # no records, but names below it: it exists (RFC 8020)
    ("nobody.example", "MX", dns.rcode.NXDOMAIN),
    ("x.student.example", "A", dns.rcode.NXDOMAIN),
    ("99.2.0.192.in-addr.arpa", "PTR", dns.rcode.NXDOMAIN),
]


@pytest.mark.parametrize(("name", "kind", "code"), NOTHING)
async def test_what_is_not_there_is_denied_with_authority(ask, name: str, kind: str, code: int) -> None:
    reply = await ask(name, kind)
    assert reply.rcode() == code
    assert reply.flags & dns.flags.AA
    assert reply.answer == []
    (soa,) = reply.authority
    assert soa.rdtype.name == "SOA"


@pytest.mark.parametrize("name", ["example.com", ".", "1.0.168.192.in-addr.arpa", "notexample"])
async def test_what_is_outside_is_refused(ask, name: str) -> None:
    reply = await ask(name)
    assert reply.rcode() == dns.rcode.REFUSED
    assert not reply.flags & dns.flags.AA


async def test_any_axfr_and_other_classes_are_refused(ask) -> None:
    assert (await ask("student.example", "ANY")).rcode() == dns.rcode.REFUSED
    assert (await ask("student.example", "A", rdclass=dns.rdataclass.CH)).rcode() == dns.rcode.REFUSED


async def test_edns_is_answered_with_edns(ask) -> None:
    reply = await ask("student.example", "MX", use_edns=0, payload=1232)
    assert reply.edns == 0
    assert reply.rcode() == dns.rcode.NOERROR


def test_ipv6_adds_addresses_and_their_reverse_tree() -> None:
    def answer(zones: Zones, name: str, kind: str) -> list[str]:
        octets = zones.answer(dns.message.make_query(name, kind).to_wire(), udp=True)
        assert octets is not None
        return [rdata.to_text() for rrset in dns.message.from_wire(octets).answer for rdata in rrset]

    reverse = "5.2.0.0." + "0.0.0.0." * 4 + "5.2.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    both = Zones(ipv6=True)
    assert answer(both, plan.SHANNON.fqdn, "AAAA") == ["2001:db8:25::25"]
    assert answer(both, plan.SHANNON.fqdn, "A") == ["192.0.2.25"]
    assert answer(both, reverse, "PTR") == ["shannon.cs.utwente.example."]
    assert answer(Zones(), plan.SHANNON.fqdn, "AAAA") == []


@pytest.mark.parametrize("name", [*(r.name for r in zone.RECORDS), "STUDENT.example."])
def test_has_knows_the_names_with_records(name: str) -> None:
    assert zone.has(name)


@pytest.mark.parametrize("name", ["utwente.example", "example.com", "", "x.student.example", "[192.0.2.25]"])
def test_has_knows_no_others(name: str) -> None:
    assert not zone.has(name)


def test_octets_that_are_no_question_get_formerr_or_nothing() -> None:
    zones = Zones()
    good = dns.message.make_query("student.example", "MX").to_wire()
    assert zones.answer(b"", udp=True) is None
    assert zones.answer(good[:11], udp=True) is None
    assert zones.answer(good[:2] + b"\x81" + good[3:], udp=True) is None  # a reply is not answered
    for broken in (good[:15], good + b"\x00", good[:5] + b"\x02" + good[6:]):
        octets = zones.answer(broken, udp=True)
        assert octets is not None
        reply = dns.message.from_wire(octets)
        assert (reply.id, reply.rcode()) == (int.from_bytes(good[:2], "big"), dns.rcode.FORMERR)
    status = dns.message.make_query("student.example", "MX")
    status.set_opcode(dns.opcode.STATUS)
    octets = zones.answer(status.to_wire(), udp=True)
    assert octets is not None
    assert dns.message.from_wire(octets).rcode() == dns.rcode.NOTIMP


@given(st.binary(max_size=60), st.sampled_from([b"", b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"]))
def test_no_octets_whatever_make_the_server_fail(tail: bytes, head: bytes) -> None:
    octets = ZONES.answer(head + tail, udp=True)
    assert octets is None or (octets[:2] == (head + tail)[:2] and octets[2] & 0x80)


ZONES = Zones()


async def test_the_server_lives_through_rubbish_and_half_questions_on_the_wire() -> None:
    server = NameServer(Zones())
    port = await server.start(HOST, 0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(HOST, port))
    transport.sendto(b"rubbish")
    transport.sendto(b"")
    transport.sendto(b"\xff" * 600)
    for sent in (b"", b"\x00", b"\x00\x20half", b"\x00\x03abc"):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    reader, writer = await asyncio.open_connection(HOST, port)
    query = dns.message.make_query("student.example", "MX").to_wire()
    writer.write((len(query).to_bytes(2, "big") + query) * 3)  # several questions on one connection
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    length = int.from_bytes(answer[:2], "big")
    assert answer == answer[: length + 2] * 3
    writer.close()
    transport.close()
    await server.close()
