"""The MTA as a conversation: what is typed, what is answered, what is kept."""

from __future__ import annotations

import asyncio
import inspect
import re
import smtplib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiosmtpd.smtp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import directory, plan, receiver, replies
from lab.mailbox import Mailboxes
from lab.mta import Mta
from lab.queue import Queue
from lab.relay import Relay, Resolver

HOST = "127.0.0.1"
Talk = Callable[..., Awaitable[list[str]]]


class Shannon:
    """shannon's MTA on loopback; its relay finds no name server, so what is for others stays in the queue."""

    def __init__(self, path: Path, *, vrfy: bool = True) -> None:
        self.directory = directory.of(plan.SHANNON)
        self.mailboxes = Mailboxes(path / "mail")
        self.relay = Relay(plan.SHANNON.fqdn, Resolver(HOST, 9))
        self.queue = Queue(path / "queue", self.directory, self.mailboxes, self.relay, pauses=(60.0,))
        self.mta = Mta(self.directory, self.queue, vrfy=vrfy)
        self.port = 0

    async def __aenter__(self) -> Shannon:
        self.port = await self.mta.start(HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mta.close()
        await self.queue.close()

    async def inbox(self, user: str, wanted: int = 1) -> list[bytes]:
        """The messages of a user, waited for."""
        drop = self.mailboxes.of(user)
        async with asyncio.timeout(5):
            while len(found := drop.messages()) < wanted:
                await asyncio.sleep(0.01)
        return [drop.read(message.key) for message in found]


@pytest.fixture
async def shannon(tmp_path: Path) -> AsyncIterator[Shannon]:
    async with Shannon(tmp_path) as host:
        yield host


async def read_reply(reader: asyncio.StreamReader) -> str:
    lines = []
    async with asyncio.timeout(5):
        while True:
            line = await reader.readline()
            assert line.endswith(b"\r\n"), f"the connection ended within a reply: {line!r}"
            lines.append(line.decode("ascii").removesuffix("\r\n"))
            if line[3:4] != b"-":
                return "\n".join(lines)


async def say(port: int, *lines: str | bytes) -> list[str]:
    """Type ``lines``, each with CRLF, waiting for each reply; gives the replies. ``bytes`` go unanswered."""
    reader, writer = await asyncio.open_connection(HOST, port)
    replies = []
    try:
        assert await read_reply(reader) == f"220 {plan.SHANNON.fqdn} Simple Mail Transfer Service ready"
        for line in lines:
            if isinstance(line, bytes):
                writer.write(line)
            else:
                writer.write(line.encode() + b"\r\n")
                replies.append(await read_reply(reader))
        return replies
    finally:
        writer.close()
        await writer.wait_closed()


FQDN = plan.SHANNON.fqdn
ME = "HELO your-pc"
MAIL = "MAIL FROM:<student@student.example>"
RCPT = "RCPT TO:<teacher@cs.utwente.example>"


async def test_the_session_of_the_lesson_is_answered_in_the_words_of_the_rfc(shannon: Shannon) -> None:
    reader, writer = await asyncio.open_connection(HOST, shannon.port)
    talk = [
        ("", f"220 {FQDN} Simple Mail Transfer Service ready"),
        ("HELO your-pc", f"250 {FQDN}"),
        ("MAIL FROM:<student@student.example>", "250 2.1.0 OK"),
        ("RCPT TO:<teacher@cs.utwente.example>", "250 2.1.5 OK"),
        ("DATA", "354 Start mail input; end with <CRLF>.<CRLF>"),
        ("From: You'll-never-know-for-sure\r\n\r\n..a dot\r\n.", r"250 2.0.0 OK, queued as [0-9A-F]{10}"),
        ("QUIT", f"221 2.0.0 {FQDN} Service closing transmission channel"),
    ]
    for typed, answer in talk:
        if typed:
            writer.write(typed.encode() + b"\r\n")
        assert re.fullmatch(answer, await read_reply(reader))
    assert await reader.read() == b""
    writer.close()
    (message,) = await shannon.inbox("teacher")
    assert re.fullmatch(
        rb"Return-Path: <student@student\.example>\r\n"
        rb"Received: from your-pc \(\[127\.0\.0\.1\]\)\r\n"
        rb"\tby shannon\.cs\.utwente\.example with SMTP id [0-9A-F]{10}\r\n"
        rb"\tfor <teacher@cs\.utwente\.example>;\r\n"
        rb"\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n"
        rb"From: You'll-never-know-for-sure\r\n\r\n\.a dot\r\n",
        message,
    )


async def test_ehlo_lists_what_is_served_in_one_reply_without_status_codes(shannon: Shannon) -> None:
    (reply,) = await say(shannon.port, "EHLO your-pc")
    assert reply.splitlines() == [
        f"250-{FQDN} greets your-pc",
        "250-SIZE 33554432",
        "250-8BITMIME",
        "250-PIPELINING",
        "250-ENHANCEDSTATUSCODES",
        "250-EXPN",
        "250 HELP",
    ]


STRAY = [
    # typed before, the line, the reply begins with
    ([], "HELO", "501 Syntax: HELO"),
    ([], "EHLO", "501 Syntax: EHLO"),
    ([], "HELO two words", "501 Syntax: HELO"),
    ([], "HELO (comment)", "501 Syntax: HELO"),
    ([], MAIL, "503 5.5.1 Bad sequence of commands: say HELO"),
    ([ME], RCPT, "503 5.5.1 Bad sequence of commands: MAIL"),
    ([ME], "DATA", "503 5.5.1 Bad sequence of commands: MAIL"),
    ([ME, MAIL], "DATA", "503 5.5.1 Bad sequence of commands: RCPT"),
    ([ME, MAIL], MAIL, "503 5.5.1 Bad sequence of commands: nested MAIL"),
    ([ME, MAIL, "RCPT TO:<nobody@cs.utwente.example>"], "DATA", "554 5.5.1 No valid recipients"),
    ([ME, MAIL, RCPT], "DATA now", "501 5.5.4 Syntax: DATA"),
    ([ME, MAIL, RCPT, "RSET"], "DATA", "503 5.5.1 Bad sequence of commands: MAIL"),
    ([ME, MAIL, RCPT, ME], "DATA", "503 5.5.1 Bad sequence of commands: MAIL"),  # RFC 5321 4.1.4: as RSET
    ([ME, "MAIL FROM:<>"], RCPT, "250 2.1.5 OK"),
    ([ME, "MAIL FROM:<>"], MAIL, "503 5.5.1 Bad sequence of commands: nested MAIL"),
    ([ME], "MAIL", "501 5.5.4 Syntax: MAIL FROM:"),
    ([ME], "MAIL TO:<a@b>", "501 5.5.4 Syntax: MAIL FROM:"),
    ([ME], "MAIL FROM :<a@b>", "501 5.5.4 Syntax: MAIL FROM:"),
    ([ME], "MAIL FROM: <a@b>", "250 2.1.0 OK"),
    ([ME], "mail from:<a@b>", "250 2.1.0 OK"),
    ([ME], "MAIL FROM:a@b", "501 5.1.7 Syntax error in the reverse-path: the address must stand in angle"),
    ([ME], "MAIL FROM:<a@b", "501 5.1.7 Syntax error in the reverse-path: the closing angle bracket is missing"),
    ([ME], "MAIL FROM:<a b@c>", "501 5.1.7 Syntax error in the reverse-path: an address holds no space"),
    ([ME], "MAIL FROM:<a>", "501 5.1.7 Syntax error in the reverse-path: the address lacks @domain"),
    ([ME], "MAIL FROM:<<a@b>>", "501 5.1.7 Syntax error in the reverse-path:"),
    ([ME], "MAIL FROM:<a@b>x", "501 5.1.7 Syntax error in the reverse-path: something follows"),
    ([ME], "MAIL FROM:<a..b@c>", "501 5.1.7 Syntax error in the reverse-path:"),
    ([ME], 'MAIL FROM:<"a b>"@c>', "250 2.1.0 OK"),
    ([ME], "MAIL FROM:<@x.example,@y.example:a@b>", "250 2.1.0 OK"),
    ([ME], "MAIL FROM:<a@[192.0.2.10]>", "250 2.1.0 OK"),
    ([ME], "MAIL FROM:<a@b> SIZE=10", "501 5.5.4 Syntax: MAIL FROM:<reverse-path> (parameters need EHLO"),
    (["EHLO x"], "MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME", "250 2.1.0 OK"),
    (["EHLO x"], "MAIL FROM:<a@b> SIZE=ten", "501 5.5.4 Syntax: SIZE="),
    (["EHLO x"], "MAIL FROM:<a@b> BODY=9BIT", "501 5.5.4 Syntax: BODY="),
    (["EHLO x"], "MAIL FROM:<a@b> SIZE=33554433", "552 5.3.4 Message size exceeds fixed maximum"),
    (["EHLO x"], "MAIL FROM:<a@b> FOO=bar", "555 5.5.4 MAIL FROM parameter "),
    (["EHLO x"], "MAIL FROM:<a@b> =", "501 5.5.4 Syntax error in the parameter "),
    (["EHLO x", MAIL], f"{RCPT} NOTIFY=NEVER", "555 5.5.4 RCPT TO parameters"),
    ([ME, MAIL], "RCPT", "501 5.5.4 Syntax: RCPT TO:"),
    ([ME, MAIL], "RCPT TO:<>", "501 5.1.3 Syntax error in the forward-path: the address is empty"),
    ([ME, MAIL], "RCPT TO:<nobody@cs.utwente.example>", "550 5.1.1 <nobody@cs.utwente.example>: No such user here"),
    ([ME, MAIL], "RCPT TO:<pras@cs.utwente.example>", "551 5.1.6 User not local; please try <teacher@cs.utwente.ex"),
    ([ME, MAIL], "RCPT TO:<x@elsewhere.test>", "554 5.7.1 <x@elsewhere.test>: Relay access denied"),
    ([ME, MAIL], "RCPT TO:<x@unknown.example>", "554 5.7.1 <x@unknown.example>: Relay access denied"),
    ([ME, MAIL], "RCPT TO:<anybody@student.example>", "250 2.1.5 OK"),
    ([ME, MAIL], "RCPT TO:<Postmaster>", "250 2.1.5 OK"),
    ([ME, MAIL], "RCPT TO:<TEACHER@CS.UTwente.Example>", "250 2.1.5 OK"),
    ([ME, MAIL], "RCPT TO:<teacher@[192.0.2.25]>", "250 2.1.5 OK"),
    ([ME, MAIL], 'RCPT TO:<"teacher"@cs.utwente.example>', "250 2.1.5 OK"),
    ([ME, MAIL], "RCPT TO:<students@cs.utwente.example>", "250 2.1.5 OK"),
    ([], "NOOP", "250 2.0.0 OK"),
    ([], "NOOP what ever", "250 2.0.0 OK"),
    ([], "RSET", "250 2.0.0 OK"),
    ([], "RSET all", "501 5.5.4 Syntax: RSET"),
    ([], "QUIT now", "501 5.5.4 Syntax: QUIT"),
    ([], "QUIT", "221 2.0.0 shannon.cs.utwente.example Service closing"),
    ([], "HALO your-pc", '500 5.5.2 Syntax error, command unrecognized: "HALO"; did you mean HELO?'),
    ([], "MAILFROM:<a@b>", "500 5.5.2 Syntax error, command unrecognized; the syntax is MAIL FROM:"),
    ([], "Subject: hi", '500 5.5.2 Syntax error, command unrecognized: "SUBJECT:"; a header field'),
    ([], "\x1b[31mX", "500 5.5.2 Syntax error, command unrecognized; try HELP"),
    ([], "AHN0dWRlbnQAdGFsa2luZw==", "500 5.5.2 Syntax error, command unrecognized; try HELP"),
    ([], "AUTHPLAIN AHN0dWRlbnQA", '500 5.5.2 Syntax error, command unrecognized: "AUTHPLAIN"; try HELP'),
    ([], "correcthorsebatterystaple", "500 5.5.2 Syntax error, command unrecognized; try HELP"),
    ([], "", "500 5.5.2 Syntax error"),
    ([], "NÖÖP", "500 5.5.2 Syntax error: a line begins with a command"),
    ([], "HELO Zürich", "500 5.5.2 Syntax error: octets above 127"),
    ([], "NOOP " + "x" * 993, "250 2.0.0 OK"),
    ([], "NOOP " + "x" * 994, "500 5.5.2 Command line too long"),
    (["EHLO x"], "NOOP " + "x" * 994, "500 5.5.2 Command line too long"),
    ([], "XYZZY " + "x" * 3_000_000, "500 5.5.2 Command line too long"),
    ([], "SEND FROM:<a@b>", "502 5.5.1 Command not implemented"),
    ([], "TURN", "502 5.5.1 Command not implemented"),
    (["EHLO x"], "AUTH PLAIN", "502 5.5.1 Command not implemented"),
    ([], "STARTTLS", "502 5.5.1 Command not implemented"),
    ([], "VRFY", "501 5.5.4 Syntax: VRFY"),
    ([], "VRFY teacher", "250 2.1.5 Tess Teacher <teacher@cs.utwente.example>"),
    ([], "VRFY <teacher@cs.utwente.example>", "250 2.1.5 Tess Teacher <teacher@cs.utwente.example>"),
    ([], "VRFY Tess", "250 2.1.5 Tess Teacher <teacher@cs.utwente.example>"),
    ([], "VRFY nobody", "550 5.1.1 String does not match anything"),
    ([], "VRFY nobody@cs.utwente.example", "550 5.1.1 <nobody@cs.utwente.example>: No such user here"),
    ([], "VRFY pras", "551 5.1.6 User not local; please try <teacher@cs.utwente.example>"),
    ([], "VRFY students", "550 5.1.1 That is a mailing list, not a user; try EXPN"),
    ([], "VRFY student@student.example", "252 2.0.0 Cannot VRFY user, but will accept message and attempt delivery"),
    ([], "VRFY x@elsewhere.test", "550 5.7.1 <x@elsewhere.test>: not here, and not relayed"),
    ([], "EXPN", "501 5.5.4 Syntax: EXPN"),
    ([], "EXPN teacher", "550 5.1.1 That is a user name, not a mailing list; try VRFY"),
    ([], "EXPN nothing", "550 5.1.1 No such mailing list here"),
    ([], "HELP MAIL", "214 2.0.0 Syntax: MAIL FROM:<reverse-path>"),
    ([], "HELP turn", "214 2.0.0 TURN is defined in RFC 821 3.8, not served here"),
    ([], "HELP me", '504 5.5.4 HELP topic "me" unknown'),
]


async def test_every_stray_line_gets_the_reply_of_the_rfc(shannon: Shannon) -> None:
    wrong = []
    for before, line, expected in STRAY:
        reply = (await say(shannon.port, *before, line))[-1]
        if not reply.startswith(expected):
            wrong.append((before, line[:60], reply, expected))
    assert wrong == []


async def test_help_expn_and_an_ambiguous_vrfy_answer_in_several_lines_each_with_its_status(shannon: Shannon) -> None:
    commands, members, ambiguous = await say(shannon.port, "HELP", "EXPN students", "VRFY te")
    assert commands.splitlines() == [
        "214-2.0.0 Commands:",
        "214-2.0.0   HELO EHLO MAIL RCPT DATA RSET VRFY EXPN HELP NOOP QUIT",
        "214 2.0.0 For more on one of them: HELP <SP> <command>",
    ]
    assert members.splitlines() == [
        "250-2.1.5 Stu Dent <student@student.example>",
        "250 2.1.5 Anna Log <anna@student.example>",
    ]
    assert ambiguous.splitlines() == [
        "553-5.1.4 User ambiguous; possibilities are",
        "553-5.1.4 Tess Teacher <teacher@cs.utwente.example>",
        "553 5.1.4 Post Master <postmaster@cs.utwente.example>",
    ]


async def test_with_vrfy_off_nobody_learns_who_exists(tmp_path: Path) -> None:
    async with Shannon(tmp_path, vrfy=False) as host:
        known, unknown, expn, ehlo = await say(host.port, "VRFY teacher", "VRFY nobody", "EXPN students", "EHLO x")
    assert known == unknown == "252 2.0.0 Cannot VRFY user, but will accept message and attempt delivery"
    assert expn == "550 5.7.2 Access denied to you"
    assert "EXPN" not in ehlo


async def test_no_number_of_typing_errors_ends_a_session(shannon: Shannon) -> None:
    replies = await say(shannon.port, *["HALLO"] * 50, "HELO your-pc")
    assert {reply[:3] for reply in replies[:-1]} == {"500"}
    assert replies[-1] == f"250 {FQDN}"


async def test_policy_and_loops_are_refused_only_after_the_data(shannon: Shannon) -> None:
    data = [ME, MAIL, RCPT, "DATA"]
    policy = f"Subject: x\r\n{plan.POLICY_WORD}: y\r\n\r\nz\r\n."
    body = f"Subject: x\r\n\r\n{plan.POLICY_WORD}: y\r\n."
    hops = "Received: from x\r\n" * 26 + "\r\nz\r\n."
    fewer = "Received: from x\r\n" * 25 + "\r\nz\r\n."
    replies = await say(shannon.port, *data, policy, *data[1:], body, *data[1:], hops, *data[1:], fewer)
    assert [reply for reply in replies if reply[:3] == "554"] == [
        "554 5.7.1 Transaction failed: policy forbids the header field X-Policy-Test",
        "554 5.4.6 Transaction failed: too many hops, more than 25 Received fields",
    ]
    assert len(await shannon.inbox("teacher", 2)) == 2


async def test_a_message_over_the_size_limit_is_refused_after_its_end(
    shannon: Shannon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "SIZE_LIMIT", 1000)
    *_, reply, still = await say(shannon.port, ME, MAIL, RCPT, "DATA", ("x" * 78 + "\r\n") * 13 + ".", "NOOP")
    assert reply == "552 5.3.4 Message too big: at most 33554432 octets"  # the text is of the constant
    assert still == "250 2.0.0 OK"


async def test_lines_of_data_are_taken_however_long_up_to_a_bound(shannon: Shannon) -> None:
    long, longer = "x" * 500_000, "y" * 3_000_000
    *_, reply = await say(shannon.port, ME, MAIL, RCPT, "DATA", f"{long}\r\n.")
    assert reply.startswith("250 2.0.0")
    (message,) = await shannon.inbox("teacher")
    assert message.endswith(f"\r\n{long}\r\n".encode())
    *_, reply, still = await say(shannon.port, ME, MAIL, RCPT, "DATA", f"{longer}\r\n.", "NOOP")
    assert reply == "500 5.5.2 Line of mail data too long: at most 1048576 octets"
    assert still == "250 2.0.0 OK"


async def test_a_bare_lf_in_data_becomes_crlf_and_a_dot_behind_it_ends_nothing(shannon: Shannon) -> None:
    raw = b"a\nb\n.\nc\n.\r\nd\r.\re\x00\xff\r\n.\r\n"
    await say(shannon.port, ME, MAIL, RCPT, "DATA", raw)
    (message,) = await shannon.inbox("teacher")
    # ".\r\n" after a bare LF is text that began no CRLF-line: its dot is not one of transparency either.
    assert message.endswith(b"\r\na\r\nb\r\n.\r\nc\r\n.\r\nd\r.\re\x00\xff\r\n")


async def test_no_bare_lf_is_handed_on(shannon: Shannon, tmp_path: Path) -> None:
    await say(shannon.port, ME, MAIL, "RCPT TO:<anna@student.example>", "DATA", b"a\nb\r\n.\r\n", b"NOOP\r\n")
    async with asyncio.timeout(5):
        while not (waiting := shannon.queue.waiting()):
            await asyncio.sleep(0.01)
    _, _, data = (tmp_path / "queue" / waiting[0]).read_bytes().partition(b"\n")
    assert data.endswith(b"\r\na\r\nb\r\n")


async def test_pipelined_commands_are_answered_in_order_even_to_one_who_has_stopped_sending(shannon: Shannon) -> None:
    reader, writer = await asyncio.open_connection(HOST, shannon.port)
    lines = ["EHLO x", MAIL, "RCPT TO:<nobody@cs.utwente.example>", RCPT, "DATA", "Subject: s", "", "t", ".", "QUIT"]
    writer.write("".join(f"{line}\r\n" for line in lines).encode())
    writer.write_eof()
    answer = (await asyncio.wait_for(reader.read(), 5)).decode("ascii").splitlines()
    writer.close()
    assert [line[:3] for line in answer if line[3] == " "] == ["220", "250", "250", "550", "250", "354", "250", "221"]
    assert len(await shannon.inbox("teacher")) == 1


async def test_who_has_stopped_sending_and_reads_late_still_gets_every_reply(shannon: Shannon) -> None:
    reader, writer = await asyncio.open_connection(HOST, shannon.port, limit=2**10)
    count = 30_000  # more replies than the buffers between the two hold, so that the MTA has to wait
    writer.write(b"HELP\r\n" * count + b"QUIT\r\n")
    writer.write_eof()
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    assert answer.count(b"214 ") == count
    assert answer.splitlines()[-1].startswith(b"221 ")


async def test_data_refused_leaves_the_next_lines_commands(shannon: Shannon) -> None:
    reader, writer = await asyncio.open_connection(HOST, shannon.port)
    writer.write(b"HELO x\r\nDATA\r\nNOOP\r\n.\r\nQUIT\r\n")
    answer = (await asyncio.wait_for(reader.read(), 5)).decode("ascii").splitlines()
    writer.close()
    assert [line[:3] for line in answer] == ["220", "250", "503", "250", "500", "221"]


async def test_a_bare_lf_ends_a_command_line(shannon: Shannon) -> None:
    reader, writer = await asyncio.open_connection(HOST, shannon.port)
    writer.write(b"NOOP\nQUIT\n")
    answer = (await asyncio.wait_for(reader.read(), 5)).decode("ascii").splitlines()
    writer.close()
    assert [line[:3] for line in answer] == ["220", "250", "221"]


async def test_more_recipients_than_the_limit_are_asked_to_come_again(shannon: Shannon) -> None:
    replies = await say(shannon.port, ME, MAIL, *[f"RCPT TO:<u{n}@student.example>" for n in range(101)])
    assert set(replies[2:-1]) == {"250 2.1.5 OK"}
    assert replies[-1] == "452 4.5.3 Too many recipients: at most 100 a transaction"


async def test_of_several_recipients_none_is_named_in_the_trace(shannon: Shannon) -> None:
    await say(shannon.port, "EHLO x", MAIL, RCPT, "RCPT TO:<Postmaster>", "DATA", "hello\r\n.")
    (message,) = await shannon.inbox("teacher")
    assert b"for <" not in message
    assert b" with ESMTP id " in message
    assert (await shannon.inbox("postmaster"))[0] == message


async def test_the_null_reverse_path_is_kept_as_it_is(shannon: Shannon) -> None:
    await say(shannon.port, ME, "MAIL FROM:<>", RCPT, "DATA", "hello\r\n.")
    (message,) = await shannon.inbox("teacher")
    assert message.startswith(b"Return-Path: <>\r\nReceived: ")


async def test_when_the_host_goes_down_everybody_is_told_421(tmp_path: Path) -> None:
    async with Shannon(tmp_path) as host:
        reader, writer = await asyncio.open_connection(HOST, host.port)
        await read_reply(reader)
    farewell = (await asyncio.wait_for(reader.read(), 5)).decode("ascii")
    writer.close()
    assert farewell == f"421 4.3.2 {FQDN} Service not available, closing transmission channel\r\n"


async def test_who_is_silent_too_long_is_told_421(shannon: Shannon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "IDLE_LIMIT", 0.05)
    reader, writer = await asyncio.open_connection(HOST, shannon.port)
    lines = (await asyncio.wait_for(reader.read(), 5)).decode("ascii").splitlines()
    writer.close()
    assert lines[1:] == [f"421 4.4.2 {FQDN} Timeout, closing transmission channel"]


async def test_what_cannot_be_written_is_not_answered_for(shannon: Shannon, tmp_path: Path) -> None:
    (tmp_path / "queue").rename(tmp_path / "gone")
    *_, reply = await say(shannon.port, ME, MAIL, RCPT, "DATA", "hello\r\n.")
    (tmp_path / "gone").rename(tmp_path / "queue")
    assert reply == "452 4.3.1 Insufficient system storage: No such file or directory"


async def test_smtplib_is_served(shannon: Shannon) -> None:
    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(HOST, shannon.port, local_hostname="pc", timeout=5) as client:
            return client.sendmail(
                "student@student.example",
                ["teacher@cs.utwente.example", "nobody@cs.utwente.example"],
                b"Subject: x\r\n\r\n.dot\r\n",
            )

    refused = await asyncio.to_thread(send)
    assert refused["nobody@cs.utwente.example"][0] == 550
    assert (await shannon.inbox("teacher"))[0].endswith(b"Subject: x\r\n\r\n.dot\r\n")


ENHANCED = re.compile(r"([245])\d\d[ -]\1\.\d{1,3}\.\d{1,3} ")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.sampled_from(list(replies.SYNTAX) + list(replies.NOT_SERVED)) | st.text(max_size=8), max_size=2),
    data=st.data(),
)
def test_every_reply_carries_a_status_where_rfc_2034_wants_one(
    words: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    typed = [
        word + data.draw(st.sampled_from(["", " ", " x", " FROM:<a@b.example>", " TO:<teacher@cs.utwente.example>"]))
        for word in ["HELO x", MAIL, *words]
    ]

    async def go() -> bytes:
        async with Shannon(tmp_path_factory.mktemp("shannon")) as host:
            reader, writer = await asyncio.open_connection(HOST, host.port)
            writer.write(b"".join(re.sub(r"[\r\n]", "", line).encode() + b"\r\n" for line in typed) + b".\r\nQUIT\r\n")
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return answer

    lines = asyncio.run(go()).decode("ascii").splitlines()
    hellos = [line for line in lines if not ENHANCED.match(line) and line[:3] not in ("220", "354")]
    assert len(hellos) <= sum(line.startswith(("HELO", "EHLO")) for line in typed) * 7
    assert all(
        re.match(rf"250[ -]({re.escape(FQDN)}|SIZE|8BIT|PIPE|ENH|EXPN|HELP)|501 Syntax: [HE]", x) for x in hellos
    )


def test_what_we_put_into_our_words_is_what_aiosmtpd_says() -> None:
    source = inspect.getsource(aiosmtpd.smtp)
    assert [words for words in receiver._IN_OUR_WORDS if words not in source] == []
    assert '500 Error: command "{command}" not recognized' in source


TO_DATA = f"{ME}\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode()
PIECES = st.binary(max_size=30) | st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b"\r\n.\r\n",
        b"MAIL FROM:<",
        b"RCPT TO:<",
        b"@",
        b">",
        b" ",
        b"VRFY ",
        b"DATA\r\n",
        b"\xff",
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"", b"EHLO x\r\n", f"{ME}\r\n{MAIL}\r\n".encode(), TO_DATA]),
    pieces=st.lists(PIECES, max_size=15),
)
def test_whatever_octets_are_sent_each_reply_is_one_and_nothing_breaks(
    head: bytes,
    pieces: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def go() -> bytes:
        async with Shannon(tmp_path_factory.mktemp("shannon")) as host:
            reader, writer = await asyncio.open_connection(HOST, host.port)
            writer.write(head + b"".join(pieces))
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return answer

    answer = asyncio.run(go())
    assert re.fullmatch(rb"220 [ -~]+\r\n(?:[2345]\d\d[ -][ -~]*\r\n)*", answer)
    assert b"\r\n451 " not in answer  # what handle_exception says
    assert caplog.records == []
    assert capsys.readouterr().err == ""


async def test_words_of_aiosmtpd_that_are_new_to_us_get_a_general_status(
    shannon: Shannon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_IN_OUR_WORDS", {})
    *_, bad, start, late = await say(shannon.port, ME, MAIL, RCPT, "", "DATA", "x\r\n.")
    assert bad == "500 5.0.0 Error: bad syntax"
    assert start == "354 End data with <CR><LF>.<CR><LF>"
    assert late.startswith("250 2.0.0 OK, queued as ")


async def test_a_defect_is_told_on_stderr_and_the_session_goes_on(
    shannon: Shannon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shannon.mta, "verify", lambda text: 1 / 0)
    assert await say(shannon.port, "VRFY teacher", "NOOP") == [
        "451 4.3.0 Requested action aborted: error in processing",
        "250 2.0.0 OK",
    ]
    assert "ZeroDivisionError" in capsys.readouterr().err
