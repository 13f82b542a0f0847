"""Real sessions cut otherwise: the same octets in other segments, some of them twice, give the same lines.

Each TCP segment of a capture is taken apart and sent again as several, by the forge; what the capture itself holds of
loss, disorder and one-sidedness stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from capture.analyzer import Analyzer
from capture.decode import decode
from capture.model import FIN, Frame, Line, Segment, Side
from capture.record import Record
from capture.sources.files import read
from tests.capture.forge import ethernet, ip, tcp
from tests.capture.test_corpus import CORPUS, capture_of
from tests.capture.test_corpus_dialogues import SESSIONS, name_of

pytestmark = pytest.mark.skipif(
    not SESSIONS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real captures are not checked"
)

MOST = 10_000  # octets of payload; a longer capture says the same more slowly
# One side alone of a message that quotes a session, picked up in its middle: nothing tells a quoted command from one.
UNKNOWABLE = {"packetbeat__smtp_multiple_late_data_transmission.pcap", "packetbeat__smtp_multiple_late_start.pcap"}


def rows(frames: Iterable[Frame]) -> list[tuple[Any, ...]]:
    """All that does not depend on frames and times."""
    record, analyzer = Record(), Analyzer(strict=True)
    for frame in frames:
        record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    found: list[tuple[Any, ...]] = []
    for row in record.rows():
        if isinstance(row, Line):
            shown = row.number, row.data, row.pdu, row.spans, row.flags, row.whole
            found.append((row.conversation, row.side.value, row.offset, *shown))
        else:
            found.append((row.conversation, row.side.value, row.offset, row.length))
    return sorted(found, key=lambda row: row[:3])


def forged(segment: Segment, sequence: int, flags: int, payload: bytes) -> bytes:
    here, there = (str(ip_address(end.address)) for end in (segment.source, segment.destination))
    ports = segment.source.port, segment.destination.port
    return ethernet(ip(here, there, tcp(here, there, *ports, sequence, segment.acknowledgement, flags, payload)))


def recut(segments: Iterable[Segment], sizes: Iterable[int]) -> Iterator[Frame]:
    """Each segment as several of these sizes; every third of them comes twice."""
    number, size = 0, cycle(sizes)
    for segment in segments:
        at = 0
        while True:
            piece = segment.payload[at : at + next(size)]
            last = at + len(piece) == len(segment.payload)
            flags = segment.flags if last else segment.flags & ~FIN
            for _ in range(2 if piece and number % 3 == 0 else 1):
                number += 1
                data = forged(segment, segment.sequence + at & 0xFFFFFFFF, flags, piece)
                yield Frame(number, segment.time, data, len(data))
            at += len(piece)
            if last:
                break


def segments_of(path: Path) -> list[Segment] | None:
    """None where the forge cannot say the same: octets cut off, VLANs, several links."""
    with read(path) as capture:
        frames = list(capture)
    segments = [segment for segment in map(decode, frames) if segment is not None]
    if sum(len(s.payload) for s in segments) > MOST or any(
        s.missing or s.scope or (s.payload and s.flags & 2) for s in segments
    ):
        return None
    return segments


SHORT = {truth: segments for truth in SESSIONS if (segments := segments_of(capture_of(truth)))}


@pytest.mark.parametrize("sizes", [(1,), (7, 2, 30)], ids=["octets", "pieces"])
@pytest.mark.parametrize("truth", SHORT, ids=name_of)
def test_a_real_session_cut_otherwise_gives_the_same_lines(truth: Path, sizes: tuple[int, ...]) -> None:
    segments = SHORT[truth]
    if sum(len(segment.payload) for segment in segments) > 4000:
        sizes = (97, *sizes)
    with read(capture_of(truth)) as capture:
        whole = rows(capture)
    assert rows(recut(segments, sizes)) == whole


@pytest.mark.parametrize("truth", [truth for truth in SHORT if name_of(truth) not in UNKNOWABLE], ids=name_of)
@pytest.mark.parametrize("side", Side)
def test_a_session_of_which_one_side_was_captured_says_where_it_presumes(truth: Path, side: Side) -> None:
    """Rules O1 and O2: what is not labelled as in the whole capture carries a flag."""
    with read(capture_of(truth)) as capture:
        frames = list(capture)
    whole = {row[:3]: row for row in rows(frames) if len(row) > 4}
    for row in rows(frame for frame in frames if sent_by(frame) is side):
        true = whole.get(row[:3])
        if len(row) == 4 or true is None or true[4] != row[4]:
            continue
        # What an IMAP continuation is for, only the client's side tells.
        ours, theirs = ((one[5].name.split()[-1].replace("challenge", "request"), one[8]) for one in (row, true))
        assert ours == theirs or row[7], f"{row[4]!r} is {ours}, was {theirs}"


def sent_by(frame: Frame) -> Side | None:
    segment = decode(frame)
    if segment is None:
        return None
    return Side.SERVER if segment.source.port < segment.destination.port else Side.CLIENT
