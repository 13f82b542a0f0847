"""The report that a message could not be delivered: multipart/report of RFC 6522 with a delivery status of RFC 3464.

Claim: the report is a pure function of what failed, in octets with CRLF, safe whatever the next hop said and whatever
the returned header holds; who gets it, and that no report is ever made about a report, is the queue's to see to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import format_datetime
from typing import TYPE_CHECKING

from lab.relay import Verdict

if TYPE_CHECKING:
    from datetime import datetime

_WIDTH = 76  # columns; a longer diagnostic is folded
_DIAGNOSTIC = 400  # characters of a next hop's text that are worth returning
_HEADER_LIMIT = 32768  # octets of the message's header that are returned


def report(
    fqdn: str,
    ident: str,
    to: str,
    failed: Sequence[Verdict],
    message: bytes,
    *,
    arrived: datetime,
    now: datetime,
) -> bytes:
    """The report, header and body.

    fqdn: of the host that gives up; ident: its queue's name for the report, unique; to: the sender of the message;
    failed: one verdict a recipient; message: with CRLF, of which the header is returned; times: aware.
    """
    header = message.partition(b"\r\n\r\n")[0][:_HEADER_LIMIT]
    boundary = f"{ident}.{int(now.timestamp())}/{fqdn}"
    while boundary.encode() in header:  # not by chance, but somebody may try
        boundary = f"={boundary}"
    encoding = "7bit" if header.isascii() else "8bit"
    top = [
        f"From: Mail Delivery System <MAILER-DAEMON@{fqdn}>",
        f"To: <{to}>",
        "Subject: Undelivered Mail Returned to Sender",
        f"Date: {format_datetime(now)}",
        f"Message-ID: <{ident}@{fqdn}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
        "This is a delivery report in the format of RFC 3464.",
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is the mail system at {fqdn}.",
        "",
        "Your message could not be delivered to:",
        "",
        *(line for verdict in failed for line in _explain(verdict)),
        "The header of your message is returned below.",
        "",
        f"--{boundary}",
        "Content-Type: message/delivery-status",
        "",
        f"Reporting-MTA: dns; {fqdn}",
        f"Arrival-Date: {format_datetime(arrived)}",
        *(line for verdict in failed for line in ("", *_fields(verdict, now))),
        "",
        f"--{boundary}",
        "Content-Type: text/rfc822-headers",
        f"Content-Transfer-Encoding: {encoding}",
        "",
    ]
    head = "".join(f"{line}\r\n" for line in top).encode("ascii", "backslashreplace")
    return head + header + f"\r\n\r\n--{boundary}--\r\n".encode("ascii")


def _explain(verdict: Verdict) -> list[str]:
    who = f"host {verdict.host} said: " if verdict.host else ""
    return [*_fold(f"<{verdict.recipient}>: {who}{verdict.code} {verdict.status} {_plain(verdict.text)}", "    "), ""]


def _fields(verdict: Verdict, now: datetime) -> list[str]:
    """The fields of one recipient (RFC 3464 2.3)."""
    fields = [
        f"Final-Recipient: rfc822; {verdict.recipient}",
        "Action: failed",
        f"Status: {verdict.status}",
    ]
    if verdict.host:
        fields.append(f"Remote-MTA: dns; {verdict.host}")
    diagnostic = f"Diagnostic-Code: smtp; {verdict.code} {verdict.status} {_plain(verdict.text)}"
    return [*fields, *_fold(diagnostic, " "), f"Last-Attempt-Date: {format_datetime(now)}"]


def _plain(text: str) -> str:
    """Printable US-ASCII on one line, not endless."""
    return " ".join(re.sub(r"[^ -~]", lambda m: " " if m[0].isspace() else "?", text).split())[:_DIAGNOSTIC]


def _fold(line: str, indent: str) -> list[str]:
    """``line`` broken at spaces, later parts beginning with ``indent``; a word longer than a line stays whole."""
    lines, current = [], ""
    for word in line.split(" "):
        if current.strip() and len(current) + 1 + len(word) > _WIDTH:
            lines.append(current)
            current = indent + word
        else:
            current = f"{current} {word}" if current else word
    return [*lines, current]
