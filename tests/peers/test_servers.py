"""Postfix and Dovecot answer: what we label as the message is what they delivered, what is fetched is what we saw.

Here the oracle is the other end: the octets of a message that Postfix wrote into the Maildir, and the lines that a POP3
client (poplib) read, against the user data of our lines (I4 of the labelling scheme). Root only.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.model import Side
from lab.laboratory import Lab
from tests.peers.mailserver import ADDRESS, PASSWORD, MailServer
from tests.peers.wire import commands, expected, heard, message, need, told

pytestmark = [
    pytest.mark.lab,
    pytest.mark.peer,
    pytest.mark.skipif(os.getuid() != 0, reason="postfix changes to other users: root only"),
]

FROM = "a@elsewhere.example"
BODY = b"Subject: stuffed\r\n\r\n.a dot first\r\n.\r\n..\r\nFrom here on\r\nnone.\r\n"


class Post:
    """The lab, its mail servers, and how many messages they took."""

    def __init__(self, lab: Lab, server: MailServer) -> None:
        self.lab, self.server = lab, server
        self._taken = 0

    def play(self, script: str) -> str:
        """Run Python on your-pc; what it printed."""
        done = self.lab.run("your-pc", [sys.executable, "-c", script])
        assert done.code == 0, done.output.decode() + self.server.log()
        return done.output.decode()

    def send(self) -> str:
        """Send `BODY` by smtplib; its transcript."""
        return self.play(
            f"import smtplib; s = smtplib.SMTP('mailhost'); s.set_debuglevel(1); "
            f"s.sendmail('{FROM}', ['{ADDRESS}'], {BODY!r}); s.quit()"
        )

    def delivered(self) -> bytes:
        """The message that was sent last, as it was delivered, with CRLF again."""
        self._taken += 1
        return self.server.mailbox(self._taken)[-1].replace(b"\n", b"\r\n")


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    if not Path("/usr/lib/postfix/sbin/master").exists() or shutil.which("dovecot") is None:
        pytest.skip("not installed: postfix and dovecot-pop3d")
    with tempfile.TemporaryDirectory() as place, Lab(servers=False) as lab:
        yield Post(lab, MailServer(lab, Path(place)))


def test_postfix_delivers_the_user_data_of_the_mail_data(post: Post) -> None:
    with heard(post.lab) as record:
        transcript = post.send()
    assert message(record) == BODY
    assert post.delivered().endswith(b"\r\n" + BODY)
    asked = [ast.literal_eval(line[6:]) for line in transcript.split("\n") if line.startswith("send: ")]
    sent = b"".join(write if isinstance(write, bytes) else write.encode() for write in asked).decode()
    replies = [line.data.decode().rstrip("\r\n") for line in record.lines if line.side is Side.SERVER]
    assert told(record) == expected(sent.split("\r\n")[:-1], replies)


def test_postfix_delivers_the_chunks_of_bdat(post: Post) -> None:
    first, last = BODY[:40], BODY[40:]
    script = f"""
import socket
s = socket.create_connection(("mailhost", 25)); f = s.makefile("rb")
def hear():
    while f.readline()[3:4] == b"-": pass
hear()
s.sendall(b"EHLO by-chunks\\r\\n"); hear()
s.sendall(b"MAIL FROM:<{FROM}>\\r\\nRCPT TO:<{ADDRESS}>\\r\\n"); hear(); hear()
s.sendall(b"BDAT {len(first)}\\r\\n" + {first!r} + b"BDAT {len(last)} LAST\\r\\n" + {last!r} + b"NOOP\\r\\nQUIT\\r\\n")
for _ in range(4): hear()
assert f.read() == b""
"""
    with heard(post.lab) as record:
        post.play(script)
    assert message(record, pdu="BDAT command") == BODY
    assert post.delivered().endswith(b"\r\n" + BODY)
    assert commands(record) == ["EHLO", "MAIL", "RCPT", "BDAT", "BDAT", "NOOP", "QUIT"]
    codes = [line.pdu.name for line in record.lines if line.side is Side.SERVER and line.whole]
    assert codes == ["220 greeting", *["250 reply"] * 5, "221 reply"]


def test_postfix_refuses_and_the_session_goes_on(post: Post) -> None:
    script = """
import smtplib
s = smtplib.SMTP("mailhost")
s.helo("by-hand")
for line in ("DATA", "RCPT TO:<x@y.example>", "MAIL FROM:<a@b.example>", "RCPT TO:<x@nowhere.example>", "DATA",
             "VRFY x@student.example", "HELP", "NONSENSE", "MAIL FROM:<again@b.example>", "RSET", "ETRN x", "QUIT"):
    print(s.docmd(line)[0])
"""
    with heard(post.lab) as record:
        codes = post.play(script).split()
    assert codes[0] in ("503", "554")
    replies = [line.pdu.name for line in record.lines if line.side is Side.SERVER and line.whole]
    assert replies == ["220 greeting", "250 reply", *(f"{code} reply" for code in codes)]
    asked = [line for line in record.lines if line.side is Side.CLIENT]
    assert [line.data.split()[0].decode() for line in asked] == [
        "helo", "DATA", "RCPT", "MAIL", "RCPT", "DATA", "VRFY", "HELP", "NONSENSE", "MAIL", "RSET", "ETRN", "QUIT"
    ]  # fmt: skip
    assert all(line.whole for line in asked)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_postfix_asks_dovecot_who_it_is(post: Post, mechanism: str) -> None:
    need("swaks")
    argv = ["swaks", "--server", "mailhost", "--from", FROM, "--to", ADDRESS, "--quit-after", "AUTH",
            "--auth", mechanism, "--auth-user", "student", "--auth-password", PASSWORD]  # fmt: skip
    with heard(post.lab) as record:
        done = post.lab.run("your-pc", argv)
    assert b"<-  235 " in done.output, done.output.decode() + post.server.log()
    text = done.output.decode()
    asked = [line[4:] for line in text.split("\n") if line.startswith((" -> ", " ~> "))]
    assert [line.data.decode().rstrip("\r\n") for line in record.lines if line.side is Side.CLIENT] == asked
    names = [line.pdu.name for line in record.lines if line.side is Side.CLIENT]
    responses = {"PLAIN": [], "LOGIN": ["AUTH response"] * 2}[mechanism]
    assert names == ["EHLO command", "AUTH command", *responses, "QUIT command"]
    secret = [line for line in record.lines if "credential" in line.flags]
    assert len(secret) == {"PLAIN": 1, "LOGIN": 2}[mechanism]


def test_poplib_reads_from_dovecot_what_we_call_user_data(post: Post) -> None:
    script = f"""
import json, poplib
m = poplib.POP3("mailhost")
m.capa(); m.user("student"); m.pass_("{PASSWORD}"); m.stat(); m.list(); m.uidl(); m.list(1); m.noop()
told = {{"top": m.top(1, 1)[1], "all": m.retr(1)[1], "octets": m.retr(1)[2]}}
m.rset(); m.dele(1); m.rset()
try:
    m.retr(999)
except poplib.error_proto as error:
    told["error"] = str(error)
m.quit()
print(json.dumps({{k: [x.decode("latin-1") for x in v] if isinstance(v, list) else v for k, v in told.items()}}))
"""
    post.send()
    post.delivered()
    with heard(post.lab) as record:
        told_by_poplib = json.loads(post.play(script))
    assert [line.pdu.name.removesuffix(" command") for line in record.lines if line.side is Side.CLIENT] == [
        "CAPA", "USER", "PASS", "STAT", "LIST", "UIDL", "LIST", "NOOP", "TOP", "RETR", "RETR", "RSET", "DELE", "RSET",
        "RETR", "QUIT",
    ]  # fmt: skip
    whole = "".join(f"{line}\r\n" for line in told_by_poplib["all"]).encode("latin-1")
    top = "".join(f"{line}\r\n" for line in told_by_poplib["top"]).encode("latin-1")
    assert message(record, pdu="+OK response", side=Side.SERVER) == top + whole + whole
    assert len(whole) == told_by_poplib["octets"]
    assert any(line.data.startswith(b"-ERR") and line.whole for line in record.lines)
    assert not [line for line in record.lines if {"malformed-reply", "unsolicited", "assumed"} & set(line.flags)]


def test_curl_fetches_from_dovecot_what_we_call_user_data(post: Post) -> None:
    need("curl")
    post.send()
    post.delivered()
    with heard(post.lab) as record:
        done = post.lab.run("your-pc", ["curl", "-sS", f"pop3://student:{PASSWORD}@mailhost/1"])
    assert done.code == 0, done.output.decode()
    assert message(record, pdu="+OK response", side=Side.SERVER) == done.output
    assert [line for line in record.lines if "credential" in line.flags]
