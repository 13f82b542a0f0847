"""What the recorder writes, our own reader and tshark read: the same frames, at every moment, for their owner only."""

from __future__ import annotations

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.errors import CaptureError
from capture.export.pcapng import Recorder
from capture.model import Frame
from capture.sources.files import Comment, read
from tests.capture.forge import capture_of

T = 1_790_000_000_123_456_789
FRAMES = [Frame(n, T + n, bytes(range(14 + n)), 14 + n + 100 * (n % 2)) for n in range(1, 9)]


def reread(path: Path) -> list[Frame]:
    with read(path) as capture:
        frames = list(capture)
        assert capture.notes == []
    return frames


def test_frames_written_and_read_again_are_equal(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    with Recorder(path) as recorder:
        for frame in FRAMES[:4]:
            recorder.write(frame)
        recorder.write_all(FRAMES[4:])
        recorder.write_all([])
        assert recorder.frames == 8
    assert reread(path) == FRAMES


@given(
    st.lists(
        st.tuples(st.integers(0, 2**63 - 1), st.binary(max_size=40), st.integers(0, 3000), st.integers(0, 1)),
        max_size=9,
    )
)
def test_any_time_length_and_interface_survive(rows: list[tuple[int, bytes, int, int]]) -> None:
    links = (1, 252)
    frames = [
        Frame(n, time, data, len(data) + more, links[which], which)
        for n, (time, data, more, which) in enumerate(rows, start=1)
    ]
    out = io.BytesIO()
    with Recorder(out, (("eth0", 1), ("socket", 252))) as recorder:
        recorder.write_all(frames)
    assert not out.closed
    path = Path(f"/tmp/wiretalk-any-{os.getpid()}.pcapng")
    path.write_bytes(out.getvalue())
    try:
        assert reread(path) == frames
    finally:
        path.unlink()


def test_comments_and_interfaces_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    with Recorder(path, (("socket", 252),), "recorded at the socket, not sniffed") as recorder:
        recorder.write(Frame(1, T, b"abc", 3, 252), "mail data ␍␊")
    with read(path) as capture:
        assert [frame.data for frame in capture] == [b"abc"]
        assert capture.comments == [Comment(0, "recorded at the socket, not sniffed"), Comment(1, "mail data ␍␊")]
        assert [(one.name, one.link) for one in capture.interfaces] == [("socket", 252)]


def test_after_every_write_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    with Recorder(path) as recorder:
        assert reread(path) == []
        for count, frame in enumerate(FRAMES, start=1):
            recorder.write(frame)
            assert reread(path) == FRAMES[:count]


def test_a_program_that_is_killed_leaves_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    program = (
        "import sys\n"
        "from capture.export.pcapng import Recorder\n"
        "from capture.model import Frame\n"
        "recorder = Recorder(sys.argv[1])\n"
        "recorder.write_all([Frame(n, n, bytes(60), 60) for n in range(1, 101)])\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        child.send_signal(signal.SIGKILL)
    assert len(reread(path)) == 100


def test_the_file_is_for_its_owner_only_even_if_it_was_not_before(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    before = os.umask(0)
    try:
        Recorder(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        Recorder(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("path", "words"), [("/proc/nonexistent/x", "No such file"), ("/tmp", "directory"), ("x\0", "null")]
)
def test_what_cannot_be_written_is_said_in_one_sentence(path: str, words: str) -> None:
    with pytest.raises(CaptureError, match=f"cannot be written: .*{words}"):
        Recorder(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_said_in_one_sentence() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(CaptureError, match="No space left"):
        Recorder(full)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_disk_that_filled_up_is_said_once_and_the_recording_can_be_ended() -> None:
    recorder = Recorder(os.devnull)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), recorder._file.fileno())
    with pytest.raises(CaptureError, match="No space left"):
        recorder.write(FRAMES[0])
    recorder.close()
    assert recorder._file.closed
    assert recorder.frames == 0


@pytest.mark.parametrize("frame", [Frame(1, 0, b"", 0, 113), Frame(1, 0, b"", 0, 1, 1), Frame(1, 0, b"", 0, 1, -1)])
def test_a_frame_of_no_interface_of_the_recording_is_refused(frame: Frame) -> None:
    with pytest.raises(ValueError, match="no such interface"):
        Recorder(io.BytesIO()).write(frame)


def test_a_comment_longer_than_its_length_field_is_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        Recorder(io.BytesIO()).write(FRAMES[0], "x" * 65536)


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not here")
def test_tshark_reads_the_same_frames_times_and_comments(tmp_path: Path) -> None:
    said = [{"dir": "S", "bytes": "220 shannon ready\r\n"}, {"dir": "C", "bytes": "QUIT\r\n"}]
    frames = [frame._replace(time=frame.time + 1) for frame in capture_of(said)]
    path = tmp_path / "session.pcapng"
    with Recorder(path, (("eth0", 1),), "a session") as recorder:
        for frame in frames:
            recorder.write(frame, f"frame {frame.number}")
    fields = (
        "frame.number",
        "frame.time_epoch",
        "frame.len",
        "frame.comment",
        "frame.interface_name",
        "smtp.req.command",
    )
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", *(word for field in fields for word in ("-e", field))],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[:5] for row in rows] == [
        [
            str(frame.number),
            f"{frame.time // 10**9}.{frame.time % 10**9:09d}",
            str(frame.length),
            f"frame {frame.number}",
            "eth0",
        ]
        for frame in frames
    ]
    assert [row[5] for row in rows if len(row) > 5 and row[5]] == ["QUIT"]
