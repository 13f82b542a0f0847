"""Addresses: what is one, what is none and why, and who they are to the two hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import directory, plan
from lab.address import AddressSyntaxError, Mailbox, parse, parse_path, split_path
from lab.directory import Kind

GOOD = [
    ("a@b", Mailbox("a", "b"), "a"),
    ("Stu.Dent+x@student.example", Mailbox("Stu.Dent+x", "student.example"), "stu.dent+x"),
    ('"a b"@c.example', Mailbox('"a b"', "c.example"), "a b"),
    ('"a\\"@b"@c', Mailbox('"a\\"@b"', "c"), 'a"@b'),
    ("a@[192.0.2.1]", Mailbox("a", "[192.0.2.1]"), "a"),
    ("a@[IPv6:2001:db8::1]", Mailbox("a", "[IPv6:2001:db8::1]"), "a"),
    ("a@my_host-1.example", Mailbox("a", "my_host-1.example"), "a"),
]


@pytest.mark.parametrize(("text", "mailbox", "user"), GOOD)
def test_a_mailbox_is_read_and_written_back(text: str, mailbox: Mailbox, user: str) -> None:
    assert parse(text) == mailbox
    assert str(mailbox) == text
    assert mailbox.user == user
    assert parse_path(f"@x.example,@y:{text}") == mailbox


BAD = [
    "", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b c", ".a@b", "a.@b", "a..b@c", "a@.b", "a@b.", "a@b..c", "a@-b",
    "a@b-", "<a@b>", "a@b>",
    '"a@b', 'a"b"@c', "a@[", "a@[]", "a,b@c", "a:b@c", "é@b", "a@é", "a\x00@b", "a@b\n", "a\t@b",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_mailbox_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(AddressSyntaxError, match=r"^[a-z]"):
        parse(text)


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_printable_ascii_and_survives_being_written_back(text: str) -> None:
    try:
        path, _ = split_path(f"<{text}>")
        mailbox = parse_path(path)
    except AddressSyntaxError:
        return
    written = str(mailbox)
    assert written.isascii()
    assert written.isprintable()
    assert split_path(f"<{written}>") == (written, "")
    assert parse(written) == mailbox


PATHS = [
    ("<>", ("", "")),
    ("<a@b>", ("a@b", "")),
    ("<a@b> SIZE=1 BODY=7BIT", ("a@b", "SIZE=1 BODY=7BIT")),
    ('<"a>b"@c>', ('"a>b"@c', "")),
    ('<"a\\"> "@c> X', ('"a\\"> "@c', "X")),
]


@pytest.mark.parametrize(("text", "expected"), PATHS)
def test_the_path_ends_at_its_own_bracket(text: str, expected: tuple[str, str]) -> None:
    assert split_path(text) == expected


@pytest.mark.parametrize("text", ["", "a@b", "<a@b", '<"a@b>', "<a@b>x", " <a@b>"])
def test_a_path_without_its_brackets_is_refused(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        split_path(text)


WHO = [
    # address, to shannon, to mailhost
    ("teacher@cs.utwente.example", Kind.LOCAL, Kind.REMOTE),
    ("teacher@shannon.cs.utwente.example", Kind.LOCAL, Kind.REMOTE),
    ("pras@cs.utwente.example", Kind.MOVED, Kind.REMOTE),
    ("students@cs.utwente.example", Kind.LIST, Kind.REMOTE),
    ("nobody@cs.utwente.example", Kind.UNKNOWN, Kind.REMOTE),
    ("student@student.example", Kind.REMOTE, Kind.LOCAL),
    ("postmaster@student.example", Kind.REMOTE, Kind.LOCAL),
    ("students@student.example", Kind.REMOTE, Kind.UNKNOWN),
    ("x@nomail.example", Kind.REMOTE, Kind.REMOTE),
    ("x@unknown.example", Kind.FOREIGN, Kind.FOREIGN),
    ("x@elsewhere.test", Kind.FOREIGN, Kind.FOREIGN),
    ("teacher@[192.0.2.25]", Kind.LOCAL, Kind.FOREIGN),
    ("student@[IPv6:2001:DB8:25::110]", Kind.FOREIGN, Kind.LOCAL),
]


@pytest.mark.parametrize(("address", "shannon", "mailhost"), WHO)
def test_each_host_knows_its_own(address: str, shannon: Kind, mailhost: Kind) -> None:
    assert directory.of(plan.SHANNON).kind(parse(address)) is shannon
    assert directory.of(plan.MAILHOST).kind(parse(address)) is mailhost


def test_the_pc_takes_no_mail() -> None:
    with pytest.raises(KeyError):
        directory.of(plan.YOUR_PC)
