"""Commands and replies paired by counting: who answers whom, after how long, and what pipelining saved."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from capture.analyzer import Analyzer
from capture.errors import BadCapture
from capture.model import Frame
from capture.pairs import Clock, Pair, Pairs, Trips, Unit
from capture.protocols import smtp
from capture.protocols.smtp import Open, SmtpDialogue
from capture.sources.files import read
from capture.unit import FRAMES
from tests.capture.forge import C, S, Wire
from tests.capture.test_corpus import CORPUS
from tests.capture.test_corpus import capture_of as file_of
from tests.capture.test_mail import ENVELOPE, GREETED, SESSIONS, session
from tests.capture.test_vectors_on_the_wire import frames_of

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())
TRUTHS = sorted(CORPUS.glob("truth/*.json"))
MS = 1_000_000


def paired(frames: Iterable[Frame]) -> tuple[list[Pair], list[Trips]]:
    analyzer, pairs, found = Analyzer(strict=True), Pairs(), list[Pair]()
    for frame in frames:
        pairs.tell(frame)
        found += pairs.feed(analyzer.feed(frame))
    found += pairs.feed(analyzer.finish())
    found += pairs.finish()
    return found, list(pairs.trips())


def told(frames: Iterable[Frame]) -> list[str]:
    """``"EHLO → 250"``, ``"– → 220"`` for a reply without command, ``"QUIT → –"`` for a command without reply."""

    def word(unit: Unit | None) -> str:
        return "–" if unit is None else unit.verb or unit.code or unit.name

    return [f"{word(pair.command)} → {word(pair.reply)}" for pair in paired(frames)[0]]


BYE = ("C: QUIT", "S: 221 bye")


@pytest.mark.parametrize(
    ("said", "pairs"),
    [
        ((*GREETED, *BYE), ["– → 220", "EHLO → 250", "QUIT → 221"]),
        (
            (*GREETED, "C: MAIL FROM:<a@c>\nRCPT TO:<b@d>\nDATA", "S: 250 ok\n550 no\n554 none", *BYE),
            ["– → 220", "EHLO → 250", "MAIL → 250", "RCPT → 550", "DATA → 554", "QUIT → 221"],
        ),
        (
            (*GREETED, *ENVELOPE, "C: DATA", "S: 354 go", "C: hi\n.\nQUIT", "S: 250 ok\n221 bye"),
            ["– → 220", "EHLO → 250", "MAIL → 250", "RCPT → 250", "DATA → 354", "mail data → 250", "QUIT → 221"],
        ),
        (
            ("S: 220 mx", "C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: QQ==", "S: 334 UGFzc3dvcmQ6", "C: *",
             "S: 501 cancelled", *BYE),
            ["– → 220", "AUTH → 334", "SASL → 334", "SASL → 501", "QUIT → 221"],
        ),
        (
            (*GREETED, "S: 250 hello again", "C: NOOP", "S: 250 ok", *BYE),
            ["– → 220", "EHLO → 250", "– → 250", "NOOP → 250", "QUIT → 221"],
        ),
        ((*GREETED, "S: 421 closing"), ["– → 220", "EHLO → 250", "– → 421"]),
        ((*GREETED, "C: NOOP"), ["– → 220", "EHLO → 250", "NOOP → –"]),
        (
            ("S: 220 mx", "C: NONSENSE", "S: what?", *BYE),
            ["– → 220", "unknown command → malformed reply", "QUIT → 221"],
        ),
        (
            ("S: 220 mx", "C: HELO c", "S: 250 mx", "C: TURN", "S: 250 ok", "S? 0", "C: 220 c ready", "S: HELO mx",
             "C: 250 c", "S: QUIT", "C: 221 bye"),
            ["– → 220", "HELO → 250", "TURN → 250", "– → 220", "HELO → 250", "QUIT → 221"],
        ),
    ],
)  # fmt: skip
def test_the_kth_reply_belongs_to_the_kth_unit_that_asks(said: tuple[str, ...], pairs: list[str]) -> None:
    frames = session(*(line for line in said if line != "S? 0"))
    assert told(frames) == pairs


def test_lmtp_has_a_reply_for_each_recipient_and_the_last_is_final() -> None:
    frames = session(
        "S: 220 mx LMTP", "C: LHLO c", "S: 250 mx", "C: MAIL FROM:<a@c>\nRCPT TO:<b@d>\nRCPT TO:<n@d>\nRCPT TO:<c@d>",
        "S: 250 ok\n250 ok\n550 no\n250 ok", "C: DATA", "S: 354 go", "C: hi\n.", "S: 250 b\n452 c", *BYE, port=24,
    )  # fmt: skip
    found = [pair for pair in paired(frames)[0] if pair.command is not None and pair.command.verb == "mail data"]
    assert [(pair.reply.code if pair.reply else "", pair.final) for pair in found] == [("250", False), ("452", True)]


def test_pop3_answers_of_many_lines_are_one_unit() -> None:
    frames = session(
        "S: +OK ready", "C: USER a\nPASS b\nLIST\nQUIT", "S: +OK\n+OK\n+OK 2\n1 9\n2 9\n.\n+OK bye", port=110
    )
    found, [trips] = paired(frames)
    assert [pair.command.verb if pair.command else "–" for pair in found] == ["–", "USER", "PASS", "LIST", "QUIT"]
    assert [pair.reply.lines if pair.reply else 0 for pair in found] == [1, 1, 1, 4, 1]
    assert (trips.round_trips, trips.saved) == (1, 3)


def test_imap_answers_by_tag_and_what_comes_unasked_stays_alone() -> None:
    frames = session(
        "S: * OK ready", "C: a1 LOGIN u p", "S: a1 OK in", "C: a2 SELECT INBOX\na3 NOOP",
        "S: * 3 EXISTS\na3 OK first\na2 NO gone", "C: a4 LOGOUT", "S: * BYE\na4 OK bye", port=143,
    )  # fmt: skip
    assert told(frames) == ["– → OK", "LOGIN → OK", "– → EXISTS", "NOOP → OK", "SELECT → NO", "– → BYE", "LOGOUT → OK"]


def test_latency_runs_from_the_last_octet_asked_to_the_first_one_answered() -> None:
    wire = Wire(step=MS)
    frames = [*wire.open(), wire.say(S, b"220 mx\r\n")]
    frames += [wire.say(C, b"NO"), wire.say(C, b"OP"), wire.say(C, b"\r\n")]
    wire.time += 5 * MS
    frames += [wire.say(S, b"250-o"), wire.say(S, b"k\r\n250 ok\r\n"), *wire.close()]
    found, [trips] = paired(frames)
    assert [pair.latency for pair in found] == [None, 6 * MS]
    assert (trips.least, trips.most, trips.mean, trips.latencies) == (6 * MS, 6 * MS, 6 * MS, 1)
    asked, answered = found[1].command, found[1].reply
    assert asked is not None
    assert answered is not None
    assert (asked.frames, answered.frames, answered.lines) == ((5, 7), (8, 9), 2)


def test_a_reply_that_came_before_all_was_asked_has_no_latency() -> None:
    frames = session(*GREETED, *ENVELOPE, "C! BDAT 4 LAST\r\nab", "S: 552 too large", "C! cd", *BYE)
    assert [pair.latency is None for pair in paired(frames)[0]] == [True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("said", "commands", "trips", "saved"),
    [
        ((*GREETED, *BYE), 2, 2, 0),
        ((*GREETED, "C: NOOP\nNOOP\nQUIT", "S: 250 1\n250 2\n221 3"), 4, 2, 2),
        ((*GREETED, "C: NOOP", "C: NOOP", "C: QUIT", "S: 250 1\n250 2\n221 3"), 4, 2, 2),
        # the second command leaves when the first is answered; the third waits for nobody
        ((*GREETED, "C: NOOP", "S: 250 1", "C: NOOP", "C: QUIT", "S: 250 2\n221 3"), 4, 3, 1),
        # a client that talks before the greeting waits once
        (("C: EHLO c\nMAIL FROM:<a@c>\nQUIT", "S: 220 mx\n250 mx\n250 ok\n221 bye"), 3, 1, 2),
        ((*GREETED, *ENVELOPE, "C: DATA", "S: 354 go", "C: hi\n.\nQUIT", "S: 250 ok\n221 bye"), 6, 5, 1),
    ],
)
def test_round_trips_are_how_often_the_client_waited(
    said: tuple[str, ...], commands: int, trips: int, saved: int
) -> None:
    _, [found] = paired(session(*said))
    assert (found.commands, found.round_trips, found.saved) == (commands, trips, saved)


def test_where_no_reply_was_captured_nothing_is_said_of_waiting() -> None:
    frames = session("C: HELO c", "S: 250 mx", *BYE, sides="C")
    found, [trips] = paired(frames)
    assert [(pair.command.verb if pair.command else "", pair.reply) for pair in found] == [
        ("HELO", None),
        ("QUIT", None),
    ]
    assert (trips.commands, trips.round_trips, trips.saved, trips.mean) == (2, None, None, None)


def test_a_command_of_which_the_reply_was_lost_stays_alone() -> None:
    frames = session(*GREETED, "C: VRFY a", "S? 12", "C: NOOP", "S: 250 ok", *BYE)
    assert told(frames) == ["– → 220", "EHLO → 250", "VRFY → –", "NOOP → 250", "QUIT → 221"]


def test_a_greeting_without_line_end_hides_the_reply_behind_it() -> None:
    frames = session("S! 220 mx ready", "C: EHLO c", "S: 250 mx", "C: NOOP", "S: 250 ok", *BYE)
    found = paired(frames)[0]
    names = [(pair.command.verb if pair.command else "–", pair.reply.name if pair.reply else "–") for pair in found]
    assert ("NOOP", "250 reply") in names
    assert ("QUIT", "221 reply") in names


def test_the_clock_forgets_what_is_long_gone_and_says_so() -> None:
    clock = Clock()
    for number in (1, 2, 7, FRAMES, FRAMES + 2):
        clock.tell(Frame(number, number * MS, b"", 0))
    assert clock.time(FRAMES + 2) == (FRAMES + 2) * MS
    assert clock.time(7) == 7 * MS
    assert clock.time(2) == -1, "its place was taken"
    assert clock.time(1) == -1, "too old to be told"
    assert clock.time(FRAMES + 3) == -1, "not seen yet"


# --- the same counting as when the lines were labelled ----------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, str], str | None]:
    """What the SMTP dialogue says each reply answers, while it labels."""
    said: dict[tuple[int, str], str | None] = {}
    begin = smtp.SmtpDialogue._begin_reply

    def listen(self: SmtpDialogue, code: bytes) -> Open:
        made = begin(self, code)
        said[self.conversation, made.pdu.ident] = made.owed.what if made.owed is not None else None
        return made

    monkeypatch.setattr(smtp.SmtpDialogue, "_begin_reply", listen)
    return said


def disagreements(frames: Iterable[Frame], said: dict[tuple[int, str], str | None]) -> list[str]:
    said.clear()
    found = {}
    for pair in paired(frames)[0]:
        if pair.reply is not None and not (pair.command is not None and pair.reply.name.endswith(" greeting")):
            asked = pair.command
            what = None if asked is None else "BDAT LAST" if asked.last else asked.verb
            found[pair.conversation, pair.reply.ident] = what
    wrong = []
    for key, what in said.items():
        ours = found.get(key, "not there")
        # A reply hidden in the greeting's line is no unit of its own; nor are mail data all of which lie in a gap.
        if ours == "not there" or (what == "mail data" and ours is None):
            continue
        if ours != (None if what == "greeting" else what):
            wrong.append(f"{key}: the dialogue says {what}, the pairs say {ours}")
    assert not said or found
    return wrong


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_pairs_are_those_of_the_dialogue_that_labelled(
    vector: dict[str, Any], answers: dict[tuple[int, str], str | None]
) -> None:
    assert disagreements(frames_of(vector, close=True), answers) == []


@pytest.mark.parametrize("name", [name for name in SESSIONS if name != "pop3"])
def test_they_are_when_any_frame_is_lost(name: str, answers: dict[tuple[int, str], str | None]) -> None:
    frames = session(*SESSIONS[name])
    for lost in range(len(frames)):
        rest = [*frames[:lost], *frames[lost + 1 :]]
        assert disagreements(rest, answers) == [], f"without frame {lost + 1}"


@pytest.mark.skipif(not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real pairs are not checked")
def test_they_are_in_real_captures(answers: dict[tuple[int, str], str | None]) -> None:
    checked = 0
    for truth in TRUTHS:
        try:
            with read(file_of(truth)) as capture:
                assert disagreements(capture, answers) == [], truth.name
        except BadCapture:
            continue
        checked += len(answers)
    assert checked > 500
