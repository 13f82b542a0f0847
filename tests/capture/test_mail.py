"""Messages out of captures: octet for octet, and never called whole when they are not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.analyzer import Analyzer
from capture.errors import BadCapture
from capture.mail import Ended, Hole, Message, Messages, Piece, Told
from capture.model import Frame, Side
from capture.sources.files import read
from tests.capture.forge import C, S, Wire, capture_of
from tests.capture.test_corpus import CORPUS
from tests.capture.test_corpus import capture_of as file_of

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())
TRUTHS = sorted(CORPUS.glob("truth/*.json"))


class Found(NamedTuple):
    message: Message
    octets: bytes


def messages(frames: Iterable[Frame], *, runs: bool = True, batch: int = 1) -> list[Found]:
    """The messages of a capture, in the order in which all was known about them; events are checked on the way."""
    analyzer, reader = Analyzer(strict=True, runs=runs), Messages()
    octets: dict[int, bytes] = {}
    found, ended = [], set()

    def take(events: Iterable[Piece | Ended | Told]) -> None:
        for event in events:
            key = id(event.message)
            if isinstance(event, Piece):
                assert key not in ended
                octets[key] = octets.get(key, b"") + event.octets
            elif isinstance(event, Ended):
                assert key not in ended
                ended.add(key)
            else:
                assert key in ended
                found.append(Found(event.message, octets.pop(key, b"")))

    held = list(frames)
    for at in range(0, len(held), batch):
        take(reader.feed(analyzer.feed_all(held[at : at + batch])))
    take(reader.feed(analyzer.finish()))
    take(reader.finish())
    assert not octets, "a message that was never told"
    for message, data in found:
        assert message.octets == len(data)
        assert message.complete == (not message.why)
    return found


def session(*said: str, port: int = 25, **keywords: Any) -> list[Frame]:
    """``"C: text"`` with CRLF added (``\\n`` inside is CRLF too), ``"C! raw"`` as it is, ``"C? 12"`` a gap."""
    exchange: list[dict[str, Any]] = []
    for line in said:
        side, how, text = line[0], line[1], line[3:]
        if how == "?":
            exchange.append({"dir": side, "gap": int(text)})
        else:
            exchange.append({"dir": side, "bytes": text if how == "!" else (text + "\n").replace("\n", "\r\n")})
    return list(capture_of(exchange, wire=Wire(sport=port), **keywords))


GREETED = ("S: 220 mx ready", "C: EHLO c", "S: 250-mx\n250 CHUNKING")
ENVELOPE = ("C: MAIL FROM:<a@c>", "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok")
DATA = (*GREETED, *ENVELOPE, "C: DATA", "S: 354 go")
END = ("S: 250 queued", "C: QUIT", "S: 221 bye")


def told(frames: Iterable[Frame]) -> list[tuple[bytes, bool, str]]:
    return [(data, message.complete, message.reply) for message, data in messages(frames)]


# --- what a message is ------------------------------------------------------------------------------------------------


def test_stuffed_dots_and_the_lone_dot_are_no_part_of_the_message() -> None:
    frames = session(*DATA, "C: Subject: x\n\n..\n...\n. y\nend", "C: .", *END)
    assert told(frames) == [(b"Subject: x\r\n\r\n.\r\n..\r\n y\r\nend\r\n", True, "250")]


def test_a_message_without_octets_is_a_message() -> None:
    assert told(session(*DATA, "C: .", *END)) == [(b"", True, "250")]


def test_chunks_are_joined_up_to_the_last() -> None:
    frames = session(
        *GREETED, *ENVELOPE, "C! BDAT 7\r\nab\r\n.\r\n", "S: 250 ok", "C: BDAT 2", "C! cd", "S: 250 ok",
        "C: BDAT 0 LAST", "S: 250 all", "C: QUIT", "S: 221 bye",
    )  # fmt: skip
    found = messages(frames)
    assert [(f.octets, f.message.complete, f.message.ending, f.message.replies) for f in found] == [
        (b"ab\r\n.\r\ncd", True, "LAST", ["250 all"])
    ]


def test_chunks_without_a_last_one_are_not_a_whole_message() -> None:
    frames = session(*GREETED, *ENVELOPE, "C! BDAT 2\r\nab", "S: 250 ok", "C: RSET", "S: 250 ok",
                     *ENVELOPE, "C! BDAT 2 LAST\r\ncd", *END)  # fmt: skip
    assert told(frames) == [(b"ab", False, ""), (b"cd", True, "250")]


def test_a_chunk_may_be_refused_before_all_of_it_was_sent() -> None:
    frames = session(*GREETED, *ENVELOPE, "C! BDAT 4 LAST\r\nab", "S: 552 too large", "C! cd", "C: QUIT", "S: 221 bye")
    assert told(frames) == [(b"abcd", True, "552")]


def test_lmtp_answers_for_each_recipient_that_it_took() -> None:
    frames = session(
        "S: 220 mx LMTP", "C: LHLO c", "S: 250 mx", "C: MAIL FROM:<a@c>", "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok",
        "C: RCPT TO:<n@d>", "S: 550 no", "C: RCPT TO:<c@d>", "S: 250 ok", "C: DATA", "S: 354 go", "C: hi\n.",
        "S: 250 b has it", "S: 452 c has not", "C: QUIT", "S: 221 bye", port=24,
    )  # fmt: skip
    [(message, octets)] = messages(frames)
    assert (octets, message.replies) == (b"hi\r\n", ["250 b has it", "452 c has not"])
    assert [(r.address, r.code) for r in message.envelope.recipients] == [
        ("b@d", "250"),
        ("n@d", "550"),
        ("c@d", "250"),
    ]


def test_pop3_gives_what_retr_and_top_answer_and_no_listing() -> None:
    frames = session(
        "S: +OK ready", "C: USER a", "S: +OK", "C: PASS b", "S: +OK", "C: LIST", "S: +OK 2\n1 9\n2 8\n.",
        "C: RETR 1", "S: +OK 9 octets\n..a\n.", "C: TOP 2 0", "S: +OK\nTo: b\n\n.", "C: RETR 3", "S: -ERR no",
        "C: RETR 2", "S: +OK\n.", "C: QUIT", "S: +OK bye", port=110,
    )  # fmt: skip
    found = [(f.octets, f.message.command, f.message.reply, f.message.complete) for f in messages(frames)]
    assert found == [
        (b".a\r\n", "RETR 1", "+OK", True),
        (b"To: b\r\n\r\n", "TOP 2 0", "+OK", True),
        (b"", "RETR 2", "+OK", True),
    ]


def test_an_end_that_the_standard_forbids_is_told() -> None:
    frames = session(*GREETED, *ENVELOPE, "C! DATA\n", "S: 354 go", "C! hi\n.\n", *END)
    assert [(f.octets, f.message.ending) for f in messages(frames)] == [(b"hi\n", "nonstandard")]


# --- the envelope -----------------------------------------------------------------------------------------------------


def envelopes(*said: str) -> list[tuple[str | None, list[str]]]:
    found = messages(session(*said))
    return [(f.message.envelope.mail_from, [r.address for r in f.message.envelope.recipients]) for f in found]


def test_each_message_has_the_envelope_of_its_own_transaction() -> None:
    second = ("C: MAIL FROM:<>", "S: 250 ok", "C: RCPT TO:<x@y>", "S: 250 ok", "C: DATA", "S: 354 go", "C: 2\n.")
    assert envelopes(*DATA, "C: 1\n.", "S: 250 ok", *second, *END) == [("a@c", ["b@d"]), ("", ["x@y"])]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (("C: MAIL FROM:<z@z>", "S: 503 nested"), ("a@c", ["b@d"])),
        (("C: MAIL FROM:<z@z>\nRCPT TO:<e@e>", "S: 503 nested", "S: 250 ok"), ("a@c", ["b@d", "e@e"])),
        (("C: EHLO", "S: 501 domain?"), ("a@c", ["b@d"])),
        (("C: NOOP", "S: 250 ok"), ("a@c", ["b@d"])),
        (("C: RSET", "S: 250 ok", "C: MAIL FROM:<z@z>", "S: 250 ok"), ("z@z", [])),
        (("C: EHLO c", "S: 250 mx", "C: MAIL FROM:<z@z>", "S: 250 ok"), ("z@z", [])),
    ],
)
def test_what_was_refused_does_not_replace_the_envelope(
    between: tuple[str, ...], expected: tuple[str, list[str]]
) -> None:
    assert envelopes(*GREETED, *ENVELOPE, *between, "C: DATA", "S: 354 go", "C: hi\n.", *END) == [expected]


def test_a_gap_in_the_envelope_is_told() -> None:
    frames = session(*GREETED, "C: MAIL FROM:<a@c>", "S: 250 ok", "C? 20", "S: 250 ok", "C: RCPT TO:<b@d>", "S: 250 ok",
                     "C: DATA", "S: 354 go", "C: hi\n.", *END)  # fmt: skip
    [(message, _)] = messages(frames)
    assert message.complete
    assert not message.envelope.whole


# --- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "octets", "holes", "began", "ended"),
    [
        (("C: one", "C? 5", "C: two\n."), b"one\r\ntwo\r\n", [(5, 5, True)], True, True),
        (("C? 5", "C: two\n."), b"two\r\n", [(0, 5, True)], True, True),
        (("C: one", "C? 8"), b"one\r\n", [(5, 8, False)], True, False),
        (("C! one\r\ntw",), b"one\r\ntw", [], True, False),
        (("C: one\n.",), b"one\r\n", [], True, True),
        (("C! one\r\n.",), b"one\r\n", [], True, False),
    ],
)
def test_a_gap_has_its_place_and_its_length(
    said: tuple[str, ...], octets: bytes, holes: list[tuple[int, int, bool]], began: bool, ended: bool
) -> None:
    answered = END if (said[-1].endswith(".") and ended) or said[-1][1] == "?" else ()
    [(message, data)] = messages(session(*DATA, *said, *answered, close=False))
    assert data == octets
    assert [(hole.at, hole.octets, hole.whole) for hole in message.holes] == holes
    assert (message.began, message.ended) == (began, ended)
    assert message.complete == (not holes and ended)


def test_a_gap_in_a_chunk_is_counted_and_the_end_is_known() -> None:
    frames = session(*GREETED, *ENVELOPE, "C! BDAT 10 LAST\r\nabc", "C? 4", "C! hij", *END)
    [(message, data)] = messages(frames)
    assert data == b"abchij"
    assert message.holes == [Hole(3, message.offset + 14 + 3, 4, True)]
    assert (message.ended, message.complete, message.reply) == (True, False, "250")


def test_a_gap_that_takes_the_rest_of_the_last_chunk_hides_no_end() -> None:
    frames = session(*GREETED, *ENVELOPE, "C! BDAT 10 LAST\r\nabc", "C? 7", *END)
    [(message, data)] = messages(frames)
    assert (data, message.ended, message.complete) == (b"abc", True, False)


def test_a_capture_that_begins_inside_a_message_does_not_know_its_beginning() -> None:
    frames = session("C: x\ny\n.", "S: 250 ok", "C: QUIT", "S: 221 bye", midstream=True)
    [(message, data)] = messages(frames)
    assert data == b"x\r\ny\r\n"
    assert (message.began, message.ended, message.complete) == (False, True, False)
    assert message.why == ("The beginning of the message was not captured.",)


def test_a_line_that_may_be_of_a_list_makes_a_message_doubtful() -> None:
    frames = session("S: +OK ready", "S: +OK", "S: +OK\nTo: a\n\n3 apples\n.", port=110, sides="S")
    [(message, data)] = messages(frames)
    assert data == b"To: a\r\n\r\n"
    assert message.why == ("Which octets it has is presumed: what would show it was not captured.",)


def test_a_message_inside_which_commands_are_quoted_is_not_called_whole() -> None:
    quoted = "From: a\n\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nSubject: quoted\n\nbody\n."
    frames = session(f"C: {quoted}", "S: 250 ok", "C: QUIT", "S: 221 bye", midstream=True)
    assert [f.message.complete for f in messages(frames)].count(True) == 0


# --- properties -------------------------------------------------------------------------------------------------------

SESSIONS = {
    "two messages": [*DATA, "C: Subject: 1\n\none\n..dot\n.", "S: 250 ok", *ENVELOPE, "C: DATA", "S: 354 go",
                     "C: Subject: 2", "C: \ntwo", "C: MAIL FROM:<a@b>", "C: QUIT\n.", *END],
    "pipelined": [*GREETED, "C: MAIL FROM:<a@c>\nRCPT TO:<b@d>\nDATA", "S: 250 ok\n250 ok\n354 go", "C: one\n.\nQUIT",
                  "S: 250 ok\n221 bye"],
    "chunks": [*GREETED, *ENVELOPE, "C! BDAT 9\r\none\r\ntwo\r", "S: 250 ok", "C! BDAT 3 LAST\r\n\nxy", "S: 250 ok",
               *ENVELOPE, "C: DATA", "S: 354 go", "C: three\n.", *END],
    "pop3": ["S: +OK ready", "C: USER a", "S: +OK", "C: PASS b", "S: +OK", "C: RETR 1", "S: +OK", "S: one\n..\ntwo\n.",
             "C: RETR 2", "S: +OK\nthree", "S: .", "C: QUIT", "S: +OK bye"],
}  # fmt: skip


@pytest.mark.parametrize("name", SESSIONS)
def test_whichever_frame_is_lost_a_message_called_whole_is_one_that_was_sent(name: str) -> None:
    frames = session(*SESSIONS[name], port=110 if name == "pop3" else 25)
    sent = [f.octets for f in messages(frames)]
    assert len(sent) >= 1
    assert all(f.message.complete for f in messages(frames))
    for lost in range(len(frames)):
        found = messages([*frames[:lost], *frames[lost + 1 :]])
        for message, data in found:
            assert data in sent or not message.complete, f"without frame {lost + 1}: {data!r}"
        assert len([f for f in found if f.message.complete]) >= len(sent) - 2, f"without frame {lost + 1}"


def kept_of(frames: list[Frame]) -> Iterator[tuple[str, list[Frame]]]:
    """A capture of less: without any two frames, from any frame on, up to any frame."""
    for one, other in combinations(range(len(frames)), 2):
        what = f"without frames {one + 1} and {other + 1}"
        yield what, [frame for place, frame in enumerate(frames) if place not in (one, other)]
    for place in range(len(frames)):
        yield f"from frame {place + 1} on", frames[place:]
        yield f"up to frame {place}", frames[:place]


@pytest.mark.parametrize("sides", ["CS", "C", "S"])
@pytest.mark.parametrize("name", SESSIONS)
def test_whatever_else_was_not_captured_either(name: str, sides: str) -> None:
    port = 110 if name == "pop3" else 25
    sent = [f.octets for f in messages(session(*SESSIONS[name], port=port))]
    for what, frames in kept_of(session(*SESSIONS[name], port=port, sides=sides)):
        for message, data in messages(frames):
            assert data in sent or not message.complete, f"{what}: {data!r}"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    st.integers(1, 60),
    st.booleans(),
    st.integers(1, 9),
)
def test_what_was_stuffed_and_cut_in_any_way_comes_out_as_it_was(
    lines: list[bytes], piece: int, runs: bool, batch: int
) -> None:
    octets = b"".join(line.replace(b"\n", b"").replace(b"\r", b"") + b"\r\n" for line in lines)
    stuffed = b"\r\n".join(b"." * row.startswith(b".") + row for row in octets[:-2].split(b"\r\n")) + b"\r\n.\r\n"
    pieces = [f"C! {stuffed[at : at + piece].decode('latin-1')}" for at in range(0, len(stuffed), piece)]
    frames = session(*DATA, *pieces, *END)
    [(message, data)] = messages(frames, runs=runs, batch=batch)
    assert data == octets
    assert message.complete


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_has_the_same_messages_line_by_line_and_in_runs(vector: dict[str, Any]) -> None:
    context = vector.get("context", {})
    frames = list(
        capture_of(
            vector["exchange"],
            midstream=context.get("midstream", False),
            sides=context.get("sides", "CS"),
            wire=Wire(sport={"pop3": 110, "lmtp": 24}.get(context.get("protocol", ""), 25)),
        )
    )

    def shown(found: list[Found]) -> list[tuple[Any, ...]]:
        return [(f.octets, f.message.why, f.message.reply, f.message.holes, f.message.offset) for f in found]

    assert shown(messages(frames, runs=False)) == shown(messages(frames)) == shown(messages(frames, batch=1000))


def test_memory_does_not_grow_with_a_message() -> None:
    wire, body = Wire(), b"a line of the message\r\n" * 600
    frames = wire.open()
    for said in DATA:
        frames.append(wire.say(Side(said[0]), (said[3:] + "\n").replace("\n", "\r\n").encode()))
    frames += [wire.say(C, body) for _ in range(800)]
    analyzer, reader, octets = Analyzer(runs=True), Messages(), 0
    tracemalloc.start()
    for frame in frames:
        for event in reader.feed(analyzer.feed(frame)):
            octets += len(event.octets) if isinstance(event, Piece) else 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert octets == 800 * len(body)
    assert peak < 2 << 20, f"{peak} octets for a message of {octets}"


# --- real captures ----------------------------------------------------------------------------------------------------

# Where we differ from the truth, and why that is right: capture -> (its number, or "ours", of the odd ones) -> reason.
DIFFERENT = {
    "arkime__smtp-html.pcap": "begins in the middle: its first line, HELO with a bare LF, cannot be told from content",
    "packetbeat__smtp_multiple_late_start.pcap": "begins in a message that quotes a session, taken for one (rule M1); "
    "none of what is cut out of it is called whole, and counting replies has lost its footing",
    "packetbeat__smtp_multiple_late_data_transmission.pcap": "as smtp_multiple_late_start",
    "packetbeat__smtp_tcp_gap_in_response.pcap": "the truth stops at the gap; the reply behind it is 250",
    "packetbeat__smtp_tcp_gap_no_220_prompt.pcap": "the truth stops at the gap; the reply behind it is 250",
    "suricata__smtp-detect-email-received.pcap": "the greeting has no line end, so the truth counts one reply too few",
    "zeek__smtp-bdat-cmd-chunk-size-overflow.pcap": "a chunk of 2^64-1 octets was begun and never came; not whole",
    "zeek__smtp-bdat-gap.pcap": "the truth stops at the gap; a chunk with a gap and a whole message stand there",
}


def expected(truth: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(client, octets, SHA-256, reply, whole) of each message of a truth; of one that is not whole what is captured."""
    rows = []
    for stream in truth["streams"]:
        for one in (*stream.get("smtp", {}).get("messages", ()), *stream.get("pop", {}).get("messages", ())):
            digest = one.get("sha256") or one.get("sha256_raw_prefix") or one.get("sha256_raw_captured")
            octets = one.get("len", one.get("captured_prefix_len", one.get("captured_len")))
            rows.append((stream["client"], octets, digest, str(one.get("reply") or ""), one["complete"]))
    return rows


@pytest.mark.skipif(not TRUTHS, reason=f"NO CORPUS at {CORPUS}: set WIRETALK_CORPUS; real messages are not checked")
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda path: path.name.removesuffix(".json"))
def test_the_messages_of_a_real_capture_are_those_of_its_truth(truth: Path) -> None:
    told = json.loads(truth.read_text())
    try:
        with read(file_of(truth)) as capture:
            found = messages(capture, batch=50)
    except BadCapture:
        pytest.fail("a mail capture must be read")
    ours = []
    for message, _ in found:
        assert message.facts is not None
        client = str(message.facts.client).replace("[", "").replace("]", "")
        reply = "" if message.side is S else message.reply
        ours.append((client, message.octets, message.sha256, reply, message.complete))
    wanted = expected(told)
    name = truth.name.removesuffix(".json")
    if name in DIFFERENT:
        assert sorted(ours) != sorted(wanted), "a difference that is none any more"
        # What the truth calls whole is there whole, whatever else is.
        for _, octets, digest, _, whole in wanted:
            assert not whole or (octets, digest, True) in [(row[1], row[2], row[4]) for row in ours]
    else:
        assert sorted(ours) == sorted(wanted)


def test_the_reasons_name_captures_that_exist() -> None:
    assert not TRUTHS or set(DIFFERENT) <= {truth.name.removesuffix(".json") for truth in TRUTHS}


def test_holes_stand_in_order() -> None:
    frames = session(*DATA, "C: one", "C? 5", "C: two", "C? 7", "C: three\n.", *END)
    [(message, _)] = messages(frames)
    assert [hole.octets for hole in message.holes] == [5, 7]
    assert all(a.offset + a.octets <= b.offset and a.at <= b.at for a, b in pairwise(message.holes))
    assert message.why == ("12 octets in 2 places were not captured.",)
