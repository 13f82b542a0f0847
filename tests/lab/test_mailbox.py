"""Mailboxes keep octets."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import mailbox
from lab.mailbox import Mailboxes, Maildrop, with_crlf

OCTETS = st.binary(max_size=60) | st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"\r\r\n", b".", b"\x00", b"\xff", b"text", b"From x"]), max_size=20
).map(b"".join)


@given(OCTETS)
def test_bare_lf_becomes_crlf_and_nothing_else_changes(data: bytes) -> None:
    done = with_crlf(data)
    assert done.count(b"\n") == done.count(b"\r\n") == data.count(b"\n")
    assert done.replace(b"\r\n", b"\n") == data.replace(b"\r\n", b"\n")
    assert with_crlf(done) == done


@given(OCTETS)
def test_what_is_delivered_is_what_is_read_and_counted(data: bytes) -> None:
    wire = with_crlf(data) + b"\r\n"
    with tempfile.TemporaryDirectory() as path:
        drop = Maildrop(Path(path, "student"))
        key = drop.add(wire)
        assert drop.read(key) == wire
        assert [(m.key, m.octets) for m in drop.messages()] == [(key, len(wire))]


def test_a_message_without_a_last_line_end_gets_one_when_read(tmp_path: Path) -> None:
    drop = Maildrop(tmp_path / "student")
    key = drop.add(b"Subject: x\r\n\r\nend")
    assert drop.read(key) == b"Subject: x\r\n\r\nend\r\n"
    assert drop.messages()[0].octets == 19


def test_messages_stand_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    drop = Maildrop(tmp_path / "student")
    keys = [drop.add(b"%d\r\n" % n) for n in range(30)]
    assert [message.key for message in drop.messages()] == keys


def test_age_is_told_by_number_not_by_text() -> None:
    young, old = "1700000000.M1000P7Q11.host", "1700000000.M999P7Q10.host"
    assert sorted([young, old]) == [young, old]
    assert sorted([young, old], key=mailbox._age) == [old, young]


def test_identifiers_are_unique_printable_short_and_last(tmp_path: Path) -> None:
    drop = Maildrop(tmp_path / "student")
    for n in range(12):
        drop.add(b"%d\r\n" % n)
    uids = [message.uid for message in drop.messages()]
    assert len(set(uids)) == 12
    assert all(1 <= len(uid) <= 70 and all("!" <= c <= "~" for c in uid) for uid in uids)
    assert [message.uid for message in Maildrop(tmp_path / "student").messages()] == uids


def test_a_long_host_name_does_not_make_an_identifier_too_long() -> None:
    assert len(("1700000000.M999999P12345678Q1." + "h" * 64)[: mailbox._UID_LIMIT]) == 70


def test_the_return_path_stands_on_top(tmp_path: Path) -> None:
    boxes = Mailboxes(tmp_path / "mail")
    boxes.deliver("anna", "student@student.example", b"Subject: x\r\n\r\n")
    boxes.deliver("anna", "", b"Subject: y\r\n\r\n")
    drop = boxes.of("anna")
    first, second = drop.messages()
    assert drop.read(first.key) == b"Return-Path: <student@student.example>\r\nSubject: x\r\n\r\n"
    assert drop.read(second.key) == b"Return-Path: <>\r\nSubject: y\r\n\r\n"
    drop.remove(first.key)
    assert drop.messages() == [second]
    with pytest.raises(KeyError):
        drop.remove(first.key)
    with pytest.raises(KeyError):
        drop.read(first.key)


@pytest.mark.parametrize("user", ["../anna", "a/b", "", ".", "A", "a\x00"])
def test_a_user_name_cannot_lead_out_of_the_directory(tmp_path: Path, user: str) -> None:
    with pytest.raises(ValueError, match="no name for a directory"):
        Mailboxes(tmp_path / "mail").of(user)
