"""POP3 as a conversation, by hand and by poplib."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import poplib
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import directory, plan, pop3
from lab.mailbox import Mailboxes, with_crlf
from lab.pop3 import Pop3Server

HOST = "127.0.0.1"


class Mailhost:
    """mailhost's POP3 server on loopback."""

    def __init__(self, path: Path) -> None:
        self.mailboxes = Mailboxes(path / "mail")
        self.server = Pop3Server(plan.MAILHOST.fqdn, directory.of(plan.MAILHOST).people, self.mailboxes)
        self.port = 0

    async def __aenter__(self) -> Mailhost:
        self.port = await self.server.start(HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()

    def put(self, *messages: bytes) -> None:
        for message in messages:
            self.mailboxes.of("student").add(message)

    def left(self) -> list[bytes]:
        drop = self.mailboxes.of("student")
        return [drop.read(message.key) for message in drop.messages()]


@pytest.fixture
async def mailhost(tmp_path: Path) -> AsyncIterator[Mailhost]:
    async with Mailhost(tmp_path) as host:
        yield host


class Hand:
    """Somebody typing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, host: Mailhost) -> Hand:
        hand = cls(*await asyncio.open_connection(HOST, host.port))
        hand.banner = await hand.line()
        return hand

    banner: str = ""

    async def line(self) -> str:
        octets = await asyncio.wait_for(self.reader.readline(), 5)
        assert octets.endswith(b"\r\n"), octets
        return octets.decode("latin-1").removesuffix("\r\n")

    async def type(self, *lines: str | bytes) -> list[str]:
        """Each line's status line, in order."""
        replies = []
        for line in lines:
            self.writer.write((line if isinstance(line, bytes) else line.encode("latin-1")) + b"\r\n")
            replies.append(await self.line())
        return replies

    async def ask(self, line: str) -> list[str]:
        """A command with a multi-line reply, the last dot left off."""
        rows = await self.type(line)
        while (row := await self.line()) != ".":
            rows.append(row)
        return rows

    async def leave(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):  # the server may have been first
            await self.writer.wait_closed()


IN = ["USER student", "PASS talking"]
ONE = b"From: a\r\nSubject: one\r\n\r\n.dot\r\n..two\r\nlast\r\n"
TWO = b"Subject: two\r\n\r\n" + b"x" * 100 + b"\r\n"


async def test_a_whole_session(mailhost: Mailhost) -> None:
    mailhost.put(ONE, TWO)
    hand = await Hand.connect(mailhost)
    assert re.fullmatch(r"\+OK POP3 server ready <\d+\.\d+@mailhost\.student\.example>", hand.banner)
    assert await hand.type(*IN) == ["+OK now the password", f"+OK 2 messages ({len(ONE) + len(TWO)} octets)"]
    assert await hand.type("STAT", "LIST 2", "NOOP") == [f"+OK 2 {len(ONE) + len(TWO)}", f"+OK 2 {len(TWO)}", "+OK"]
    assert (await hand.ask("LIST"))[1:] == [f"1 {len(ONE)}", f"2 {len(TWO)}"]
    _, second = (await hand.ask("UIDL"))[1:]
    assert await hand.type("UIDL 2") == [f"+OK {second}"]
    assert await hand.ask("RETR 1") == [
        f"+OK {len(ONE)} octets", "From: a", "Subject: one", "", "..dot", "...two", "last",
    ]  # fmt: skip
    assert (await hand.ask("TOP 1 0"))[1:] == ["From: a", "Subject: one", ""]
    assert (await hand.ask("TOP 1 1"))[1:] == ["From: a", "Subject: one", "", "..dot"]
    assert (await hand.ask("TOP 1 99"))[1:] == ["From: a", "Subject: one", "", "..dot", "...two", "last"]
    assert await hand.type("DELE 1", "DELE 1", "RETR 1", "STAT") == [
        "+OK message 1 deleted", "-ERR message 1 is deleted", "-ERR message 1 is deleted", f"+OK 1 {len(TWO)}",
    ]  # fmt: skip
    assert (await hand.ask("LIST"))[1:] == [f"2 {len(TWO)}"]  # numbers do not move
    assert await hand.type("RSET", "STAT", "DELE 2") == [
        f"+OK 2 messages ({len(ONE) + len(TWO)} octets)", f"+OK 2 {len(ONE) + len(TWO)}", "+OK message 2 deleted",
    ]  # fmt: skip
    assert mailhost.left() == [ONE, TWO]  # only QUIT deletes
    assert await hand.type("QUIT") == ["+OK mailhost.student.example POP3 server signing off"]
    assert await hand.reader.read() == b""
    assert mailhost.left() == [ONE]
    await hand.leave()


async def test_every_command_in_the_wrong_state_or_form_is_refused(mailhost: Mailhost) -> None:
    mailhost.put(ONE)
    hand = await Hand.connect(mailhost)
    before = ["STAT", "LIST", "UIDL", "RETR 1", "DELE 1", "TOP 1 0", "RSET", "NOOP"]
    assert set(await hand.type(*before)) == {"-ERR not before USER and PASS"}
    assert await hand.type("PASS talking", "USER", "XYZZY", "", "CAPA x", "APOP student") == [
        "-ERR USER comes before PASS", "-ERR syntax: USER name", "-ERR unknown command", "-ERR unknown command",
        "-ERR syntax: CAPA", "-ERR [AUTH] invalid user name or password",
    ]  # fmt: skip
    assert await hand.type("user student", "pass talking") == ["+OK now the password", "+OK 1 messages (44 octets)"]
    wrong = ["RETR", "RETR 0", "RETR 2", "RETR -1", "RETR 1x", "RETR \xb9", "RETR 99999999999", "DELE x", "LIST 7"]
    assert set(await hand.type(*wrong)) == {"-ERR no such message"}
    table = [
        ("TOP 1", "-ERR syntax: TOP message lines"),
        ("TOP 1 -1", "-ERR syntax: TOP message lines"),
        ("TOP 2 1", "-ERR no such message"),
        ("STAT 1", "-ERR syntax: STAT"),
        ("RSET 1", "-ERR syntax: RSET"),
        ("NOOP 1", "-ERR syntax: NOOP"),
        ("QUIT 1", "-ERR syntax: QUIT"),
        ("USER x", "-ERR you are in already"),
        ("PASS x", "-ERR you are in already"),
        ("XYZZY", "-ERR unknown command"),
    ]
    assert await hand.type(*[typed for typed, _ in table]) == [reply for _, reply in table]
    await hand.leave()


async def test_an_unknown_user_hears_what_a_wrong_password_hears(mailhost: Mailhost) -> None:
    hand = await Hand.connect(mailhost)
    known = await hand.type("USER student", "PASS wrong")
    unknown = await hand.type("USER nobody", "PASS wrong")
    bytes_ = await hand.type(b"USER \xff\xfe", b"PASS \xff")
    assert known == unknown == bytes_ == ["+OK now the password", "-ERR [AUTH] invalid user name or password"]
    assert await hand.type("PASS talking") == ["-ERR USER comes before PASS"]
    assert (await hand.type(*IN))[1] == "+OK 0 messages (0 octets)"
    await hand.leave()


async def test_apop_lets_in_by_the_digest_of_the_banner(mailhost: Mailhost) -> None:
    hand = await Hand.connect(mailhost)
    stamp = hand.banner.rpartition(" ")[2]
    digest = hashlib.md5(f"{stamp}talking".encode()).hexdigest()
    wrong, right = await hand.type(f"APOP student {'0' * 32}", f"APOP student {digest}")
    assert wrong == "-ERR [AUTH] invalid user name or password"
    assert right == "+OK 0 messages (0 octets)"
    await hand.leave()


async def test_capa_names_what_is_served(mailhost: Mailhost) -> None:
    hand = await Hand.connect(mailhost)
    assert (await hand.ask("CAPA"))[1:] == list(pop3.CAPABILITIES)
    await hand.leave()


async def test_one_session_at_a_time_has_the_maildrop(mailhost: Mailhost) -> None:
    mailhost.put(ONE)
    first, second = await Hand.connect(mailhost), await Hand.connect(mailhost)
    await first.type(*IN)
    assert (await second.type(*IN))[1] == "-ERR [IN-USE] another session has this maildrop"
    assert (await second.type("USER anna", "PASS layers"))[1] == "+OK 0 messages (0 octets)"
    await first.type("DELE 1")
    await first.leave()  # without QUIT: the lock goes, the message stays
    third = await Hand.connect(mailhost)
    async with asyncio.timeout(5):
        while (reply := (await third.type(*IN))[1]).startswith("-ERR [IN-USE]"):
            await asyncio.sleep(0.01)
    assert reply == "+OK 1 messages (44 octets)"
    await second.leave()
    await third.leave()


async def test_mail_that_comes_during_a_session_is_seen_in_the_next(mailhost: Mailhost) -> None:
    mailhost.put(ONE)
    hand = await Hand.connect(mailhost)
    await hand.type(*IN)
    mailhost.put(TWO)
    assert await hand.type("STAT", "RETR 2", "QUIT") == [
        "+OK 1 44", "-ERR no such message", "+OK mailhost.student.example POP3 server signing off",
    ]  # fmt: skip
    await hand.leave()
    assert mailhost.left() == [ONE, TWO]


async def test_a_message_that_vanished_is_said_at_retr_and_at_quit(mailhost: Mailhost) -> None:
    mailhost.put(ONE)
    hand = await Hand.connect(mailhost)
    await hand.type(*IN)
    drop = mailhost.mailboxes.of("student")
    drop.remove(drop.messages()[0].key)
    assert await hand.type("RETR 1", "DELE 1", "QUIT") == [
        "-ERR the message is gone", "+OK message 1 deleted", "-ERR 1 deleted messages not removed",
    ]  # fmt: skip
    await hand.leave()


async def test_a_line_without_end_is_bounded_and_the_session_goes_on(mailhost: Mailhost) -> None:
    hand = await Hand.connect(mailhost)
    assert await hand.type("X" * 100_000, "X" * 600, "CAPA x") == [
        "-ERR line too long", "-ERR line too long", "-ERR syntax: CAPA",
    ]  # fmt: skip
    await hand.leave()


async def test_who_is_silent_too_long_is_left_and_nothing_is_deleted(
    mailhost: Mailhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailhost.put(ONE)
    monkeypatch.setattr(pop3, "IDLE_LIMIT", 0.2)
    hand = await Hand.connect(mailhost)
    await hand.type(*IN, "DELE 1")
    assert await asyncio.wait_for(hand.reader.read(), 5) == b""
    assert mailhost.left() == [ONE]
    await hand.leave()


async def test_pipelined_commands_are_answered_to_one_who_has_stopped_sending(mailhost: Mailhost) -> None:
    mailhost.put(ONE)
    hand = await Hand.connect(mailhost)
    hand.writer.write(b"USER student\r\nPASS talking\r\nSTAT\nDELE 1\r\nQUIT\r\n")
    hand.writer.write_eof()
    answer = await asyncio.wait_for(hand.reader.read(), 5)
    assert [line[:3] for line in answer.splitlines()] == [b"+OK"] * 5
    assert mailhost.left() == []
    await hand.leave()


async def test_poplib_is_served(mailhost: Mailhost) -> None:
    mailhost.put(ONE, TWO)

    def fetch() -> tuple[tuple[int, int], list[bytes], list[bytes], int, dict[str, list[str]]]:
        client = poplib.POP3(HOST, mailhost.port, timeout=5)
        client.apop("student", "talking")
        got = client.stat(), client.list()[1], client.retr(1)[1], client.retr(2)[2], client.capa()
        client.dele(1)
        client.quit()
        return got

    stat, listing, lines, octets, capabilities = await asyncio.to_thread(fetch)
    assert stat == (2, len(ONE) + len(TWO))
    assert listing == [b"1 %d" % len(ONE), b"2 %d" % len(TWO)]
    assert b"\r\n".join([*lines, b""]) == ONE
    assert octets == len(TWO)
    assert capabilities["IMPLEMENTATION"] == ["wiretalk"]
    assert mailhost.left() == [TWO]


MESSAGES = st.lists(
    st.binary(max_size=40)
    | st.lists(st.sampled_from([b"\r\n", b".", b"\r\n.\r\n", b"\n", b"\r", b"\x00\xff", b"abc"]), max_size=12).map(
        b"".join
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=50, deadline=None)
@given(MESSAGES)
def test_announced_octets_are_the_octets_that_follow(messages: list[bytes]) -> None:
    wires = [with_crlf(message) + b"\r\n" for message in messages]

    async def fetch() -> list[tuple[int, bytes]]:
        with tempfile.TemporaryDirectory() as path:
            async with Mailhost(Path(path)) as host:
                host.put(*wires)
                hand = await Hand.connect(host)
                await hand.type(*IN)
                got = []
                for number in range(1, len(wires) + 1):
                    announced = int((await hand.type(f"RETR {number}"))[0].split()[1])
                    data = b""
                    while (line := await hand.reader.readuntil(b"\r\n")) != b".\r\n":
                        data += line.removeprefix(b".")
                    assert await hand.type(f"LIST {number}") == [f"+OK {number} {announced}"]
                    got.append((announced, data))
                await hand.leave()
                return got

    assert asyncio.run(fetch()) == [(len(wire), wire) for wire in wires]


async def test_a_server_that_closes_ends_open_sessions_without_a_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Mailhost(tmp_path) as host:
        host.put(ONE)
        hand = await Hand.connect(host)
        await hand.type(*IN, "DELE 1")
    assert host.server.locked == set()
    assert host.left() == [ONE]
    assert caplog.records == []
    await hand.leave()


PIECES = st.binary(max_size=20) | st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b" ",
        b"RETR ",
        b"1",
        b"TOP 1 ",
        b"DELE 1\r\n",
        b"QUIT\r\n",
        b"\xff",
        b"LIST",
        b"APOP ",
        b"X" * 600,
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from([b"", b"USER student\r\nPASS talking\r\n"]), pieces=st.lists(PIECES, max_size=15))
def test_whatever_octets_are_sent_nothing_breaks(
    head: bytes, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def go(path: str) -> bytes:
        async with Mailhost(Path(path)) as host:
            host.put(ONE)
            hand = await Hand.connect(host)
            hand.writer.write(head + b"".join(pieces))
            hand.writer.write_eof()
            answer = await asyncio.wait_for(hand.reader.read(), 5)
            await hand.leave()
            return answer

    with tempfile.TemporaryDirectory() as path:
        answer = asyncio.run(go(path))
    assert not answer or answer.endswith(b"\r\n")
    assert caplog.records == []
