"""I4, I5 and the phases of the labelling scheme, on sessions that are drawn: the model knows what it meant to say.

Each drawn session is spoken by a client and a server that obey RFC 5321 (with PIPELINING, CHUNKING, AUTH); the dialogue
hears octets alone and must find the same units, the same message, and one reply for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.model import Line, Role, Side
from capture.protocols.phases import OPENS, WAITS, Phase
from tests.capture.conversation import Event, lines, raw, told

C, S = Side.CLIENT, Side.SERVER

GREETED = ("S: 220 mx", "C: EHLO c", "S: 250 mx")
ENVELOPE = ("C: MAIL FROM:<a@c>", "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok")


def user_data(made: list[Line], pdu: str, side: Side = C) -> bytes:
    return b"".join(
        line.data[span.start : span.end]
        for line in made
        if line.side is side and line.pdu.name == pdu
        for span in line.spans
        if span.role is Role.USER_DATA
    )


# ── I4: the user data are the message as the client had it ───────────────────────────────────────────────────────────

# Lines of any octets, many of them with dots and bare line ends, which a message should not have and has.
content_lines = st.lists(
    st.one_of(
        st.binary(max_size=20), st.sampled_from([b".", b"..", b".x", b"", b"\n.\n", b"\r.", b"a\nb", b"\n"])
    ).filter(lambda line: b"\r\n" not in line and not line.endswith(b"\r")),
    max_size=12,
)


def stuffed(message: list[bytes]) -> bytes:
    """RFC 5321 4.5.2, the sender's rule."""
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in message)


@settings(deadline=None)
@given(content_lines)
def test_i4_the_user_data_of_mail_data_are_the_message(message: list[bytes]) -> None:
    said = (*GREETED, *ENVELOPE, "C: DATA", "S: 354 go", raw("C", stuffed(message) + b".\r\n"), "S: 250 ok")
    made = lines(*said, "C: QUIT", "S: 221 bye")
    assert user_data(made, "mail data") == b"".join(line + b"\r\n" for line in message)
    assert [line.pdu.name for line in made if line.side is C][-1] == "QUIT command"


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 60), max_size=5), st.booleans())
def test_i4_the_user_data_of_all_chunks_are_the_message(message: bytes, sizes: list[int], pipelined: bool) -> None:
    said: list[str | Event] = [*GREETED, *ENVELOPE]
    rest, flight, replies = message, b"", 0
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        flight += b"BDAT %d\r\n" % len(piece) + piece
        replies += 1
        if not pipelined:
            said += [raw("C", flight), "S: 250 ok"]
            flight, replies = b"", 0
    flight += b"BDAT %d LAST\r\n" % len(rest) + rest + b"QUIT\r\n"
    said += [raw("C", flight), *["S: 250 ok"] * (replies + 1), "S: 221 bye"]
    made = lines(*said)
    assert user_data(made, "BDAT command") == message
    assert [line.pdu.name for line in made if line.side is C][-1] == "QUIT command"


@settings(deadline=None)
@given(content_lines)
def test_i4_holds_for_what_pop3_fetches(message: list[bytes]) -> None:
    said = ("S: +OK", "C: RETR 1", raw("S", b"+OK\r\n" + stuffed(message) + b".\r\n"), "C: QUIT", "S: +OK")
    made = lines(*said, protocol="pop3")
    assert user_data(made, "+OK response", S) == b"".join(line + b"\r\n" for line in message)
    assert [line.whole for line in made if line.side is S][-1]


# ── I5: one reply for each unit ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Play:
    """A session under way: what was said, and the units that were meant."""

    said: list[str | Event] = field(default_factory=lambda: list[str | Event](GREETED))
    meant: list[str] = field(default_factory=lambda: ["EHLO command"])
    waiting: list[str] = field(default_factory=list)  # replies that the server has not sent yet

    def ask(self, line: str, name: str, reply: str, now: bool = True) -> None:
        self.said.append(f"C: {line}")
        self.meant.append(name)
        self.waiting.append(f"S: {reply}")
        if now:
            self.answer()

    def answer(self) -> None:
        self.said += self.waiting
        self.waiting = []


REPLIES = st.sampled_from(
    ["250 ok", "250-a\n250-b\n250 c", "421 later", "450 no", "500 5.5.1 what?", "502 x", "252 maybe"]
)
PLAIN = [("NOOP", "NOOP command"), ("MAIL FROM:<a@b>", "MAIL command"), ("RCPT TO:<c@d>", "RCPT command"),
         ("RSET", "RSET command"), ("VRFY x", "VRFY command"), ("HELP", "HELP command"), ("FOO", "unknown command"),
         ("", "unknown command"), ("EXPN l", "EXPN command"), ("BDAT 0 LAST", "BDAT command")]  # fmt: skip


@st.composite
def plays(draw: st.DrawFn) -> Play:
    play = Play()
    for _ in range(draw(st.integers(0, 10))):
        kind = draw(st.sampled_from(["plain", "plain", "plain", "data", "auth", "bdat"]))
        wait = draw(st.booleans())
        if kind == "plain":
            line, name = draw(st.sampled_from(PLAIN))
            play.ask(line, name, draw(REPLIES), wait)
        elif kind == "bdat":
            play.ask("BDAT 6\nQUIT", "BDAT command", draw(REPLIES), wait)  # six octets: QUIT CRLF
        elif kind == "data":
            accepted = draw(st.booleans())
            play.ask("DATA", "DATA command", "354 go" if accepted else draw(REPLIES))
            if accepted:
                play.ask("NOOP\n..\nQUIT\n.", "mail data", draw(REPLIES))
        else:
            accepted = draw(st.booleans())
            play.ask("AUTH LOGIN", "AUTH command", "334 eA==" if accepted else draw(REPLIES))
            if accepted:
                for more in draw(st.lists(st.booleans(), max_size=2)):
                    play.ask("QUIT" if more else "eHg=", "AUTH response", "334 ")
                play.ask(draw(st.sampled_from(["*", "eHg="])), "", draw(st.sampled_from(["235 ok", "535 no", "501 x"])))
                play.meant[-1] = "AUTH cancel" if play.said[-2] == "C: *" else "AUTH response"
    play.answer()
    play.ask("QUIT", "QUIT command", "221 bye")
    return play


def units(made: list[Line], side: Side) -> list[str]:
    found: dict[str, str] = {}
    for line in made:
        if line.side is side:
            found.setdefault(line.pdu.ident, line.pdu.name)
    return list(found.values())


@settings(deadline=None, max_examples=300)
@given(plays())
def test_i5_every_unit_that_was_meant_is_found_and_has_one_reply(play: Play) -> None:
    made = lines(*play.said)
    assert units(made, C) == play.meant
    assert len(units(made, S)) == len(play.meant) + 1  # the greeting
    assert not [line for line in made if "unsolicited" in line.flags]


# ── every phase and every class of reply ─────────────────────────────────────────────────────────────────────────────

CODES = ["220", "250", "354", "334", "235", "221", "421", "450", "503", "550"]
# What waits for its reply, and how the session comes to it.
UNITS = {
    **{verb: f"C: {line}" for verb, line in {
        "HELO": "HELO c", "EHLO": "EHLO c", "LHLO": "LHLO c", "MAIL": "MAIL FROM:<a@b>", "RCPT": "RCPT TO:<a@b>",
        "DATA": "DATA", "BDAT": "BDAT 0 LAST", "RSET": "RSET", "NOOP": "NOOP", "QUIT": "QUIT", "VRFY": "VRFY x",
        "AUTH": "AUTH LOGIN", "STARTTLS": "STARTTLS", "TURN": "TURN", "ATRN": "ATRN x", "nonsense": "FOO bar",
    }.items()},
    "mail data": "C: DATA\nS: 354 go\nC: x\nC: .",
    "SASL": "C: AUTH LOGIN\nS: 334 \nC: eA==",
}  # fmt: skip

# (unit, code): what a line NOOP behind it is; everything else leads to a command.
ELSEWHERE = {
    ("DATA", "354"): "mail data",
    ("AUTH", "334"): "AUTH response",
    ("SASL", "334"): "AUTH response",
}


def noop_behind(unit: str, code: str) -> tuple[str, str]:
    """The PDU and flags of a line NOOP that the client says when this unit was answered so."""
    rows = told(*GREETED, *UNITS[unit].split("\n"), f"S: {code} text", "C: NOOP", "S: 250 ok")
    side = "S" if unit in ("TURN", "ATRN") and code == "250" else "C"
    row = [row for row in rows if row.startswith(side)][-1].split(" | ")
    return row[1].rsplit(" ", 1)[0], row[2] if len(row) > 2 else ""


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_and_every_reply_lead_to_a_known_phase(unit: str, code: str) -> None:
    if unit in ("TURN", "ATRN") and code == "250":
        rows = told(*GREETED, UNITS[unit], "S: 250 ok", "C: 220 mine", "S: EHLO t", "C: 250 c", "S: QUIT", "C: 221 bye")
        assert [row.split(" | ")[1][:4] for row in rows if row.startswith("S")][-2:] == ["EHLO", "QUIT"]
        return
    name, flags = noop_behind(unit, code)
    assert name == ELSEWHERE.get((unit, code), "NOOP command")
    after = {("STARTTLS", "220"): "after-starttls"}.get((unit, code), "")
    if unit == "QUIT" and code[0] == "2":
        after = "after-quit"
    if name == "NOOP command":
        assert flags == after


def test_the_tables_of_phases_name_every_waiting_phase_once() -> None:
    waiting = {phase for phase in Phase if phase.name.endswith("_ASKED")}
    assert set(WAITS.values()) == waiting
    assert {phase for phase, _ in OPENS} <= waiting
    assert set(WAITS) <= set(UNITS)
