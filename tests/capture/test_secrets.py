"""Passwords behind a typing error: masked, octet for octet; ordinary lines are not."""

from __future__ import annotations

import pytest

from capture.protocols.secrets import mask, mistyped
from tests.capture.conversation import lines, lost, raw

TYPING_ERRORS = (
    "PASSS talking",
    "pas talking",
    "PSAS talking",
    "PASS: talking",
    "PASS:talking",
    " PASS talking",
    "PASS\ttalking",
    "PASSWORD talking",
    "USERR student PASS talking",
    "AUTHPLAIN AHN0dWRlbnQAdGFsa2luZw==",
    "AUTH-PLAIN AHN0dWRlbnQAdGFsa2luZw==",
    "AUTH\tPLAIN\tAHN0dWRlbnQAdGFsa2luZw==",
    "AUHT PLAIN AHN0dWRlbnQAdGFsa2luZw==",
    "AUT LOGIN c3R1ZGVudA==",
    "PLAIN AHN0dWRlbnQAdGFsa2luZw==",
)
ORDINARY = (
    "",
    "PASS",
    "HALO your-pc",
    "Subject: the mountain pass is closed today",
    "From: me",
    "passage of arms",
    "AUTHOR: me",
    "AUTO reply",
    "compass north",
    "MAILFROM:<a@b>",
    "GET / HTTP/1.1",
    "STATT",
    "RETRR 1",
    "Guess who typed this.",
    "this is plain text",
)


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
@pytest.mark.parametrize("typed", TYPING_ERRORS)
def test_what_was_meant_to_be_a_password_is_masked_whatever_became_of_the_command(typed: str, protocol: str) -> None:
    said = ("S: 220 mx", f"C: {typed}", "S: 500 what?") if protocol == "smtp" else ("S: +OK", f"C: {typed}", "S: -ERR")
    (line,) = (line for line in lines(*said, protocol=protocol) if line.side.value == "C")
    assert line.flags.count("credential") == 1
    assert "unknown-command" in line.flags
    seen = mask(line)
    assert len(seen) == len(line.data)
    assert all(word not in seen for word in (b"talking", b"AHN0", b"c3R1"))


@pytest.mark.parametrize("typed", ["USER student PASS talking", "USER student talking"])
def test_a_password_behind_the_name_of_the_user_is_masked(typed: str) -> None:
    (line,) = (line for line in lines("S: +OK", f"C: {typed}", "S: -ERR", protocol="pop3") if line.side.value == "C")
    assert "credential" in line.flags
    assert mask(line) == b"USER " + b"*" * (len(typed) - 5) + b"\r\n"


@pytest.mark.parametrize("typed", ORDINARY)
def test_an_ordinary_line_is_no_secret(typed: str) -> None:
    assert not mistyped(typed.encode())


def test_the_name_of_a_user_is_no_secret() -> None:
    (line,) = (line for line in lines("S: +OK", "C: USER student", "S: +OK", protocol="pop3") if line.side.value == "C")
    assert line.flags == ()


def test_a_sasl_message_that_follows_a_refused_auth_is_masked() -> None:
    said = ("S: +OK", "C: AUTH PLAIN", "S: -ERR no", "C: AHN0dWRlbnQAdGFsa2luZw==", "S: -ERR what?")
    _, line = (line for line in lines(*said, protocol="pop3") if line.side.value == "C")
    assert "credential" in line.flags
    assert mask(line) == b"*" * 24 + b"\r\n"


def test_a_mistyped_password_that_a_gap_cuts_off_is_masked() -> None:
    for protocol in ("smtp", "pop3"):
        made = lines(
            "S: +OK" if protocol == "pop3" else "S: 220 mx", raw("C", b"PASSS talk"), lost("C", 5), protocol=protocol
        )
        (line,) = (line for line in made if line.side.value == "C")
        assert b"talk" not in mask(line)
