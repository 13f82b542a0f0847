"""The hand-typed connection, against real servers on loopback; on the lab's wire, against what a packet socket saw."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.errors import WiretalkError
from capture.model import Side
from lab.connection import Closed, Connection, Received, Target, resolve_target, split_paste
from lab.laboratory import Lab
from lab.negotiation import DO, DONT, IAC, SB, SE, WILL, WONT, Negotiation
from lab.plan import SHANNON

DEADLINE = 5.0
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking_to(handler: Handler, **options: object) -> AsyncIterator[Connection]:
    """A connection to a server on loopback that does ``handler``."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        connection = await Connection.open(*server.sockets[0].getsockname()[:2], **options)  # type: ignore[arg-type]
        try:
            yield connection
        finally:
            connection.close()
            await everything(connection)


async def everything(connection: Connection) -> tuple[bytes, Closed]:
    """All octets until the end, and the end."""
    octets = b""
    async with asyncio.timeout(DEADLINE):
        async for event in connection:
            if isinstance(event, Closed):
                return octets, event
            octets += event.octets
    raise AssertionError("the events ended without a Closed")


async def hear(connection: Connection, octets: bytes) -> None:
    """Wait for exactly ``octets``."""
    heard = b""
    async with asyncio.timeout(DEADLINE):
        async for event in connection:
            assert isinstance(event, Received), event
            heard += event.octets
            if len(heard) >= len(octets):
                assert heard == octets
                return


class Scribe:
    """A server that says ``greeting`` and writes down what it hears."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self.heard = b""
        self.done = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._greeting)
        self.heard = await reader.read(-1)
        self.done.set()
        writer.write(b"221 bye\r\n")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("HELO me", b"HELO me\r\n"),
        ("", b"\r\n"),
        ("  two  spaces ", b"  two  spaces \r\n"),
        ("caf\u00e9", b"caf\xc3\xa9\r\n"),
        ("tab\tnul\0", b"tab\tnul\0\r\n"),
        (b"latin \xe9", b"latin \xe9\r\n"),
        (b"doubled \xff", b"doubled \xff\xff\r\n"),
        ("undecodable \udcff", b"undecodable \xff\xff\r\n"),
        (".", b".\r\n"),
        ("x" * 5000, b"x" * 5000 + b"\r\n"),
    ],
)
async def test_a_line_goes_out_as_typed_with_cr_lf(typed: str | bytes, sent: bytes) -> None:
    scribe = Scribe()
    async with talking_to(scribe) as connection:
        assert connection.send_line(typed) == sent
        connection.half_close()
        assert await everything(connection) == (
            b"221 bye\r\n",
            Closed("closed", f"{connection.peer} closed the connection."),
        )
    assert scribe.heard == sent


async def test_another_ending_is_an_experiment_and_no_ending_is_what_ctrl_d_sends() -> None:
    scribe = Scribe()
    async with talking_to(scribe) as connection:
        connection.send_line("NOOP", b"\n")
        connection.send_line("QU", b"")
        connection.half_close()
        await scribe.done.wait()
    assert scribe.heard == b"NOOP\nQU"


async def test_after_half_close_the_server_may_still_speak_and_we_may_not() -> None:
    scribe = Scribe()
    async with talking_to(scribe) as connection:
        connection.half_close()
        assert not connection.connected
        assert connection.send_line("too late") == b""
        connection.half_close()
        octets, _ = await everything(connection)
        assert octets == b"221 bye\r\n"
    assert scribe.heard == b""


async def test_nagle_stays_on() -> None:
    async with talking_to(Scribe()) as connection:
        plug = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


async def test_a_server_that_closes_is_a_sentence() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"421 go away\r\n")
        writer.close()

    async with talking_to(handler) as connection:
        assert await everything(connection) == (
            b"421 go away\r\n",
            Closed("closed", f"{connection.peer} closed the connection."),
        )
        assert not connection.connected


async def test_a_server_that_closes_inside_a_line_is_said_to() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 half a gree")
        writer.close()

    async with talking_to(handler) as connection:
        _, end = await everything(connection)
    assert end == Closed("closed", f"{connection.peer} closed the connection in the middle of a line.")


async def test_a_reset_is_a_sentence() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with talking_to(handler) as connection:
        _, end = await everything(connection)
    assert end == Closed("reset", f"{connection.peer} reset the connection.")


async def test_our_own_leaving_is_a_sentence_and_what_was_sent_arrives() -> None:
    scribe = Scribe()
    async with talking_to(scribe) as connection:
        connection.send_line("QUIT")
        connection.close()
        _, end = await everything(connection)
        assert end == Closed("left", f"You closed the connection to {connection.peer}.")
        assert connection.send_line("more") == b""
        await asyncio.wait_for(scribe.done.wait(), DEADLINE)
    assert scribe.heard == b"QUIT\r\n"


async def test_the_end_is_told_to_whoever_asks_again() -> None:
    async with talking_to(Scribe()) as connection:
        connection.close()
        assert await everything(connection) == await everything(connection)


async def test_a_refusal_is_a_sentence() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, not listening
        connection = await Connection.open("127.0.0.1", bound.getsockname()[1])
    octets, end = await everything(connection)
    assert (octets, end.kind) == (b"", "refused")
    assert end.reason == f"{connection.peer} refused the connection: nothing listens on that port."
    assert not connection.connected


async def test_no_answer_in_time_is_a_sentence() -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # the queue of one is full: further SYNs are not answered
        connection = await Connection.open("127.0.0.1", full.getsockname()[1], timeout=0.05)
    _, end = await everything(connection)
    assert end == Closed("timeout", f"No answer from {connection.peer} within 0.05 s.")


@pytest.mark.parametrize("name", ["nowhere.invalid", "a..b", "x" * 70 + ".invalid"])
async def test_a_name_without_address_is_a_sentence(name: str) -> None:
    connection = await Connection.open(name, resolver=_knows_nothing)
    _, end = await everything(connection)
    assert end == Closed("unresolvable", f"No address is known for {name}.")


def _knows_nothing(name: str) -> str:
    if name.startswith("nowhere"):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")
    return name  # and the machine's own resolver finds it malformed


async def test_no_way_there_is_a_sentence() -> None:
    class Stranded(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    connection = await Connection.open("192.0.2.1", socket_factory=lambda family: Stranded(family, socket.SOCK_STREAM))
    _, end = await everything(connection)
    assert end == Closed("unreachable", "There is no way to 192.0.2.1:25: network is unreachable.")


async def test_of_several_addresses_the_first_that_answers_is_taken() -> None:
    server = await asyncio.start_server(Scribe(b"220 hi\r\n"), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = await Connection.open("localhost", port)  # ::1 too, where there is one
        assert connection.remote == ("127.0.0.1", port)
        await hear(connection, b"220 hi\r\n")
        connection.close()
        await everything(connection)


async def test_the_record_at_the_socket_has_the_very_octets_of_both_sides() -> None:
    record: list[tuple[Side, bytes, int]] = []
    offer = bytes((IAC, WILL, 1))
    async with talking_to(
        Scribe(b"220 \xff\xff hi\r\n" + offer), on_octets=lambda *row: record.append(row)
    ) as connection:
        await hear(connection, b"220 \xff hi\r\n")
        connection.send_line(b"\xff")
        connection.half_close()
        await everything(connection)
        assert connection.local[1] != connection.remote[1]
    assert (
        b"".join(octets for side, octets, _ in record if side is Side.CLIENT) == bytes((IAC, DONT, 1)) + b"\xff\xff\r\n"
    )
    assert (
        b"".join(octets for side, octets, _ in record if side is Side.SERVER)
        == b"220 \xff\xff hi\r\n" + offer + b"221 bye\r\n"
    )
    times = [time for _, _, time in record]
    assert times == sorted(times)
    assert times[0] > 1_500_000_000 * 10**9


async def test_a_server_that_floods_is_made_to_wait_and_nothing_is_lost() -> None:
    size = 12 << 20

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(size))
        writer.close()
        await writer.wait_closed()

    async with talking_to(handler) as connection:
        async with asyncio.timeout(DEADLINE):
            while connection._transport is not None and connection._transport.is_reading():
                await asyncio.sleep(0)
        assert connection._unread < size
        octets, _ = await everything(connection)
        assert len(octets) == size


@pytest.mark.parametrize(
    ("received", "text", "answer"),
    [
        (b"plain\r\n", b"plain\r\n", b""),
        (bytes((IAC, DO, 24)), b"", bytes((IAC, WONT, 24))),
        (bytes((IAC, WILL, 1)), b"", bytes((IAC, DONT, 1))),
        (bytes((IAC, DONT, 24, IAC, WONT, 1)), b"", b""),
        (bytes((IAC, IAC)), b"\xff", b""),
        (b"a" + bytes((IAC, 241)) + b"b", b"ab", b""),
        (b"a" + bytes((IAC, SB, 24, 1, IAC, IAC, 2, IAC, SE)) + b"b", b"ab", b""),
        (bytes((IAC, DO, IAC)), b"", bytes((IAC, WONT, IAC))),
    ],
)
def test_telnet_commands_are_taken_out_and_options_refused(received: bytes, text: bytes, answer: bytes) -> None:
    assert Negotiation().receive(received) == (text, answer)


@given(st.lists(st.sampled_from([IAC, DO, DONT, WILL, WONT, SB, SE, 1, 65]), max_size=30).map(bytes), st.data())
def test_any_cutting_gives_the_same_text_and_answers(octets: bytes, data: st.DataObject) -> None:
    whole = Negotiation().receive(octets)
    cut = Negotiation()
    text = answer = b""
    while octets:
        size = data.draw(st.integers(1, len(octets)))
        pieces = cut.receive(octets[:size])
        text, answer, octets = text + pieces[0], answer + pieces[1], octets[size:]
    assert (text, answer) == whole


@pytest.mark.parametrize(
    ("pasted", "lines"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\n", ["one"]),
        ("one\ntwo", ["one", "two"]),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("one\rtwo\r", ["one", "two"]),
        ("one\r\n\r\ntwo\n\n", ["one", "", "two", ""]),
        ("\n", [""]),
        ("a\x0bb\x0cc\u2028d\x85e\n", ["a\x0bb\x0cc\u2028d\x85e"]),
    ],
)
def test_a_paste_has_one_line_for_each_line_end_of_any_kind(pasted: str, lines: list[str]) -> None:
    assert split_paste(pasted) == lines


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("shannon", Target("shannon", 25)),
        ("shannon:2525", Target("shannon", 2525)),
        (" mail.example.org:587 ", Target("mail.example.org", 587)),
        ("192.0.2.25", Target("192.0.2.25", 25)),
        ("192.0.2.25:26", Target("192.0.2.25", 26)),
        ("2001:db8::1", Target("2001:db8::1", 25)),
        ("[2001:db8::1]", Target("2001:db8::1", 25)),
        ("[2001:db8::1]:2525", Target("2001:db8::1", 2525)),
        ("fe80::1%eth0", Target("fe80::1%eth0", 25)),
    ],
)
def test_a_target_is_a_host_and_perhaps_a_port(text: str, target: Target) -> None:
    assert resolve_target(text) == target
    assert resolve_target(str(target)) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":25",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "host:٢٥",
        "a b",
        "[host]:25",
        "[2001:db8::1",
        "1:2:3",
        "host:-1",
    ],
)
def test_what_is_no_target_is_said_to_be_none(text: str) -> None:
    with pytest.raises(WiretalkError) as caught:
        resolve_target(text)
    assert caught.value.sentence.endswith(".")
    assert caught.value.remedy


class Segments:
    """The TCP payloads that your-pc sent, as a packet socket of our own on its eth0 saw them."""

    def __init__(self, lab: Lab) -> None:
        self._socket = lab.packet_socket("your-pc")
        self._socket.bind(("eth0", 3))
        self._socket.setblocking(False)

    async def until(self, last: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        async with asyncio.timeout(DEADLINE):
            while last not in payloads:
                frame = await asyncio.get_running_loop().sock_recv(self._socket, 2000)
                if frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[30:34] == socket.inet_aton(SHANNON.ipv4):
                    tcp = 14 + (frame[14] & 15) * 4
                    payload = frame[tcp + (frame[tcp + 12] >> 4) * 4 : 14 + int.from_bytes(frame[16:18])]
                    payloads += [payload] if payload else []
        self._socket.close()
        return payloads


@pytest.mark.lab
@pytest.mark.skipif(sys.platform != "linux", reason="the lab needs Linux")
async def test_on_the_wire_one_enter_is_one_segment() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    with Lab(servers=False) as lab:
        listening = lab.socket("shannon")
        listening.bind((SHANNON.ipv4, 25))
        server = await asyncio.start_server(echo, sock=listening)
        async with server:
            wire = Segments(lab)
            connection = await Connection.open(
                "shannon", socket_factory=lambda family: lab.socket("your-pc", family), resolver=lab.resolve
            )
            assert connection.remote == (SHANNON.ipv4, 25)
            lines = ["HELO your-pc", "MAIL FROM:<student@student.example>", "", "x" * 1400, "caf\u00e9", "QUIT"]
            for line in lines:
                sent = connection.send_line(line)
                await hear(connection, sent)
            connection.close()
            await everything(connection)
            assert await wire.until(b"QUIT\r\n") == [line.encode() + b"\r\n" for line in lines]
