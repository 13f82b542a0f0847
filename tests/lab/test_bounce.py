"""The delivery report, read back by the standard library."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from lab.bounce import report
from lab.relay import Verdict

ARRIVED, NOW = datetime(2024, 5, 1, 9, 0, tzinfo=UTC), datetime(2024, 5, 1, 9, 5, tzinfo=UTC)
MESSAGE = b"From: a@b.example\r\nSubject: hello\r\n\r\nbody\r\n"
NOBODY = Verdict("nobody@student.example", 550, "5.1.1", "No such user here", "mailhost.student.example")
DOWN = Verdict("a@down.example", 451, "4.4.7", "delivery time expired: connect to mx: No route to host")


def make(*failed: Verdict, message: bytes = MESSAGE) -> bytes:
    return report("shannon.example", "B00", "student@student.example", failed, message, arrived=ARRIVED, now=NOW)


def parse(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def test_a_report_has_the_three_parts_of_rfc_6522() -> None:
    message = parse(make(NOBODY))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@shannon.example>"
    assert message["To"] == "student@student.example"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Date"] == "Wed, 01 May 2024 09:05:00 +0000"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_each_recipient_has_its_fields_and_its_reason() -> None:
    text, status, headers = parse(make(NOBODY, DOWN)).iter_parts()
    whole, first, second = status.get_payload()
    assert dict(whole.items()) == {
        "Reporting-MTA": "dns; shannon.example",
        "Arrival-Date": "Wed, 01 May 2024 09:00:00 +0000",
    }
    assert dict(first.items()) == {
        "Final-Recipient": "rfc822; nobody@student.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mailhost.student.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
        "Last-Attempt-Date": "Wed, 01 May 2024 09:05:00 +0000",
    }
    assert second["Status"] == "4.4.7"
    assert "Remote-MTA" not in second
    plain = " ".join(text.get_payload().split())
    assert "<nobody@student.example>: host mailhost.student.example said: 550 5.1.1 No such user here" in plain
    assert "<a@down.example>: 451 4.4.7 delivery time expired" in plain
    assert headers.get_payload(decode=True) == b"From: a@b.example\r\nSubject: hello\r\n"


def test_a_returned_header_that_holds_the_boundary_does_not_end_the_part() -> None:
    boundary = parse(make(NOBODY)).get_boundary()
    header = b"Subject: x\r\n--%s--\r\nTo: y\r\n" % boundary.encode()
    *_, returned = parse(make(NOBODY, message=header + b"\r\n")).iter_parts()
    assert returned.get_payload(decode=True) == header


def test_octets_above_127_are_declared() -> None:
    octets = make(NOBODY, message=b"Subject: caf\xe9\r\n\r\n")
    *_, headers = parse(octets).iter_parts()
    assert parse(octets)["Content-Transfer-Encoding"] == "8bit"
    assert headers["Content-Transfer-Encoding"] == "8bit"
    assert headers.get_payload(decode=True) == b"Subject: caf\xe9\r\n"


def test_a_message_without_a_body_or_a_header_is_returned_too() -> None:
    for message in (b"", b"\r\n\r\n", b"Subject: only"):
        assert len(list(parse(make(NOBODY, message=message)).iter_parts())) == 3


@given(st.text(max_size=600), st.binary(max_size=200))
def test_whatever_the_next_hop_said_the_report_stays_a_report(text: str, header: bytes) -> None:
    octets = make(NOBODY._replace(text=text), message=b"X: " + header.replace(b"\n", b"\r\n") + b"\r\n\r\n")
    own, _, returned = octets.partition(b"text/rfc822-headers")
    assert own.isascii()
    assert own.count(b"\n") == own.count(b"\r\n")
    assert max(map(len, own.split(b"\r\n"))) <= 998  # RFC 5322 2.1.1
    status = list(parse(own + b"text/rfc822-headers\r\n\r\n\r\n" + returned[-60:]).iter_parts())[1]
    assert [block["Status"] for block in status.get_payload()] == [None, "5.1.1"]
