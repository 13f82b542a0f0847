"""The sessions of the samples: what is said by whom, in which segments, one function for each sample.

Claim: every one is a real session in the lab, against shannon and mailhost, or against `samples.peer` where they do not
do what the sample is about. Where the sample is of a capture that went wrong, the session is that of `a_message` and
the function in `samples.derive` is the damage.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from capture.model import Frame
from lab import watch
from lab.plan import MAILHOST, POP3, SHANNON, SMTP, STUDENT_DOMAIN, STUDENTS, YOUR_PC
from samples import derive
from samples.bench import PATIENCE, Bench, Client

STUDENT = STUDENTS["student"]
HELO = f"HELO {YOUR_PC.fqdn}"
EHLO = f"EHLO {YOUR_PC.fqdn}"
MAIL = f"MAIL FROM:<{STUDENT.user}@{STUDENT_DOMAIN}>"
RCPT = f"RCPT TO:<{STUDENT.user}@{STUDENT_DOMAIN}>"
FIELDS = f"From: {STUDENT.user}@{STUDENT_DOMAIN}", "Subject: a sample", ""


def begin(client: Client, *more: str) -> None:
    """Greeting, HELO, MAIL, RCPT, each answered, and ``more``."""
    client.hear()
    client.ask(HELO, MAIL, RCPT, *more)


# ── several units in one segment, one unit in several ────────────────────────────────────────────────────────────────


def after_end_of_data() -> list[Frame]:
    with Bench(SMTP) as bench, bench.connect(SHANNON.name, SMTP) as client:
        begin(client, "DATA")
        client.say(*FIELDS, "The end of this message is not the end of its segment.", ".", MAIL, RCPT, "QUIT")
    return bench.frames


def bdat() -> list[Frame]:
    chunk = b"Subject: by the octet\r\n\r\n.\r\nA lone dot above: nothing ends here.\r\n"
    with Bench(SMTP, servers=False) as bench:
        bench.serve(SHANNON.name, SMTP)
        with bench.connect(SHANNON.name, SMTP) as client:
            client.hear()
            client.ask(EHLO, MAIL, RCPT)
            client.say(b"BDAT %d LAST\r\n" % len(chunk), chunk, "RSET")
            client.hear(2)
            client.ask(MAIL, RCPT)
            client.say("BDAT 25", b"Subject: two chunks\r\n\r\ncu")
            client.hear()
            client.say("BDAT 4 LAST", b"t.\r\n", "QUIT")
    return bench.frames


def end_of_data_split() -> list[Frame]:
    with Bench(SMTP) as bench, bench.connect(SHANNON.name, SMTP) as client:
        begin(client, "DATA")
        client.say(*FIELDS, b"CR LF . CR LF in three segments\r")
        client.say(b"\n.")
        client.say(b"\r\n")
        client.hear()
        client.say("QUIT")
    return bench.frames


def pipelined() -> list[Frame]:
    with Bench(SMTP, servers=False) as bench:
        bench.serve(SHANNON.name, SMTP)
        with bench.connect(SHANNON.name, SMTP) as client:
            client.hear()
            client.ask(EHLO)
            client.say(MAIL, RCPT, "DATA")
            client.hear(3)
            client.say(*FIELDS, "Three commands in one segment, a reply for each.", ".", "QUIT")
    return bench.frames


def pop3_pipelined() -> list[Frame]:
    with Bench(POP3) as bench:
        with bench.connect(MAILHOST.name, SMTP) as client:
            begin(client, "DATA")
            client.say(*FIELDS, "+OK this line is of the message, and so is the next:", "..", "-ERR not an error", ".")
            client.hear()
            client.say("QUIT")
        count = watch.wait_for_mail(bench.lab, 2, PATIENCE)
        with bench.connect(MAILHOST.name, POP3) as client:
            client.hear_to(b"\r\n")
            client.say(f"USER {STUDENT.user}", f"PASS {STUDENT.password}", f"RETR {count}", "QUIT")
    return bench.frames


def greeting_without_crlf() -> list[Frame]:
    with Bench(SMTP, servers=False) as bench:
        bench.serve(SHANNON.name, SMTP, "--no-crlf")
        with bench.connect(SHANNON.name, SMTP) as client:
            client.hear_to(b"ESMTP")
            client.ask(HELO, MAIL, RCPT, "DATA")
            client.say(*FIELDS, "Its first reply begins in the middle of a line.", ".")
            client.hear()
            client.say("QUIT")
    return bench.frames


# ── what a line means ────────────────────────────────────────────────────────────────────────────────────────────────


def data_refused() -> list[Frame]:
    with Bench(SMTP) as bench, bench.connect(SHANNON.name, SMTP) as client:
        client.hear()
        client.ask(HELO, MAIL, "DATA", RCPT, "NOOP", "DATA")
        client.say(*FIELDS, "The first DATA was answered 503: no message followed it.", ".")
        client.hear()
        client.say("QUIT")
    return bench.frames


def dot_stuffed() -> list[Frame]:
    with Bench(SMTP) as bench, bench.connect(SHANNON.name, SMTP) as client:
        begin(client, "DATA")
        client.say(*FIELDS, "..stuffed: typed with two dots, received with one", "..", "...", "no dot here", ".")
        client.hear()
        client.say("QUIT")
    return bench.frames


def auth() -> list[Frame]:
    with Bench(SMTP, servers=False) as bench:
        bench.serve(SHANNON.name, SMTP)
        for exchange in (
            ("AUTH PLAIN AHN0dWRlbnQAdGFsa2luZw==",),
            ("AUTH PLAIN", "AHN0dWRlbnQAdGFsa2luZw=="),
            ("AUTH LOGIN", "c3R1ZGVudA==", "dGFsa2luZw=="),
            ("AUTH LOGIN", "*"),
        ):
            with bench.connect(SHANNON.name, SMTP) as client:
                client.hear()
                client.ask(EHLO, *exchange)
                client.say("QUIT")
    return bench.frames


def starttls() -> list[Frame]:
    with tempfile.TemporaryDirectory() as place, Bench(SMTP, servers=False) as bench:
        pem = Path(place) / "peer.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=peer.example", "-keyout", pem, "-out", pem],
            check=True, capture_output=True,
        )  # fmt: skip
        bench.serve(SHANNON.name, SMTP, "--certificate", str(pem))
        with bench.connect(SHANNON.name, SMTP) as client:
            client.hear()
            client.ask(EHLO, "STARTTLS")
            client.encrypt()
            client.ask(EHLO, MAIL)
            client.say("QUIT")
    return bench.frames


# ── where it is said ─────────────────────────────────────────────────────────────────────────────────────────────────


def other_ports() -> list[Frame]:
    with Bench(1025, 2525) as bench:
        for port in (1025, 2525):
            bench.serve(SHANNON.name, port)
            with bench.connect(SHANNON.name, port) as client:
                begin(client, "DATA")
                client.say(*FIELDS, f"Port {port}: what is said tells the protocol, not the number.", ".")
                client.hear()
                client.say("QUIT")
    return bench.frames


def loopback() -> list[Frame]:
    with Bench(SMTP, interface="lo", servers=False) as bench:
        bench.serve(YOUR_PC.name, SMTP)
        with bench.connect("127.0.0.1", SMTP) as client:
            begin(client, "DATA")
            client.say(*FIELDS, "From 127.0.0.1 to 127.0.0.1.", ".")
            client.hear()
            client.say("QUIT")
    return bench.frames


# ── captures that went wrong ─────────────────────────────────────────────────────────────────────────────────────────


def a_message() -> list[Frame]:
    """A message whose body goes out line by line, a segment each."""
    with Bench(SMTP) as bench, bench.connect(SHANNON.name, SMTP) as client:
        begin(client, "DATA")
        client.say(*FIELDS)
        for line in (
            "The first line of the body.",
            "HELO is the word that a client says first, when it says nothing else,",
            "MAIL FROM: stands in prose here, and whoever pays 100 GENUINE guilders",
            "may QUIT when all of it was read.",
        ):
            client.say(line)
        client.say(".")
        client.hear()
        client.say("QUIT")
    return bench.frames


def begins_in_body() -> list[Frame]:
    return derive.since(a_message(), b"HELO is the word")


def segment_lost() -> list[Frame]:
    return derive.without(a_message(), b"HELO is the word")


def out_of_order() -> list[Frame]:
    return derive.swapped(a_message(), b"HELO is the word", b"may QUIT when")


def conflicting_retransmission() -> list[Frame]:
    return derive.contradicted(a_message(), b"100 GENUINE", b"999 FORGED!")


SESSIONS: dict[str, Callable[[], list[Frame]]] = {
    "after-end-of-data": after_end_of_data,
    "auth": auth,
    "bdat": bdat,
    "begins-in-body": begins_in_body,
    "conflicting-retransmission": conflicting_retransmission,
    "data-refused": data_refused,
    "dot-stuffed": dot_stuffed,
    "end-of-data-split": end_of_data_split,
    "greeting-without-crlf": greeting_without_crlf,
    "loopback": loopback,
    "other-ports": other_ports,
    "out-of-order": out_of_order,
    "pipelined": pipelined,
    "pop3-pipelined": pop3_pipelined,
    "segment-lost": segment_lost,
    "starttls": starttls,
}
