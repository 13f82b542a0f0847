"""Several files as one capture: in order of time, numbered on, whatever order they are named in."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.analyzer import Analyzer
from capture.errors import BadCapture, UnreadableCapture
from capture.model import Frame
from capture.record import Record
from capture.sources import several
from capture.sources.files import read
from capture.sources.several import Captures, read_all
from tests.capture.containers import MICRO, Section, pcap, pcap_head
from tests.capture.forge import C, S, Wire

SECOND = 1_000_000_000


def octets_of(rows: Sequence[tuple[int, bytes]]) -> bytes:
    """A pcap file of frames with these times (s) and octets."""
    return pcap_head() + b"".join(struct.pack("<4I", time, 0, len(data), len(data)) + data for time, data in rows)


def recorded(frames: Sequence[Frame]) -> bytes:
    return pcap_head() + b"".join(
        struct.pack("<4I", f.time // SECOND, f.time % SECOND // 1000, len(f.data), f.length) + f.data for f in frames
    )


@pytest.fixture
def saved(tmp_path: Path):
    def save(*contents: bytes) -> list[Path]:
        paths = [tmp_path / f"{number}.pcap" for number, _ in enumerate(contents, 1)]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return paths

    return save


def told(captures: Captures) -> list[tuple[int, int, bytes]]:
    with captures:
        return [(frame.number, frame.time // SECOND, frame.data) for frame in captures]


ROTATED = [[(1, b"a"), (2, b"b")], [(2, b"c"), (5, b"d")], [(7, b"e")]]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_rotated_capture_is_one_capture_in_whatever_order_its_files_are_named(order: tuple[int, ...], saved) -> None:
    paths = saved(*(octets_of(rows) for rows in ROTATED))
    frames = told(read_all([paths[n] for n in order]))
    assert [time for _, time, _ in frames] == [1, 2, 2, 5, 7]
    assert [number for number, _, _ in frames] == [1, 2, 3, 4, 5]
    # Of equal time, frames keep the order of the files as named.
    assert [data for _, _, data in frames][1:3] == ([b"b", b"c"] if order.index(0) < order.index(1) else [b"c", b"b"])


def test_files_that_overlap_are_merged_by_time(saved) -> None:
    paths = saved(
        octets_of([(1, b"a"), (4, b"b"), (6, b"c")]), octets_of([(2, b"d"), (5, b"e")]), octets_of([(3, b"f")])
    )
    assert b"".join(data for _, _, data in told(read_all(paths))) == b"adfbec"


def test_frames_of_one_file_keep_their_order_when_its_clock_steps_back(saved) -> None:
    paths = saved(octets_of([(5, b"a"), (1, b"b"), (6, b"c")]), octets_of([(4, b"d"), (7, b"e")]))
    assert b"".join(data for _, _, data in told(read_all(paths))) == b"dabce"


def test_numbers_begin_where_they_are_told_to(saved) -> None:
    paths = saved(octets_of(ROTATED[0]), octets_of(ROTATED[2]))
    assert [number for number, _, _ in told(read_all(paths, first_number=10))] == [10, 11, 12]


def test_one_file_is_read_as_by_read(saved) -> None:
    (path,) = saved(Section().interface(name=b"eth0").frames(comments=[b"x"]).octets)
    with read(path) as alone, read_all([path]) as captures:
        assert (captures.link, captures.interfaces) == (alone.link, alone.interfaces)
        assert list(captures) == list(alone)
        assert (captures.comments, captures.interfaces) == (alone.comments, alone.interfaces)
        assert captures.notes == []


def test_notes_say_which_file_and_count_its_own_records(saved) -> None:
    paths = saved(octets_of(ROTATED[0]), octets_of([*ROTATED[1], *ROTATED[2]])[:-1], octets_of([(9, b"x")])[:-1])
    with read_all(paths) as captures:
        assert len(list(captures)) == 4
    assert [(note.kind, note.text) for note in captures.notes] == [
        (
            "cut-file",
            f"{paths[2]}: the file ends inside record 1, 16 octets into it",
        ),  # it has no frame: it comes first
        ("cut-file", f"{paths[1]}: the file ends inside record 3, 16 octets into it"),
    ]


@pytest.mark.parametrize("both", [0, 3], ids=["one after the other", "overlapping"])
def test_comments_stay_with_their_frames(both: int, saved) -> None:
    second = Section().interface()
    for time in (MICRO[5] + SECOND, MICRO[5] + 2 * SECOND):
        second.frame(b"late %d" % time, (time - both * SECOND) // 1000, comments=[b"on %d" % time])
    paths = saved(second.octets, Section().interface().frames(comments=[b"early"]).octets)
    with read_all(paths) as captures:
        data = {frame.number: frame.data for frame in captures}
    assert len(captures.comments) == 8
    for comment in captures.comments:
        assert data[comment.frame].startswith(b"late") == comment.text.startswith("on")
        assert comment.text == "early" or comment.text[3:].encode() in data[comment.frame]


def test_interfaces_of_a_rotated_capture_are_the_same_and_others_are_others(saved) -> None:
    eth, tun = (1, b"eth0"), (101, b"tun0")

    def file(first: int, *interfaces: tuple[int, bytes]) -> bytes:
        section = Section()
        for link, name in interfaces:
            section.interface(link, name=name)
        for n in range(4):
            section.frame(bytes([n]), MICRO[0] // 1000 + first + n, n % len(interfaces))
        return section.octets

    paths = saved(file(0, eth), file(10, eth, eth), file(20, tun, eth), file(22, tun))
    with read_all(paths) as captures:
        rows = [(frame.link, captures.interfaces[frame.interface]) for frame in captures]
    assert [(one.link, one.name) for one in captures.interfaces] == [(1, "eth0"), (1, "eth0"), (101, "tun0")]
    assert all(link == interface.link for link, interface in rows)
    assert len(rows) == 16


def test_a_file_given_twice_is_refused_whatever_it_is_called(saved, tmp_path: Path) -> None:
    (path,) = saved(octets_of(ROTATED[0]))
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(BadCapture, match=r"is given twice; each of its frames would count twice\."):
        read_all([path, path])
    with pytest.raises(BadCapture, match=r"link is given twice, as .*1\.pcap too"):
        read_all([path, tmp_path / "link"])
    with pytest.raises(BadCapture, match="- is given twice"):
        read_all(["-", path, "-"])


def test_a_file_that_is_no_capture_is_told_before_any_frame_is_given(saved) -> None:
    paths = saved(octets_of(ROTATED[0]), b"220 this is text\r\n")
    with pytest.raises(BadCapture, match=r"2\.pcap is not a capture but text"):
        read_all(paths)
    with pytest.raises(UnreadableCapture, match="no such file"):
        read_all([paths[0], "/proc/nonexistent/capture"])


def test_files_without_frames_say_what_they_say(saved) -> None:
    paths = saved(octets_of(ROTATED[0]), pcap_head(), pcap_head() + b"\1\2\3")
    with read_all(paths) as captures:
        assert [frame.number for frame in captures] == [1, 2]
    assert [note.kind for note in captures.notes] == ["cut-file"]
    with read_all(paths[1:]) as captures:
        assert list(captures) == []


def test_many_files_are_never_open_at_once(saved) -> None:
    paths = saved(*(octets_of([(n, bytes([n % 256]))]) for n in range(1, 400)))
    deepest, before = 0, len(os.listdir("/proc/self/fd"))
    with read_all(paths[::-1]) as captures:
        for number, frame in enumerate(captures, 1):
            assert (frame.number, frame.time) == (number, number * SECOND)
            deepest = max(deepest, len(os.listdir("/proc/self/fd")) - before)
    assert deepest <= 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_too_many_that_overlap_are_refused(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "OPEN", 3)
    paths = saved(*(octets_of([(n, b"x"), (9, b"y")]) for n in range(4)))
    assert len(told(read_all(paths[1:]))) == 6
    with pytest.raises(BadCapture, match="More than 3 of these files overlap in time"):
        told(read_all(paths))


def test_standard_input_and_pipes_may_be_among_them(saved, tmp_path: Path) -> None:
    first, second = saved(octets_of([(1, b"a"), (4, b"b")]), gzip.compress(octets_of([(3, b"c"), (5, b"d")])))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=[octets_of([(2, b"e"), (6, b"f")])])
    writer.start()
    code = "import sys; from capture.sources.several import read_all\n"
    code += "with read_all(sys.argv[1:]) as c: print(b''.join(f.data for f in c).decode(), *(f.number for f in c))"
    ran = subprocess.run(
        [sys.executable, "-c", code, fifo, "-", second], input=first.read_bytes(), capture_output=True, check=True
    )
    writer.join()
    assert ran.stdout == b"aecbdf\n"


def test_left_early_every_file_is_given_back(saved) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with read_all(saved(pcap(), pcap(">"))) as captures:
        next(iter(captures))
        assert len(os.listdir("/proc/self/fd")) == before + 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_session_that_was_captured_in_several_files_gives_the_lines_of_one(saved) -> None:
    wire = Wire()
    frames = [
        *wire.open(),
        wire.say(S, b"220 mx\r\n"),
        wire.say(C, b"EHLO pc\r\n"),
        wire.say(S, b"250-mx\r\n250 OK\r\n"),
    ]
    frames += [wire.say(C, b"QUIT\r\n"), wire.say(S, b"221 bye\r\n"), *wire.close()]
    whole, *parts = saved(recorded(frames), recorded(frames[5:8]), recorded(frames[:5]), recorded(frames[8:]))

    def lines(paths: list[Path]) -> list[object]:
        analyzer, record = Analyzer(strict=True), Record()
        with read_all(paths) as captures:
            for frame in captures:
                record.apply(analyzer.feed(frame))
        record.apply(analyzer.finish())
        return record.rows()

    assert lines(parts) == lines([whole])
    assert len(lines([whole])) == 6


@given(st.lists(st.lists(st.integers(0, 40), max_size=12).map(sorted), min_size=2, max_size=5), st.integers(1, 3))
def test_whatever_the_times_the_order_is_that_of_a_stable_sort(
    tmp_path_factory, files: list[list[int]], run: int
) -> None:
    folder = tmp_path_factory.mktemp("several")
    expected, paths = [], []
    for place, times in enumerate(files):
        rows = [(time, bytes([place, n])) for n, time in enumerate(times)]
        (folder / str(place)).write_bytes(octets_of(rows))
        paths.append(folder / str(place))
        expected += rows
    expected.sort(key=lambda row: row[0])  # stable: equal times keep the order of files, then of frames
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(several, "RUN", run)
        patch.setattr(several, "SMALL_GULP", 40)
        frames = told(read_all(paths))
    assert frames == [(number, time, data) for number, (time, data) in enumerate(expected, 1)]


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("mergecap") is None, reason="no mergecap")
def test_mergecap_gives_the_same_frames(saved, tmp_path: Path) -> None:
    # No two of equal time: there mergecap's order is its heap's, and ours that of the files.
    rows = [(4 * time + place, b"%d of %d" % (time, place)) for place in range(4) for time in range(0, 40, 3 + place)]
    paths = saved(*(octets_of([row for row in rows if row[1].endswith(b"%d" % place)]) for place in range(4)))
    subprocess.run(["mergecap", "-F", "pcap", "-w", tmp_path / "merged", *paths], check=True)
    with read(tmp_path / "merged") as merged:
        theirs = [(frame.number, frame.time, frame.data) for frame in merged]
    with read_all(paths) as captures:
        assert [(frame.number, frame.time, frame.data) for frame in captures] == theirs
