"""Each octet of a frame at each layer: worked frames, conversations on a wire, and what holds for any frame."""

from __future__ import annotations

import json
import random
import struct
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.labels import label
from capture.layers import Overlay, Owner, _units, owners, roles, units
from capture.model import ACK, PSH, Frame, Layer, Line, Role, Side
from capture.places import Places, Secrets
from capture.protocols.message import Messages
from capture.record import Record
from tests.capture.forge import C, S, Wire, ethernet, ip, tcp
from tests.capture.test_decode import CARRIERS, LAYERS, V4
from tests.capture.test_vectors import VECTORS
from tests.capture.test_vectors_on_the_wire import frames_of

FRAMES = json.loads((Path(__file__).parents[1] / "vectors" / "frames.json").read_text())
OF = {"ethernet": Layer.LINK, "linux-sll": Layer.LINK, "linux-sll2": Layer.LINK, "null-loopback": Layer.LINK}
OF |= {"ipv4": Layer.NETWORK, "ipv6": Layer.NETWORK, "tcp": Layer.TRANSPORT}


def overlaid(frames: Iterable[Frame]) -> tuple[Overlay, Places, Record]:
    """A whole capture analyzed, its lines and their views laid over the frames."""
    places, record = Places(strict=True), Record()
    for frame in frames:
        record.apply(places.feed(frame))
    record.apply(places.finish())
    overlay = Overlay(places, record.lines)
    readers: dict[tuple[int, Side], Messages] = defaultdict(Messages)
    views = [view for line in record.lines for view in readers[line.conversation, line.side].feed(line)]
    for view in (*views, *(v for reader in readers.values() for v in reader.finish())):
        overlay.add(view.message)
        if view.mime is not None:
            overlay.add(view.mime)
    return overlay, places, record


def short(found: tuple[Owner, ...], frame: Frame) -> list[str]:
    """Owners above TCP: layer, role, field, octets."""
    above = [o for o in found if o.layer is None or o.layer >= Layer.TRANSPORT]
    return [
        f"{o.layer.name if o.layer else '-'} {o.role.value} {o.field} {frame.data[o.start : o.end]!r}"
        for o in above
        if o.layer is not Layer.TRANSPORT or o.role is Role.USER_DATA
    ]


@pytest.mark.parametrize("vector", FRAMES, ids=[v["name"] for v in FRAMES])
def test_the_worked_frames_have_their_roles_units_and_labels(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    frame = Frame(1, 0, data, len(data), vector["linktype"])
    found = {LAYERS[unit.protocol]: unit for unit in units(frame)}
    assert list(found) == [layer["layer"] for layer in vector["layers"]]
    for layer in vector["layers"]:
        unit = found[layer["layer"]]
        seen = [[s.start, s.end, s.role.value, s.field] for s in roles(frame, OF[layer["layer"]])]
        assert seen == layer["spans"]
        assert (unit.name, unit.start, unit.end) == (layer["pdu"], layer["start"], layer["end"])
        line = Line(0, C, 1, unit.start, data[unit.start : unit.end], ("", ""), unit.spans, (), unit.whole, unit.layer)  # type: ignore[arg-type]
        assert label(line, unit.layer).value == layer["label"]


def test_a_frame_of_mail_data_is_pci_of_five_layers_and_user_data_of_the_topmost() -> None:
    wire = Wire()
    frames = [*wire.open(), wire.say(S, b"220 mx\r\n"), wire.say(C, b"HELO c\r\n"), wire.say(S, b"250 mx\r\n")]
    frames += [
        wire.say(C, b"MAIL FROM:<>\r\nRCPT TO:<b@d>\r\nDATA\r\n"),
        wire.say(S, b"250 ok\r\n250 ok\r\n354 go\r\n"),
    ]
    frames += [wire.say(C, b"A: b\r\n\r\n..x\r\n.\r\nQUIT\r\n")]
    overlay, _, _ = overlaid(frames)
    last = frames[-1]
    found = owners(last, overlay.laid(last.number))
    assert short(found, last) == [
        "MESSAGE pci field-name b'A'", "MESSAGE pci colon b':'", "MESSAGE pci field-body b' b'",
        r"MESSAGE pci crlf b'\r\n'", r"MESSAGE pci separator-line b'\r\n'", "APPLICATION pci stuffed-dot b'.'",
        "MESSAGE ud body b'.x'", r"MESSAGE ud line-end b'\r\n'", "APPLICATION pci eod-dot b'.'",
        r"APPLICATION pci crlf b'\r\n'", "APPLICATION pci verb b'QUIT'", r"APPLICATION pci crlf b'\r\n'",
    ]  # fmt: skip
    below = {layer: sum(o.end - o.start for o in found if o.layer is layer and o.role is Role.PCI) for layer in Layer}
    assert (below[Layer.LINK], below[Layer.NETWORK], below[Layer.TRANSPORT]) == (14, 20, 20)
    seen = roles(last, Layer.APPLICATION, overlay.laid(last.number))
    assert (seen[0].start, seen[-1].end) == (54, len(last.data))
    assert sum(s.end - s.start for s in seen if s.role is Role.USER_DATA) == len(b"A: b\r\n\r\n.x\r\n")


def test_records_of_tls_are_user_data_of_tcp_and_their_fragments_of_tls() -> None:
    wire = Wire(sport=465)
    frames = [*wire.open(), wire.say(C, b"\x16\x03\x01\x00\x02\x01\x00"), wire.say(S, b"\x15\x03\x03\x00\x02\x02\x28")]
    overlay, _, _ = overlaid(frames)
    assert short(owners(frames[3], overlay.laid(4)), frames[3]) == [
        r"TLS pci content-type b'\x16'", r"TLS pci legacy-record-version b'\x03\x01'", r"TLS pci length b'\x00\x02'",
        r"TLS ud fragment b'\x01\x00'",
    ]  # fmt: skip
    assert roles(frames[3], Layer.APPLICATION, overlay.laid(4)) == ()


def test_a_copy_is_user_data_of_tcp_and_of_nobody_above() -> None:
    wire = Wire()
    frames = [*wire.open(), wire.say(S, b"220 mx\r\n")]
    frames.append(wire.say(C, b"HELO c"))
    again = wire.segment(C, b"HELO c\r\n", PSH | ACK, sequence=1001)
    overlay, places, _ = overlaid([*frames, again])
    assert short(owners(again, overlay.laid(again.number)), again) == [
        "TRANSPORT ud data b'HELO c'", r"APPLICATION pci crlf b'\r\n'"
    ]  # fmt: skip
    assert [place.offset for place in places.of(again.number)] == [0]


def test_the_places_of_a_stream_that_was_picked_up_late_move_when_its_beginning_is_found() -> None:
    wire = Wire()
    wire.pick_up()
    first, second = wire.say(C, b"HELO c\r\n"), wire.say(C, b"NOOP\r\n")
    frames = [second._replace(number=1, time=first.time), first._replace(number=2, time=second.time)]
    overlay, places, _ = overlaid(frames)
    assert [places.of(n)[0].offset for n in (1, 2)] == [8, 0]
    assert short(owners(frames[0], overlay.laid(1)), frames[0])[0] == "APPLICATION pci verb b'NOOP'"


def test_offsets_go_on_where_sequence_numbers_wrap() -> None:
    wire = Wire(isn=(2**32 - 4, 7))
    frames = [*wire.open(), wire.say(S, b"220 mx\r\n"), wire.say(C, b"HELO c\r\n"), wire.say(C, b"QUIT\r\n")]
    _, places, _ = overlaid(frames)
    assert [place[1:3] for n in (5, 6) for place in places.of(n)] == [(C, 0), (C, 8)]


def test_pad_is_ethernets_and_an_outer_header_the_networks() -> None:
    segment = tcp(*V4, 49152, 25, 1, 1, ACK)
    pad = Frame(1, 0, ethernet(ip(*V4, segment)), 60)
    assert [(o.start, o.end, o.layer) for o in owners(pad) if o.field == "pad"] == [(54, 60, Layer.LINK)]
    tunnel = ethernet(ip("198.51.100.1", "198.51.100.2", ip(*V4, segment), 4), pad=False)
    found = owners(Frame(1, 0, tunnel, len(tunnel)))
    assert [(o.start, o.end, o.layer, o.role) for o in found if o.field == "encapsulation"] == [
        (14, 34, Layer.NETWORK, Role.PCI)
    ]


def test_a_fragment_is_a_whole_packet_and_its_octets_of_the_stream_are_found() -> None:
    segment = tcp(*V4, 49152, 25, 1001, 1, PSH | ACK, b"HELO c.example\r\n")
    cut = [segment[:24], segment[24:]]
    packets = [ip(*V4, cut[0], fragment=0x2000), ip(*V4, cut[1], fragment=3)]
    frames = [Frame(n, n, data := ethernet(p, pad=False), len(data)) for n, p in enumerate(packets, 1)]
    overlay, places, _ = overlaid(frames)
    assert [unit.name for frame in frames for unit in units(frame)] == ["frame", "packet (fragment)"] * 2
    assert [place[2:] for n in (1, 2) for place in places.of(n)] == [(0, 54, 4), (4, 34, 12)]
    assert short(owners(frames[1], overlay.laid(2)), frames[1]) == [
        "APPLICATION pci sp b' '", "APPLICATION pci client-domain b'c.example'", r"APPLICATION pci crlf b'\r\n'"
    ]  # fmt: skip


def test_a_frame_that_the_snap_length_cut_is_no_whole_unit() -> None:
    data = ethernet(ip(*V4, tcp(*V4, 49152, 25, 1, 1, ACK, b"x" * 40)))
    assert [unit.whole for unit in units(Frame(1, 0, data, len(data)))] == [True] * 3
    assert [unit.whole for unit in units(Frame(1, 0, data[:70], len(data)))] == [False] * 3


@pytest.mark.parametrize("name", CARRIERS)
def test_the_owners_tile_a_frame_of_every_carrier(name: str) -> None:
    data, link, _ = CARRIERS[name]
    frame = Frame(1, 0, data, len(data), link)
    overlay, _, _ = overlaid([frame])
    tiled(frame, owners(frame, overlay.laid(1)))
    assert any(o.layer is Layer.APPLICATION for o in owners(frame, overlay.laid(1)))


def tiled(frame: Frame, found: tuple[Owner, ...]) -> None:
    assert [o.start for o in found] == [0, *(o.end for o in found[:-1])][: len(found)]
    assert (found[-1].end if found else 0) == len(frame.data)
    assert all(o.start < o.end for o in found)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
@pytest.mark.parametrize("piece", [0, 5])
def test_each_octet_of_a_line_is_owned_once_in_the_whole_capture(vector: dict[str, Any], piece: int) -> None:
    if "overlong" in vector["name"] and piece:
        piece = 700
    frames = list(frames_of(vector, piece=piece))
    random.Random(piece).shuffle(doubled := [f for f in frames if f.number % 3 == 0])
    frames = [f._replace(number=n, time=frames[0].time + n) for n, f in enumerate([*frames, *doubled], 1)]
    overlay, _, record = overlaid(frames)
    owned: dict[tuple[int, Side, int], int] = defaultdict(int)
    for frame in frames:
        found = owners(frame, overlay.laid(frame.number))
        tiled(frame, found)
        for piece_ in overlay.laid(frame.number):
            line = piece_.line
            octets = line.data[piece_.first : piece_.last]
            assert frame.data[piece_.at : piece_.at + len(octets)] == octets
            if line.layer is not Layer.MESSAGE:
                for offset in range(line.offset + piece_.first, line.offset + piece_.last):
                    owned[line.conversation, line.side, offset] += 1
        above = sum(o.end - o.start for o in found if o.layer is not None and o.layer > Layer.TRANSPORT)
        assert above == sum(p.last - p.first for p in overlay.laid(frame.number) if p.line.layer is not Layer.MESSAGE)
    lines = {(m.conversation, m.side, m.offset + i): 1 for m in record.lines for i in range(len(m.data))}
    assert owned == lines


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([0, 1, 9, 51, 101, 108, 113, 239, 252, 276, 4711]), st.integers(0, 200))
def test_the_owners_tile_any_octets_whatever(data: bytes, link: int, more: int) -> None:
    frame = Frame(1, 0, data, len(data) + more, link)
    tiled(frame, owners(frame))
    for layer in Layer:
        seen = roles(frame, layer)
        assert all(0 <= s.start < s.end <= len(data) for s in seen)
        assert all(a.end <= b.start for a, b in pairwise(seen))
    for unit in units(frame):
        assert unit.start <= unit.end <= len(data)
        assert [s.start for s in unit.spans] == [0, *(s.end for s in unit.spans[:-1])]
        assert unit.whole or more


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=20, max_size=40), st.integers(0, 0x3FFF), st.booleans())
def test_the_owners_tile_packets_of_any_header(header: bytes, fragment: int, six: bool) -> None:
    packet = (
        ip(*V4, header, fragment=fragment) if not six else struct.pack(">IHBB", 6 << 28, 9, 44, 64) + bytes(32) + header
    )
    data = ethernet(packet)
    frame = Frame(1, 0, data, len(data))
    overlay, _, _ = overlaid([frame])
    tiled(frame, owners(frame, overlay.laid(1)))


def test_a_password_is_hidden_in_every_frame_that_carries_it() -> None:
    wire = Wire()
    frames = [*wire.open(), wire.say(S, b"220 mx\r\n"), wire.say(C, b"EHLO c\r\n"), wire.say(S, b"250 mx\r\n")]
    frames += [wire.say(C, b"AUTH PLAIN AHRp"), wire.segment(C, b"PLAIN AHRp", sequence=1014), wire.say(C, b"bQ==\r\n")]
    frames += [wire.say(S, b"235 ok\r\n")]
    _, places, record = overlaid(frames)
    secrets = Secrets()
    for line in record.lines:
        secrets.add(line)
    shown = [secrets.hide(frame.data, places.of(frame.number))[54:] for frame in frames[6:9]]
    assert shown == [b"AUTH PLAIN ****", b"PLAIN ****", b"****\r\n"]
    assert secrets.hide(frames[5].data, places.of(6)) is frames[5].data


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 0x4500 * 3), st.integers(0, 15), st.binary(max_size=30), st.integers(0, 9), st.integers(-30, 30),
    st.integers(0, 0xFFFF), st.sampled_from([6, 17]), st.integers(0, 12),
)  # fmt: skip
def test_the_short_way_gives_the_units_that_the_long_way_gives(
    kind: int, offset: int, payload: bytes, pad: int, more: int, fragment: int, protocol: int, cut: int
) -> None:
    segment = bytes(12) + bytes((offset << 4,)) + bytes(7) + payload
    fragment &= 0x4000 if kind % 3 else 0xFFFF
    packet = ip(*V4, segment, protocol, fragment=fragment, total=max(20 + len(segment) + (more if kind % 5 else 0), 0))
    data = ethernet(packet, pad=False) + bytes(pad)
    frame = Frame(1, 0, data, len(data) + (cut if kind % 7 == 0 else 0))
    assert units(frame) == _units(frame)
