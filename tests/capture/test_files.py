"""Capture files in, frames out: a table of awkward files, and whatever can be cut, joined or corrupted."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import shutil
import struct
import subprocess
import sys
import tracemalloc
from decimal import Decimal
from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.errors import BadCapture, CaptureError, UnreadableCapture
from capture.glossary import NOTES
from capture.model import Frame
from capture.sources import octets, packed
from capture.sources.files import read
from capture.sources.findings import COMMENT_OCTETS, DAMAGE, INTERFACES, NOTES_PER_KIND
from tests.capture.containers import CASES, FRAMES, MICRO, Case, Section, pcap, pcap_head

BY_NAME = {case.name: case for case in CASES}
READABLE = [case for case in CASES if case.error is None]


@pytest.fixture
def saved(tmp_path: Path):
    def save(content: bytes) -> Path:
        path = tmp_path / "a capture"
        path.write_bytes(content)
        return path

    return save


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_awkward_file_is_read_exactly_or_refused_with_one_sentence(case: Case, saved) -> None:
    path = saved(case.octets)
    if case.error is not None:
        with pytest.raises(case.error, match=case.words) as caught:
            read(path)
        assert caught.value.sentence.startswith(str(path))
        assert caught.value.sentence.endswith(".")
        assert "\n" not in caught.value.sentence
        return
    with read(path) as capture:
        assert list(capture) == case.frames()
        assert tuple(note.kind for note in capture.notes) == case.notes
        assert tuple(capture.comments) == case.comments


@pytest.mark.parametrize("case", READABLE, ids=[case.name for case in READABLE])
@pytest.mark.parametrize("gulp", [1, 7, 64])
def test_how_the_octets_arrive_changes_nothing(case: Case, gulp: int, saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(octets, "GULP", gulp)
    monkeypatch.setattr(octets, "SIP", gulp)
    with read(saved(case.octets), first_number=100) as capture:
        assert list(capture) == case.frames(first=100)
        assert tuple(note.kind for note in capture.notes) == case.notes


# Where tshark 4.0 gives other frames, times or lengths, and why ours stand.
TSHARK_DIFFERS = {
    "a record of 2 GiB": "it looks for a record behind it, and takes octets of a frame for one",
    "Ixia, nanoseconds": "it reads them as microseconds; its later versions do not",
    "bzip2": "it does not unpack it",
    "bzip2 of several members": "it does not unpack it",
    "bzip2 with something behind it": "it does not unpack it",
    "xz": "it does not unpack it",
    "xz of several members": "it does not unpack it",
    "gzip of several members": "zeros between two members end its unpacking",
    "ng, times in the far future": "it gives them as they are; here they fit 64 bits, with a note",
    "ng, times before the first": "it gives them as they are; here they fit 64 bits, with a note",
    "ng, simple packets": "no time is the time 0 here, with a note",
    "ng, simple packets and a snap length": "no time is the time 0 here, with a note",
    "ng, secrets, names, statistics, custom blocks": "a custom block is no frame here",
    "ng, a frame of no interface": "it ends there",
    "ng, a frame longer than its block": "it ends there",
}


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark")
def test_tshark_reads_the_same_frames_times_and_lengths(tmp_path: Path) -> None:
    differing = {}
    for number, case in enumerate(READABLE):
        path = tmp_path / f"{number}"
        path.write_bytes(case.octets)
        fields = ["-T", "fields", *(w for f in ("time_epoch", "len", "cap_len") for w in ("-e", f"frame.{f}"))]
        told = subprocess.run(["tshark", "-n", "-r", path, *fields], capture_output=True, text=True).stdout
        theirs = [tuple(line.split("\t")) for line in told.splitlines()]
        ours = [(f"{f.time // 10**9}.{f.time % 10**9:09}", f"{f.length}", f"{len(f.data)}") for f in case.frames()]
        if theirs != ours:
            differing[case.name] = (theirs[:7], ours[:7])
    assert set(differing) == set(TSHARK_DIFFERS), differing


@pytest.mark.parametrize("name", ["microseconds, little-endian", "ng, little-endian"])
def test_a_file_cut_anywhere_gives_the_whole_frames_in_front_of_the_cut(name: str, saved) -> None:
    whole = BY_NAME[name].octets
    every = BY_NAME[name].frames()
    seen = set()
    for end in range(28, len(whole)):
        with read(saved(whole[:end])) as capture:
            frames = list(capture)
        assert frames == every[: len(frames)]
        assert all(note.kind == "cut-file" for note in capture.notes)
        seen.add(len(frames))
    assert seen == set(range(6))


def test_the_link_type_and_the_name_are_known_before_the_first_frame_is_asked_for(saved) -> None:
    with read(saved(BY_NAME["ng, two interfaces of different link type and resolution"].octets)) as capture:
        assert capture.link == 1
        assert [(one.link, one.name) for one in capture.interfaces] == [(1, "eth0"), (101, "tun0")]
    with read(saved(BY_NAME["FCS length in the link type"].octets)) as capture:
        assert (capture.link, capture.interfaces[0].fcs) == (1, 4)
    with read(saved(BY_NAME["ng, no interface"].octets)) as capture:
        assert capture.link is None


def test_every_kind_of_damage_is_explained_in_the_glossary() -> None:
    assert set(NOTES) >= DAMAGE


@pytest.mark.parametrize(
    ("path", "words"),
    [("/proc/nonexistent/capture", "no such file"), ("/tmp", "a directory"), ("nul\0", "null")],
)
def test_what_cannot_be_opened_is_said_in_one_sentence(path: str, words: str) -> None:
    with pytest.raises(UnreadableCapture, match=words):
        read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so_and_how_to_mend_it(saved) -> None:
    path = saved(pcap())
    path.chmod(0)
    with pytest.raises(UnreadableCapture, match="permission denied") as caught:
        read(path)
    assert caught.value.remedy


def test_standard_input_is_read_as_it_comes() -> None:
    program = (
        "import sys\n"
        "from capture.sources.files import read\n"
        "with read('-') as capture:\n"
        "    for frame in capture:\n"
        "        print(frame.number, frame.time, len(frame.data), flush=True)\n"
    )
    whole, first = pcap(), 24 + 16 + len(FRAMES[0])
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "."},
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(whole[:first])
        child.stdin.flush()
        assert child.stdout.readline() == b"1 %d %d\n" % (MICRO[0], len(FRAMES[0]))  # while the pipe is still open
        child.stdin.write(whole[first:])
        child.stdin.close()
        assert child.stdout.read().splitlines()[-1] == b"6 %d %d" % (MICRO[5], len(FRAMES[5]))
    assert child.returncode == 0


def test_a_standard_input_that_is_no_pipe_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pcap())))
    with read("-") as capture:
        assert len(list(capture)) == 6


def test_a_million_bad_blocks_are_a_hundred_notes_and_a_count(saved) -> None:
    section = Section().interface()
    one = Section().frame(FRAMES[0], 0, interface=9).octets[len(Section().octets) :]
    with read(saved(section.octets + one * 5000)) as capture:
        assert list(capture) == []
    assert len(capture.notes) == NOTES_PER_KIND + 1
    assert capture.notes[-1].text == f"and {5000 - NOTES_PER_KIND} more notes of this kind"


def test_a_million_findings_of_any_kind_are_bounded(saved) -> None:
    section = Section()
    kinds = b"".join(struct.pack("<III", 0x10000 + n, 12, 12) for n in range(5_000))
    one = len(section.interface().octets)
    interfaces = section.interface().octets[one:] * 66_000
    comments = section.frame(b"x", 1, comments=[b""] * 1000).octets[one + 20 :]
    path = saved(section.octets[:one] + kinds + interfaces + comments * 140)
    tracemalloc.start()
    with read(path) as capture:
        assert len(list(capture)) == 140
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(capture.interfaces) == INTERFACES
    assert len(capture.comments) <= COMMENT_OCTETS // 128
    assert {note.kind for note in capture.notes} == {"unknown-block", "bad-record"}
    assert len(capture.notes) <= NOTES_PER_KIND + 4
    assert peak < 60 << 20


def test_many_small_sections_are_read_in_time(saved) -> None:
    one = Section().interface().frames(0, 1).octets
    with read(saved(one * 30_000)) as capture:
        assert sum(1 for _ in capture) == 30_000
    assert len(capture.interfaces) == 30_000


def test_a_large_file_is_never_in_memory_as_a_whole(saved) -> None:
    record = struct.pack("<4I", 1, 0, 1400, 1400) + bytes(1400)
    path = saved(pcap_head() + record * 20_000)
    assert path.stat().st_size > 28_000_000
    tracemalloc.start()
    try:
        with read(path) as capture:
            assert sum(1 for _ in capture) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 7_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["microseconds, little-endian", "ng, comments on the file and on frames"])
def test_flipped_octets_raise_nothing_but_our_own_errors(name: str, saved) -> None:
    whole, dice = BY_NAME[name].octets, random.Random(5321)
    for _ in range(1500):
        broken = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(len(broken))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        try:
            with read(saved(bytes(broken))) as capture:
                for frame in capture:
                    assert frame.length >= len(frame.data)
        except BadCapture:
            continue


@given(
    st.binary(max_size=300), st.sampled_from([b"", pcap_head(), pcap_head(">"), Section().octets, b"\x1f\x8b\x08\0"])
)
def test_whatever_the_octets_only_our_own_errors_come_out(tmp_path_factory, noise: bytes, head: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(head + noise)
    with contextlib.suppress(CaptureError), read(path) as capture:
        frames = list(capture)
        assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 999_999), st.binary(max_size=70)), max_size=12))
def test_dpkt_reads_the_same_frames_and_times(tmp_path_factory, records: list[tuple[int, int, bytes]]) -> None:
    content = pcap_head() + b"".join(struct.pack("<4I", s, us, len(d), len(d)) + d for s, us, d in records)
    path = tmp_path_factory.getbasetemp() / "oracle"
    path.write_bytes(content)
    with read(path) as capture:
        ours = [(frame.time, frame.data) for frame in capture]
    # dpkt keeps microseconds in a float, which is too short for them: its own integers are compared
    theirs = [(round(Decimal(time) * 10**6) * 1000, data) for time, data in dpkt.pcap.Reader(io.BytesIO(content))]
    assert [data for _, data in ours] == [data for _, data in theirs]
    assert all(abs(a - b) <= 1000 for (a, _), (b, _) in zip(ours, theirs, strict=True))


def test_a_capture_left_early_gives_its_file_back(saved) -> None:
    with read(saved(pcap())) as capture:
        assert isinstance(next(iter(capture)), Frame)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with read(saved(pcap())) as capture:
            next(iter(capture))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_standard_input_that_is_closed_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UnreadableCapture, match="standard input is closed"):
        read("-")


def test_a_damaged_gzip_gives_every_frame_in_front_of_the_damage(saved) -> None:
    frames = pcap_head() + b"".join(
        struct.pack("<4I", n, 0, 400, 400) + random.Random(n).randbytes(400) for n in range(2000)
    )
    whole = bytearray(gzip.compress(frames))
    for place in (len(whole) // 3, len(whole) // 2 + 1, len(whole) - 200):
        damaged = bytes(whole[:place]) + b"\xff\xff\xff\xff\xff" + bytes(whole[place + 5 :])
        counts = []
        for gulp in (0, 1 << 12):
            with read(saved(damaged), gulp=gulp) as capture:
                times = [frame.time // 10**9 for frame in capture]
            assert times[: place // 420] == list(range(place // 420))
            assert [note.kind for note in capture.notes][-1:] in (["cut-file"], ["bad-record"])
            counts.append(len(times))
        assert counts[0] == counts[1]


def test_zstd_is_refused_with_a_remedy_where_no_library_unpacks_it(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "ZSTD", ())
    with pytest.raises(BadCapture, match=r"'zstd -d' first, or add the package backports\.zstd"):
        read(saved(b"\x28\xb5\x2f\xfd" + bytes(30)))


@pytest.mark.skipif("zstd" not in [kind.name for kind in packed.kinds()], reason="no library for zstd: backports.zstd")
@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd to pack with")
def test_zstd_is_unpacked_where_there_is_a_library(saved) -> None:
    halves = [pcap()[:100], pcap()[100:]]
    members = [subprocess.run(["zstd", "-c"], input=half, capture_output=True, check=True).stdout for half in halves]
    for stream, notes in ((b"".join(members), 0), (b"".join(members)[:-4], 1), (b"".join(members) + b"junk", 1)):
        with read(saved(stream)) as capture:
            assert (
                list(capture)[: 5 + (1 - notes)] == BY_NAME["microseconds, little-endian"].frames()[: 5 + (1 - notes)]
            )
            assert len(capture.notes) == notes


def test_a_packed_file_is_never_in_memory_as_a_whole(saved) -> None:
    frame = struct.pack("<4I", 1, 1, 60_000, 60_000) + bytes(60_000)
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        path = saved(pack(pcap_head() + frame * 500))
        tracemalloc.start()
        with read(path) as capture:
            assert sum(1 for _ in capture) == 500
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20, pack  # xz keeps a dictionary of 8 MiB
