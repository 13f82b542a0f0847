"""The language of ``--filter``: conditions as a table, and what is no condition refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.model import Line, Missing, Pdu, Role, Side, Span
from tests.tui.test_cli import wiretalk
from tui.condition import FIELDS, BadCondition, Condition

AUTH = Line(
    conversation=2,
    side=Side.CLIENT,
    number=3,
    offset=41,
    data=b'AUTH PLAIN AGEA"Ig==\r\n',
    pdu=Pdu("AUTH command", "C3"),
    spans=(
        Span(0, 4, Role.PCI, "verb"),
        Span(4, 5, Role.PCI, "sp"),
        Span(5, 10, Role.PCI, "mechanism"),
        Span(10, 11, Role.PCI, "sp"),
        Span(11, 20, Role.USER_DATA, "initial-response"),
        Span(20, 22, Role.PCI, "crlf"),
    ),
    flags=("8bit", "credential"),
    whole=True,
    frames=(12, 14),
    time=1_790_000_000_500_000_000,
)
GAP = Missing(2, Side.SERVER, 900, 15)

OF_THE_LINE = [
    ("conversation == 2", True),
    ("conversation != 2", False),
    ('side == "C"', True),
    ("side == 'S'", False),
    ("n < 4", True),
    ("n <= 3 and n >= 3", True),
    ("n > 3", False),
    ("-1 < offset", True),
    ("time > 1790000000.4 and time < 1790000000.6", True),
    ('label == "PDU"', True),
    ('pdu ~ "^auth"', False),
    ('pdu ~ "(?i)^auth"', True),
    ('pdu !~ "mail"', True),
    ('pdu_id == "C3"', True),
    ('layer == "application"', True),
    ('"credential" in flags', True),
    ('"bare-lf" in flags', False),
    ('not "bare-lf" in flags', True),
    ('flags == "8bit"', True),
    ('flags ~ "^cred"', True),
    ("12 in frames", True),
    ("13 in frames", False),
    ("frames > 13", True),
    ('"mechanism" in spans', True),
    ('"PLAIN" in line', True),
    (r'line ~ "\r\n$"', True),
    (r"line ~ '\x0d\x0a\Z'", True),
    (r'line ~ "^\w+ \w+"', True),
    ("flags", True),
    ("gap", False),
    ("not gap", True),
    ("gap == 15 or n == 3", True),
    ("n == 9 or n == 3 and side == 'S'", False),
    ("(n == 9 or n == 3) and side == 'C'", True),
    ("not n == 9 and not (n == 8)", True),
    ("not not n == 3", True),
    ("  n==3  ", True),
]
OF_THE_GAP = [
    ("gap", True),
    ("gap > 10", True),
    ('side == "S" and offset == 900', True),
    ("n > 0", False),
    ("n != 0", False),
    ("not n > 0", True),
    ('pdu !~ "x"', False),
    ('"credential" in flags', False),
    ('line == ""', False),
]


@pytest.mark.parametrize(("text", "met"), OF_THE_LINE)
def test_a_line_meets_a_condition_or_not(text: str, met: bool) -> None:
    assert Condition(text).meets(AUTH) is met


@pytest.mark.parametrize(("text", "met"), OF_THE_GAP)
def test_a_gap_has_few_fields_and_what_it_has_not_fits_nothing(text: str, met: bool) -> None:
    assert Condition(text).meets(GAP) is met


def test_a_secret_is_compared_as_it_is_printed() -> None:
    condition = Condition('line ~ "AGEA"')
    assert not condition.meets(AUTH)
    assert condition.meets(AUTH, show_secrets=True)
    assert Condition(r'line ~ "PLAIN \*{9}\r"').meets(AUTH)


WRONG = [
    ("", "the end where a field"),
    ("n", None),
    ("n ==", "the end where a field"),
    ("== 3", "== at 1 where a field"),
    ("n = 3", "cannot be read from '= 3' at 3"),
    ("m == 3", "m at 1 where a field (conversation, side, n,"),
    ('n == "3"', "compares a number with a string"),
    ("label == 3", "compares a string with a number"),
    ('"credential" == frames', "compares a string with numbers"),
    ("3 in flags", "looks for a number among strings"),
    ("3 in n", "stands a list or a string, not n"),
    ("n ~ '3'", "n is a number; a regular expression"),
    ("pdu ~ 3", "3 at 7 where a regular expression in quotes"),
    ("pdu ~ '('", "is no regular expression"),
    ("pdu ~ side", "side at 7 where a regular expression in quotes"),
    ("(n == 3", "the end where the ) of the ( at 1"),
    ("n == 3)", ") at 7 where and, or, or the end"),
    ("n == 3 n == 4", "n at 8 where and, or, or the end"),
    ("n == 3 and", "the end where a field"),
    ("3", "the end where a comparison"),
    ("'x'", "the end where a comparison"),
    ("side == 'C", "cannot be read from"),
    ("n == 3; import os", "cannot be read from '; import os' at 7"),
    ("__import__('os')", "__import__ at 1 where a field"),
    ("1e3 == n", "cannot be read from"),
    ("(" * 60 + "n" + ")" * 60, "nested more than 50 deep"),
    ("not " * 5000 + "n", "nested more than 50 deep"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text[:20] or "nothing" for text, _ in WRONG])
def test_what_is_no_condition_is_refused_in_a_sentence_that_says_where(text: str, said: str | None) -> None:
    if said is None:
        Condition(text)
        return
    with pytest.raises(BadCondition, match=re.escape(said)) as refused:
        Condition(text)
    assert refused.value.sentence.endswith(".")


@given(
    st.lists(st.sampled_from([*FIELDS, "and", "or", "not", "in", "(", ")", "==", "<", "~", '"x"', "3", "'('", "\\"]))
)
def test_any_words_are_a_condition_or_refused_and_nothing_else_happens(words: list[str]) -> None:
    try:
        condition = Condition(" ".join(words))
    except BadCondition:
        return
    assert condition.meets(AUTH) in (True, False)
    assert condition.meets(GAP) in (True, False)


def test_a_wrong_filter_is_exit_status_two_and_one_sentence(tmp_path: Path) -> None:
    done = wiretalk("label", "--filter", "n ==", tmp_path / "never-opened.pcap")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == [
        "wiretalk: the condition has the end where a field (conversation, side, n, offset, time, line, label, pdu, "
        "pdu_id, layer, flags, frames, spans, gap), a number or a quoted string should stand."
    ]
