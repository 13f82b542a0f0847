"""Runs of content: the plain lines of mail data, kept as one value until somebody wants them one by one.

Claim: `lines` gives exactly the lines that the analyzer would have given without runs, and every way of cutting a run
gives the same lines again. Nearly every line of a capture of mail is one of these; who handles them a run at a time
(`capture.export.jsonl`) handles a capture ten times faster.
"""

from __future__ import annotations

from capture.data.smtp import LIMITS
from capture.model import Layer, Line, Role, Run, Span

LONGEST = LIMITS["text_line"]  # a longer line has a flag, hence is not plain (RFC 5321 4.5.3.1.6)

_UD = Role.USER_DATA
_line = tuple.__new__  # twice as fast as Line(…), which checks nothing either


def _spans(length: int) -> tuple[Span, ...]:
    stop = length - 2
    content = (Span(0, stop, _UD, "content"),) if stop else ()
    return (*content, Span(stop, length, _UD, "line-end"))


_PLAIN = ((), (), *map(_spans, range(2, LONGEST + 1)))


def plain(length: int) -> tuple[Span, ...]:
    """The spans of a plain line of so many octets, its CRLF included: 2 to `LONGEST`."""
    return _PLAIN[length]


def no_odd_octet(block: bytes, eight_bit: bool) -> bool:
    """Whether CR and LF stand in no other place than in CRLF, and there is no NUL and no 8-bit octet unless allowed."""
    ends = block.count(b"\n")
    return block.count(b"\r") == ends == block.count(b"\r\n") and (eight_bit or block.isascii()) and b"\0" not in block


def first_odd(block: bytes) -> int:
    """Where the first line that is not plain begins, among lines that end in CRLF and hold no odd octet.

    Such a line begins with a dot or is longer than `LONGEST`. ``len(block)`` when there is none.
    """
    size = len(block)
    dot = 0 if block[:1] == b"." else block.find(b"\n.") + 1 or size
    at = 0
    while dot - at > LONGEST:
        # The last line end within reach of a line's start: every line up to there is short enough.
        found = block.rfind(b"\n", at, at + LONGEST)
        if found < 0:
            return at
        at = found + 1
    return dot


def lines(run: Run) -> list[Line]:
    """The lines of a run, in order."""
    conversation, side, number, offset, data, pdu, flags, _, frames, time, order = run
    made: list[Line] = []
    for octets in data.splitlines(True):
        size = len(octets)
        row = (conversation, side, number, offset, octets, pdu, _PLAIN[size], flags, False, Layer.APPLICATION,
               frames, time, order)  # fmt: skip
        made.append(_line(Line, row))
        number += 1
        offset += size
        order += size
    return made


def last(run: Run) -> Line:
    """Its last line."""
    return lines(cut(run, run.total - 1)[1])[0]


def last_offset(run: Run) -> int:
    """The stream offset of its last line."""
    data = run.data
    return run.offset + data.rfind(b"\n", 0, len(data) - 1) + 1


def cut(run: Run, count: int) -> tuple[Run, Run]:
    """The first ``count`` lines (0 to all of them) and the rest."""
    data, at = run.data, 0
    if count > run.total // 2:
        at = len(data)
        for _ in range(run.total - count):
            at = data.rfind(b"\n", 0, at - 1) + 1
    else:
        for _ in range(count):
            at = data.index(b"\n", at) + 1
    return (
        run._replace(data=data[:at], total=count),
        run._replace(
            number=run.number + count,
            offset=run.offset + at,
            data=data[at:],
            total=run.total - count,
            order=run.order + at,
        ),
    )
