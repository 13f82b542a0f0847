"""Captures made to fill memory: ``python -m tests.capture.floods NAME FRAMES`` says how much it filled, in MiB.

Claim: the frames are made one after another and kept by nobody here, so what grows is the analyzer's.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

from capture.analyzer import Analyzer
from capture.model import ACK, FIN, RST, SYN, Frame, Update

A, B = bytes([192, 0, 2, 10]), bytes([192, 0, 2, 25])
TEXT = b"y" * 1400
MAC = bytes.fromhex("0200000000250200000000100800")


def host(number: int) -> bytes:
    return struct.pack(">I", 0x0A000000 + number)


def frame(
    number: int, time: int, source: bytes, destination: bytes, ports: tuple[int, int], sequence: int, flags: int,
    payload: bytes = b"", acknowledgement: int = 1, fragment: int = 0, ident: int = 1,
) -> Frame:  # fmt: skip
    """A frame without checksums, made as fast as may be."""
    total = 40 + len(payload)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, total, ident & 0xFFFF, fragment, 64, 6, 0, source, destination)
    tcp = struct.pack(">HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, acknowledgement, 0x50, flags, 64240, 0, 0)
    data = MAC + ip + tcp + payload
    return Frame(number, time, data, len(data))


def opened() -> Iterator[Frame]:
    yield frame(1, 1, A, B, (40000, 25), 0, SYN, acknowledgement=0)
    yield frame(2, 2, B, A, (25, 40000), 0, SYN | ACK)
    yield frame(3, 3, A, B, (40000, 25), 1, ACK)


def endless_line(frames: int) -> Iterator[Frame]:
    """A stream that never makes a line."""
    yield from opened()
    for n in range(frames):
        yield frame(n + 4, n * 1000 + 4, A, B, (40000, 25), 1 + n * 1400, ACK, TEXT)


def unanswered(frames: int) -> Iterator[Frame]:
    """Mail data of which nobody said that they were wanted."""
    yield from opened()
    yield frame(4, 4, A, B, (40000, 25), 1, ACK, b"DATA\r\n")
    lines = (b"x" * 68 + b"\r\n") * 20
    for n in range(frames):
        yield frame(n + 5, n * 1000 + 5, A, B, (40000, 25), 7 + n * 1400, ACK, lines)


def half_open(frames: int) -> Iterator[Frame]:
    for n in range(frames):
        yield frame(n + 1, n * 1000, host(n >> 8), B, (1024 + (n & 255), 25), 5, SYN, acknowledgement=0)


def refused(frames: int) -> Iterator[Frame]:
    """A scan: each SYN is answered by RST."""
    for n in range(frames // 2):
        ends = host(n >> 8), B, (1024 + (n & 255), 25)
        yield frame(2 * n + 1, n * 1000, *ends, 5, SYN, acknowledgement=0)
        yield frame(2 * n + 2, n * 1000, B, ends[0], ends[2][::-1], 0, RST | ACK, acknowledgement=6)


def unfinished(frames: int) -> Iterator[Frame]:
    """Conversations that end with something missing."""
    for n in range(frames // 2):
        ends = host(n >> 8), B, (1024 + (n & 255), 25)
        yield frame(2 * n + 1, n * 10, *ends, 5, SYN, acknowledgement=0)
        yield frame(2 * n + 2, n * 10, *ends, 600, FIN | ACK)


def one_hole(frames: int) -> Iterator[Frame]:
    """A hole that is never filled and that nobody acknowledges."""
    yield from opened()
    for n in range(frames):
        yield frame(n + 4, n * 1000 + 4, A, B, (40000, 25), 1001 + n * 1400, ACK, TEXT)


def many_holes(frames: int) -> Iterator[Frame]:
    """The same in many conversations at once."""
    each = 40
    for n in range(frames // each):
        yield frame(n + 1, n, host(n), B, (40000, 25), 0, SYN, acknowledgement=0)
    for n in range(frames):
        turn, which = divmod(n, frames // each)
        yield frame(n, frames + n, host(which), B, (40000, 25), 1001 + turn * 1400, ACK, TEXT)


def busy(frames: int) -> Iterator[Frame]:
    """Many conversations that say much, in lines, and never end."""
    many, lines = 1500, (b"NOOP " + b"x" * 63 + b"\r\n") * 20
    for n in range(frames):
        turn, which = divmod(n, many)
        yield frame(n, n * 1000, host(which), B, (40000, 7000), 1 + turn * 1400, ACK, lines)


def headers_only(frames: int) -> Iterator[Frame]:
    """A hole, and then segments of which the snap length left the headers."""
    for one in one_hole(frames):
        yield one._replace(data=one.data[:54])


def again_and_again(frames: int) -> Iterator[Frame]:
    yield from opened()
    for n in range(frames):
        yield frame(n + 4, n * 1000 + 4, A, B, (40000, 25), 1, ACK, b"NOOP\r\n")


def fragments(frames: int) -> Iterator[Frame]:
    """First fragments of datagrams that never come whole."""
    for n in range(frames):
        yield frame(n + 1, n * 1000, host(n >> 16), B, (40000, 25), 1, ACK, TEXT, fragment=0x2000, ident=n)


def middles(frames: int) -> Iterator[Frame]:
    """One segment each of conversations that nobody saw begin."""
    for n in range(frames):
        yield frame(n + 1, n, host(n >> 8), B, (1024 + (n & 255), 7000), 1, ACK, TEXT)


FLOODS: dict[str, Callable[[int], Iterator[Frame]]] = {
    made.__name__: made
    for made in (
        endless_line, unanswered, half_open, refused, unfinished, one_hole, many_holes, headers_only, again_and_again,
        fragments, middles, busy,
    )
}  # fmt: skip


def peak() -> int:
    """The most memory that the process had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def run(name: str, frames: int) -> dict[str, object]:
    """Feed a flood in batches, keep nothing, tell what came."""
    analyzer, kinds, octets, before = Analyzer(strict=True), Counter[str](), 0, peak()

    def count(update: Update) -> int:
        kinds.update(note.kind for note in update.notes)
        return sum(len(line.data) for line in update.lines) + sum(gap.length for gap in update.gaps)

    source = FLOODS[name](frames)
    while batch := list(islice(source, 500)):
        octets += count(analyzer.feed_all(batch))
    for update in analyzer.finishing():
        octets += count(update)
    return {"grown": peak() - before, "notes": kinds, "octets": octets}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]))))
