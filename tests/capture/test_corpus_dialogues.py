"""Real mail sessions against their ground truth: commands, replies, messages, chunks, each with its place and octets.

The truth (``truth/*.json`` of the corpus, see its README) lists each direction up to its first gap. Ours is put into
the same form here, from the lines alone: PDUs by their names, content by its spans. Where the two differ, `DIFFERENT`
says why ours stands; a difference that is none any more fails.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from capture.errors import BadCapture
from capture.model import Conversation, Layer, Line, Side
from capture.record import Record
from tests.capture.test_corpus import CORPUS, capture_of, endpoint, observed

TRUTHS = sorted(CORPUS.glob("truth/*.json"))

pytestmark = pytest.mark.skipif(
    not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real captures are not checked"
)

C, S = Side.CLIENT, Side.SERVER


class Item(NamedTuple):
    """A unit of the truth: what it is, where it begins, how long it is, and a word that tells it from others (the verb,
    the reply code, a digest of the message without stuffed dots)."""

    kind: str
    offset: int
    length: int
    word: str = ""


# (capture, stream): the reason. Everything else agrees item by item.
DIFFERENT = {
    ("arkime__smtp-html.pcap", 0): "mid-stream, a HELO without its domain is no complete command (M1), hence mail data",
    (
        "pcapplusplus__Smtp.pcap",
        0,
    ): "lines behind AUTH LOGIN and its 334 are answers, not commands, whatever their order",
    ("suricata__smtp-bdat-zero-last-next-mail.pcap", 0): "BDAT 0 LAST is a PDU without user data: no empty chunk",
    ("zeek__rfc3030-bdat-nonascii.pcap", 0): "BDAT 0 LAST is a PDU without user data: no empty chunk",
    ("suricata__smtp-bug-6053.pcap", 0): "the reply in the line of the greeting is counted: the 334s are of AUTH LOGIN",
    ("suricata__smtp-starttls-not-tls.pcap", 0): "plaintext behind STARTTLS keeps its normal label (labels.md 2.3)",
    ("zeek__pop3-bad-list-retr-crafted.pcap", 0): "GARBAGE is a malformed reply, and lines behind it answer no command",
}
# Streams that begin with TLS from the client.
TLS_AT_ONCE = {("ndpi__smtps.pcapng", 0)}


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ours(record: Record, conversation: int, side: Side) -> list[Item]:
    lines = sorted((n for n in record.lines if n.conversation == conversation and n.side is side), key=_offset)
    items: list[Item] = []
    for kind, group in groupby(lines, key=_kind):
        items += _items(kind, list(group))
    return items


def _offset(line: Line) -> int:
    return line.offset


def _kind(line: Line) -> tuple[str, str]:
    """What the truth calls it, and the PDU that keeps neighbours apart."""
    fields = [span.field for span in line.spans]
    name, ident = line.pdu
    if line.layer is Layer.TLS:
        return "tls", ""
    if line.side is C:
        if "eod-dot" in fields:
            return "end-of-data", ident
        if name == "mail data":
            return "message-data", ident
        if name == "BDAT command" and "verb" not in fields:
            return "bdat-chunk", ident
        if name.startswith("AUTH ") and name != "AUTH command":
            return "auth-response", ident
        return ("command-incomplete" if "fragment" in name or "incomplete" in line.flags else "command"), ident
    if "eod-dot" in fields:
        return "end-of-multiline", ident
    if name.endswith("response") and not fields[0].startswith(("status", "continuation")):
        return "multiline", ident
    if name.startswith("malformed") or fields[0] == "raw":
        return "not-a-reply", ident
    return "reply", ident


def _items(kind: tuple[str, str], lines: list[Line]) -> Iterator[Item]:
    first, size = lines[0], sum(len(line.data) for line in lines)
    match kind[0]:
        case "command" | "command-incomplete":
            yield Item(kind[0], first.offset, size, word(first.data).upper())
        case "reply":
            yield Item(
                "reply",
                first.offset,
                size,
                word(first.data)[: 3 if first.side is S and first.data[:1].isdigit() else None],
            )
        case "message-data" | "multiline" | "bdat-chunk":
            yield Item(kind[0], first.offset, size, digest(unstuffed(lines)))
        case _:
            yield Item(kind[0], first.offset, size)


def word(octets: bytes) -> str:
    """The first word, as the truth splits: at what `str` takes for white space."""
    return next(iter(octets.decode("latin-1").split()), "")


def unstuffed(lines: Iterable[Line]) -> bytes:
    return b"".join(
        line.data[span.start : span.end] for line in lines for span in line.spans if span.field != "stuffed-dot"
    )


def digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()[:16]


# ── the truth ────────────────────────────────────────────────────────────────────────────────────────────────────────


def told(items: list[dict[str, Any]], way: str) -> list[Item]:
    return [_told(item) for item in items if item["dir"] == way]


def _told(item: dict[str, Any]) -> Item:
    kind, word = item["kind"], ""
    match kind:
        case "command" | "command-incomplete":
            words = item["text"].split()
            word = words[0].upper() if words else ""
        case "reply":
            word = str(item["code"]) if "code" in item else item["text"][:3]
        case "message-data" | "multiline":
            word = item.get("sha256_unstuffed", "")[:16]
        case "bdat-chunk":
            word = item["sha256"][:16]
    return Item(kind, item["offset"], item["len"], word)


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Stream(NamedTuple):
    """A mail stream of a truth, with the sides' directions as we see them."""

    number: int
    fact: Conversation
    truth: dict[str, Any]
    items: list[dict[str, Any]]
    ways: dict[Side, str]


def streams(record: Record, truth: dict[str, Any]) -> Iterator[Stream]:
    facts = defaultdict(list)
    for fact in record.conversations:
        facts[frozenset((fact.client, fact.server))].append(fact)
    for stream in truth.get("streams", []):
        ends = endpoint(stream["client"]), endpoint(stream["server"])
        fact = facts[frozenset(ends)].pop(0)
        dialogue = stream.get("smtp") or stream.get("pop")
        if dialogue:
            ways = ("c2s", "s2c") if fact.client == ends[0] else ("s2c", "c2s")
            yield Stream(stream["tcp.stream"], fact, stream, dialogue["items"], dict(zip((C, S), ways, strict=True)))


def before_gap(items: list[Item], stream: dict[str, Any]) -> list[Item]:
    """The truth ends at the first gap. Of units that a gap cuts only TLS is compared: how far it goes is known."""
    if not stream["gaps"]:
        return items
    end = stream["gaps"][0]["offset"]
    cut = [item._replace(length=min(item.length, end - item.offset)) if item.kind == "tls" else item for item in items]
    return [item for item in cut if item.offset < end and item.offset + item.length <= end]


def unlike(mine: list[Item], theirs: list[Item]) -> list[str]:
    """Where two lists differ. A message of which the truth has no digest is compared by its place and length."""
    known = {(item.kind, item.offset): item for item in mine}
    theirs = [known.get(item[:2], item) if not item.word and _same_place(known, item) else item for item in theirs]
    return [f"ours {item}" for item in mine if item not in theirs] + [
        f"truth {item}" for item in theirs if item not in mine
    ]


def _same_place(known: dict[tuple[str, int], Item], item: Item) -> bool:
    return item[:2] in known and known[item[:2]].length == item.length


SESSIONS = [
    path
    for path in TRUTHS
    if any("smtp" in stream or "pop" in stream for stream in json.loads(path.read_text()).get("streams", []))
]


def name_of(truth: Path) -> str:
    return truth.name.removesuffix(".json")


@pytest.mark.parametrize("truth", SESSIONS, ids=name_of)
def test_the_units_of_a_real_session_are_those_of_its_truth(truth: Path) -> None:
    record = observed(capture_of(truth))
    wrong: dict[int, list[str]] = {}
    for stream in streams(record, json.loads(truth.read_text())):
        for side, way in stream.ways.items():
            mine, theirs = ours(record, stream.fact.ident, side), told(stream.items, way)
            mine, theirs = (before_gap(items, stream.truth[way]) for items in (mine, theirs))
            if found := unlike(mine, theirs):
                wrong.setdefault(stream.number, []).extend(found)
    different = {number for name, number in DIFFERENT if name == name_of(truth)}
    assert {number: found for number, found in wrong.items() if number not in different} == {}
    assert different <= set(wrong), "a difference that is none any more"


@pytest.mark.parametrize("truth", SESSIONS, ids=name_of)
def test_a_real_session_is_of_the_protocol_that_it_speaks(truth: Path) -> None:
    for stream in streams(record := observed(capture_of(truth)), json.loads(truth.read_text())):
        spoken = "pop3" if "pop" in stream.truth else "smtp"
        if (name_of(truth), stream.number) in TLS_AT_ONCE:
            spoken = "tls"
        assert stream.fact.protocol == spoken, [line.data[:40] for line in record.lines[:5]]


@pytest.mark.parametrize("truth", sorted(CORPUS.glob("truth/**/*.json")), ids=name_of)
def test_what_is_no_mail_is_not_taken_for_mail(truth: Path) -> None:
    told_of = json.loads(truth.read_text())
    try:
        record = observed(capture_of(truth))
    except BadCapture:
        return  # refused: `test_corpus` knows why
    mail = {
        frozenset((endpoint(stream["client"]), endpoint(stream["server"])))
        for stream in told_of.get("streams", [])
        if {"smtp", "pop", "imap"} & set(stream)
    }
    for fact in record.conversations:
        if frozenset((fact.client, fact.server)) not in mail and any(
            n.conversation == fact.ident for n in record.lines
        ):
            assert fact.protocol in ("opaque", "tls"), fact
