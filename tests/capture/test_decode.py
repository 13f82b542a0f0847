"""Frames in, segments and header fields out: a table of frames, and dpkt as a second opinion."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.decode import decode, headers, spans
from capture.export.pcapng import Recorder
from capture.links import KNOWN_LINKS
from capture.model import ACK, PSH, Endpoint, Frame, Layer
from tests.capture.forge import Wire, ethernet, ip, tcp

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "frames.json").read_text())
LAYERS = {"Ethernet": "ethernet", "IPv4": "ipv4", "IPv6": "ipv6", "TCP": "tcp", "Loopback": "null-loopback"}
LAYERS |= {"Linux SLL": "linux-sll", "Linux SLL2": "linux-sll2"}

V4 = ("192.0.2.10", "192.0.2.25")
V6 = ("2001:db8:25::10", "2001:db8:25::25")
SEGMENT = tcp(*V4, 49152, 25, 1001, 5001, PSH | ACK, b"QUIT\r\n")
SEGMENT6 = tcp(*V6, 49152, 25, 1001, 5001, PSH | ACK, b"QUIT\r\n")
PACKET, PACKET6 = ip(*V4, SEGMENT), ip(*V6, SEGMENT6)
MACS = bytes(12)


def of(data: bytes, link: int = 1, length: int | None = None) -> Frame:
    return Frame(1, 0, data, len(data) if length is None else length, link)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_the_worked_frames_come_out_exactly(vector: dict) -> None:
    data = bytes.fromhex(vector["hex"])
    got = [
        {
            "layer": LAYERS[header.name],
            "pdu": header.unit,
            "start": header.start,
            "end": header.end,
            "spans": [[s.start, s.end, s.role.value, s.field] for s in spans(header)],
        }
        for header in headers(of(data, vector["linktype"]))
    ]
    assert got == [{k: v for k, v in layer.items() if k != "label"} for layer in vector["layers"]]


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_a_worked_frame_gives_a_segment_if_and_only_if_it_shows_one(vector: dict) -> None:
    data = bytes.fromhex(vector["hex"])
    segment = decode(of(data, vector["linktype"]))
    shown = [layer for layer in vector["layers"] if layer["layer"] == "tcp"]
    assert (segment is not None) == bool(shown)
    if segment is not None:
        body = [span for span in shown[0]["spans"] if span[2] == "ud"]
        assert segment.payload == (data[body[0][0] : body[0][1]] if body else b"")


OUTER = "198.51.100.1", "198.51.100.2"
WIRELESS = bytes.fromhex("0801 0000 020000000025 020000000010 020000000025 0000")
LLC = bytes.fromhex("aaaa03 000000 0800")


def udp(port: int, body: bytes) -> bytes:
    return ethernet(ip(*OUTER, struct.pack(">HHHH", 50000, port, 8 + len(body), 0) + body, 17))


CARRIERS = {
    "ethernet": (ethernet(PACKET), 1, ()),
    "ethernet, options in IPv4": (ethernet(ip(*V4, SEGMENT, options=bytes.fromhex("94040000"))), 1, ()),
    "one VLAN tag": (ethernet(PACKET, tags=[5]), 1, (5,)),
    "a tag for the priority alone": (ethernet(PACKET, tags=[0xA000]), 1, ()),
    "two VLAN tags": (ethernet(PACKET, tags=[5, 7]), 1, (5, 7)),
    "three VLAN tags": (ethernet(PACKET, tags=[5, 7, 9]), 1, (5, 7, 9)),
    "QinQ, 88a8": (MACS + bytes.fromhex("88a8 0064 8100 0005 0800") + PACKET, 1, (100, 5)),
    "SLL": (bytes.fromhex("0000 0001 0006 020000000010 0000 0800") + PACKET, 113, ()),
    "SLL and a tag": (bytes.fromhex("0000 0001 0006 020000000010 0000 8100 0005 0800") + PACKET, 113, (5,)),
    "SLL2": (bytes.fromhex("0800 0000 00000003 0001 00 06 020000000010 0000") + PACKET, 276, ()),
    "SLL2 and a tag": (bytes.fromhex("8100 0000 00000003 0001 00 06 020000000010 0000 0005 0800") + PACKET, 276, (5,)),
    "NULL, little-endian": (bytes.fromhex("02000000") + PACKET, 0, ()),
    "NULL, big-endian": (bytes.fromhex("00000002") + PACKET, 0, ()),
    "LOOP": (bytes.fromhex("00000002") + PACKET, 108, ()),
    "RAW": (PACKET, 101, ()),
    "RAW as OpenBSD numbers it": (PACKET, 14, ()),
    "IPV4": (PACKET, 228, ()),
    "PPPoE": (MACS + bytes.fromhex("8864 11 00 0001 0030 0021") + PACKET, 1, ()),
    "PPPoE in a VLAN": (MACS + bytes.fromhex("8100 0005 8864 11 00 0001 0030 0021") + PACKET, 1, (5,)),
    "PPP, address and control": (bytes.fromhex("ff03 0021") + PACKET, 9, ()),
    "PPP, compressed protocol": (b"\x21" + PACKET, 9, ()),
    "MPLS": (MACS + bytes.fromhex("8847 000101ff") + PACKET, 1, ()),
    "MPLS, two labels": (MACS + bytes.fromhex("8847 000100ff 000201ff") + PACKET, 1, ()),
    "LLC/SNAP": (MACS + struct.pack(">H", 8 + len(PACKET)) + bytes.fromhex("aaaa03 000000 0800") + PACKET, 1, ()),
    "IP in IP": (ethernet(ip("198.51.100.1", "198.51.100.2", PACKET, 4)), 1, ()),
    "GRE": (ethernet(ip("198.51.100.1", "198.51.100.2", bytes.fromhex("0000 0800") + PACKET, 47)), 1, ()),
    "GRE with key": (
        ethernet(ip("198.51.100.1", "198.51.100.2", bytes.fromhex("2000 0800 00000007") + PACKET, 47)),
        1,
        (),
    ),
    "no total length: the card segments": (ethernet(ip(*V4, SEGMENT, total=0)), 1, ()),
}


# What dpkt has no class for, or one that does not fit; tshark is asked below.
RARER = {
    "SLL, IEEE 802.2 behind it": (
        bytes.fromhex("0000 0001 0006 020000000010 0000 0004 aaaa03 000000 0800") + PACKET,
        113,
        (),
    ),
    "HDLC of PPP": (bytes.fromhex("ff03 0021") + PACKET, 50, ()),
    "PPP as pppd records it": (bytes.fromhex("00 ff03 0021") + PACKET, 204, ()),
    "MPLS in PPP": (bytes.fromhex("ff03 0281 000101ff") + PACKET, 9, ()),
    "Cisco HDLC": (bytes.fromhex("0f00 0800") + PACKET, 104, ()),
    "frame relay": (bytes.fromhex("1841 03 cc") + PACKET, 107, ()),
    "frame relay, padded, SNAP": (bytes.fromhex("1841 03 00 80 000000 0800") + PACKET, 107, ()),
    "OpenBSD's pf": (bytes([61, 2]) + bytes(62) + PACKET, 117, ()),
    "OpenBSD's enc": (bytes.fromhex("00000002 00000000 00000000") + PACKET, 109, ()),
    "token ring": (bytes.fromhex("1040 020000000025 020000000010 aaaa03 000000 0800") + PACKET, 6, ()),
    "token ring with a route": (
        bytes.fromhex("1040 020000000025 820000000010 0690 0011 0022 aaaa03 000000 0800") + PACKET,
        6,
        (),
    ),
    "FDDI": (bytes.fromhex("50 020000000025 020000000010 aaaa03 000000 0800") + PACKET, 10, ()),
    "ATM, LLC": (bytes.fromhex("aaaa03 000000 0800") + PACKET, 100, ()),
    "ATM, bridged Ethernet": (bytes.fromhex("aaaa03 0080c2 0007 0000") + ethernet(PACKET), 100, ()),
    "IP over Fibre Channel": (bytes(16) + bytes.fromhex("aaaa03 000000 0800") + PACKET, 122, ()),
    "IP over IEEE 1394": (bytes(16) + bytes.fromhex("0800") + PACKET, 138, ()),
    "MPLS alone": (bytes.fromhex("000101ff") + PACKET, 219, ()),
    "NetAnalyzer": (bytes.fromhex("00084000") + ethernet(PACKET) + bytes(4), 240, ()),
    "PKTAP of macOS": (struct.pack("<III", 108, 1, 1) + bytes(96) + ethernet(PACKET), 258, ()),
    "PPI": (struct.pack("<BBHI", 0, 0, 8, 1) + ethernet(PACKET), 192, ()),
    "802.11 to the access point": (WIRELESS + LLC + PACKET, 105, ()),
    "802.11 between access points, with QoS": (
        bytes.fromhex("8803 0000")
        + bytes(18)
        + bytes.fromhex("0000")
        + bytes(6)
        + bytes.fromhex("0000")
        + LLC
        + PACKET,
        105,
        (),
    ),
    "802.11 behind radiotap": (bytes.fromhex("0000 0900 02000000 00") + WIRELESS + LLC + PACKET, 127, ()),
    "802.11 behind radiotap, padded": (
        bytes.fromhex("0000 1100 03000000")
        + bytes(8)
        + bytes.fromhex("20")
        + b"\x88"
        + WIRELESS[1:]
        + bytes(4)
        + LLC
        + PACKET,
        127,
        (),
    ),
    "802.11 behind AVS": (struct.pack(">II", 0x80211001, 64) + bytes(56) + WIRELESS + LLC + PACKET, 163, ()),
    "802.11 behind Prism": (struct.pack("<II", 0x44, 144) + bytes(136) + WIRELESS + LLC + PACKET, 119, ()),
    "a tag of IEEE 802.1CB": (MACS + bytes.fromhex("f1c1 0000 0007 0800") + PACKET, 1, ()),
    "a pseudowire in MPLS": (MACS + bytes.fromhex("8847 000101ff 00000000") + ethernet(PACKET), 1, ()),
    "IP in authentication header": (ethernet(ip(*V4, bytes([6, 4, 0, 0]) + bytes(20) + SEGMENT, 51)), 1, ()),
    "GRE, Ethernet": (ethernet(ip(*OUTER, bytes.fromhex("0000 6558") + ethernet(PACKET), 47)), 1, ()),
    "GRE, MPLS": (ethernet(ip(*OUTER, bytes.fromhex("0000 8847 000101ff") + PACKET, 47)), 1, ()),
    "GRE of PPTP": (
        ethernet(ip(*OUTER, bytes.fromhex("3081 880b 0040 0001 00000001 00000001 ff03 0021") + PACKET, 47)),
        1,
        (),
    ),
    "ERSPAN II": (
        ethernet(ip(*OUTER, bytes.fromhex("1000 88be 00000001 1001 0000 00000000") + ethernet(PACKET), 47)),
        1,
        (),
    ),
    "ERSPAN I": (ethernet(ip(*OUTER, bytes.fromhex("0000 88be") + ethernet(PACKET), 47)), 1, ()),
    "EtherIP": (ethernet(ip(*OUTER, bytes.fromhex("3000") + ethernet(PACKET), 97)), 1, ()),
    "MPLS in IP": (ethernet(ip(*OUTER, bytes.fromhex("000101ff") + PACKET, 137)), 1, ()),
    "VXLAN": (udp(4789, bytes.fromhex("08000000 00000700") + ethernet(PACKET)), 1, ()),
    "VXLAN-GPE": (udp(4790, bytes.fromhex("0c000001 00000700") + PACKET), 1, ()),
    "Geneve, with options": (udp(6081, bytes.fromhex("0100 6558 00000700 00000000") + ethernet(PACKET)), 1, ()),
    "GTP-U": (udp(2152, bytes.fromhex("30ff 002e 00000001") + PACKET), 1, ()),
    "GTP-U with an extension header": (
        udp(2152, bytes.fromhex("34ff 0036 00000001 0000 00 85 01 100900") + PACKET),
        1,
        (),
    ),
    "MPLS in UDP": (udp(6635, bytes.fromhex("000101ff") + PACKET), 1, ()),
}
EVERY = CARRIERS | RARER


@pytest.mark.parametrize("name", EVERY)
def test_the_same_segment_comes_out_of_every_carrier(name: str) -> None:
    data, link, scope = EVERY[name]
    segment = decode(of(data, link))
    assert segment is not None
    assert (segment.source, segment.destination) == (
        Endpoint(bytes([192, 0, 2, 10]), 49152),
        Endpoint(bytes([192, 0, 2, 25]), 25),
    )
    assert (segment.sequence, segment.acknowledgement, segment.flags) == (1001, 5001, PSH | ACK)
    assert (segment.payload, segment.missing, segment.scope) == (b"QUIT\r\n", 0, scope)
    assert data[segment.at : segment.at + 6] == b"QUIT\r\n"


# What tshark 4.0 takes apart in another way, and why ours stands.
TSHARK_DIFFERS = {
    "MPLS alone": "it does not know the link type",
    "a pseudowire in MPLS": "it takes the control word for the beginning of an Ethernet header",
}


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark")
def test_tshark_finds_the_same_segment_in_every_carrier(tmp_path: Path) -> None:
    interfaces = sorted({link for _, link, _ in EVERY.values()})
    path = tmp_path / "carriers.pcapng"
    with Recorder(path, [(f"link{link}", link) for link in interfaces]) as recorder:
        for number, (data, link, _) in enumerate(EVERY.values(), 1):
            recorder.write(Frame(number, number, data, len(data), link, interfaces.index(link)))
    fields = [word for name in ("tcp.srcport", "tcp.seq_raw", "tcp.payload") for word in ("-e", name)]
    told = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", *fields], capture_output=True, text=True, check=True
    )
    theirs = dict(zip(EVERY, told.stdout.splitlines(), strict=True))
    differing = {
        name: line for name, line in theirs.items() if line.split("\t") != ["49152", "1001", b"QUIT\r\n".hex()]
    }
    assert set(differing) == set(TSHARK_DIFFERS), differing


@pytest.mark.parametrize("name", EVERY)
def test_every_octet_in_front_of_the_packet_is_the_links(name: str) -> None:
    data, link, _ = EVERY[name]
    first, *rest = headers(of(data, link))
    if first.layer is Layer.LINK:
        assert first.name
        assert [span.start for span in spans(first)] == [0, *(span.end for span in spans(first))][:-1]
        assert rest[0].start >= first.body > 0
    else:
        assert (first.layer, first.start) == (Layer.NETWORK, 0)
        assert link in (14, 101, 228)


CARRIERS6 = {
    "ethernet": (ethernet(PACKET6), 1),
    "SLL2": (bytes.fromhex("86dd 0000 00000003 0001 00 06 020000000010 0000") + PACKET6, 276),
    "NULL as Linux numbers it": (bytes.fromhex("0a000000") + PACKET6, 0),
    "NULL as macOS numbers it": (bytes.fromhex("1e000000") + PACKET6, 0),
    "RAW": (PACKET6, 101),
    "6in4": (ethernet(ip("198.51.100.1", "198.51.100.2", PACKET6, 41)), 1),
    "hop-by-hop options": (ethernet(ip(*V6, bytes([6, 0, 1, 4, 0, 0, 0, 0]) + SEGMENT6, 0)), 1),
    "destination options, then an atomic fragment": (
        ethernet(ip(*V6, bytes([44, 0, 1, 4, 0, 0, 0, 0]) + bytes([6, 0, 0, 0, 0, 0, 0, 1]) + SEGMENT6, 60)),
        1,
    ),
    "authentication header": (ethernet(ip(*V6, bytes([6, 4, 0, 0]) + bytes(20) + SEGMENT6, 51)), 1),
}


@pytest.mark.parametrize("name", CARRIERS6)
def test_the_same_segment_comes_out_of_every_carrier_of_ipv6(name: str) -> None:
    data, link = CARRIERS6[name]
    segment = decode(of(data, link))
    assert segment is not None
    assert str(segment.source) == "[2001:db8:25::10]:49152"
    assert segment.payload == b"QUIT\r\n"
    assert data[segment.at : segment.at + 6] == b"QUIT\r\n"


NO_SEGMENT = {
    "nothing": (b"", 1),
    "a header cut": (ethernet(PACKET)[:53], 1),
    "ARP": (MACS + bytes.fromhex("0806") + bytes(46), 1),
    "UDP": (ethernet(ip(*V4, bytes(20), 17)), 1),
    "an ICMP error quoting the segment": (ethernet(ip(*V4, bytes.fromhex("0304 0000 0000 05dc") + PACKET, 1)), 1),
    "the first fragment": (ethernet(ip(*V4, SEGMENT, fragment=0x2000)), 1),
    "a later fragment": (ethernet(ip(*V4, SEGMENT, fragment=0x0003)), 1),
    "a later fragment of IPv6": (ethernet(ip(*V6, bytes([6, 0, 0, 8, 0, 0, 0, 1]) + SEGMENT6, 44)), 1),
    "a data offset below 5": (ethernet(ip(*V4, SEGMENT[:12] + b"\x40" + SEGMENT[13:])), 1),
    "a data offset beyond the packet": (ethernet(ip(*V4, SEGMENT[:12] + b"\xf0" + SEGMENT[13:])), 1),
    "an IP header length below 5": (ethernet(b"\x44" + PACKET[1:]), 1),
    "a total length inside the header": (ethernet(ip(*V4, SEGMENT, total=19)), 1),
    "version 5": (ethernet(b"\x55" + PACKET[1:]), 1),
    "a PPPoE discovery": (MACS + bytes.fromhex("8863 11 09 0000 0004 0101 0000"), 1),
    "a link nobody knows": (ethernet(PACKET), 147),
    "an endless MPLS stack": (MACS + bytes.fromhex("8847") + bytes.fromhex("000100ff") * 300, 1),
}


@pytest.mark.parametrize("name", NO_SEGMENT)
def test_what_is_no_segment_is_none(name: str) -> None:
    assert decode(of(*NO_SEGMENT[name])) is None


def test_ethernet_padding_is_not_user_data() -> None:
    frame = of(ethernet(ip(*V4, tcp(*V4, 49152, 25, 1, 1, ACK))))
    assert len(frame.data) == 60
    segment = decode(frame)
    assert segment is not None
    assert segment.payload == b""
    assert headers(frame)[0].fields[-1] == (54, 60, "pad", "00 00 00 00 00 00")


@pytest.mark.parametrize(
    ("kept", "payload", "missing"),
    [(60, b"QUIT\r\n", 0), (57, b"QUI", 3), (54, b"", 6), (58, b"QUIT", 2)],
)
@pytest.mark.parametrize("packet", [PACKET, PACKET6], ids=["IPv4", "IPv6"])
def test_the_snap_length_leaves_missing_octets(packet: bytes, kept: int, payload: bytes, missing: int) -> None:
    kept += len(packet) - len(PACKET)
    whole = ethernet(packet)
    segment = decode(of(whole[:kept], length=len(whole)))
    assert segment is not None
    assert (segment.payload, segment.missing) == (payload, missing)


def test_a_snap_length_inside_the_options_leaves_the_whole_payload_missing() -> None:
    packet = ip(*V4, tcp(*V4, 49152, 25, 1, 1, ACK, b"QUIT\r\n", options=bytes(12)))
    segment = decode(of(ethernet(packet)[:58], length=72))
    assert segment is not None
    assert (segment.payload, segment.missing) == (b"", 6)


def test_a_packet_that_claims_more_than_its_frame_had_lost_nothing() -> None:
    segment = decode(of(ethernet(ip(*V4, SEGMENT, total=9000))))
    assert segment is not None
    assert (segment.payload, segment.missing) == (b"QUIT\r\n", 0)


def test_headers_say_what_the_fields_hold() -> None:
    frame = Wire().open()[0]
    said = {name: value for header in headers(frame) for *_, name, value in header.fields if header.layer > Layer.LINK}
    assert said["version-ihl"] == "version 4, header 20 octets"
    assert said["protocol"] == "6 (TCP)"
    assert said["flags"] == "SYN"
    assert said["destination-address"] == "192.0.2.25"
    assert said["destination-port"] == "25"


@given(st.binary(max_size=120), st.sampled_from(sorted(KNOWN_LINKS | {999})))
def test_no_octets_whatever_make_decode_or_headers_raise(data: bytes, link: int) -> None:
    decode(of(data, link))
    for header in headers(of(data, link)):
        tiles = spans(header)
        assert all(a.end == b.start for a, b in pairwise(tiles))
        assert all(tile.start < tile.end for tile in tiles)
        assert tiles[0].start == header.start
        assert tiles[-1].end == header.end


@given(st.sampled_from(sorted(EVERY.items())), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=4))
def test_no_flipped_octets_make_decode_or_headers_raise(carrier: tuple, flips: list[tuple[int, int]]) -> None:
    data, link, _ = carrier[1]
    damaged = bytearray(data)
    for at, octet in flips:
        damaged[at % len(damaged)] = octet
    decode(of(bytes(damaged), link))
    headers(of(bytes(damaged), link))


@given(
    payload=st.binary(max_size=40),
    options=st.integers(0, 10).map(lambda n: bytes([1]) * 4 * n),
    ip_options=st.integers(0, 10).map(lambda n: bytes([1]) * 4 * n),
    tags=st.lists(st.integers(0, 4095), max_size=2),
    numbers=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 255)),
    six=st.booleans(),
)
def test_dpkt_reads_the_same_segment(
    payload: bytes, options: bytes, ip_options: bytes, tags: list[int], numbers: tuple[int, int, int], six: bool
) -> None:
    ends = V6 if six else V4
    body = tcp(*ends, 49152, 25, *numbers, payload, options=options)
    data = ethernet(ip(*ends, body, options=b"" if six else ip_options), tags=tags)
    theirs = dpkt.ethernet.Ethernet(data).data
    mine = decode(of(data))
    assert mine is not None
    assert (mine.source.address, mine.destination.address) == (theirs.src, theirs.dst)
    assert (mine.source.port, mine.destination.port) == (theirs.data.sport, theirs.data.dport)
    assert (mine.sequence, mine.acknowledgement) == (theirs.data.seq, theirs.data.ack)
    assert (mine.flags, mine.window) == (theirs.data.flags & 0xFF, theirs.data.win)
    assert mine.payload == theirs.data.data
    assert mine.scope == tuple(tag for tag in tags if tag)  # 0 names no VLAN


# Forms that dpkt's class for the link does not take apart.
NOT_DPKT = {"SLL and a tag", "SLL2 and a tag", "three VLAN tags", "PPP, compressed protocol"}


@pytest.mark.parametrize("name", sorted(CARRIERS.keys() - NOT_DPKT))
def test_dpkt_finds_the_same_payload_in_the_rarer_links(name: str) -> None:
    data, link, _ = CARRIERS[name]
    classes = {1: dpkt.ethernet.Ethernet, 113: dpkt.sll.SLL, 276: dpkt.sll2.SLL2, 0: dpkt.loopback.Loopback}
    classes |= {108: dpkt.loopback.Loopback, 9: dpkt.ppp.PPP}
    layer = classes.get(link, dpkt.ip.IP)(data)
    while not isinstance(layer, dpkt.tcp.TCP):
        layer = layer.data
    mine = decode(of(data, link))
    assert mine is not None
    assert layer.data[: len(mine.payload)] == mine.payload
