"""Whatever was said and whatever of it is missing: messages, pairs and account raise nothing, and hold together."""

from __future__ import annotations

import os
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capture.analyzer import Analyzer
from capture.mail import Messages, Piece, Told
from capture.model import Frame, Line, Missing, Side
from capture.pairs import Pairs
from tests.capture.forge import C, S, Wire
from tests.capture.test_account import balanced
from tests.capture.test_mail import messages

SAID = (
    rb"EHLO_c\r\n LHLO_c\r\n MAIL_FROM:<a@b>\r\n MAIL_FROM:<\xff\xfe>\r\n RCPT_TO:<c@d>\r\n RCPT_TO:\r\n DATA\r\n "
    rb"BDAT_5\r\nabc de BDAT_0_LAST\r\n BDAT_99999999999999999999_LAST\r\n BDAT_-1\r\n BDAT_3_LAST\r\n RSET\r\n "
    rb"QUIT\r\n TURN\r\n AUTH_PLAIN_AAA=\r\n *\r\n STARTTLS\r\n \x16\x03\x01\x00\x02ab .\r\n ..\r\n . .\n "
    rb"Subject:_x\r\n\r\n text\n \0\xff\r RETR_1\r\n TOP_1_2\r\n LIST\r\n a1_FETCH_1_BODY[]\r\n"
)
ANSWERED = (
    rb"220_mx_ESMTP\r\n 220_mx 250_ok\r\n 250-more\r\n 354_go\r\n 334_\r\n 221_bye\r\n 503_no\r\n 421_late\r\n "
    rb"nonsense\r\n 2 50_ok\r\n +OK\r\n +OK_2\r\n1_9\r\n -ERR\r\n text\r\n .\r\n ..\r\n *_OK_ready\r\n a1_OK\r\n "
    rb"*_1_FETCH_(BODY[]_{3}\r\nabc)\r\n \x16\x03\x01\x00\x02ab"
)


def written(table: bytes) -> list[bytes]:
    """Blanks separate; ``_`` is a blank, and a backslash what it is in Python."""
    return [one.replace(b"_", b" ").decode("unicode_escape").encode("latin-1") for one in table.split()]


steps = st.lists(
    st.one_of(
        st.tuples(st.just(C), st.sampled_from(written(SAID))),
        st.tuples(st.just(S), st.sampled_from(written(ANSWERED))),
        st.tuples(st.sampled_from((C, S)), st.binary(min_size=1, max_size=9)),
        st.tuples(st.sampled_from((C, S)), st.integers(1, 40)),  # a gap
    ),
    max_size=40,
)


def capture(said: list[tuple[Side, bytes | int]], port: int, begins: str, chance: random.Random) -> list[Frame]:
    wire = Wire(sport=port)
    frames = wire.open() if begins == "SYN" else []
    if begins != "SYN":
        wire.pick_up()
    for side, what in said:
        if isinstance(what, int):
            wire.lose(side, what)
            frames.append(wire.segment(side.other))
        else:
            frames.append(wire.say(side, what))
    if chance.random() < 0.5:
        frames += wire.close()
    for _ in range(chance.randrange(4)):
        if len(frames) > 1:
            at = chance.randrange(len(frames) - 1)
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
    return [frame._replace(number=number) for number, frame in enumerate(frames, 1)]


def streams(frames: list[Frame]) -> dict[tuple[int, Side], bytes]:
    """What each side of each conversation sent, a question mark for each octet that is missing."""
    analyzer, found = Analyzer(strict=True), dict[tuple[int, Side], bytes]()
    rows: list[Line | Missing] = []
    for update in (*map(analyzer.feed, frames), analyzer.finish()):
        rows += [*update.lines, *update.gaps]
    for row in sorted(rows, key=lambda row: row.offset):
        key = row.conversation, row.side
        octets = row.data if isinstance(row, Line) else b"?" * row.length
        found[key] = found.get(key, b"")[: row.offset] + octets
    return found


def unstuffed(octets: bytes) -> bytes:
    """What RFC 5321 4.5.2 makes of a message as sent, its end included: another way than ours."""
    assert octets.endswith(b"\r\n.\r\n") or octets == b".\r\n"
    rows = octets[:-3].split(b"\r\n")
    return b"\r\n".join(row[1:] if row.startswith(b".") else row for row in rows)


@example(
    [(C, b"EHLO c\r\n"), (C, b"DATA\r\n"), (C, b"EHLO c\r\n"), (S, b"nonsense\r\n")], 25, "middle", random.Random(1)
)
@example([(C, b"DATA\r\n"), (S, b"220 mx"), (C, b"EHLO c\r\n")], 25, "middle", random.Random(1))
@example([(S, b"250-more\r\n"), (S, b"2"), (S, 1), (S, b"220 mx ESMTP\r\n")], 25, "middle", random.Random(1))
@settings(deadline=None, max_examples=int(os.environ.get("WIRETALK_EXAMPLES", "300")))
@given(
    steps,
    st.sampled_from((25, 24, 110, 143, 2525, 9999)),
    st.sampled_from(("SYN", "middle")),
    st.randoms(use_true_random=False),
)
def test_nothing_raises_and_everything_is_told_once(
    said: list[tuple[Side, bytes | int]], port: int, begins: str, chance: random.Random
) -> None:
    frames = capture(said, port, begins, chance)
    by_lines, in_runs = messages(frames, runs=False), messages(frames, batch=7)
    told = [(f.octets, f.message.why, f.message.replies, f.message.holes) for f in by_lines]
    assert sorted(told) == sorted((f.octets, f.message.why, f.message.replies, f.message.holes) for f in in_runs)
    for message, _ in by_lines:
        assert message.offset <= message.end
        assert all(message.offset <= hole.offset < message.end and hole.octets > 0 for hole in message.holes)
        assert all(0 <= hole.at <= message.octets for hole in message.holes)
    for message, octets in by_lines:
        if message.complete and message.ending == "CRLF.CRLF":
            assert (
                unstuffed(streams(frames)[message.conversation, message.side][message.offset : message.end]) == octets
            )
    balanced(frames)
    replies, commands = set(), set()
    analyzer, pairs = Analyzer(strict=True), Pairs()
    found = []
    for frame in frames:
        pairs.tell(frame)
        found += pairs.feed(analyzer.feed(frame))
    found += [*pairs.feed(analyzer.finish()), *pairs.finish()]
    for pair in found:
        assert pair.command is not None or pair.reply is not None
        assert pair.latency is None or pair.latency >= 0
        if pair.reply is not None and not pair.reply.name.endswith(" greeting"):
            key = pair.reply.side, pair.reply.ident
            assert key not in replies, "a reply that answers twice"
            replies.add(key)
        if pair.command is not None and pair.final:
            asked = pair.command.side, pair.command.ident
            assert asked not in commands, "a command that is answered twice"
            commands.add(asked)


def test_many_conversations_at_once_leave_nothing_behind() -> None:
    reader, analyzer, told, octets = Messages(), Analyzer(runs=True), 0, 0
    number = 0
    for port in range(1000, 1300):
        wire = Wire(cport=port, number=number, time=10**18 + number * 10**6)
        frames = [
            *wire.open(),
            wire.say(S, b"220 mx\r\n"),
            wire.say(C, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
        ]
        frames += [wire.say(S, b"250 ok\r\n250 ok\r\n354 go\r\n"), wire.say(C, b"hi\r\n.\r\nQUIT\r\n")]
        frames += [wire.say(S, b"250 ok\r\n221 bye\r\n"), *wire.close()]
        number = frames[-1].number
        for event in reader.feed(analyzer.feed_all(frames)):
            told += isinstance(event, Told)
            octets += len(event.octets) if isinstance(event, Piece) else 0
    assert (told, octets) == (300, 300 * 4)
    assert not reader._posts
