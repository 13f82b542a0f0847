"""The two mail hosts as processes, talking to each other and to a student over real sockets."""

from __future__ import annotations

import contextlib
import os
import poplib
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.query
import pytest

from lab import plan, servers

HOST = "127.0.0.1"
POLL = 0.02  # seconds


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, on TCP and UDP."""
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < count:
            tcp = stack.enter_context(socket.socket())
            tcp.bind((HOST, 0))
            udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                ports.append(tcp.getsockname()[1])
        return ports


@dataclass
class Wire:
    """shannon and mailhost on loopback; each reaches the other at the port it has here."""

    path: Path
    shannon: int = 0
    mailhost: int = 0
    pop3: int = 0
    dns: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shannon, self.mailhost, self.pop3, self.dns = free_ports(4)

    def start(self, name: str, *more: str) -> float:
        """Start a host; gives the seconds until it was ready."""
        reader, writer = os.pipe()
        ports = {"shannon": self.shannon, "mailhost": self.mailhost}
        arguments = [sys.executable, "-bb", "-m", "lab.servers", name, "--bind", HOST]
        arguments += ["--smtp-port", str(ports[name]), "--pop3-port", str(self.pop3), "--dns-port", str(self.dns)]
        arguments += ["--resolver", f"{HOST}#{self.dns}", "--retry", "0.2,0.2,0.3,0.5,0.5,0.5,0.5"]
        arguments += ["--via", f"{plan.SHANNON.ipv4}={HOST}#{self.shannon}"]
        arguments += ["--via", f"{plan.MAILHOST.ipv4}={HOST}#{self.mailhost}"]
        arguments += ["--via", f"192.0.2.99={HOST}#9", *more]
        spool = self.path / name
        spool.mkdir(exist_ok=True)
        begun = time.monotonic()
        self.processes[name] = subprocess.Popen(
            arguments,
            env={**os.environ, servers.SPOOL: str(spool), servers.READY_FD: str(writer)},
            pass_fds=[writer],
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as ready:
            assert ready.read() == b"ready\n"  # and closed
        return time.monotonic() - begun

    def stop(self, name: str) -> str:
        """End a host by SIGTERM; gives what it wrote to stderr."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0
        return errors.decode()

    def send(self, to: str | list[str], body: bytes = b"Subject: x\r\n\r\nhello\r\n", sender: str = "") -> None:
        with smtplib.SMTP(HOST, self.shannon, local_hostname="your-pc", timeout=5) as client:
            client.sendmail(sender or "student@student.example", to, body)

    def inbox(self, user: str = "student") -> list[bytes]:
        """What POP3 gives, as octets."""
        client = poplib.POP3(HOST, self.pop3, timeout=5)
        client.user(user)
        client.pass_(plan.STUDENTS[user].password)
        found = []
        for number in range(1, client.stat()[0] + 1):
            _, lines, octets = client.retr(number)
            found.append(b"".join(line + b"\r\n" for line in lines))
            assert len(found[-1]) == octets
        client.quit()
        return found


def wait_for(get: Callable[[], list[bytes]], count: int) -> list[bytes]:
    deadline = time.monotonic() + 15
    while len(found := get()) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} came"
        time.sleep(POLL)
    return found


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path)
    yield made
    for name in list(made.processes):
        assert made.stop(name) == ""  # stderr is for defects


@pytest.fixture
def both(wire: Wire) -> Wire:
    wire.start("mailhost")
    wire.start("shannon")
    return wire


def test_mail_typed_at_shannon_is_fetched_at_mailhost_with_two_received_lines(both: Wire) -> None:
    lines = ["HELO your-pc", "MAIL FROM:<student@student.example>", "RCPT TO:<student@student.example>", "DATA"]
    with socket.create_connection((HOST, both.shannon), timeout=5) as connection, connection.makefile("rb") as replies:
        assert replies.readline() == b"220 shannon.cs.utwente.example Simple Mail Transfer Service ready\r\n"
        for line in lines:
            connection.sendall(line.encode() + b"\r\n")
            assert replies.readline()[:1] in b"23"
        connection.sendall(b"From: You'll-never-know-for-sure\r\n\r\n..\r\n..dots\r\ncaf\xc3\xa9\x00\rx\r\n.\r\n")
        assert replies.readline().startswith(b"250 2.0.0 OK, queued as ")
        connection.sendall(b"QUIT\r\n")
        assert replies.readline() == b"221 2.0.0 shannon.cs.utwente.example Service closing transmission channel\r\n"
        assert replies.readline() == b""
    welcome, message = wait_for(both.inbox, 2)
    assert welcome.endswith(servers.WELCOME)
    header, _, body = message.partition(b"\r\n\r\n")
    assert re.fullmatch(
        rb"Return-Path: <student@student\.example>\r\n"
        rb"Received: from shannon\.cs\.utwente\.example \(\[127\.0\.0\.1\]\)\r\n"
        rb"\tby mailhost\.student\.example with ESMTP id \w+\r\n\tfor <student@student\.example>;\r\n\t.*\r\n"
        rb"Received: from your-pc \(\[127\.0\.0\.1\]\)\r\n"
        rb"\tby shannon\.cs\.utwente\.example with SMTP id \w+\r\n\tfor <student@student\.example>;\r\n\t.*\r\n"
        rb"From: You'll-never-know-for-sure",
        header,
    )
    assert body == b".\r\n.dots\r\ncaf\xc3\xa9\x00\rx\r\n"


def test_mail_waits_for_a_next_hop_that_is_down_and_arrives_when_it_is_up(wire: Wire) -> None:
    wire.start("shannon")
    wire.send("student@student.example")
    queue = wire.path / "shannon" / "queue"
    wait_for(lambda: [p.read_bytes() for p in queue.iterdir() if b'"tries": 1' in p.read_bytes()], 1)
    wire.start("mailhost")
    assert wait_for(wire.inbox, 2)[1].endswith(b"\r\nSubject: x\r\n\r\nhello\r\n")
    wait_for(lambda: [b""] * (not list(queue.iterdir())), 1)


def test_unknown_users_and_domains_that_take_no_mail_are_reported_to_the_sender(both: Wire) -> None:
    expected = {
        "nobody@student.example": ("550 5.1.1", b"Remote-MTA: dns; mailhost.student.example"),
        "x@nomail.example": ("556 5.1.10", b"Action: failed"),
        "x@nomx.example": ("550 5.4.4", b"Action: failed"),
        "x@down.example": ("451 4.4.7", b"Action: failed"),
    }
    for address in expected:
        both.send(address)
    reports = wait_for(both.inbox, 5)[1:]
    for address, (reply, more) in expected.items():
        (found,) = [report for report in reports if f"Final-Recipient: rfc822; {address}".encode() in report]
        assert found.startswith(b"Return-Path: <>\r\n")
        assert f"Diagnostic-Code: smtp; {reply} ".encode() in found
        assert more in found


def test_mailhost_hands_staff_mail_back_to_shannon_and_bounces_travel_both_ways(both: Wire) -> None:
    with smtplib.SMTP(HOST, both.mailhost, local_hostname="your-pc", timeout=5) as client:
        client.sendmail("anna@student.example", ["teacher@cs.utwente.example"], b"Subject: to staff\r\n\r\n")
        client.sendmail("teacher@cs.utwente.example", ["pras@cs.utwente.example"], b"Subject: moved\r\n\r\n")
    box = both.path / "shannon" / "mail" / "teacher" / "new"
    mail, report = wait_for(lambda: sorted(p.read_bytes() for p in box.glob("*")), 2)
    report, mail = sorted((mail, report), key=lambda m: b"Subject: to staff" in m)
    assert mail.count(b"\nReceived: ") == 2
    assert b"Diagnostic-Code: smtp; 551 5.1.6 User not local; please try\n <teacher@cs.utwente.example>" in report


def test_a_message_of_ten_megabytes_arrives_exactly(both: Wire) -> None:
    body = b"".join(b".%07d " % n + b"x" * 60 + b"\r\n" for n in range(150_000))
    both.send("anna@student.example", b"Subject: long\r\n\r\n" + body)
    (message,) = wait_for(lambda: both.inbox("anna"), 1)
    assert message.endswith(b"\r\nSubject: long\r\n\r\n" + body)


def test_vrfy_can_be_switched_off(wire: Wire) -> None:
    wire.start("shannon", "--no-vrfy")
    with smtplib.SMTP(HOST, wire.shannon, timeout=5) as client:
        assert client.verify("nobody")[0] == 252


def test_names_are_answered_on_udp_and_tcp(wire: Wire) -> None:
    wire.start("mailhost")
    query = dns.message.make_query("student.example", "MX")
    for ask in (dns.query.udp, dns.query.tcp):
        (answer,) = ask(query, HOST, port=wire.dns, timeout=5).answer
        assert answer[0].to_text() == "10 mailhost.student.example."


def test_sigterm_tells_who_is_talking_and_leaves_no_trace(wire: Wire) -> None:
    wire.start("mailhost")
    with contextlib.ExitStack() as stack:
        smtp, pop3, names = (
            stack.enter_context(socket.create_connection((HOST, port), timeout=5))
            for port in (wire.mailhost, wire.pop3, wire.dns)
        )
        said = {sock: stack.enter_context(sock.makefile("rb")) for sock in (smtp, pop3)}
        assert said[smtp].readline().startswith(b"220 ")
        assert said[pop3].readline().startswith(b"+OK ")
        names.sendall(b"\x00")
        assert wire.stop("mailhost") == ""
        assert said[smtp].read().startswith(b"421 4.3.2 mailhost.student.example Service not available")


def test_sigterm_while_a_dead_host_is_tried_does_not_wait_for_it(both: Wire) -> None:
    silent = socket.create_server((HOST, 0), backlog=0)
    port = silent.getsockname()[1]
    both.stop("shannon")
    both.start("shannon", "--via", f"192.0.2.99={HOST}#{port}")  # accepts, never greets
    both.send("x@down.example")
    silent.settimeout(5)
    connection, _ = silent.accept()
    begun = time.monotonic()
    assert both.stop("shannon") == ""
    assert time.monotonic() - begun < 3
    connection.close()
    silent.close()


def test_an_address_that_cannot_be_had_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    taken = socket.create_server((HOST, 0))
    arguments = [sys.executable, "-m", "lab.servers", "shannon", "--bind", HOST]
    done = subprocess.run(
        [*arguments, "--smtp-port", str(taken.getsockname()[1])],
        env={**os.environ, servers.SPOOL: str(tmp_path)},
        capture_output=True,
        timeout=20,
    )
    taken.close()
    assert done.returncode == 1
    assert re.fullmatch(rb"lab\.servers: shannon: [^\n]*address already in use[^\n]*\n", done.stderr)


def test_without_a_spool_nothing_starts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(servers.SPOOL, raising=False)
    assert servers.main(["shannon"]) == 2
    assert capsys.readouterr().err == "lab.servers: WIRETALK_SPOOL must name a directory\n"


def test_the_plan_is_what_is_bound_where_nothing_is_given() -> None:
    options = servers.parse(["mailhost", "--ipv6"])
    assert options.bind == [plan.MAILHOST.ipv4, plan.MAILHOST.ipv6]
    assert (options.smtp_port, options.pop3_port, options.dns_port) == (25, 110, 53)
    assert options.resolver == (plan.MAILHOST.ipv4, 53)
    assert servers.parse(["shannon"]).bind == [plan.SHANNON.ipv4]
