"""Frames in, updates out: conversations, sides, provenance, closing, and what happens when something of ours fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from capture import analyzer as limits
from capture import exported
from capture.analyzer import LINGER, Analyzer
from capture.model import (
    ACK,
    FIN,
    RST,
    SYN,
    Chunk,
    Conversation,
    Endpoint,
    Frame,
    Gap,
    Line,
    Missing,
    Note,
    Pdu,
    Role,
    Side,
    Span,
    Update,
)
from capture.record import Record
from capture.stream import PATIENCE, Stream
from tests.capture.forge import START, C, S, Wire, capture_of, ethernet, ip, tcp


class Lines:
    """A dialogue for tests: every line that ends in LF; half lines at the end have the flag ``incomplete``."""

    protocol = "lines"

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.tape = {C: b"", S: b""}
        self.offset = {C: 0, S: 0}
        self.number = {C: 0, S: 0}

    def feed(self, chunk: Chunk) -> list[Line]:
        self.tape[chunk.side] += chunk.data
        out = []
        while b"\n" in self.tape[chunk.side]:
            out.append(self._line(chunk.side, self.tape[chunk.side].index(b"\n") + 1))
        return out

    def gap(self, gap: Gap) -> list[Line]:
        out = [self._line(gap.side, len(self.tape[gap.side]), "cut-by-gap")] if self.tape[gap.side] else []
        self.offset[gap.side] += gap.length
        return out

    def finish(self) -> list[Line]:
        return [self._line(side, len(self.tape[side]), "incomplete") for side in (C, S) if self.tape[side]]

    def settled(self, side: Side) -> int:
        return self.offset[side]

    def take_notes(self) -> list[Note]:
        return []

    def _line(self, side: Side, size: int, *flags: str) -> Line:
        data, self.tape[side] = self.tape[side][:size], self.tape[side][size:]
        offset = self.offset[side]
        self.offset[side] += size
        self.number[side] += 1
        pdu = Pdu("line", f"{side.value}{self.number[side]}")
        spans = (Span(0, size, Role.PCI, "raw"),)
        return Line(self.ident, side, self.number[side], offset, data, pdu, spans, flags, not flags)


class Broken(Lines):
    """Fails at the word BOOM."""

    def feed(self, chunk: Chunk) -> list[Line]:
        if b"BOOM" in chunk.data:
            raise ZeroDivisionError("boom")
        return super().feed(chunk)


def lines(facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> Lines:
    return Lines(facts.ident)


def analyzed(frames: Iterable[Frame], analyzer: Analyzer | None = None, *, finish: bool = True) -> Record:
    analyzer = analyzer or Analyzer(strict=True, chooser=lines)
    record = Record()
    for frame in frames:
        record.apply(analyzer.feed(frame))
    if finish:
        record.apply(analyzer.finish())
    return record


def said(record: Record, conversation: int | None = None) -> list[str]:
    return [
        f"{row.side.value} {row.data.decode()!r}" if isinstance(row, Line) else f"{row.side.value} <{row.length}>"
        for row in record.rows(conversation)
    ]


SESSION = [
    {"dir": "S", "bytes": "220 hi\r\n"},
    {"dir": "C", "bytes": "HELO x\r\nNOOP\r\n"},
    {"dir": "S", "bytes": "250 "},
    {"dir": "S", "bytes": "y\r\n25"},
    {"dir": "S", "bytes": "0 z\r\n"},
    {"dir": "C", "bytes": "QUIT\r\n"},
]


def test_a_session_gives_its_lines_with_frames_times_and_order() -> None:
    record = analyzed(capture_of(SESSION))
    rows = [row for row in record.rows() if isinstance(row, Line)]
    assert [(row.side.value, row.data, row.frames, row.order, (row.time - START) // 1_000_000) for row in rows] == [
        ("S", b"220 hi\r\n", (4,), 0, 4),
        ("C", b"HELO x\r\n", (5,), 8, 5),
        ("C", b"NOOP\r\n", (5,), 16, 5),
        ("S", b"250 y\r\n", (6, 7), 22, 6),
        ("S", b"250 z\r\n", (7, 8), 29, 7),
        ("C", b"QUIT\r\n", (9,), 36, 9),
    ]


def test_the_conversation_is_known_from_the_syn_on() -> None:
    wire = Wire()
    analyzer = Analyzer(strict=True, chooser=lines)
    update = analyzer.feed(wire.open()[0])
    (fact,) = update.conversations
    assert (str(fact.client), str(fact.server)) == ("192.0.2.10:49152", "192.0.2.25:25")
    assert (fact.ident, fact.protocol, fact.midstream, fact.closed, fact.frames) == (1, "", False, False, 1)


def test_counters_alone_make_no_update() -> None:
    wire = Wire()
    analyzer = Analyzer(strict=True, chooser=lines)
    syn, synack, ack = wire.open()
    assert analyzer.feed(syn)
    assert not analyzer.feed(synack)
    assert not analyzer.feed(ack)
    (fact,) = analyzer.feed(wire.say(S, b"220 hi\r\n")).conversations
    assert (fact.frames, fact.octets, fact.protocol) == (4, (0, 8), "lines")


def test_at_the_end_the_conversation_is_closed_and_its_counters_are_whole() -> None:
    record = analyzed(capture_of(SESSION))
    (fact,) = record.conversations
    assert (fact.closed, fact.frames, fact.octets) == (True, 12, (20, 22))
    assert (fact.start, fact.end) == (START + 1_000_000, START + 12_000_000)


def test_a_half_line_comes_out_when_the_conversation_closes() -> None:
    wire = Wire()
    record = analyzed([*wire.open(), wire.say(S, b"421 no line end"), *wire.close()], finish=False)
    assert said(record) == ["S '421 no line end'"]
    assert record.lines[0].flags == ("incomplete",)


def test_and_after_a_reset_when_time_has_passed() -> None:
    wire = Wire()
    analyzer = Analyzer(strict=True, chooser=lines)
    record = analyzed([*wire.open(), wire.say(S, b"421 no line end"), wire.reset(C)], analyzer, finish=False)
    assert record.conversations[0].closed
    assert said(record) == []
    record.apply(analyzer.elapse(wire.time + LINGER))
    assert said(record) == ["S '421 no line end'"]


@pytest.mark.parametrize("late", [False, True], ids=["never", "in time"])
def test_a_reset_with_octets_still_missing_waits_for_them_a_moment(late: bool) -> None:
    wire = Wire()
    opening, lost, last = wire.open(), wire.say(S, b"one\n"), wire.say(S, b"two\n")
    behind = [wire.reset(C)]
    if late:
        behind.append(lost._replace(number=9, time=wire.time + 1))
    record = analyzed([*opening, last, *behind])
    assert said(record) == ["S 'one\\n'" if late else "S <4>", "S 'two\\n'"]
    assert record.conversations[0].closed


def test_what_is_sent_again_after_the_fins_is_still_of_the_conversation() -> None:
    wire = Wire()
    opening, missing = wire.open(), wire.say(C, b"QUIT\n")
    closing = wire.close()[:2]
    again = missing._replace(time=wire.time + 3 * LINGER)
    record = analyzed([*opening, *closing, again, wire.segment(C)._replace(time=again.time)], finish=False)
    assert (said(record), len(record.conversations)) == (["C 'QUIT\\n'"], 1)


def test_a_gap_has_its_place_among_the_lines() -> None:
    exchange = [
        {"dir": "C", "bytes": "EHLO x\r\nMAIL"},
        {"dir": "C", "gap": 20},
        {"dir": "C", "bytes": "RCPT\r\n"},
        {"dir": "S", "bytes": "250\r\n"},
    ]
    record = analyzed(capture_of(exchange))
    assert said(record) == ["C 'EHLO x\\r\\n'", "C 'MAIL'", "C <20>", "C 'RCPT\\r\\n'", "S '250\\r\\n'"]
    assert [type(row) for row in record.rows()] == [Line, Line, Missing, Line, Line]


def test_a_lost_frame_does_not_silence_a_live_view() -> None:
    wire = Wire()
    analyzer = Analyzer(strict=True, chooser=lines)
    record = analyzed(wire.open(), analyzer, finish=False)
    wire.lose(C, 6)
    record.apply(analyzer.feed(wire.say(S, b"221 bye\r\n")))
    assert said(record) == []
    record.apply(analyzer.elapse(wire.time + PATIENCE))
    assert said(record) == ["C <6>", "S '221 bye\\r\\n'"]


def test_another_conversations_frames_make_time_pass_too() -> None:
    wire, other = Wire(), Wire(cport=50000)
    analyzer = Analyzer(strict=True, chooser=lines)
    record = analyzed(wire.open(), analyzer, finish=False)
    wire.lose(C, 6)
    record.apply(analyzer.feed(wire.say(S, b"221 bye\r\n")))
    other.time = wire.time + 2 * PATIENCE
    record.apply(analyzer.feed(other.open()[0]))
    assert said(record) == ["C <6>", "S '221 bye\\r\\n'"]


def test_a_live_view_that_lets_time_pass_comes_to_the_lines_of_its_recording() -> None:
    wire, other = Wire(), Wire(cport=50000)
    frames = [*wire.open(), *other.open()]
    wire.lose(C, 6)
    frames += [wire.say(S, b"221 bye\r\n"), wire.say(S, b"half"), wire.reset(S)]
    other.time = wire.time + 10 * PATIENCE
    frames += [other.say(C, b"HELO\r\n"), other.say(S, b"250\r\n")]
    analyzer = Analyzer(strict=True, chooser=lines)
    live, before = Record(), frames[0].time
    for frame in frames:
        for time in range(before, frame.time, PATIENCE // 3):
            live.apply(analyzer.elapse(time))
        live.apply(analyzer.feed(frame))
        before = frame.time
    live.apply(analyzer.finish())
    assert live.rows() == analyzed(frames).rows()
    assert said(live) == ["C <6>", "S '221 bye\\r\\n'", "S 'half'", "C 'HELO\\r\\n'", "S '250\\r\\n'"]


class TestPortReuse:
    def test_a_new_syn_on_the_same_ports_is_a_new_conversation(self) -> None:
        first = Wire()
        second = Wire(isn=(777_000, 888_000), number=40, time=START + 10**9)
        frames = [*first.open(), first.say(C, b"one\n"), *second.open(), second.say(C, b"two\n")]
        record = analyzed(frames)
        assert [fact.ident for fact in record.conversations] == [1, 2]
        assert (said(record, 1), said(record, 2)) == (["C 'one\\n'"], ["C 'two\\n'"])

    def test_a_repeated_syn_is_not(self) -> None:
        wire = Wire()
        syn, synack, ack = wire.open()
        record = analyzed([syn, syn, synack, synack, ack, wire.say(C, b"one\n"), syn])
        assert len(record.conversations) == 1

    def test_late_segments_of_a_closed_conversation_do_not_reopen_it(self) -> None:
        wire = Wire()
        opening, hello, closing = wire.open(), wire.say(C, b"one\n"), wire.close()
        record = analyzed([*opening, hello, *closing, closing[1], closing[2], hello, wire.reset(S)])
        assert len(record.conversations) == 1
        assert record.conversations[0].frames == 11
        assert said(record) == ["C 'one\\n'"]

    def test_new_octets_after_the_end_are_another_conversation(self) -> None:
        wire = Wire()
        record = analyzed([*wire.open(), *wire.close(), wire.say(C, b"more\n")])
        assert [(fact.ident, fact.midstream) for fact in record.conversations] == [(1, False), (2, True)]

    def test_a_stream_that_goes_on_after_a_forged_reset_stays_one_conversation(self) -> None:
        wire = Wire()
        record = analyzed([*wire.open(), wire.say(C, b"one\n"), wire.reset(S), wire.say(C, b"two\n")])
        assert said(record, 1) == ["C 'one\\n'", "C 'two\\n'"]
        assert len(record.conversations) == 1


class TestSides:
    @pytest.mark.parametrize("first", [0, 1], ids=["SYN", "SYN ACK"])
    def test_the_sender_of_the_syn_is_the_client_whatever_the_ports(self, first: int) -> None:
        wire = Wire(cport=25, sport=49152)
        (fact,) = analyzed([wire.open()[first]]).conversations
        assert (fact.client.port, fact.server.port, fact.midstream) == (25, 49152, False)

    @pytest.mark.parametrize("port", [24, 25, 110, 143, 465, 587, 993, 995, 1025, 1110, 2525])
    def test_midstream_a_mail_port_is_the_servers(self, port: int) -> None:
        wire = Wire(cport=20, sport=port)
        wire.pick_up()
        (fact,) = analyzed([wire.say(S, b"hello\n")]).conversations
        assert (fact.client.port, fact.server.port, fact.midstream) == (20, port, True)

    @pytest.mark.parametrize(
        ("side", "octets"),
        [
            (S, b"220 hello\r\n"),
            (S, b"250-one\r\n"),
            (S, b"+OK ready\r\n"),
            (S, b"* OK\r\n"),
            (C, b"EHLO x\r\n"),
            (C, b"quit\r\n"),
            (C, b"USER anna\r\n"),
        ],
    )
    @pytest.mark.parametrize("ack_first", [False, True])
    def test_midstream_on_other_ports_what_is_said_tells(self, side: Side, octets: bytes, ack_first: bool) -> None:
        wire = Wire(cport=5000, sport=6000)
        wire.pick_up()
        record = analyzed([*([wire.segment(side.other)] if ack_first else []), wire.say(side, octets)])
        (fact,) = record.conversations
        assert (fact.client.port, fact.server.port) == (5000, 6000)
        assert record.lines[0].side is side

    def test_a_late_syn_puts_right_who_is_the_client(self) -> None:
        wire = Wire(cport=25, sport=49152)
        syn, synack, ack = wire.open()
        record = analyzed([ack, syn, synack, wire.say(S, b"hello\n")])
        (fact,) = record.conversations
        assert (fact.client.port, fact.server.port, fact.midstream) == (25, 49152, False)
        assert said(record) == ["S 'hello\\n'"]

    def test_and_else_the_lower_port_is_the_servers(self) -> None:
        wire = Wire(cport=6000, sport=5000)
        wire.pick_up()
        (fact,) = analyzed([wire.say(C, b"gibberish\n")]).conversations
        assert (fact.client.port, fact.server.port) == (6000, 5000)

    def test_equal_ports_in_different_vlans_are_different_conversations(self) -> None:
        frames = []
        for tags in ((), (5,), (5, 7)):
            wire = Wire(tags=tags)
            frames += [*wire.open(), wire.say(C, b"%d\n" % len(tags))]
        record = analyzed(frames)
        assert [said(record, n) for n in (1, 2, 3)] == [["C '0\\n'"], ["C '1\\n'"], ["C '2\\n'"]]

    def test_a_conversation_with_itself_is_survived(self) -> None:
        wire = Wire(client="192.0.2.10", server="192.0.2.10", cport=25, sport=25)
        record = analyzed([*wire.open(), wire.say(C, b"x\n"), wire.say(S, b"y\n")])
        assert {fact.client.port for fact in record.conversations} == {25}


class TestDefects:
    FRAMES = (
        {"dir": "C", "bytes": "fine\nhalf"},
        {"dir": "S", "bytes": "also half"},
        {"dir": "C", "bytes": "BOOM\n"},
        {"dir": "S", "bytes": "goes on\n"},
    )

    def test_a_dialogue_that_fails_is_a_note_and_no_octet_is_lost(self) -> None:
        analyzer = Analyzer(chooser=lambda facts, opening, *, final: Broken(facts.ident))
        record = analyzed(capture_of(self.FRAMES), analyzer)
        assert said(record) == ["C 'fine\\n'", "C 'half'", "S 'also half'", "C 'BOOM\\n'", "S 'goes on\\n'"]
        assert [line.pdu.name for line in record.lines][-1] == "unknown"
        assert record.lines[-1].flags == ("not-understood",)
        assert [line.number for line in record.lines if line.side is C] == [1, 2, 3]
        (note,) = record.notes
        assert (note.kind, note.conversation, note.frame) == ("internal", 1, 6)
        assert "ZeroDivisionError: boom" in note.text
        assert record.conversations[0].protocol == "opaque"

    def test_and_is_raised_when_asked_for(self) -> None:
        analyzer = Analyzer(strict=True, chooser=lambda facts, opening, *, final: Broken(facts.ident))
        with pytest.raises(ZeroDivisionError):
            analyzed(capture_of(self.FRAMES), analyzer)

    def test_a_choice_that_fails_is_a_note_too(self) -> None:
        def undecidable(facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> None:
            raise LookupError("no idea")

        record = analyzed(capture_of(self.FRAMES), Analyzer(chooser=undecidable))
        assert said(record) == ["C 'fine\\nhalf'", "S 'also half'", "C 'BOOM\\n'", "S 'goes on\\n'"]
        assert [note.kind for note in record.notes] == ["internal"]

    def test_whatever_else_fails_costs_one_segment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wire = Wire()
        analyzer = Analyzer(chooser=lines)
        record = analyzed(wire.open(), analyzer, finish=False)
        with monkeypatch.context() as broken:
            broken.setattr(Stream, "follows", lambda *_: False)
            broken.setattr(Stream, "feed", lambda *_: 1 // 0)
            record.apply(analyzer.feed(wire.segment(S)))
        record.apply(analyzer.feed(wire.say(S, b"goes on\n")))
        assert said(record) == ["S 'goes on\\n'"]
        assert [(note.kind, note.frame) for note in record.notes] == [("internal", 4)]


def test_octets_are_held_until_a_protocol_is_chosen() -> None:
    def at_ten_octets(facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> Lines | None:
        octets = sum(len(item.data) for item in opening if isinstance(item, Chunk))
        return Lines(facts.ident) if final or octets >= 10 else None

    wire = Wire()
    analyzer = Analyzer(strict=True, chooser=at_ten_octets)
    record = analyzed([*wire.open(), wire.say(C, b"a\nb\n")], analyzer, finish=False)
    assert (said(record), record.conversations[0].protocol) == ([], "")
    record.apply(analyzer.feed(wire.say(S, b"greeting\n")))
    assert said(record) == ["C 'a\\n'", "C 'b\\n'", "S 'greeting\\n'"]
    assert record.conversations[0].protocol == "lines"


def test_and_chosen_at_the_end_whatever_was_said() -> None:
    def only_final(facts: Conversation, opening: list[Chunk | Gap], *, final: bool) -> Lines | None:
        return Lines(facts.ident) if final else None

    record = analyzed(capture_of(SESSION), Analyzer(strict=True, chooser=only_final))
    assert len(record.lines) == 6


def test_an_icmp_error_quoting_a_segment_is_not_data() -> None:
    wire = Wire()
    opening, command = wire.open(), wire.say(C, b"one\n")
    quoted = ip(wire.server, wire.client, bytes.fromhex("0304 0000 0000 05dc") + command.data[14:], 1)
    error = Frame(9, START, ethernet(quoted), len(ethernet(quoted)))
    record = analyzed([*opening, error, command])
    assert (said(record), record.conversations[0].frames) == (["C 'one\\n'"], 4)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 1, 2, 0)])
def test_fragments_are_put_together(order: tuple[int, ...]) -> None:
    wire = Wire()
    segment = tcp(wire.client, wire.server, 49152, 25, 1001, 5001, ACK, b"A line in three fragments of a datagram.\n")
    cuts = [(0, 24, 0x2000), (24, 48, 0x2003), (48, len(segment), 0x0006)]
    parts = [ethernet(ip(wire.client, wire.server, segment[a:b], fragment=f)) for a, b, f in cuts]
    frames = [Frame(number, START, parts[n], len(parts[n])) for number, n in enumerate(order, 4)]
    record = analyzed([*wire.open(), *frames])
    assert said(record) == ["C 'A line in three fragments of a datagram.\\n'"]
    brought = {n: number for number, n in reversed(list(enumerate(order, 4)))}  # the first copy counts
    assert record.lines[0].frames == tuple(brought[n] for n in range(3))


def test_fragments_of_ipv6_are_put_together() -> None:
    wire = Wire(client="2001:db8:25::10", server="2001:db8:25::25")
    segment = tcp(wire.client, wire.server, 49152, 25, 1001, 5001, ACK, b"A line in two fragments.\n")
    heads = bytes([6, 0, 0, 1, 0, 0, 0, 9]), bytes([6, 0, 0, 24, 0, 0, 0, 9])
    parts = [
        ethernet(ip(wire.client, wire.server, head + octets, 44))
        for head, octets in zip(heads, (segment[:24], segment[24:]), strict=True)
    ]
    record = analyzed([*wire.open(), *(Frame(n, START, part, len(part)) for n, part in enumerate(parts, 4))])
    assert said(record) == ["C 'A line in two fragments.\\n'"]


def test_octets_recorded_at_a_socket_are_a_conversation_too() -> None:
    here, there = Endpoint(bytes([192, 0, 2, 10]), 49152), Endpoint(bytes([192, 0, 2, 25]), 25)

    def frames() -> Iterator[Frame]:
        told = [
            (here, there, b""),
            (there, here, b"220 hi\r\n"),
            (here, there, b"QUIT\r\n"),
            (there, here, b"221 x\r\n"),
        ]
        for number, (source, destination, data) in enumerate([*told, (there, here, b"")], 1):
            packed = exported.pack(source, destination, data)
            yield Frame(number, START + number, packed, len(packed), exported.LINKTYPE_UPPER_PDU)

    record = analyzed(frames())
    assert said(record) == ["S '220 hi\\r\\n'", "C 'QUIT\\r\\n'", "S '221 x\\r\\n'"]
    (fact,) = record.conversations
    assert (fact.client, fact.server, fact.closed, fact.midstream) == (here, there, True, False)


class TestBounds:
    def test_too_many_open_conversations_finish_those_silent_longest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "OPEN", 8)
        analyzer = Analyzer(strict=True, chooser=lines)
        record = Record()
        for n in range(9):
            wire = Wire(cport=40000 + n, time=START + n * 10**9)
            for frame in [*wire.open(), wire.say(C, b"half")]:
                record.apply(analyzer.feed(frame))
        assert [(note.kind, note.conversation) for note in record.notes] == [
            ("conversation-limit", 1),
            ("conversation-limit", 2),
        ]
        assert said(record) == ["C 'half'", "C 'half'"]
        record.apply(analyzer.finish())
        assert len(record.lines) == 9

    def test_closed_conversations_are_forgotten_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "REMEMBERED", 3)
        analyzer = Analyzer(strict=True, chooser=lines)
        for n in range(20):
            wire = Wire(cport=40000 + n)
            for frame in [*wire.open(), wire.say(C, b"x\n"), *wire.close()]:
                analyzer.feed(frame)
        assert len(analyzer._talks) == 6
        assert not analyzer._open


@pytest.mark.parametrize("flags", [SYN, ACK, FIN | ACK, RST, SYN | FIN | RST | ACK, 0, 0xFF])
def test_a_lone_segment_of_any_kind_is_a_conversation(flags: int) -> None:
    wire = Wire()
    record = analyzed([wire.segment(C, flags=flags)])
    assert len(record.conversations) == 1


def test_an_update_is_empty_when_nothing_became_known() -> None:
    assert Analyzer().feed(Frame(1, 0, b"", 0)) == Update()
    assert Analyzer().finish() == Update()


def test_notes_carry_their_conversation() -> None:
    wire = Wire()
    record = analyzed([*wire.open(), wire.say(C, b"x\n"), wire.segment(C, b"x\n", sequence=1001)])
    (note,) = record.notes
    assert note == Note("retransmission", note.text, 5, 1, C, 0)
