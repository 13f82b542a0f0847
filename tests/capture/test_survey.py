"""The first pass against the analyzer itself: whatever the capture, the facts are what the lines come to."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture.analyzer import Analyzer
from capture.errors import BadCapture
from capture.facts import Count, Facts
from capture.front import Front
from capture.intake import take_in
from capture.model import Frame, Line, Missing, Side
from capture.record import Record
from capture.sources.files import read
from capture.survey import Survey
from tests.capture.forge import C, S, Wire, capture_of

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())
CORPUS = Path(os.environ.get("WIRETALK_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
TRUTHS = sorted(CORPUS.glob("truth/**/*.json"))


def told(frames: Iterable[Frame]) -> list[Facts]:
    """What the analyzer's lines come to: no short way, nothing kept back, line by line."""
    analyzer, record = Analyzer(strict=True), Record()
    for frame in frames:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    noted: dict[int, Counter[str]] = {}
    for note in record.notes:
        noted.setdefault(note.conversation, Counter())[note.kind] += 1
    rows = []
    for fact in record.conversations:
        count = Count()
        octets: dict[Side, list[bytes]] = {side: [] for side in Side}
        gaps: dict[Side, list[tuple[int, int]]] = {side: [] for side in Side}
        for row in record.rows(fact.ident):
            if isinstance(row, Line):
                count.line(row)
        for row in sorted(record.rows(fact.ident), key=lambda row: row.offset):
            if isinstance(row, Missing):
                known = gaps[row.side]
                if known and sum(known[-1]) == row.offset:
                    known[-1] = known[-1][0], known[-1][1] + row.length
                else:
                    known.append((row.offset, row.length))
            else:
                octets[row.side].append(row.data)
        sides = [b"".join(octets[side]) for side in Side]
        rows.append(
            Facts(
                fact.ident,
                fact.client,
                fact.server,
                fact.protocol,
                fact.start,
                fact.end,
                fact.frames,
                (len(sides[0]), len(sides[1])),
                (hashlib.sha256(sides[0]).hexdigest(), hashlib.sha256(sides[1]).hexdigest()),
                (tuple(gaps[Side.CLIENT]), tuple(gaps[Side.SERVER])),
                *count.sum(),
                dict(noted.get(fact.ident, {})),
            )
        )
    return rows


def surveyed(frames: Iterable[Frame], kind: type[Survey] = Survey) -> list[Facts]:
    survey = kind(strict=True)
    survey.feed_all(frames)
    survey.finish()
    return list(survey.rows())


def pcap(frames: Iterable[Frame], order: str = "<", magic: int = 0xA1B23C4D) -> bytes:
    """A classic pcap file of Ethernet, of nanoseconds as a rule."""
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[magic]
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, 1)]
    for frame in frames:
        seconds, rest = divmod(frame.time, 1_000_000_000)
        parts.append(struct.pack(order + "IIII", seconds, rest // unit, len(frame.data), frame.length) + frame.data)
    return b"".join(parts)


def fronted(path: Path, gulp: int = 1 << 17) -> list[Facts]:
    """What the quickest way makes of a file."""
    front = Front(strict=True)
    rows: list[Facts] = []
    take_in(front, [path], lambda _frames, _octets: rows.extend(front.rows()), gulp)
    front.finish()
    return [*rows, *front.rows()]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_facts_of_a_vector_are_those_of_its_lines(vector: dict[str, Any], tmp_path: Path) -> None:
    context = vector.get("context", {})
    port = {"pop3": 110, "lmtp": 24}.get(context.get("protocol", "smtp"), 25)
    frames = list(
        capture_of(
            vector["exchange"],
            wire=Wire(sport=port),
            midstream=context.get("midstream", False),
            sides=context.get("sides", "CS"),
        )
    )
    wanted = told(frames)
    assert surveyed(frames) == wanted
    assert surveyed(frames, Front) == wanted
    path = tmp_path / "vector.pcap"
    path.write_bytes(pcap(frames))
    assert fronted(path) == wanted


@pytest.mark.skipif(not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real captures are not checked")
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda path: path.name.removesuffix(".json"))
def test_the_facts_of_a_real_capture_are_those_of_its_lines(truth: Path) -> None:
    source, name = truth.name.removesuffix(".json").split("__", 1)
    try:
        with read(CORPUS / source / name) as capture:
            frames = list(capture)
    except BadCapture:
        return
    wanted = told(frames)
    assert surveyed(frames) == wanted
    assert surveyed(frames, Front) == wanted
    assert fronted(CORPUS / source / name) == wanted


MAIL: list[dict[str, str]] = [
    {"dir": "S", "bytes": "220 mx ESMTP\r\n"},
    {"dir": "C", "bytes": "HELO c\r\n"},
    {"dir": "S", "bytes": "250 mx\r\n"},
    {"dir": "C", "bytes": "QUIT\r\n"},
    {"dir": "S", "bytes": "221 bye\r\n"},
]
OTHER: list[dict[str, str]] = [
    {"dir": "C", "bytes": "\x01binary\xff" * 200},
    {"dir": "S", "bytes": "\x02answer\x00" * 200},
]


def many(plan: list[tuple[int, list[dict[str, str]]]]) -> list[Frame]:
    """Conversations one after the other: (the server's port, what is said)."""
    frames: list[Frame] = []
    for number, (port, exchange) in enumerate(plan):
        wire = Wire(sport=port, cport=20_000 + number, isn=(number * 7919, 5000), time=1_756_713_600_000_000_000)
        wire.time += number * 100_000_000
        frames += capture_of(exchange, wire=wire)
    return [frame._replace(number=n) for n, frame in enumerate(frames, 1)]


def some(frames: list[Frame], strangers: int, path: Path) -> tuple[list[Facts], int]:
    """The rows when so many conversations that are no mail are followed, and how many others there were."""
    path.write_bytes(pcap(frames))
    front = Front(strict=True, strangers=strangers)
    rows: list[Facts] = []
    take_in(front, [path], lambda _frames, _octets: rows.extend(front.rows()), gulp=2000)
    front.finish()
    return [*rows, *front.rows()], front.passed


@pytest.mark.parametrize("port", [443, 5555])
def test_mail_among_many_others_has_the_rows_it_has_when_all_are_listed(port: int, tmp_path: Path) -> None:
    frames = many([(25, MAIL), *[(port, OTHER)] * 20, (2525, MAIL), *[(port, OTHER)] * 20, (25, MAIL)])
    every = told(frames)
    rows, passed = some(frames, 5, tmp_path / "many.pcap")
    assert passed + len(rows) == len(every) == 43
    assert [row for row in rows if row.protocol == "smtp"] == [row for row in every if row.protocol == "smtp"]
    assert all(row in every for row in rows)
    assert sum(row.protocol != "smtp" for row in rows) == 5


def test_ports_used_again_by_what_is_passed_over_are_counted_again(tmp_path: Path) -> None:
    frames = many([(443, OTHER)] * 3)
    once = list(many([(443, OTHER)]))
    again = [frame._replace(time=frame.time + 5_000_000_000) for frame in frames[: len(once)]]
    wire = Wire(sport=443, cport=20_001, isn=(77, 99), time=frames[-1].time + 10_000_000_000)
    anew = [*capture_of(OTHER, wire=wire)]
    assert some([*frames, *again[:1], *anew, *many([(25, MAIL)])], 0, tmp_path / "again.pcap")[1] == 4


def test_mail_on_a_port_of_another_protocol_is_found_where_there_is_room(tmp_path: Path) -> None:
    rows, passed = some(many([(443, MAIL), (443, OTHER)]), 5, tmp_path / "mail.pcap")
    assert ([row.protocol for row in rows], passed) == (["smtp", "opaque"], 0)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 255), st.sampled_from([1 << 17, 200]))
def test_a_damaged_file_gives_the_rows_and_the_notes_that_its_reader_gives(
    cut: int, place: int, octet: int, gulp: int
) -> None:
    octets = bytearray(pcap(many([(25, MAIL), (2525, MAIL), (443, OTHER)])))
    octets[24 + place % (len(octets) - 24)] = octet
    del octets[max(24, len(octets) - cut) :]
    with NamedTemporaryFile(suffix=".pcap") as file:
        file.write(octets)
        file.flush()
        with read(file.name) as capture:
            frames = list(capture)
        front = Front(strict=True)
        notes = take_in(front, [file.name], gulp=gulp)
        front.finish()
        assert list(front.rows()) == told(frames)
        assert [(note.kind, note.text) for note in notes] == [
            (note.kind, f"{file.name}: {note.text}") for note in capture.notes
        ]


# ── whatever is said, and however it arrives ─────────────────────────────────────────────────────────────────────────

Exchange = list[tuple[Side, bytes]]
GREETING = (S, b"220 mx.example ESMTP\r\n")
HELLO = [(C, b"EHLO c.example\r\n"), (S, b"250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n")]
ENVELOPE = [
    (C, b"MAIL FROM:<a@c> BODY=8BITMIME\r\n"),
    (S, b"250 ok\r\n"),
    (C, b"rcpt to:<b@d>\r\n"),
    (S, b"250 ok\r\n"),
]
PIPELINED = [(C, b"MAIL FROM:<>\r\nRCPT TO:<b@d>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
             (S, b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")]  # fmt: skip
DATA = [(C, b"DATA\r\n"), (S, b"354 go on\r\n")]
BODY = [(C, b"Subject: x\r\n\r\n..dots\r\nlast\r\n.\r\n"), (S, b"250 2.0.0 queued\r\n")]
QUIT = [(C, b"QUIT\r\n"), (S, b"221 bye\r\n")]
ODD: list[Exchange] = [
    [(C, b"AUTH PLAIN AGEAYg==\r\n"), (S, b"235 ok\r\n")],
    [(C, b"AUTH LOGIN\r\n"), (S, b"334 VXNlcm5hbWU6\r\n"), (C, b"YQ==\r\n"), (S, b"535 no\r\n")],
    [(C, b"BDAT 6 LAST\r\nabc\r\n\n"), (S, b"250 ok\r\n")],
    [(C, b"STARTTLS\r\n"), (S, b"220 go\r\n"), (C, b"\x16\x03\x01\x00\x02ab"), (S, b"\x16\x03\x03\x00\x01z")],
    [(C, b"DATA\r\n"), (S, b"503 no\r\n")],
    [(C, b".\r\n"), (S, b"250 empty\r\n")],
    [(C, b"x\r\n.\r\nQUIT\r\n"), (S, b"250 ok\r\n221 bye\r\n")],
    [(C, b"x\ny\n.\n"), (S, b"250 by LF\r\n")],
    [(C, b"RSET\r\nNOOP\r\n"), (S, b"250 ok\r\n250 ok\r\n")],
    [(C, b"VRFY b\r\n"), (S, b"252-perhaps\r\n252 not\r\n")],
    [(C, b"bogus\xff\r\n"), (S, b"500 what\r\n")],
    [(S, b"421 closing\r\n")],
    [(C, b"TURN\r\n"), (S, b"250 ok\r\n"), (C, b"220 now I\r\n"), (S, b"QUIT\r\n"), (C, b"221 bye\r\n")],
    [(C, b"GET / HTTP/1.1\r\n\r\n"), (S, b"HTTP/1.1 400 no\r\n\r\n" + b"x" * 1200)],
    [(S, b"+OK pop\r\n"), (C, b"USER a\r\n"), (S, b"+OK\r\n"), (C, b"RETR 1\r\n"), (S, b"+OK\r\nx\r\n.\r\n")],
]
units = st.lists(st.sampled_from([HELLO, ENVELOPE, PIPELINED, DATA, BODY, QUIT, *ODD]), max_size=8)
usual = st.just([HELLO, ENVELOPE, DATA, BODY, PIPELINED, BODY, QUIT])
scripts = st.builds(
    lambda greets, parts: [*([GREETING] if greets else []), *(said for part in parts for said in part)],
    st.booleans() | st.just(True),
    units | usual,
)
cuts = st.lists(st.integers(1, 60), max_size=12)
ends = st.sampled_from(["fin", "fin rst", "rst", "half", "open"])


def frames_of(script: Exchange, sizes: list[int], end: str, port: int, cport: int, opened: bool) -> list[Frame]:
    """One conversation, its octets cut to these sizes, ended like this."""
    wire = Wire(sport=port, cport=cport, isn=(0xFFFFFFFF - cport % 300, 5000))
    frames = wire.open() if opened else []
    if not opened:
        wire.pick_up()
    left = list(sizes)
    for side, octets in script:
        at = 0
        while at < len(octets):
            size = left.pop() if left else len(octets)
            frames.append(wire.say(side, octets[at : at + size]))
            at += size
        if left and left[-1] % 2:
            frames.append(wire.segment(side.other))
    if end == "fin":
        frames += wire.close()
    elif end == "fin rst":
        frames += [*wire.close()[:1], wire.reset(S)]
    elif end == "rst":
        frames.append(wire.reset(C))
    elif end == "half":
        frames += wire.close()[:1]
        frames += [wire.say(S, b"250 late\r\n"), wire.segment(C)]
    return frames


conversations = st.lists(
    st.builds(frames_of, scripts, cuts, ends, st.sampled_from([25, 25, 2525, 443, 110]),
              st.sampled_from([49152, 49153]), st.booleans() | st.just(True)),
    min_size=1, max_size=4,
)  # fmt: skip
damage = st.lists(
    st.tuples(
        st.sampled_from(["drop", "again", "swap", "late", "early", "cut", "flip"]),
        st.integers(0, 200),
        st.integers(0, 80),
    ),
    max_size=5,
)


def arrived(told: list[list[Frame]], order: list[int], damages: list[tuple[str, int, int]], step: int) -> list[Frame]:
    """The frames of all, mixed in this order, with these things happening to them, ``step`` ns from one to the next."""
    queues = [list(frames) for frames in told]
    mixed: list[Frame] = []
    while any(queues):
        which = order[len(mixed) % len(order)] % len(queues)
        queue = queues[which] or next(filter(None, queues))
        mixed.append(queue.pop(0))
    for what, drawn, more in damages:
        if not mixed:
            break
        at = drawn % len(mixed)
        frame = mixed[at]
        if what == "drop":
            del mixed[at]
        elif what == "again":
            mixed.insert(min(at + more, len(mixed)), frame)
        elif what == "swap":
            mixed.insert(min(at + more % 6, len(mixed)), mixed.pop(at))
        elif what == "cut":
            mixed[at] = frame._replace(data=frame.data[: max(14, len(frame.data) - more)])
        elif what == "flip" and len(frame.data) > 14:
            place = 14 + more % (len(frame.data) - 14)
            mixed[at] = frame._replace(
                data=frame.data[:place] + bytes([frame.data[place] ^ 1]) + frame.data[place + 1 :]
            )
        elif what in ("late", "early"):  # the clock of the capturing host is set on, or back
            seconds = more if what == "late" else -more
            mixed[at:] = [f._replace(time=f.time + seconds * 1_000_000_000) for f in mixed[at:]]
    return [
        frame._replace(number=n, time=frame.time // 1_000_000_000 * 1_000_000_000 + n * step)
        for n, frame in enumerate(mixed, 1)
    ]


@pytest.mark.parametrize("size", [100, 1000, 1100, 3000])
def test_behind_a_reset_few_copies_are_kept_on_either_way(size: int) -> None:
    wire = Wire()
    told_before = [{"dir": "S", "bytes": "220 mx.example ESMTP\r\n"}, {"dir": "S", "bytes": "x" * size}]
    frames = list(capture_of(told_before, wire=wire, close=False))
    frames += [wire.reset(C), wire.segment(S, b"554 mx", sequence=wire.isn[1] + 1)]
    frames = [frame._replace(number=n) for n, frame in enumerate(frames, 1)]
    for kind in (Survey, Front):
        assert surveyed(frames, kind) == told(frames)


def test_a_line_of_a_message_that_begins_like_a_status_is_none() -> None:
    said = [
        {"dir": "S", "bytes": "the middle of a message\r\n"},
        {"dir": "S", "bytes": "+OK says one of its lines\r\n"},
        {"dir": "C", "bytes": "NOOP\r\n"},
    ]
    frames = list(capture_of(said, wire=Wire(sport=110), midstream=True, close=False))
    (facts,) = told(frames)
    assert (facts.protocol, facts.last_reply) == ("pop3", None)
    assert surveyed(frames) == [facts]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    conversations,
    st.lists(st.integers(0, 3), min_size=1, max_size=7),
    damage,
    st.sampled_from([1_000, 30_000_000, 700_000_000]),
    st.sampled_from([1 << 17, 1 << 17, 120, 700]),
    st.sampled_from("<>"),
)
def test_the_quick_way_comes_to_what_the_long_way_comes_to(
    said: list[list[Frame]],
    order: list[int],
    damages: list[tuple[str, int, int]],
    step: int,
    gulp: int,
    byte_order: str,
) -> None:
    frames = arrived(said, order, damages, step)
    wanted = told(frames)
    assert surveyed(frames) == wanted
    assert surveyed(frames, Front) == wanted
    with NamedTemporaryFile(suffix=".pcap") as file:
        file.write(pcap(frames, byte_order))
        file.flush()
        assert fronted(Path(file.name), gulp) == wanted
