"""Frames together or one by one: a live view feeds them singly, a file in batches, and both come to the same.

Claim: rows, facts and notes are a function of the frames alone, also where limits are passed, clocks jump, numbers lie
and segments are cut; and whatever comes, lines and gaps tile each side, and nothing is left waiting at the end.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture import analyzer as limits
from capture import stream
from capture.analyzer import Analyzer
from capture.model import Frame, Line, Side
from capture.record import Record
from tests.capture.floods import B, frame, host

TEXTS = [b"", b"x", b"EHLO a\r\n", b"DATA\r\n", b"250 ok\r\n", b"354 go\r\n", b"y" * 1400, b".\r\n", b"220 hi\r\n"]
TEXTS += [b"a\nb\n", b"\r\n", b"BDAT 5\r\nabcde", b"AUTH PLAIN AAAA\r\n", b"STARTTLS\r\n", b"+OK\r\n", b"STAT\r\n"]
FLAGS = [16, 16, 16, 16, 24, 2, 18, 17, 4, 20, 0, 1, 48, 3, 41]  # SYN 2, SYN ACK 18, FIN ACK 17, RST 4, and odd ones
STEPS = [0, 1_000, 1_000_000, 100_000_000, 600_000_000, 2_000_000_000]
JUMPS = [-3_600_000_000_000, 90_000_000_000, -500_000_000]


def disorder(chance: random.Random, count: int) -> list[Frame]:
    """Segments of a few conversations: mostly as they should be, never for long."""
    frames, time = [], 10**18
    hosts = [host(n) for n in range(chance.choice([1, 3, 20]))]
    numbers: dict[tuple[bytes, bool], int] = {}
    for number in range(1, count + 1):
        time += chance.choice(STEPS if chance.random() < 0.97 else JUMPS)
        end, client = chance.choice(hosts), chance.random() < 0.5
        text, flags = chance.choice(TEXTS), chance.choice(FLAGS)
        due = numbers.get((end, client), 1000)
        sequence = due + (
            chance.choice([-1400, -1, 1, 5, 1400, 1 << 31, -(1 << 20), 3000]) if chance.random() < 0.12 else 0
        )
        answer = numbers.get((end, not client), 1000) + (chance.choice([1, 1400, -5]) if chance.random() < 0.1 else 0)
        ends = (end, B, (40000, 25)) if client else (B, end, (25, 40000))
        made = frame(number, time, *ends, sequence, flags, text, acknowledgement=answer & 0xFFFFFFFF)
        if chance.random() < 0.08:
            made = made._replace(data=made.data[: chance.randrange(14, len(made.data) + 1)])
        frames.append(made)
        if chance.random() < 0.9:
            numbers[end, client] = sequence + len(text) + (flags & 1) + (flags >> 1 & 1)
    return frames


def observed(frames: list[Frame], together: int) -> Record:
    analyzer, record = Analyzer(strict=True), Record()
    for start in range(0, len(frames), together):
        record.apply(analyzer.feed_all(frames[start : start + together]))
    for update in analyzer.finishing():
        record.apply(update)
    assert analyzer._tally.waiting.octets == 0
    return record


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 32), st.sampled_from([20, 100, 300]), st.sampled_from([7, 50, 1000]), st.booleans())
def test_frames_together_come_to_what_they_come_to_one_by_one(
    seed: int, count: int, together: int, small: bool
) -> None:
    frames = disorder(random.Random(seed), count)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            for name, value in (("WAITING", 20_000), ("OWED", 20_000), ("LOOK", 3000), ("HISTORIES", 20_000)):
                patch.setattr(limits, name, value)
            for name, value in (("OPEN", 12), ("REMEMBERED", 6), ("ALARMS", 8)):
                patch.setattr(limits, name, value)
            patch.setattr(stream, "HELD_PIECES", 30)
        one, many = observed(frames, 1), observed(frames, together)
    assert many.rows() == one.rows()
    assert many.conversations == one.conversations
    assert sorted(map(repr, many.notes)) == sorted(map(repr, one.notes))
    for facts in one.conversations:
        at = {Side.CLIENT: 0, Side.SERVER: 0}
        for row in sorted(one.rows(facts.ident), key=lambda row: row.offset):
            assert row.offset == at[row.side]
            at[row.side] += len(row.data) if isinstance(row, Line) else row.length
