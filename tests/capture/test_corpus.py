"""Real captures against their ground truth: the octets of each side of each stream, and what is missing of them.

`WIRETALK_CORPUS` says where the captures are (README.md and truth/ there); without it, ``../shared/corpus`` beside the
repository is tried. Nothing of it is in the repository.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from capture.analyzer import Analyzer
from capture.errors import BadCapture
from capture.model import Endpoint, Line, Side
from capture.record import Record
from capture.sources.files import read

CORPUS = Path(os.environ.get("WIRETALK_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
TRUTHS = sorted(CORPUS.glob("truth/**/*.json"))

pytestmark = pytest.mark.skipif(
    not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real captures are not checked"
)

# Where we differ from the truth, and why that is right.
DIFFERENT = {
    ("tcpflow__test5-lines-randomized.pcap", 1): "the SYN, which comes late, is of stream 0: its number says so",
    ("libpcap__AH-IPcomp-IPv6.pcap", 0): "IP payload compression (RFC 3173) is not undone",
}
# Captures that hold streams and are refused with a sentence, or passed over with a note.
REFUSED = {"pcapplusplus__solaris.snoop.json": "a snoop file", "libtrace__100_packets.erf.json": "an ERF file"}
PASSED_OVER = {"tcpdump__arcnet-http.pcap.json": "link type 129 is ARCNET"}


def capture_of(truth: Path) -> Path:
    source, name = truth.name.removesuffix(".json").split("__", 1)
    return CORPUS / source / name


def endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(ip_address(host).packed, int(port))


def observed(path: Path) -> Record:
    analyzer, record = Analyzer(strict=True), Record()
    with read(path) as frames:
        for frame in frames:
            record.apply(analyzer.feed(frame))
    record.apply(analyzer.finish())
    return record


def sides(record: Record, conversation: int) -> dict[Side, tuple[bytes, list[list[int]]]]:
    """Octets with gaps closed up, and the gaps: neighbours joined."""
    data: dict[Side, list[bytes]] = defaultdict(list)
    gaps: dict[Side, list[list[int]]] = defaultdict(list)
    for row in sorted(record.rows(conversation), key=lambda row: row.offset):
        if isinstance(row, Line):
            data[row.side].append(row.data)
        elif gaps[row.side] and sum(gaps[row.side][-1]) == row.offset:
            gaps[row.side][-1][1] += row.length
        else:
            gaps[row.side].append([row.offset, row.length])
    return {side: (b"".join(data[side]), gaps[side]) for side in Side}


def cut_tail(stream: dict[str, Any], way: str) -> bool:
    return bool(stream[way]["acked_but_not_captured_at_end"] > 1)


def expected(stream: dict[str, Any], way: str) -> tuple[int, str, list[list[int]]]:
    side = stream[way]
    gaps = [[gap["offset"], gap["len"]] for gap in side["gaps"]]
    tail = side["acked_but_not_captured_at_end"]
    # One acknowledged octet behind the last one is a FIN that was not captured.
    if tail > 1:
        gaps.append([side["span"], tail])
    return side["len"], side["sha256"], gaps


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda path: path.name.removesuffix(".json"))
def test_the_streams_of_a_real_capture_are_those_of_its_truth(truth: Path) -> None:
    told = json.loads(truth.read_text())
    if truth.name in REFUSED:
        with pytest.raises(BadCapture):
            observed(capture_of(truth))
        return
    try:
        record = observed(capture_of(truth))
    except BadCapture:
        if told.get("streams"):
            raise
        return
    tiles(record)
    if truth.name in PASSED_OVER:
        assert [note.kind for note in record.notes] == ["unknown-link"]
        return
    found: Counter[tuple[Endpoint, Endpoint]] = Counter()
    facts = defaultdict(list)
    for fact in record.conversations:
        facts[frozenset((fact.client, fact.server))].append(fact)
    wrong = {}
    for stream in told.get("streams", []):
        client, server = endpoint(stream["client"]), endpoint(stream["server"])
        nth = found[client, server]
        found[client, server] += 1
        ours = facts[frozenset((client, server))]
        if nth >= len(ours):
            wrong[stream["tcp.stream"]] = "not found"
            continue
        got = sides(record, ours[nth].ident)
        for way, end in (("c2s", client), ("s2c", server)):
            octets, gaps = got[Side.CLIENT if ours[nth].client == end else Side.SERVER]
            if stream[way]["snaplen_cut_frames"] and gaps and not cut_tail(stream, way):
                # What the snap length cut off behind the last captured octet is missing to us, acknowledged or not.
                gaps = [gap for gap in gaps if gap[0] < stream[way]["span"]]
            mine = (len(octets), hashlib.sha256(octets).hexdigest(), gaps)
            if mine != expected(stream, way):
                wrong[stream["tcp.stream"]] = f"{way}: {mine} is not {expected(stream, way)}"
    different = {n: why for (name, n), why in DIFFERENT.items() if name == truth.name.removesuffix(".json")}
    assert {n: text for n, text in wrong.items() if n not in different} == {}
    assert set(different) <= set(wrong), "a difference that is none any more"


def tiles(record: Record) -> None:
    """I1, I2: spans tile each line; lines and gaps tile each side from 0 on."""
    for fact in record.conversations:
        at = {Side.CLIENT: 0, Side.SERVER: 0}
        for row in sorted(record.rows(fact.ident), key=lambda row: row.offset):
            assert row.offset == at[row.side]
            if isinstance(row, Line):
                at[row.side] += len(row.data)
                assert [row.spans[0].start, *(s.end for s in row.spans)] == [
                    *(s.start for s in row.spans),
                    len(row.data),
                ]
                assert row.frames
            else:
                at[row.side] += row.length
        assert tuple(at.values()) == fact.octets


def test_the_same_packets_in_pcap_and_pcapng_give_the_same_lines() -> None:
    pair = [observed(CORPUS / "bruteshark" / f"smtp-auth-plain.{kind}") for kind in ("pcap", "pcapng")]
    assert pair[0].rows() == pair[1].rows()


# Captures that are refused although capinfos counts frames in them, or none: the words of the refusal.
REFUSED_WITH = {
    "drill__dhcp_big_endian.pcapng.json": "neither pcap nor pcapng",
    "libpcap__pcap-invalid-version-1.pcap.json": "only version 2 is known",
    "libpcap__pcapng-invalid-vers-1.pcapng.json": "only version 1 is known",
    "libtrace__100_packets.erf.json": "neither pcap nor pcapng",
    "pcapplusplus__solaris.snoop.json": "convert it with 'editcap",
}


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda path: path.name.removesuffix(".json"))
def test_a_capture_is_read_to_its_last_frame_or_refused_in_one_sentence(truth: Path) -> None:
    counted = json.loads(truth.read_text()).get("file") or {}
    if truth.name in REFUSED_WITH:
        with pytest.raises(BadCapture, match=REFUSED_WITH[truth.name]) as refusal:
            observed(capture_of(truth))
        assert refusal.value.sentence.endswith(".")
        assert refusal.value.sentence.isprintable()
        return
    with read(capture_of(truth)) as capture:
        frames = sum(1 for _ in capture)
    if "Number of packets" in counted:  # capinfos could read it
        assert frames == int(counted["Number of packets"])
        assert str(len(capture.interfaces)) == counted.get("Number of interfaces in file", "0")
    assert {note.kind for note in capture.notes} <= {"no-time", "bad-record", "unknown-block"}
    assert all(note.text for note in capture.notes)
