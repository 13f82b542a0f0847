"""Awkward capture files, made octet by octet: each case says what must come out of it.

Claim: the frames and their times are known before any file is made, so a reader is judged by what was put in, not by
another reader. `CASES` is the table.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from capture.errors import BadCapture, CaptureError
from capture.model import Frame

T0 = 1_790_000_000
TIMES = [T0 * 10**9 + i * 1_000_000_123 for i in range(6)]
MICRO = [time // 1000 * 1000 for time in TIMES]
BEYOND = [time // 10**9 * 10**9 + time % 10**9 * 1000 for time in TIMES]  # nanoseconds written for microseconds
PACKETS = [bytes([0x45, 0, 0, 20 + n]) + bytes(range(n)) for n in (16, 17, 18, 19, 20, 60)]  # every padding 0 to 3
FRAMES = [b"\x02\0\0\0\0\x25\x02\0\0\0\0\x10\x08\0" + packet for packet in PACKETS]


def pcap_head(order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1, snap: int = 262144, minor: int = 4) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, minor, 0, 0, snap, link)


def records(order: str, extra: bytes = b"", unit: int = 1000) -> bytes:
    """The six frames as records that have ``extra`` between header and frame."""
    return b"".join(
        struct.pack(order + "4I", time // 10**9, time % 10**9 // unit, len(frame), len(frame)) + extra + frame
        for time, frame in zip(TIMES, FRAMES, strict=True)
    )


def pcap(order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1, cut: int = 1 << 20) -> bytes:
    unit = 1 if magic == 0xA1B23C4D else 1000
    extra = struct.pack(order + "IHBB", 2, 0x800, 0, 0) if magic == 0xA1B2CD34 else b""
    out = [pcap_head(order, magic, link, min(cut, 262144))]
    for time, frame in zip(TIMES, FRAMES, strict=True):
        kept = frame[:cut]
        out += [struct.pack(order + "4I", time // 10**9, time % 10**9 // unit, len(kept), len(frame)), extra, kept]
    return b"".join(out)


class Section:
    """One pcapng section under construction, in one byte order."""

    def __init__(self, order: str = "<", options: bytes = b"", version: int = 1) -> None:
        self.order = order
        self.octets = b""
        self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, version, 0, -1) + options)

    def pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self.order + form, *values)

    def block(self, kind: int, body: bytes) -> Section:
        body += bytes(-len(body) % 4)
        total = 12 + len(body)
        self.octets += self.pack("II", kind, total) + body + self.pack("I", total)
        return self

    def option(self, code: int, value: bytes) -> bytes:
        return self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4)

    def interface(
        self, link: int = 1, resolution: int | None = None, offset: int | None = None, snap: int = 0, name: bytes = b""
    ) -> Section:
        options = self.option(2, name) if name else b""
        if resolution is not None:
            options += self.option(9, bytes([resolution]))
        if offset is not None:
            options += self.option(14, self.pack("q", offset))
        return self.block(1, self.pack("HHI", link, 0, snap) + (options + bytes(4) if options else b""))

    def frame(self, data: bytes, ticks: int, interface: int = 0, comments: Sequence[bytes] = ()) -> Section:
        options = b"".join(self.option(1, comment) for comment in comments) + (bytes(4) if comments else b"")
        head = self.pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(6, head + data + bytes(-len(data) % 4) + options)

    def frames(self, first: int = 0, last: int = 6, unit: int = 1000, comments: Sequence[bytes] = ()) -> Section:
        for data, time in list(zip(FRAMES, TIMES, strict=True))[first:last]:
            self.frame(data, time // unit, comments=comments)
        return self


@dataclass(frozen=True)
class Case:
    """A file and what reading it gives: frames with their times, kinds of notes, comments; or an error's words."""

    name: str
    octets: bytes
    times: Sequence[int] = ()
    data: Sequence[bytes] = ()
    lengths: Sequence[int] = ()
    links: Sequence[int] = ()
    interfaces: Sequence[int] = ()
    notes: tuple[str, ...] = ()
    comments: tuple[tuple[int, str], ...] = ()
    error: type[CaptureError] | None = None
    words: str = ""

    def frames(self, first: int = 1) -> list[Frame]:
        lengths = self.lengths or [len(data) for data in self.data]
        links = self.links or [1] * len(self.data)
        interfaces = self.interfaces or [0] * len(self.data)
        rows = zip(count(first), self.times, self.data, lengths, links, interfaces, strict=False)
        return [Frame(*row) for row in rows]


# The head of an xz stream whose dictionary is 4 GiB: filter flags 40 (0x28) instead of what it needs, checksum mended.
_XZ = bytearray(lzma.compress(bytes(100), check=lzma.CHECK_NONE))
_XZ[16] = 40
_XZ[20:24] = struct.pack("<I", zlib.crc32(bytes(_XZ[12:20])))
XZ_GREEDY = bytes(_XZ)


def good(
    name: str, octets: bytes, times: Sequence[int] = MICRO, data: Sequence[bytes] = FRAMES, *notes: str, **rest: object
) -> Case:
    return Case(name, octets, times, data, notes=notes, **rest)  # type: ignore[arg-type]


def bad(name: str, octets: bytes, words: str) -> Case:
    return Case(name, octets, error=BadCapture, words=words)


def classic() -> list[Case]:
    whole, sixty = pcap(), [frame[:30] for frame in FRAMES]
    absurd = bytearray(whole)
    struct.pack_into("<I", absurd, 24 + 16 + len(FRAMES[0]) + 8, 0x7FFFFFFF)
    swapped = pcap_head(minor=2) + b"".join(
        struct.pack("<4I", time // 10**9, time % 10**9 // 1000, len(frame) + 5, len(frame)) + frame
        for time, frame in zip(TIMES, FRAMES, strict=True)
    )
    return [
        good("microseconds, little-endian", whole),
        good("microseconds, big-endian", pcap(">")),
        good("nanoseconds, little-endian", pcap(magic=0xA1B23C4D), TIMES),
        good("nanoseconds, big-endian", pcap(">", 0xA1B23C4D), TIMES),
        good("Kuznetzov's longer records, little-endian", pcap(magic=0xA1B2CD34)),
        good("Kuznetzov's longer records, big-endian", pcap(">", 0xA1B2CD34)),
        good("cut by a snap length", pcap(cut=30), MICRO, sixty, lengths=[len(frame) for frame in FRAMES]),
        good("FCS length in the link type", pcap(link=1 | 0x04000000 | 2 << 28)),
        good("raw IP as link type", pcap(link=101), links=[101] * 6),
        good("lengths the other way round before 2.3", swapped, lengths=[len(frame) + 5 for frame in FRAMES]),
        good("cut inside a record's data", whole[:-10], MICRO[:5], FRAMES[:5], "cut-file"),
        good("cut inside a record's header", whole[: -len(FRAMES[-1]) - 9], MICRO[:5], FRAMES[:5], "cut-file"),
        good("cut before a record", whole[: -len(FRAMES[-1]) - 16], MICRO[:5], FRAMES[:5]),
        good("header only", whole[:24], [], []),
        good("a record of 2 GiB", bytes(absurd), MICRO[:1], FRAMES[:1], "bad-record"),
        *(
            good(f"the patch of 1999-04-17, {o}", pcap_head(o) + records(o, bytes([2, 0, 0, 0, 8, 0, 0, 0])))
            for o in "<>"
        ),
        *(good(f"the patch of 1999-09-15, {o}", pcap_head(o, 0xA1B2CD34) + records(o, bytes(12))) for o in "<>"),
        *(good(f"Nokia's records, {o}", pcap_head(o) + records(o, b"\1\2\3\4")) for o in "<>"),
        good("AIX: interface types and nanoseconds", pcap_head(">", link=6, minor=2) + records(">", unit=1), TIMES),
        good("Ixia, nanoseconds", pcap_head(magic=0x1C0001AC) + bytes(4) + records("<", unit=1), TIMES),
        good("Ixia, microseconds", pcap_head(">", 0x1C0001AB) + bytes(4) + records(">")),
        good("DG/UX's version 543.0", struct.pack(">IHHiIII", 0xA1B2C3D4, 543, 0, 0, 0, 96, 1) + records(">")),
        good("times that are beyond their second", pcap_head() + records("<", unit=1), BEYOND),
        good("bzip2", bz2.compress(whole)),
        good("bzip2 of several members", bz2.compress(whole[:100]) + bz2.compress(whole[100:])),
        good("bzip2 with something behind it", bz2.compress(whole) + b"junk", MICRO, FRAMES, "cut-file"),
        good("xz", lzma.compress(whole)),
        good("xz of several members", lzma.compress(whole[:100]) + bytes(4) + lzma.compress(whole[100:])),
        good("gzip", gzip.compress(whole)),
        good("gzip of several members", gzip.compress(whole[:100]) + bytes(7) + gzip.compress(whole[100:])),
        good("gzip cut short", gzip.compress(whole)[:-4], MICRO, FRAMES, "cut-file"),
        good("gzip with something behind it", gzip.compress(whole) + b"junk", MICRO, FRAMES, "cut-file"),
    ]


def next_generation() -> list[Case]:
    micro = Section().interface().frames()
    comment = Section("<").option(1, b"of the file")
    both = Section().interface(1, 6, name=b"eth0").interface(101, 9, name=b"tun0")
    late = Section().interface(1, 6).frame(FRAMES[0], TIMES[0] // 1000).interface(101, 9)
    unknown = Section().interface()
    for i, (frame, time) in enumerate(zip(FRAMES, TIMES, strict=True)):
        if i % 2:
            both.frame(PACKETS[i], time, 1)
        else:
            both.frame(frame, time // 1000, 0)
        if i:
            late.frame(PACKETS[i], time, 1)
        unknown.frame(frame, time // 1000, 7 if i == 2 else 0)
    mixed = [PACKETS[i] if i % 2 else FRAMES[i] for i in range(6)]
    simple, snapped, obsolete = Section().interface(), Section().interface(snap=30), Section().interface()
    for i, (frame, time) in enumerate(zip(FRAMES, TIMES, strict=True)):
        simple.block(3, simple.pack("I", len(frame)) + frame)
        snapped.block(3, simple.pack("I", len(frame)) + frame[:30])
        ticks = divmod(time // 1000, 1 << 32)
        obsolete.block(2, obsolete.pack("HHIIII", 0, i, *ticks, len(frame), len(frame)) + frame)
    others = Section().block(10, simple.pack("II", 0x544C534B, 20) + b"CLIENT_RANDOM 00 11\n").interface()
    others.block(4, simple.pack("HH", 1, 12) + b"\x7f\0\0\1shannon\0" + bytes(4)).frames()
    others.block(5, simple.pack("III", 0, 0, 0) + simple.option(5, bytes(8)) + bytes(4)).block(0x0BAD, b"PEN!custom")
    third = list(zip(FRAMES, TIMES, strict=True))[5]
    last = len(Section().frame(third[0], third[1] // 1000).octets) - len(Section().octets)
    endless = Section().block(1, simple.pack("HHI", 1, 0, 0) + simple.option(9, b"\6")).frames()
    overrun = Section().interface().block(6, simple.pack("IIIII", 0, 0, 0, 4000, 4000) + FRAMES[0]).frames()
    power = [(time << 30) // 10**9 for time in TIMES]
    binary = Section().interface(resolution=0x80 | 30)
    pico = Section().interface(resolution=12, offset=T0)
    for frame, time, ticks in zip(FRAMES, TIMES, power, strict=True):
        binary.frame(frame, ticks)
        pico.frame(frame, (time - T0 * 10**9) * 1000 + 999)
    offset = Section().interface(resolution=9, offset=T0)
    before = Section().interface(resolution=9, offset=-1)
    far, early = Section().interface(resolution=0), Section().interface(resolution=9, offset=-(2**62))
    mended, fits = Section().interface(resolution=0, offset=-(2**33)), Section().interface(resolution=9)
    for n, (frame, time) in enumerate(zip(FRAMES, TIMES, strict=True)):
        far.frame(frame, 2**64 - 6 + n)
        early.frame(frame, n)
        fits.frame(frame, 2**63 - 6 + n)
        mended.frame(frame, time // 10**9 + 2**33)
    for frame, time in zip(FRAMES, TIMES, strict=True):
        offset.frame(frame, time - T0 * 10**9)
        before.frame(frame, time + 10**9)
    return [
        good("ng, little-endian", micro.octets),
        good("ng, big-endian", Section(">").interface().frames().octets),
        good("ng, nanoseconds", Section().interface(resolution=9).frames(unit=1).octets, TIMES),
        good("ng, 2^-30 seconds", binary.octets, [ticks * 10**9 >> 30 for ticks in power]),
        good("ng, picoseconds from an offset", pico.octets, TIMES),
        good("ng, an offset", offset.octets, TIMES),
        good("ng, times in the far future", far.octets, [2**63 - 1] * 6, FRAMES, "no-time"),
        good("ng, times before the first", early.octets, [-(2**63)] * 6, FRAMES, "no-time"),
        good(
            "ng, an offset beyond 64 bits that the ticks make good",
            mended.octets,
            [time // 10**9 * 10**9 for time in TIMES],
        ),
        good("ng, the last ticks that fit", fits.octets, [2**63 - 1 - (5 - n) for n in range(6)]),
        good("ng, a negative offset", before.octets, TIMES),
        good(
            "ng, two sections of different resolution",
            Section().interface(resolution=6).frames(0, 3).octets
            + Section().interface(resolution=9).frames(3, 6, unit=1).octets,
            MICRO[:3] + TIMES[3:],
            interfaces=[0, 0, 0, 1, 1, 1],
        ),
        good(
            "ng, two sections of different byte order",
            Section().interface().frames(0, 3).octets + Section(">").interface().frames(3, 6).octets,
            interfaces=[0, 0, 0, 1, 1, 1],
        ),
        good(
            "ng, two interfaces of different link type and resolution",
            both.octets,
            [TIMES[i] if i % 2 else MICRO[i] for i in range(6)],
            mixed,
            links=[1, 101] * 3,
            interfaces=[0, 1] * 3,
        ),
        good(
            "ng, an interface described after a frame",
            late.octets,
            MICRO[:1] + TIMES[1:],
            [FRAMES[0], *PACKETS[1:]],
            links=[1] + [101] * 5,
            interfaces=[0] + [1] * 5,
        ),
        good(
            "ng, comments on the file and on frames",
            Section("<", comment + bytes(4)).interface().frames(0, 1, comments=["PDU é".encode(), b"two"]).octets,
            MICRO[:1],
            FRAMES[:1],
            comments=((0, "of the file"), (1, "PDU é"), (1, "two")),
        ),
        good(
            "ng, a comment that is not UTF-8",
            Section().interface().frames(comments=[b"caf\xe9"]).octets,
            comments=tuple((n, r"caf\xe9") for n in range(1, 7)),
        ),
        good("ng, simple packets", simple.octets, [0] * 6, FRAMES, "no-time"),
        good(
            "ng, simple packets and a snap length",
            snapped.octets,
            [0] * 6,
            [frame[:30] for frame in FRAMES],
            "no-time",
            lengths=[len(frame) for frame in FRAMES],
        ),
        good("ng, obsolete packets", obsolete.octets),
        good("ng, secrets, names, statistics, custom blocks", others.octets),
        good(
            "ng, an unknown block",
            Section().interface().block(0x7777, b"?").frames().block(0x7777, b"").octets,
            MICRO,
            FRAMES,
            "unknown-block",
        ),
        good("ng, cut inside a block's data", micro.octets[:-10], MICRO[:5], FRAMES[:5], "cut-file"),
        good("ng, cut inside a block's header", micro.octets[: 5 - last], MICRO[:5], FRAMES[:5], "cut-file"),
        good("ng, no interface", Section().octets, [], []),
        good("ng, options without an end mark", endless.octets),
        good("ng, a block of length 0", micro.octets + bytes([6, *bytes(31)]), MICRO, FRAMES, "bad-record"),
        good("ng, a block of 2 GiB", micro.octets + b"\6\0\0\0\0\0\0\x7f", MICRO, FRAMES, "cut-file"),
        good(
            "ng, a block of 2 GiB and more behind it",
            micro.octets + b"\6\0\0\0\0\0\0\x7f" + bytes(40),
            MICRO,
            FRAMES,
            "bad-record",
        ),
        good(
            "ng, a frame of no interface",
            unknown.octets,
            MICRO[:2] + MICRO[3:],
            FRAMES[:2] + FRAMES[3:],
            "bad-record",
        ),
        good("ng, a frame longer than its block", overrun.octets, MICRO, FRAMES, "bad-record"),
        good("ng, ends in another length", others.octets[:-4] + b"\1\0\0\0", MICRO, FRAMES, "bad-record"),
        good(
            "ng, a second section of version 2",
            micro.octets + Section(version=2).interface().frames().octets,
            MICRO,
            FRAMES,
            "bad-record",
        ),
        good("ng, gzip", gzip.compress(micro.octets)),
    ]


def refused() -> list[Case]:
    return [
        bad("nothing", b"", "is empty"),
        bad("nothing in gzip", gzip.compress(b""), "is empty"),
        bad("10 octets of pcap", pcap()[:10], "cut inside its file header: 10 of 24"),
        bad("pcap of version 1", b"\xd4\xc3\xb2\xa1\1\0" + pcap()[6:], "version 1.4"),
        bad("20 octets of pcapng", Section().octets[:20], "cut inside its first section header"),
        bad("pcapng without byte order", b"\x0a\x0d\x0d\x0a" + bytes(40), "gives no byte order"),
        bad("pcapng of version 2", Section(version=2).octets, "version 2"),
        bad("text", b"220 shannon ready\r\n" * 40, "is not a capture but text"),
        bad("text in gzip", gzip.compress(b"220 shannon ready\r\n" * 40), "once unpacked, is not a capture but text"),
        bad("a gzip in a gzip", gzip.compress(gzip.compress(pcap())), "a gzip inside a gzip"),
        bad("a damaged gzip", b"\x1f\x8b" + bytes(30), "cannot be unpacked: the gzip stream is damaged"),
        bad("lz4", b"\x04\x22\x4d\x18" + bytes(30), "'lz4 -d'"),
        bad("a bzip2 in a bzip2", bz2.compress(bz2.compress(pcap())), "bzip2 twice"),
        bad("an xz that asks for 4 GiB", XZ_GREEDY, "cannot be unpacked"),
        bad("a NetXray file", b"XCP\0" + bytes(30), "NetXray"),
        bad("snoop", b"snoop\0\0\0" + bytes(30), "Solaris snoop"),
        bad("noise", bytes(range(1, 200)), "begins with 01 02 03 04"),
        bad("two octets", b"\1\2", "has only 2 octets"),
    ]


CASES = [*classic(), *next_generation(), *refused()]
