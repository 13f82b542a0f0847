"""The overhead account balances: every captured octet under one owner, whatever the capture."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.account import OWNERS, Account, Kinds, Octets, Row
from capture.errors import BadCapture
from capture.layers import Overlay, owners
from capture.model import ACK, PSH, Frame, Layer, Role
from capture.places import Places
from capture.sources.files import read
from tests.capture.forge import C, S, Wire, ethernet, ip, tcp
from tests.capture.test_corpus import CORPUS
from tests.capture.test_mail import DATA, END, ENVELOPE, SESSIONS, session

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.pcap*"))
CAPTURES = sorted(path for path in CORPUS.glob("*/*") if path.parent.name != "truth" and path.suffix != ".json")


def balanced(frames: Iterable[Frame]) -> tuple[Account, list[Row]]:
    """The account of these frames, after checking the formula of its docstring on every row."""
    account, captured = Account(strict=True), 0
    for frame in frames:
        captured += len(frame.data)
        account.feed(frame)
    account.finish()
    rows = list(account.rows())
    assert account.captured == captured
    assert sum(row.both.captured for row in rows if row.message == 0) + account.elsewhere == captured
    for row in rows:
        for side in row.sides:
            assert [name for name in OWNERS if getattr(side, name) < 0] == [], row
            layers = side.layers()
            assert side.captured == sum(layers[Layer.LINK])
            assert layers[Layer.LINK][1] == sum(layers[Layer.NETWORK])
            assert layers[Layer.NETWORK][1] == sum(layers[Layer.TRANSPORT])
            above = side.repeated + sum(layers[Layer.TLS]) + sum(layers[Layer.APPLICATION]) + side.unknown
            assert layers[Layer.TRANSPORT][1] == above
            assert layers[Layer.APPLICATION][1] == sum(layers[Layer.MESSAGE]) + side.other
        if row.message == 0:
            shares = [Octets(), Octets()]
            for one in rows:
                if one.conversation == row.conversation and one.message:
                    for place in (0, 1):
                        shares[place].add(one.sides[place])
            assert tuple(shares) == row.sides
    return account, rows


def test_each_octet_of_a_session_has_its_owner() -> None:
    frames = session(*DATA, "C: Subject: x\n\n..\nend\n.", *END)
    account, rows = balanced(frames)
    whole = rows[0]
    client, server = whole.sides
    wire = (
        b"EHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@d>\r\nDATA\r\n",
        b"Subject: x\r\n\r\n..\r\nend\r\n.\r\n",
        b"QUIT\r\n",
    )
    assert client.application == len(wire[0]) + len(wire[2]) + 1 + 3  # a stuffed dot, and the lone one
    assert client.message == len(b"Subject: x\r\n\r\n")
    assert client.body == len(b".\r\nend\r\n")
    assert (client.other, client.unknown, client.repeated, client.tls, client.tls_data) == (0, 0, 0, 0, 0)
    sent = [frame for frame in frames if frame.data[34:36] != b"\x00\x19"]
    assert client.network == client.transport == 20 * len(sent)
    assert client.link == sum(len(f.data) - 40 for f in sent) - sum(map(len, wire))
    assert server.message == server.body == 0
    assert (account.frames, account.elsewhere) == (len(frames), 0)
    assert whole.frames == (Kinds(1, 6, 2, 1), Kinds(1, 7, 0, 1))


def test_a_message_has_what_led_to_it_was_it_and_answered_it() -> None:
    first, second = ("C: one\n.", "S: 250 ok"), ("C: DATA", "S: 354 go", "C: \ntwo\n.", *END)
    _, rows = balanced(session(*DATA, *first, *ENVELOPE, *second))
    assert [row.message for row in rows] == [0, 1, 2, -1]
    _, one, two, rest = rows
    # what is no header field ends the header section, so "one" is body; "two" has an empty line and no header field
    assert (one.both.message + one.both.body, two.both.message, two.both.body) == (5, 2, 5)
    assert rest.sides[0].application == len(b"QUIT\r\n")
    assert rest.sides[1].application == len(b"221 bye\r\n")
    said = sum(len(text) - 3 + 2 for text in (*ENVELOPE, "C: DATA", "S: 354 go", "S: 250 queued"))
    assert two.both.application == said + len(b".\r\n")
    assert one.both.link
    assert rest.both.link


def test_copies_are_user_data_that_brought_nothing() -> None:
    frames = session(*DATA, "C: hi\n.", *END)
    _, [plain, *_] = balanced(frames)
    data = next(frame for frame in frames if b"MAIL FROM" in frame.data)
    at = frames.index(data) + 3
    again = [*frames[:at], data._replace(time=frames[at].time), *frames[at:]]
    _, [whole, *_] = balanced(f._replace(number=n) for n, f in enumerate(again, 1))
    assert whole.sides[0].repeated == len(b"MAIL FROM:<a@c>\r\n")
    assert whole.sides[0].transport == plain.sides[0].transport + 20
    assert whole.sides[0].stream == plain.sides[0].stream
    assert whole.sides[1] == plain.sides[1]


def test_sasl_and_tls_and_the_unknown_are_kept_apart() -> None:
    sasl = session("S: 220 mx", "C: AUTH PLAIN AGEAYg==", "S: 235 ok", "C: QUIT", "S: 221 bye")
    assert balanced(sasl)[1][0].sides[0].other == len("AGEAYg==")
    record = "\x16\x03\x01\x00\x03abc"
    tls = session(f"C! {record}", f"S! {record}", port=465)
    client = balanced(tls)[1][0].sides[0]
    assert (client.tls, client.tls_data, client.application) == (5, 3, 0)
    unknown = session("C: \x00\x01 what is this", "S: and this?", port=9999)
    client = balanced(unknown)[1][0].sides[0]
    assert (client.unknown, client.application) == (len("\x00\x01 what is this\r\n"), 0)


def test_frames_of_no_conversation_are_elsewhere() -> None:
    datagram = ethernet(ip("192.0.2.1", "192.0.2.2", b"not tcp", 17))
    frames = [*session(*DATA, "C: hi\n.", *END), Frame(99, 2**60, datagram, len(datagram)), Frame(100, 2**60, b"x", 1)]
    account, _ = balanced(frames)
    assert (account.elsewhere, account.elsewhere_frames) == (len(datagram) + 1, 2)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_fragments_belong_to_the_conversation_that_their_first_one_names(order: tuple[int, ...]) -> None:
    wire = Wire()
    frames = [*wire.open(), wire.say(S, b"220 mx\r\n")]
    segment = tcp(wire.client, wire.server, wire.cport, wire.sport, wire.sequence[C], wire.known[S], PSH | ACK,
                  b"HELO a.rather.long.name.example\r\n")  # fmt: skip
    pieces = [segment[at : at + 24] for at in range(0, len(segment), 24)]
    assert len(pieces) == 3
    made = []
    for place, piece in enumerate(pieces):
        more = 0x2000 if place < 2 else 0
        made.append(ethernet(ip(wire.client, wire.server, piece, fragment=more | place * 3, identification=7)))
    for place in order:
        wire.number, wire.time = wire.number + 1, wire.time + wire.step
        frames.append(Frame(wire.number, wire.time, made[place], len(made[place])))
    account, [whole, *_] = balanced(frames)
    assert account.elsewhere == 0
    assert whole.frames[0].fragments == 3
    assert whole.sides[0].transport == 20 * 2 + 20  # SYN, ACK, and the one header in the first fragment
    assert whole.sides[0].application == len(b"HELO a.rather.long.name.example\r\n")
    assert whole.sides[0].network == 20 * (2 + 3)


def test_fragments_without_their_first_one_are_elsewhere() -> None:
    lone = ethernet(ip("192.0.2.10", "192.0.2.25", b"x" * 24, fragment=3, identification=7))
    account, rows = balanced([Frame(1, 1, lone, len(lone))])
    assert (rows, account.elsewhere) == ([], len(lone))


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(SESSIONS)), st.randoms(use_true_random=False), st.sampled_from(["4", "6", "tags"]))
def test_it_balances_whatever_is_lost_repeated_cut_or_out_of_order(name: str, chance: random.Random, kind: str) -> None:
    port = 110 if name == "pop3" else 25
    wire = Wire(sport=port)
    if kind == "6":
        wire = Wire(client="2001:db8:25::10", server="2001:db8:25::25", sport=port)
    if kind == "tags":
        wire = Wire(sport=port, tags=(7, 8))
    frames = [*wire.open()]
    for said in SESSIONS[name]:
        text = said[3:] if said[1] == "!" else (said[3:] + "\n").replace("\n", "\r\n")
        frames.append(wire.say(C if said[0] == "C" else S, text.encode("latin-1")))
    frames += wire.close()
    mangled: list[Frame] = []
    for frame in frames:
        fate = chance.random()
        if fate < 0.1:
            continue
        size = chance.randrange(len(frame.data)) if fate < 0.2 else len(frame.data)
        mangled += [frame._replace(data=frame.data[:size])] * (2 if fate > 0.9 else 1)
    for _ in range(3):
        if len(mangled) > 1:
            at = chance.randrange(len(mangled) - 1)
            mangled[at], mangled[at + 1] = mangled[at + 1], mangled[at]
    balanced(frame._replace(number=number) for number, frame in enumerate(mangled, 1))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_samples_balance_and_agree_with_the_octets_one_by_one(path: Path) -> None:
    with read(path) as capture:
        frames = list(capture)
    account, rows = balanced(frames)
    places, overlay_lines = Places(strict=True), {}
    for update in (*map(places.feed, frames), places.finish()):
        for line in update.lines:
            overlay_lines[line.conversation, line.side, line.number] = line
    overlay = Overlay(places, overlay_lines.values())
    counted: Counter[str] = Counter()
    for frame in frames:
        for owner in owners(frame, overlay.laid(frame.number)):
            layer = owner.layer
            size = owner.end - owner.start
            if layer in (Layer.LINK, Layer.NETWORK) and owner.role is Role.PCI:
                counted[layer.name] += size
            elif layer is Layer.TRANSPORT:
                counted["TRANSPORT" if owner.role is Role.PCI else "repeated"] += size
            elif layer is Layer.APPLICATION and owner.line is not None and owner.line.pdu.name != "unknown":
                counted["APPLICATION" if owner.role is Role.PCI else "carried"] += size
    whole = Octets()
    for row in rows:
        if row.message == 0:
            whole.add(row.both)
    if not account.elsewhere and not any(kinds.records for row in rows for kinds in row.frames):
        mine = {"LINK": whole.link, "NETWORK": whole.network, "TRANSPORT": whole.transport, "repeated": whole.repeated,
                "APPLICATION": whole.application, "carried": whole.message + whole.body + whole.other}  # fmt: skip
        assert {name: counted[name] for name in mine} == mine
        assert whole.transport > 0


@pytest.mark.skipif(not CAPTURES, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real captures are not accounted")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_real_captures_balance(path: Path) -> None:
    try:
        with read(path) as capture:
            balanced(capture)
    except BadCapture:
        pytest.skip("no capture that is read")
