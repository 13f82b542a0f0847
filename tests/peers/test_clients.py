"""Other people's mail clients talk to shannon: each line is labelled as the client's own transcript says it was meant.

Most clients can tell what they send and receive; that transcript is the oracle, octet for octet where it is kept so.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

import pytest

from capture.model import Side
from lab.laboratory import Lab
from tests.peers.wire import commands, expected, heard, message, need, told

pytestmark = [pytest.mark.lab, pytest.mark.peer]

FROM, TO = "a@student.example", "student@student.example"
BODY = b"Subject: by another\r\n\r\n.a dot first\r\n.\r\n..\r\nnone here\r\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def lines(text: str, mark: str) -> list[str]:
    """What stands behind ``mark`` on the lines of a transcript."""
    return [line.removeprefix(mark).rstrip("\r") for line in text.split("\n") if line.startswith(mark)]


def test_swaks(lab: Lab) -> None:
    need("swaks")
    argv = ["swaks", "--server", "shannon", "--from", FROM, "--to", TO, "--body", ".a dot first\n.\nnone here"]
    with heard(lab) as record:
        done = lab.run("your-pc", argv)
    transcript = done.output.decode()
    assert done.code == 0, transcript
    assert told(record) == expected(lines(transcript, " -> "), lines(transcript, "<-  "))
    assert b"\r\n\r\n.a dot first\r\n.\r\nnone here\r\n" in message(record)


def test_msmtp(lab: Lab) -> None:
    need("msmtp")
    argv = ["msmtp", "--debug", "--host=shannon", "--port=25", f"--from={FROM}", "--auth=off", "--tls=off", TO]
    with heard(lab) as record:
        done = lab.run("your-pc", argv, input=BODY.replace(b"\r\n", b"\n"))
    transcript = done.output.decode()
    assert done.code == 0, transcript
    assert told(record) == expected(lines(transcript, "--> "), lines(transcript, "<-- "))
    assert message(record).endswith(BODY)


def test_smtplib(lab: Lab) -> None:
    script = (
        f"import smtplib; s = smtplib.SMTP('shannon'); s.set_debuglevel(1); "
        f"s.sendmail('{FROM}', ['{TO}'], {BODY!r}); s.quit()"
    )
    with heard(lab) as record:
        done = lab.run("your-pc", [sys.executable, "-c", script])
    transcript = done.output.decode()
    assert done.code == 0, transcript
    writes = [ast.literal_eval(text) for text in lines(transcript, "send: ")]
    sent = b"".join(write if isinstance(write, bytes) else write.encode() for write in writes)
    replies = b"".join(ast.literal_eval(text) for text in lines(transcript, "reply: ") if text.startswith("b"))
    greeting = next(line.data for line in record.lines if line.side is Side.SERVER)
    asked, answered = (octets.decode().split("\r\n")[:-1] for octets in (sent, greeting + replies))
    assert told(record) == expected(asked, answered)
    assert message(record) == BODY


def test_curl(lab: Lab) -> None:
    need("curl")
    argv = ["curl", "-sS", "--trace-ascii", "-", "smtp://shannon", "--mail-from", FROM, "--mail-rcpt", TO, "-T", "-"]
    with heard(lab) as record:
        done = lab.run("your-pc", argv, input=BODY)
    transcript = done.output.decode()
    assert done.code == 0, transcript
    octets = {what: [int(n) for n in re.findall(rf"^.. {what}, (\d+) bytes", transcript, re.MULTILINE)]
              for what in ("Send header", "Send data", "Recv header")}  # fmt: skip
    asked = [line for line in record.lines if line.side is Side.CLIENT]
    assert [len(line.data) for line in asked if line.pdu.name.endswith("command")][: len(octets["Send header"])] == (
        octets["Send header"]
    )
    content = [line for line in asked if line.pdu.name == "mail data"]
    assert sum(len(line.data) for line in content[:-1]) == sum(octets["Send data"])
    assert content[-1].data == b".\r\n"
    replies = [len(line.data) for line in record.lines if line.side is Side.SERVER]
    assert replies[: len(octets["Recv header"])] == octets["Recv header"]
    assert commands(record)[:5] == ["EHLO", "MAIL", "RCPT", "DATA", "mail data"]
    assert message(record) == BODY


TYPED = ("EHLO by-hand", f"MAIL FROM:<{FROM}>", f"RCPT TO:<{TO}>", "DATA", "Subject: typed", "", "..a dot", ".", "QUIT")


def test_telnet_typed_line_by_line(lab: Lab) -> None:
    need("telnet")
    typed = "; ".join(f"sleep 0.1; printf '%s\\n' '{text}'" for text in TYPED)
    with heard(lab) as record:
        done = lab.run("your-pc", ["sh", "-c", f"({typed}; sleep 0.3) | telnet shannon 25"])
    transcript = done.output.decode()
    replies = [line.rstrip("\r") for line in transcript.split("\n") if re.match(r"\d{3}[ -]", line)]
    assert told(record) == expected(TYPED, replies)
    assert message(record) == b"Subject: typed\r\n\r\n.a dot\r\n"


def test_netcat_that_sends_everything_at_once(lab: Lab) -> None:
    need("nc")
    with heard(lab) as record:
        done = lab.run("your-pc", ["nc", "-C", "-q", "5", "shannon", "25"], input="\n".join((*TYPED, "")).encode())
    replies = done.output.decode().split("\r\n")[:-1]
    assert told(record) == expected(TYPED, replies), "the message came before its 354"


def test_netcat_that_ends_lines_in_lf(lab: Lab) -> None:
    need("nc")
    with heard(lab) as record:
        done = lab.run("your-pc", ["nc", "-q", "5", "shannon", "25"], input=b"HELO lf\nNOOP\nQUIT\n")
    assert b"\r\n221 " in done.output
    asked = [line for line in record.lines if line.side is Side.CLIENT]
    assert [line.data for line in asked] == [b"HELO lf\n", b"NOOP\n", b"QUIT\n"]
    assert commands(record) == ["HELO", "NOOP", "QUIT"]
    assert all("bare-lf" in line.flags for line in asked)
    assert all(line.whole for line in asked)
