"""The exercise *'Talking' SMTP*: what a student types, as data.

The session is that of the worked example in the labelling specification: every kind of line once, among them a line
that begins with a dot. The forged sender is the exercise's own joke; nothing in SMTP checks it (RFC 5321 7.1).
"""

from __future__ import annotations

from lab.plan import STUDENT_DOMAIN, STUDENTS, YOUR_PC

_STUDENT = STUDENTS["student"]

SMTP_LINES: tuple[str, ...] = (
    f"HELO {YOUR_PC.fqdn}",
    f"MAIL FROM:<you'll-never-know@{STUDENT_DOMAIN}>",
    f"RCPT TO:<{_STUDENT.user}@{STUDENT_DOMAIN}>",
    "DATA",
    "From: You'll-never-know-for-sure",
    f"To: {_STUDENT.user}@{STUDENT_DOMAIN}",
    "Subject: Talking SMTP",
    "",
    "This line is ordinary.",
    "..and this one starts with a dot",
    ".",
    "QUIT",
)


def pop3_lines(message: int) -> tuple[str, ...]:
    """What fetches message ``message`` (1-based, as STAT and LIST count) from the student's mailbox."""
    return (f"USER {_STUDENT.user}", f"PASS {_STUDENT.password}", "STAT", "LIST", f"RETR {message}", "QUIT")


def content(lines: tuple[str, ...] = SMTP_LINES) -> bytes:
    """The octets of the message that ``lines`` send: de-stuffed, each line ended by CRLF (RFC 5321 4.5.2)."""
    start, end = lines.index("DATA") + 1, lines.index(".")
    return b"".join(line.removeprefix(".").encode() + b"\r\n" for line in lines[start:end])
