"""The sniffer on real interfaces of a private namespace: nothing lost, nothing late, no death in silence."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from capture.errors import CaptureError, SniffError
from capture.export.pcapng import Recorder
from capture.model import Frame
from capture.sources import sniffer as sniffer_module
from capture.sources.files import read
from capture.sources.sniffer import Sniffer, Statistics
from tests.capture.namespaces import another_network, frame, give_up_rights, in_a_namespace, set_up, until, veth


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


@in_a_namespace
def test_fifty_thousand_frames_sent_at_once_are_all_delivered_in_order() -> None:
    frames: list[Frame] = []
    with veth() as out, Sniffer("a", ports=None, on_frames=frames.extend) as sniffer:
        began = time.monotonic()
        for n in range(50_000):
            out.send(frame(n))
        rate = 50_000 / (time.monotonic() - began)
    assert rate > 5_000, rate  # where scapy's own sockets begin to lose frames
    assert sniffer.statistics() == Statistics(50_000, 0)
    assert [one.number for one in frames] == list(range(1, 50_001))
    assert all(one.data == frame(n) for n, one in enumerate(frames))
    assert all(earlier.time <= later.time for earlier, later in pairwise(frames))
    assert sniffer.failure is None
    assert threads() == []


@in_a_namespace
def test_stopping_straight_after_starting_leaves_no_thread_behind() -> None:
    with veth() as out:
        for n in range(25):
            frames: list[Frame] = []
            sniffer = Sniffer("a", ports=None, on_frames=frames.extend, size=1 << 20)
            sniffer.start()
            assert sniffer.running
            out.send(frame(n))
            sniffer.stop()
            assert [one.data for one in frames] == [frame(n)]
            assert not sniffer.running
            assert threads() == []
            sniffer.stop()


@in_a_namespace
def test_a_backlog_is_drained_at_the_stop_and_what_comes_later_is_not() -> None:
    frames: list[Frame] = []
    first, go = threading.Event(), threading.Event()

    def slowly(some: list[Frame]) -> None:
        first.set()
        assert go.wait(10)
        frames.extend(some)

    with veth() as out:
        sniffer = Sniffer("a", ports=None, on_frames=slowly)
        sniffer.start()
        out.send(frame(0))
        assert first.wait(10)
        for n in range(1, 5000):
            out.send(frame(n))
        stopping = threading.Thread(target=sniffer.stop)
        stopping.start()
        until(sniffer._stopping.is_set)
        out.send(frame(5000))
        go.set()
        stopping.join()
    assert [one.data for one in frames] == [frame(n) for n in range(5000)]


@in_a_namespace
def test_a_frame_is_handed_over_while_the_wire_is_quiet() -> None:
    arrived: list[float] = []
    with veth() as out, Sniffer("b", ports=None, on_frames=lambda frames: arrived.append(time.monotonic())):
        sent = time.monotonic()
        out.send(frame(1))
        until(lambda: arrived)
    assert arrived[0] - sent < 1  # as a rule 5 ms


@in_a_namespace
def test_a_link_that_goes_down_is_noticed_after_its_last_frame() -> None:
    frames: list[Frame] = []
    told: list[SniffError] = []
    with veth() as out:
        sniffer = Sniffer("b", ports=None, on_frames=frames.extend, on_failure=told.append)
        sniffer.start()
        for n in range(100):
            out.send(frame(n))
        set_up("b", up=False)
        until(lambda: told)
    assert len(frames) == 100
    assert told == [sniffer.failure]
    assert told[0].sentence == "b stopped: network is down."
    assert not sniffer.running
    assert sniffer.statistics() == (100, 0)
    sniffer.stop()


@in_a_namespace
def test_an_interface_that_vanishes_is_noticed() -> None:
    from pyroute2 import IPRoute

    told: list[SniffError] = []
    with veth(), Sniffer("b", ports=None, on_failure=told.append), IPRoute() as route:
        route.link("del", ifname="b")
        until(lambda: told)
    assert "b stopped: " in told[0].sentence


def sentence_of(error: Exception) -> str:
    """What is told when the taker of frames fails so."""
    told: list[SniffError] = []

    def fails(frames: list[Frame]) -> None:
        raise error

    with veth() as out, Sniffer("a", ports=None, on_frames=fails, on_failure=told.append) as sniffer:
        out.send(frame(1))
        until(lambda: told)
    assert sniffer.failure is told[0]
    assert told[0].__cause__ is error
    return told[0].sentence


@in_a_namespace
def test_an_error_in_what_takes_the_frames_is_kept_not_swallowed() -> None:
    assert sentence_of(ZeroDivisionError(1)) == "What took the frames failed: ZeroDivisionError: 1."


@in_a_namespace
def test_a_full_disk_is_told_in_its_own_words() -> None:
    assert sentence_of(CaptureError("The disk is full.")) == "The disk is full."


@in_a_namespace
def test_a_loss_is_counted_and_can_be_asked_for_at_any_time() -> None:
    frames: list[Frame] = []
    first, go = threading.Event(), threading.Event()

    def slowly(some: list[Frame]) -> None:
        first.set()
        assert go.wait(10)
        frames.extend(some)

    with veth() as out:
        sniffer = Sniffer("a", ports=None, on_frames=slowly, size=1 << 19)
        sniffer.start()
        out.send(frame(0))
        assert first.wait(10)
        for n in range(1, 10_000):
            out.send(frame(n, 500))
        seen, lost = sniffer.statistics()
        assert seen + lost == 10_000
        assert lost > 5_000
        go.set()
        sniffer.stop()
    assert sniffer.statistics() == (len(frames), 10_000 - len(frames))


@in_a_namespace
def test_only_the_ports_asked_for_are_delivered_and_arp_when_wanted() -> None:
    arp = frame(1, kind=0x0806)
    tcp = struct.pack(">BBHHHBBH8s", 0x45, 0, 40, 1, 0, 64, 6, 0, bytes(8))

    def segment(port: int) -> bytes:
        return frame(0)[:12] + b"\x08\0" + tcp + struct.pack(">HHIIBBHHH", 40000, port, 0, 0, 0x50, 2, 0, 0, 0)

    for ports, wants_arp, expected in (
        ({25}, False, [segment(25)]),
        ({25}, True, [arp, segment(25)]),
        ({25, 110}, False, [segment(25), segment(110)]),
        (None, False, [arp, segment(25), segment(110), segment(443)]),
    ):
        frames: list[Frame] = []
        with veth_once() as out, Sniffer("a", ports=ports, arp=wants_arp, on_frames=frames.extend):
            for one in (arp, segment(25), segment(110), segment(443)):
                out.send(one)
        assert [one.data for one in frames] == expected


def veth_once() -> socket.socket:
    """The wire, made anew for each turn."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        if route.link_lookup(ifname="a"):
            route.link("del", ifname="a")
    return veth()


@in_a_namespace
def test_loopback_is_seen_once() -> None:
    frames: list[Frame] = []
    with (
        Sniffer("lo", ports={2525}, on_frames=frames.extend),
        socket.create_server(("127.0.0.1", 2525)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as served,
    ):
        client.sendall(b"QUIT\r\n")
        assert served.recv(100) == b"QUIT\r\n"
    assert sum(b"QUIT" in one.data for one in frames) == 1
    assert sum(one.data[47] == 0x02 for one in frames) == 1  # one SYN


@in_a_namespace
def test_a_socket_from_another_network_is_taken_over() -> None:
    frames: list[Frame] = []
    with veth() as out:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        another_network()
        with Sniffer(made, "b", ports=None, on_frames=frames.extend) as sniffer:
            assert sniffer.link == 1
            out.send(frame(1))
        assert made.fileno() == -1
    assert [one.data for one in frames] == [frame(1)]


@in_a_namespace
def test_stopping_from_within_the_delivery_does_not_hang() -> None:
    stopped = threading.Event()
    with veth() as out:
        sniffer = Sniffer("a", ports=None, on_frames=lambda frames: (sniffer.stop(), stopped.set()))
        sniffer.start()
        out.send(frame(1))
        assert stopped.wait(10)
        until(lambda: not sniffer.running)
    assert sniffer.failure is None


@in_a_namespace
def test_a_slow_taker_is_waited_for_and_a_stuck_one_is_told() -> None:
    sniffer_module.PATIENCE = 0.3
    frames: list[Frame] = []
    never, go = threading.Event(), threading.Event()

    def slowly(some: list[Frame]) -> None:
        never.wait(0.02)
        frames.extend(some)

    def stuck(some: list[Frame]) -> None:
        go.wait(10)

    with veth() as out:
        sniffer = Sniffer("a", ports=None, on_frames=slowly)
        sniffer.start()
        for n in range(8_000):
            out.send(frame(n, 1500))
        sniffer.stop()
        assert len(frames) == 8_000
        sniffer = Sniffer("a", ports=None, on_frames=stuck)
        sniffer.start()
        out.send(frame(1))
        with pytest.raises(SniffError, match="does not end"):
            sniffer.stop()
        go.set()
        sniffer.stop()
    assert threads() == []


@in_a_namespace
def test_a_sniffer_that_cannot_start_says_why_and_starts_nothing() -> None:
    with pytest.raises(SniffError, match="no interface nowhere"):
        Sniffer("nowhere").start()
    give_up_rights()
    with pytest.raises(SniffError, match="needs the right") as caught:
        Sniffer("lo").start()
    assert "the lab, which needs no rights" in caught.value.remedy
    assert threads() == []
    never = Sniffer("lo")
    never.stop()
    assert never.statistics() == (0, 0)


@in_a_namespace
def test_what_is_recorded_while_sniffing_reads_back_equal() -> None:
    frames: list[Frame] = []
    path = Path(f"/tmp/wiretalk-{os.getpid()}.pcapng")
    try:
        with veth() as out:
            sniffer = Sniffer("a", ports=None, on_frames=lambda some: (recorder.write_all(some), frames.extend(some)))
            with Recorder(path, (("a", 1),)) as recorder, sniffer:
                for n in range(1000):
                    out.send(frame(n, 60 + n))
        with read(path) as capture:
            assert list(capture) == frames
        assert len(frames) == 1000
    finally:
        path.unlink()


def test_scapy_comes_with_the_first_start_and_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    program = (
        "import sys, capture.sources.sniffer\n"
        "assert 'scapy' not in sys.modules\n"
        "import capture.sources.loop\n"
        "assert 'scapy.sendrecv' in sys.modules\n"
        "assert not {'scapy.all', 'scapy.layers', 'scapy.layers.all'} & set(sys.modules)\n"
        "assert not sys.modules['scapy.config'].conf.route.routes\n"
    )
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-bb", "-W", "error", "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
