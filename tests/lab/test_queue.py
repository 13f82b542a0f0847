"""The queue and the relay: each recipient ends delivered, handed on or reported, and nobody is told in circles."""

from __future__ import annotations

import asyncio
import email
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab import directory, plan
from lab.mailbox import Mailboxes
from lab.queue import Queue
from lab.relay import Exchanger, Relay, Resolver, Unroutable, Verdict
from lab.zone import NameServer, Zones

HOST = "127.0.0.1"
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


class Answers:
    """A relay that gives prepared codes, one list of tries for each recipient, and remembers what it was asked."""

    def __init__(self, **codes: list[int]) -> None:
        self.codes = {f"{user}@student.example": list(tries) for user, tries in codes.items()}
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.messages: list[bytes] = []

    async def send(self, sender: str, recipients: Sequence[str], data: bytes) -> list[Verdict]:
        self.asked.append((sender, tuple(recipients)))
        self.messages.append(data)
        given = [(recipient, self.codes.get(recipient, [250])) for recipient in recipients]
        codes = [(recipient, tries.pop(0) if len(tries) > 1 else tries[0]) for recipient, tries in given]
        return [Verdict(recipient, code, f"{code // 100}.0.0", "because", "next") for recipient, code in codes]


class Office:
    """shannon's queue and mailboxes, with any relay."""

    def __init__(self, path: Path, relay: object, pauses: Sequence[float] = (0.01, 0.02)) -> None:
        self.mailboxes = Mailboxes(path / "mail")
        self.queue = Queue(path / "queue", directory.of(plan.SHANNON), self.mailboxes, relay, pauses)  # type: ignore[arg-type]

    def submit(self, *recipients: str, sender: str = "student@student.example", data: bytes = MESSAGE) -> None:
        self.queue.submit(self.queue.ident(), sender, recipients, data)

    async def empty(self) -> None:
        """Until nothing waits."""
        await until(lambda: not self.queue.waiting())

    def inbox(self, user: str) -> list[bytes]:
        drop = self.mailboxes.of(user)
        return [drop.read(message.key) for message in drop.messages()]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def office(path: Path, relay: object, pauses: Sequence[float] = (0.01, 0.02)) -> AsyncIterator[Office]:
    made = Office(path, relay, pauses)
    try:
        yield made
    finally:
        await made.queue.close()


async def test_local_mail_goes_to_the_mailbox_and_other_mail_to_the_relay(tmp_path: Path) -> None:
    relay = Answers()
    async with office(tmp_path, relay) as shannon:
        shannon.submit("teacher@cs.utwente.example", "student@student.example", "anna@student.example")
        await shannon.empty()
        assert shannon.inbox("teacher") == [b"Return-Path: <student@student.example>\r\n" + MESSAGE]
    assert relay.asked == [("student@student.example", ("student@student.example", "anna@student.example"))]
    assert relay.messages == [MESSAGE]


async def test_a_recipient_named_twice_gets_one_message(tmp_path: Path) -> None:
    async with office(tmp_path, Answers()) as shannon:
        shannon.submit("teacher@cs.utwente.example", "teacher@cs.utwente.example")
        await shannon.empty()
        assert len(shannon.inbox("teacher")) == 1


async def test_4yz_is_tried_again_for_those_who_are_left_only(tmp_path: Path) -> None:
    relay = Answers(student=[451, 250], anna=[250])
    async with office(tmp_path, relay) as shannon:
        shannon.submit("student@student.example", "anna@student.example")
        await shannon.empty()
    assert [recipients for _, recipients in relay.asked] == [
        ("student@student.example", "anna@student.example"),
        ("student@student.example",),
    ]


async def test_5yz_is_reported_to_the_sender_at_once_while_others_wait(tmp_path: Path) -> None:
    relay = Answers(nobody=[550], anna=[450, 450, 250])
    async with office(tmp_path, relay) as shannon:
        shannon.submit("nobody@student.example", "anna@student.example", sender="teacher@cs.utwente.example")
        await shannon.empty()
        (received,) = shannon.inbox("teacher")
    assert received.startswith(b"Return-Path: <>\r\nFrom: Mail Delivery System")
    status = list(email.message_from_bytes(received).walk())[2]
    blocks = status.get_payload()
    assert [block["Final-Recipient"] for block in blocks[1:]] == ["rfc822; nobody@student.example"]
    assert blocks[1]["Diagnostic-Code"] == "smtp; 550 5.0.0 because"


async def test_when_the_schedule_is_at_its_end_the_sender_is_told_4_4_7(tmp_path: Path) -> None:
    relay = Answers(anna=[450])
    async with office(tmp_path, relay) as shannon:
        shannon.submit("anna@student.example", sender="teacher@cs.utwente.example")
        await shannon.empty()
        (received,) = shannon.inbox("teacher")
    assert len(relay.asked) == 3  # at once and after each of two pauses
    assert b"Status: 4.4.7\r\n" in received


async def test_a_report_that_cannot_be_delivered_goes_to_the_postmaster_and_no_further(tmp_path: Path) -> None:
    relay = Answers(nobody=[550], student=[550])
    async with office(tmp_path, relay) as shannon:
        shannon.submit("nobody@student.example", sender="student@student.example")
        await shannon.empty()
        (kept,) = shannon.inbox("postmaster")
    assert [sender for sender, _ in relay.asked] == ["student@student.example", ""]
    assert b"Final-Recipient: rfc822; nobody@student.example" in kept


async def test_a_list_goes_to_its_members_and_its_troubles_to_who_keeps_it(tmp_path: Path) -> None:
    relay = Answers(anna=[550])
    async with office(tmp_path, relay) as shannon:
        shannon.submit("students@cs.utwente.example")
        await shannon.empty()
        (told,) = shannon.inbox("postmaster")
    assert relay.asked == [
        ("postmaster@cs.utwente.example", ("student@student.example", "anna@student.example")),
    ]
    assert b"Final-Recipient: rfc822; anna@student.example" in told


async def test_who_is_unknown_or_moved_when_it_comes_to_delivery_is_reported(tmp_path: Path) -> None:
    async with office(tmp_path, Answers()) as shannon:
        shannon.submit("nobody@cs.utwente.example", "pras@cs.utwente.example", sender="teacher@cs.utwente.example")
        await shannon.empty()
        (told,) = shannon.inbox("teacher")
    assert re.findall(rb"Status: (\S+)", told) == [b"5.1.1", b"5.1.6"]


async def test_what_was_on_disk_is_tried_after_a_restart_where_it_stood(tmp_path: Path) -> None:
    async with office(tmp_path, Answers(anna=[450]), pauses=(60.0, 0.01)) as before:
        before.submit("anna@student.example", "student@student.example")
        await until(lambda: any(b'"tries": 1' in path.read_bytes() for path in (tmp_path / "queue").iterdir()))
        (ident,) = before.queue.waiting()
    (tmp_path / "queue" / "half.tmp").write_bytes(b"written when the host died")
    relay = Answers()
    async with office(tmp_path, relay) as after:
        assert after.queue.waiting() == [ident]
        after.queue.resume()
        await after.empty()
    assert relay.asked == [("student@student.example", ("anna@student.example",))]
    assert relay.messages == [MESSAGE]


async def test_a_mailbox_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    async with office(tmp_path, Answers(), pauses=(0.05,) * 40) as shannon:
        (tmp_path / "mail" / "teacher").write_bytes(b"in the way")
        shannon.submit("teacher@cs.utwente.example")
        await until(lambda: any(b'"tries": 1' in path.read_bytes() for path in (tmp_path / "queue").iterdir()))
        (tmp_path / "mail" / "teacher").unlink()
        await shannon.empty()
        assert len(shannon.inbox("teacher")) == 1


async def test_a_defect_in_the_relay_is_told_and_the_message_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def send(self, *_: object) -> list[Verdict]:
            raise ZeroDivisionError

    async with office(tmp_path, Broken()) as shannon:
        shannon.submit("anna@student.example")
        await until(lambda: caplog.records)
        assert len(shannon.queue.waiting()) == 1
    assert "stopped" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# The relay, against a next hop that speaks from a script


class Script:
    """A next hop: what it answers to each line of the client, and what it was told."""

    def __init__(self, greeting: str = "220 next", **answers: str) -> None:
        self.greeting, self.answers = greeting, answers
        self.lines: list[bytes] = []
        self.data = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self.greeting.encode() + b"\r\n")
            while line := await reader.readline():
                self.lines.append(line)
                verb = line[:4].decode()
                usual = {"DATA": "354 go", "QUIT": "221 bye"}.get(verb, "250 fine")
                answer = self.answers.get(line.decode().strip(), self.answers.get(verb, usual))
                if answer == "close":
                    break
                writer.write(answer.encode() + b"\r\n")
                if answer.startswith("354"):
                    self.data = await reader.readuntil(b"\r\n.\r\n")
                    writer.write(self.answers.get("dot", "250 2.0.0 taken").encode() + b"\r\n")
        finally:
            writer.close()


class Fixed:
    """A resolver with one answer."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def exchangers(self, domain: str, own_name: str = "") -> list[Exchanger]:
        return [Exchanger("next.example", address) for address in self.addresses]


async def relay_to(
    script: Script, *recipients: str, data: bytes = MESSAGE, sender: str = "a@b.example"
) -> list[Verdict]:
    server = await asyncio.start_server(script, HOST, 0)
    relay = Relay("me.example", Fixed(HOST), port=server.sockets[0].getsockname()[1])  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        verdicts = await relay.send(sender, recipients, data)
    server.close()
    return verdicts


async def test_the_wire_is_clean_upper_case_and_one_command_a_line() -> None:
    script = Script(EHLO="250-next\r\n250-size 1000\r\n250 8BITMIME")
    data = b"Subject: caf\xe9\r\n\r\n.a\r\n..b\r\n\x00\rc\r\n.\r\nend"
    verdicts = await relay_to(script, "x@y.example", "z@y.example", data=data)
    assert script.lines == [
        b"EHLO me.example\r\n",
        b"MAIL FROM:<a@b.example> SIZE=%d BODY=8BITMIME\r\n" % len(data),
        b"RCPT TO:<x@y.example>\r\n",
        b"RCPT TO:<z@y.example>\r\n",
        b"DATA\r\n",
        b"QUIT\r\n",
    ]
    assert script.data == b"Subject: caf\xe9\r\n\r\n..a\r\n...b\r\n\x00\rc\r\n..\r\nend\r\n.\r\n"
    assert [(v.recipient, v.code, v.status, v.host) for v in verdicts] == [
        ("x@y.example", 250, "2.0.0", "next.example"),
        ("z@y.example", 250, "2.0.0", "next.example"),
    ]


async def test_the_null_reverse_path_stays_null() -> None:
    script = Script()
    await relay_to(script, "x@y.example", sender="")
    assert b"MAIL FROM:<>\r\n" in script.lines


REPLIES = [
    (Script("554 No SMTP service here"), 554, "5.0.0"),
    (Script("421 later"), 421, "4.0.0"),
    (Script(EHLO="502 what?"), 250, "2.0.0"),  # then HELO
    (Script(EHLO="502 what?", HELO="550 no"), 550, "5.0.0"),
    (Script(MAIL="451 4.3.0 oops"), 451, "4.3.0"),
    (Script(MAIL="550 4.3.0 class and code disagree"), 550, "5.0.0"),
    (Script(RCPT="550-5.1.1 no such\r\n550 5.1.1 user"), 550, "5.1.1"),
    (Script(RCPT="251 will forward"), 250, "2.0.0"),
    (Script(DATA="554 no"), 554, "5.0.0"),
    (Script(DATA="250 what?"), 451, "4.5.0"),
    (Script(dot="554 5.7.1 Transaction failed"), 554, "5.7.1"),
    (Script(dot="354 more?"), 451, "4.0.0"),
    (Script(EHLO="close"), 451, "4.4.1"),
    (Script(DATA="close"), 451, "4.4.1"),
    (Script(QUIT="close"), 250, "2.0.0"),
    (Script("hello"), 451, "4.4.1"),
    (Script("220-" + "x" * 9000), 451, "4.4.1"),
    (Script("220-x\r\n" * 200), 451, "4.4.1"),
]


@pytest.mark.parametrize(("script", "code", "status"), REPLIES)
async def test_each_reply_of_the_next_hop_becomes_a_verdict(script: Script, code: int, status: str) -> None:
    (verdict,) = await relay_to(script, "x@y.example")
    assert (verdict.code, verdict.status) == (code, status), verdict


async def test_refused_and_accepted_recipients_are_told_apart() -> None:
    script = Script(**{"RCPT TO:<z@y.example>": "550 5.1.1 no"})
    verdicts = await relay_to(script, "x@y.example", "z@y.example")
    assert {v.recipient: v.code for v in verdicts} == {"x@y.example": 250, "z@y.example": 550}
    assert script.data == MESSAGE + b".\r\n"


async def test_where_no_recipient_is_accepted_no_data_is_sent() -> None:
    script = Script(RCPT="450 4.2.1 later")
    assert {v.code for v in await relay_to(script, "x@y.example", "z@y.example")} == {450}
    assert b"DATA\r\n" not in script.lines


async def test_the_next_exchanger_is_tried_when_the_first_is_not_there() -> None:
    script = Script()
    server = await asyncio.start_server(script, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    relay = Relay(
        "me.example", Fixed("192.0.2.1", "192.0.2.2"), via={"192.0.2.1": (HOST, 9), "192.0.2.2": (HOST, port)}
    )  # type: ignore[arg-type]
    (verdict,) = await relay.send("", ["x@y.example"], MESSAGE)
    server.close()
    assert verdict.is_done


async def test_a_host_that_is_not_there_is_a_reason_to_try_again() -> None:
    relay = Relay("me.example", Fixed("192.0.2.1"), via={"192.0.2.1": (HOST, 9)})  # type: ignore[arg-type]
    (verdict,) = await relay.send("", ["x@y.example"], MESSAGE)
    assert (verdict.code, verdict.status, verdict.host) == (451, "4.4.1", "")
    assert verdict.text == "connect to next.example [192.0.2.1]: Connection refused"
    assert not verdict.is_final


async def test_a_domain_does_not_wait_for_one_whose_host_is_silent() -> None:
    class Two:
        async def exchangers(self, domain: str, own_name: str = "") -> list[Exchanger]:
            return [Exchanger(domain, "192.0.2.1" if domain == "quick.example" else "192.0.2.2")]

    script = Script()
    quick, silent = await asyncio.start_server(script, HOST, 0), socket.create_server((HOST, 0))
    via = {"192.0.2.1": quick.sockets[0].getsockname(), "192.0.2.2": silent.getsockname()}
    relay = Relay("me.example", Two(), via=via)  # type: ignore[arg-type]
    sending = asyncio.create_task(relay.send("", ["x@silent.example", "y@quick.example"], MESSAGE))
    await until(lambda: script.data)
    assert not sending.done()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    quick.close()
    silent.close()


# Routes, asked of the real zone


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    server = NameServer(Zones())
    yield Resolver(HOST, await server.start(HOST, 0))
    await server.close()


ROUTES = [
    ("student.example", [("mailhost.student.example", "192.0.2.110")]),
    ("cs.utwente.example", [("shannon.cs.utwente.example", "192.0.2.25")]),
    ("your-pc.student.example", [("your-pc.student.example", "192.0.2.10")]),  # no MX: its own address
    ("down.example", [("mx.down.example", "192.0.2.99")]),
    ("[192.0.2.10]", [("[192.0.2.10]", "192.0.2.10")]),
    ("[IPv6:2001:db8::1]", [("[IPv6:2001:db8::1]", "2001:db8::1")]),
]


@pytest.mark.parametrize(("domain", "expected"), ROUTES)
async def test_mail_is_routed_by_mx(resolver: Resolver, domain: str, expected: list[tuple[str, str]]) -> None:
    assert await resolver.exchangers(domain) == expected


NO_ROUTES = [
    ("nomail.example", 556, "5.1.10"),
    ("nomx.example", 550, "5.4.4"),
    ("nobody.example", 550, "5.1.2"),
    ("elsewhere.test", 451, "4.4.3"),
    ("student.example", 554, "5.4.6"),  # asked by mailhost itself
]


@pytest.mark.parametrize(("domain", "code", "status"), NO_ROUTES)
async def test_a_domain_that_takes_no_mail_is_told_apart(
    resolver: Resolver, domain: str, code: int, status: str
) -> None:
    with pytest.raises(Unroutable) as caught:
        await resolver.exchangers(domain, plan.MAILHOST.fqdn)
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_a_name_server_that_is_silent_is_a_reason_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.relay.LOOKUP_TIMEOUT", 0.3)
    with pytest.raises(Unroutable) as caught:
        await Resolver(HOST, 9).exchangers("student.example")
    assert (caught.value.code, caught.value.status) == (451, "4.4.3")
