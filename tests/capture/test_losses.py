"""Captures that lost something: each frame of a session in turn, or everything before a frame.

Claim: what is lost is a bounded number of lines, and of the rest none is labelled as something else without a flag on
it that says why it may be wrong. What the whole capture says of a line is the measure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from capture.analyzer import Analyzer
from capture.decode import decode
from capture.labels import label
from capture.model import Frame, Line, Side
from capture.record import Record
from capture.sources.files import read
from tests.capture.conversation import lost, raw, told

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.pcapng"))

# Flags that say that a label rests on what was not captured.
DOUBTS = {"assumed", "after-gap", "cut-by-gap", "start-missing", "eod-in-gap", "incomplete", "unsolicited"}

Place = tuple[str, str, Side, int]


@cache
def frames(name: str) -> tuple[Frame, ...]:
    with read(SAMPLES / f"{name}.pcapng") as capture:
        return tuple(capture)


def record_of(kept: Iterable[Frame]) -> Record:
    record, analyzer = Record(), Analyzer(strict=True)
    for number, frame in enumerate(kept, 1):
        record.apply(analyzer.feed(frame._replace(number=number)))
    record.apply(analyzer.finish())
    return record


def places(record: Record, *, from_end: bool = False) -> dict[Place, Line]:
    """Lines by their ends and their offset; or by how many octets follow, which no lost beginning changes."""
    facts = {fact.ident: fact for fact in record.conversations}
    found = {}
    for line in record.lines:
        fact = facts[line.conversation]
        octets = fact.octets[0 if line.side is Side.CLIENT else 1]
        found[str(fact.client), str(fact.server), line.side, octets - line.offset if from_end else line.offset] = line
    return found


def mislabelled(whole: dict[Place, Line], seen: dict[Place, Line]) -> list[str]:
    """Lines that are labelled otherwise than in the whole capture, and do not say that they may be wrong."""
    wrong = []
    for place, line in seen.items():
        true = whole.get(place)
        if true is None or true.data != line.data or DOUBTS & set(line.flags):
            continue
        ours, theirs = ((one.pdu.name, label(one, one.layer).value) for one in (line, true))
        if ours != theirs and "greeting" not in true.pdu.name + line.pdu.name:
            wrong.append(f"{line.data!r} is {ours}, was {theirs}")
    return wrong


def payload(frame: Frame) -> bytes:
    segment = decode(frame)
    return b"" if segment is None else segment.payload


@pytest.mark.parametrize("name", [name for name in NAMES if name != "begins-in-body"])  # where an offset is for ever
def test_dropping_each_frame_in_turn_loses_its_lines_and_mislabels_no_other(name: str) -> None:
    session = frames(name)
    whole = places(record_of(session))
    for dropped, frame in enumerate(session):
        octets = payload(frame)
        if not octets:
            continue
        seen = places(record_of(session[:dropped] + session[dropped + 1 :]))
        assert mislabelled(whole, seen) == [], f"without frame {dropped + 1}, {octets[:40]!r}"
        kept = [line for place, line in seen.items() if place in whole and whole[place].data == line.data]
        own = [line for line in whole.values() if dropped + 1 in line.frames]
        # Its own lines, and the one at each edge that it shared with its neighbours.
        assert len(whole) - len(kept) <= len(own) + 2, f"without frame {dropped + 1}, {octets[:40]!r}"


@pytest.mark.parametrize("name", NAMES)
def test_beginning_at_each_frame_in_turn_mislabels_no_line(name: str) -> None:
    session = frames(name)
    whole = places(record_of(session), from_end=True)
    for begun in range(1, len(session)):
        if payload(session[begun - 1]):
            record = record_of(session[begun:])
            if all(fact.protocol != "opaque" for fact in record.conversations):
                assert mislabelled(whole, places(record, from_end=True)) == [], f"from frame {begun + 1}"


SESSIONS = [name for name in NAMES if name not in ("begins-in-body", "starttls")]  # records have no second chance


def thinned(session: tuple[Frame, ...], chance: random.Random) -> list[Frame]:
    """About one segment in eight was not captured."""
    return [frame for frame in session if not payload(frame) or chance.random() > 0.125]


def cut_short(session: tuple[Frame, ...], chance: random.Random) -> list[Frame]:
    """The capture kept the first octets of each frame only."""
    snap = chance.choice((68, 96, 120, 150, 200))
    return [frame._replace(data=frame.data[:snap]) for frame in session]


def disordered(session: tuple[Frame, ...], chance: random.Random) -> list[Frame]:
    """Neighbours in each other's place, the clock going on."""
    arrived = list(session)
    for n in range(len(arrived) - 1):
        if chance.random() < 0.2:
            one, other = arrived[n : n + 2]
            arrived[n : n + 2] = other._replace(time=one.time), one._replace(time=other.time)
    return arrived


@pytest.mark.parametrize("damage", [thinned, cut_short, disordered])
@pytest.mark.parametrize("name", SESSIONS)
def test_damage_all_over_a_session_mislabels_no_line_unsaid(
    name: str, damage: Callable[[tuple[Frame, ...], random.Random], list[Frame]]
) -> None:
    session = frames(name)
    whole = places(record_of(session))
    for seed in range(5):
        assert mislabelled(whole, places(record_of(damage(session, random.Random(seed))))) == [], f"seed {seed}"


# ── cases that were wrong once ───────────────────────────────────────────────────────────────────────────────────────

GREETED = ("S: 220 mx", "C: EHLO c", "S: 250 mx")


def client(rows: list[str]) -> list[str]:
    return [row.split(" | ", 1)[1] for row in rows if row.startswith("C")]


def test_a_lost_reply_among_pipelined_commands_does_not_shift_the_354() -> None:
    rows = told(
        *GREETED, "C: MAIL FROM:<a@c>", lost("S", 8), "C: RCPT TO:<b@d>\nDATA", "S: 250 ok\n354 go", "C: text\n.",
        "S: 250 ok", "C: QUIT", "S: 221 bye",
    )  # fmt: skip
    assert client(rows)[-3:] == ["mail data C5", "mail data C5", "QUIT command C6"]


def test_a_lost_data_command_is_known_by_its_354() -> None:
    rows = told(*GREETED, "C: MAIL FROM:<a@c>", "S: 250 ok", lost("C", 6), "S: 354 go", "C: text\n.", "S: 250 ok")
    assert [row.split(" ")[0] for row in client(rows)[2:]] == ["mail", "mail"]


def test_a_lost_sasl_message_leaves_the_next_command_a_command() -> None:
    rows = told(*GREETED, "C: AUTH LOGIN", "S: 334 ", lost("C", 10), "S: 535 no", "C: QUIT", "S: 221 bye")
    assert client(rows)[-1] == "QUIT command C3 | after-gap assumed"
    rows = told("S: +OK", "C: AUTH PLAIN", "S: + ", lost("C", 10), "S: +OK", "C: QUIT", "S: +OK", protocol="pop3")
    assert client(rows)[-1] == "QUIT command C2 | after-gap assumed"


def test_an_end_of_data_cut_between_cr_and_lf_is_the_end() -> None:
    said = ("C: MAIL FROM:<a@c>", "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok", "C: DATA", "S: 354 go")
    rows = told(*GREETED, *said, lost("C", 10), raw("C", b"\n.\r\n"), "S: 250 ok", "C: QUIT", "S: 221 bye")
    assert [row.split(" | ")[0] for row in client(rows)[-3:]] == ["mail data C5", "mail data C5", "QUIT command C6"]


def test_only_the_client_and_its_data_command_lost_the_message_is_presumed() -> None:
    rows = told("C: EHLO c\nMAIL FROM:<a@c>", lost("C", 30), "C: To: b\nSubject: x\n\ntext\n.\nQUIT")
    assert client(rows)[3:] == [*["mail data C4 | assumed"] * 4, "QUIT command C5"]


def test_a_pop3_response_of_many_lines_is_known_by_them_when_its_command_was_lost() -> None:
    rows = told(
        "S: +OK", lost("C", 8), "S: +OK 1 message\nSubject: x\n..y\n.", "C: QUIT", "S: +OK bye", protocol="pop3"
    )
    assert [row for row in rows if row.startswith("S")][1:] == [
        "S2 PDU | +OK response S2 | assumed",
        "S3 user data | +OK response S2 | assumed",
        "S4 user data | +OK response S2 | assumed",
        "S5 PCI | +OK response S2 | assumed",
        "S6 PDU | +OK response S3 | assumed",
    ]


def test_a_challenge_behind_a_gap_is_one_and_its_answer_a_secret() -> None:
    for said in (
        ("S: +OK", "C: CAPA", lost("S", 20), "C: AUTH PLAIN", "S: + ", "C: AHQAcA==", "S: +OK"),
        ("S: + ", "C: AHQAcA==", "S: +OK"),
    ):
        rows = told(*said, protocol="pop3", midstream=len(said) < 4)
        assert client(rows)[-1].startswith("AUTH response")
        assert "credential" in client(rows)[-1]


def test_prose_that_quotes_a_session_stays_prose() -> None:
    quoted = "C: text\nEHLO c\n250-mx\n250 SIZE\nMAIL FROM:<a@b>\n250 ok\nDATA\n354 go\nQUIT\n221 bye\n."
    rows = told(quoted, "S: 250 taken", "C: QUIT", "S: 221 bye", midstream=True)
    assert {row.split(" | ")[0] for row in client(rows)[:-1]} == {"mail data C1"}
    assert client(rows)[-1] == "QUIT command C2"
    assert client(told("C: RSET\nMAIL FROM:<a@b>", "S: 250 ok\n250 ok", midstream=True)) == [
        "RSET command C1 | assumed",
        "MAIL command C2",
    ]


def test_a_reply_that_does_not_end_ends_where_the_client_goes_on() -> None:
    rows = told("S: 220 mx", "C: EHLO c", "S: 250-mx", "C: AUTH LOGIN", "S: 334 ", "C: YQ==", "S: 235 ok")
    assert client(rows)[-1] == "AUTH response C3 | credential"


@pytest.mark.parametrize("ends", ["250 mx\r\n", "250-mx\r\n250 SIZE\r\n", "250-mx\r\n"])
def test_a_greeting_without_line_end_is_one_line_and_two_replies(ends: str) -> None:
    said = ("C: MAIL FROM:<a@c>", "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok", "C: DATA", "S: 354 go", "C: x\n.")
    rows = told(raw("S", b"220 mx ESMTP"), "C: EHLO c", raw("S", ends.encode()), *said, "S: 250 ok")
    assert client(rows)[-2:] == ["mail data C5", "mail data C5"]
    assert [row for row in rows if row.startswith("S")][-1] == f"S{5 + ends.count('SIZE')} PDU | 250 reply S6"


def test_a_client_that_speaks_tls_to_a_greeting_in_plain_speaks_tls() -> None:
    hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\n\x00"
    rows = told("S: 220 mx", raw("C", hello), "S: 500 what?")
    assert client(rows) == ["TLS record (handshake) C1"]
