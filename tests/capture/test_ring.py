"""The packet ring on real interfaces of a private namespace: what is sent is what is read, or it is counted as lost."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
import time

import pytest

from capture.errors import SniffError
from capture.model import Frame
from capture.sources import ring as ring_module
from capture.sources.filter import tcp_ports
from capture.sources.ring import Ring
from tests.capture.namespaces import another_network, frame, in_a_namespace, quiet, set_up, until, veth


def drain(ring: Ring) -> list[Frame]:
    """All that the kernel has accepted until now."""
    frames: list[Frame] = []
    until(lambda: frames.extend(ring.read()) or ring.behind() == 0)
    return frames


@in_a_namespace
def test_what_is_sent_is_read_in_order_with_its_length_and_the_time_of_its_passing() -> None:
    with veth() as out:
        ring = Ring("b")
        sent = [frame(n, 60 + n) for n in range(500)]
        before = time.time_ns()
        for one in sent:
            out.send(one)
        after = time.time_ns()
        frames = drain(ring)
        ring.close()
    assert [one.data for one in frames] == sent
    assert [one.number for one in frames] == list(range(1, 501))
    assert [one.length for one in frames] == [len(one) for one in sent]
    assert {(one.link, one.interface) for one in frames} == {(1, 0)}
    times = [one.time for one in frames]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= after
    assert any(time % 1000 for time in times)  # nanoseconds, not microseconds


@in_a_namespace
def test_tags_are_where_they_were_on_the_wire() -> None:
    tagged = [
        frame(1, tags=b"\x81\x00\x00\x19"),
        frame(2, tags=b"\x88\xa8\xe0\x64\x81\x00\x00\x19"),
        frame(3, tags=b"\x81\x00\x00\x00"),
        frame(4),
    ]
    with veth() as out:
        arriving, leaving = Ring("b"), Ring("a")
        for one in tagged:
            out.send(one)
        for ring in (arriving, leaving):
            frames = drain(ring)
            ring.close()
            assert [one.data for one in frames] == tagged
            assert [one.length for one in frames] == [len(one) for one in tagged]


@in_a_namespace
def test_a_frame_larger_than_a_block_is_cut_and_its_length_says_so() -> None:
    with veth(mtu=60_000) as out:
        small, large = Ring("b", block=1 << 15, size=1 << 20), Ring("b")
        out.send(frame(1, 50_000))
        cut, whole = drain(small), drain(large)
        small.close()
        large.close()
    assert [(one.length, len(one.data) < 1 << 15) for one in cut] == [(50_000, True)]
    assert [(one.length, len(one.data)) for one in whole] == [(50_000, 50_000)]


@in_a_namespace
def test_what_finds_no_room_is_counted_and_the_count_survives_every_reading() -> None:
    with veth() as out:
        ring = Ring("a", size=1 << 17, block=1 << 16)
        for n in range(4000):
            out.send(frame(n, 200))
            if n % 500 == 0:
                ring.statistics()  # reading the kernel's counters sets them to zero
        frames = drain(ring)
        assert ring.statistics() == (len(frames), 4000 - len(frames))
        assert 0 < len(frames) < 4000
        ring.close()
        assert ring.statistics() == (len(frames), 4000 - len(frames))
        ring.close()


@in_a_namespace
def test_nothing_that_the_filter_refuses_slips_in_before_it_is_in_place() -> None:
    done = threading.Event()
    with veth() as out:

        def flood() -> None:
            while not done.is_set():
                out.send(frame(0, kind=0x0806))

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(20):
                ring = Ring("b", program=lambda link: tcp_ports({25}, link), size=1 << 20)
                assert ring.statistics() == (0, 0)
                assert ring.read() == []
                ring.close()
        finally:
            done.set()
            thread.join()


@in_a_namespace
def test_a_socket_made_in_another_network_listens_there() -> None:
    with veth() as out:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        another_network()
        quiet()
        with pytest.raises(SniffError, match="no interface b"):
            Ring("b")
        ring = Ring("b", made)
        out.send(frame(7))
        assert [one.data for one in drain(ring)] == [frame(7)]
        ring.close()
        assert made.fileno() == -1


@in_a_namespace
def test_loopback_shows_each_frame_once() -> None:
    ring = Ring("lo")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        two.bind(("127.0.0.1", 0))
        for _ in range(50):
            one.sendto(b"QUIT\r\n", two.getsockname())
    frames = drain(ring)
    ring.close()
    assert len(frames) == 50
    assert {(len(one.data), one.link) for one in frames} == {(14 + 20 + 8 + 6, 1)}


@in_a_namespace
def test_waiting_ends_when_a_frame_comes_when_woken_and_when_the_link_goes_down() -> None:
    with veth() as out:
        ring = Ring("b")
        threading.Timer(0.05, out.send, [frame(1)]).start()
        ring.wait()
        assert len(drain(ring)) == 1
        assert ring.error() == 0
        threading.Timer(0.05, set_up, ["b", False]).start()
        ring.wait()
        assert ring.error() == errno.ENETDOWN
        threading.Timer(0.05, ring.wake).start()
        ring.wait()
        ring.wait()  # from now on it returns at once
        ring.close()
        ring.wake()


@in_a_namespace
def test_refusing_lets_nothing_new_in_and_loses_nothing_old() -> None:
    with veth() as out:
        ring = Ring("a")
        for n in range(100):
            out.send(frame(n))
        ring.refuse()
        out.send(frame(100))
        assert [one.data for one in drain(ring)] == [frame(n) for n in range(100)]
        ring.close()


@in_a_namespace
def test_what_cannot_be_listened_to_is_said_in_one_sentence() -> None:
    with veth():
        set_up("a", up=False)
        for name, words in (("nowhere", "no interface nowhere"), ("a", "a is down"), ("", "no interface name")):
            with pytest.raises(SniffError, match=words):
                Ring(name)
        with pytest.raises(SniffError, match="no interface name"):
            Ring("a-name-of-sixteen")
        ring_module._LINKS.clear()  # no kernel is sure to have an interface of a stranger kind
        with pytest.raises(SniffError, match="b is of hardware type 1, whose frames are not understood"):
            Ring("b")


def test_without_the_right_to_listen_the_remedy_is_told() -> None:
    program = (
        "from tests.capture.namespaces import give_up_rights\n"
        "from capture.sources.ring import Ring\n"
        "from capture.errors import SniffError\n"
        "give_up_rights()\n"
        "try: Ring('lo')\n"
        "except SniffError as error: print(error.exit_code.name, error.sentence, error.remedy)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "PERMISSION Listening to lo needs the right to open packet sockets (CAP_NET_RAW). Run"
    )
