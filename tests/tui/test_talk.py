"""The Talk screen as a person uses it: typing, history, suggestions, pastes, choosing lines, the end, and again."""

from __future__ import annotations

import pytest
from rich.style import Style
from textual import events

from capture.model import Line, Pdu, Side
from tests.tui.conftest import Opener, Screened, say, settled, style_at, talk, text_of, until
from tests.tui.fake import LINES, FakeSession
from tui.app import WiretalkApp
from tui.messages import Closed, Failed, Said
from tui.screens.question import Question
from tui.widgets.inspector import HexView, Reasons


def fake(pilot: Screened) -> FakeSession:
    session = pilot.app.session  # type: ignore[attr-defined]
    assert isinstance(session, FakeSession)
    return session


async def type_line(pilot: Screened, text: str) -> None:
    talk(pilot).prompt.value = text
    await pilot.press("enter")
    await settled(pilot)


def typed_style(pilot: Screened, text: str) -> Style:
    """The style of a line in the session pane."""
    pane = talk(pilot).transcript
    for y in range(pane.page.height):
        for segment in pane.render_line(y):
            if segment.text == text and segment.style is not None:
                return segment.style
    raise AssertionError(f"{text!r} is not in the session pane:\n{text_of(pilot)}")


async def test_a_line_is_sent_as_typed_and_appears_on_both_sides(opened: Opener) -> None:
    async with opened() as pilot:
        await pilot.press(*"noop", "space", "space", "x", "enter")
        await settled(pilot)
        assert fake(pilot).sent == ["noop  x"]
        assert "» noop  x" in text_of(pilot)
        assert "C▶S PDU         noop  x␍␊" in text_of(pilot)


async def test_a_typed_line_is_faint_until_it_comes_off_the_wire(opened: Opener) -> None:
    session = FakeSession()
    async with opened(session) as pilot:
        session.hold = True
        await say(pilot, "NOOP")
        ink = pilot.app.ink  # type: ignore[attr-defined]
        assert typed_style(pilot, "NOOP").color == ink.dim.color
        assert "NOOP␍␊" not in text_of(pilot)
        session.release()
        await settled(pilot)
        assert typed_style(pilot, "NOOP").color == ink.bold.color
        assert "NOOP␍␊" in text_of(pilot)


async def test_the_grey_line_is_taken_with_the_right_arrow(opened: Opener) -> None:
    async with opened() as pilot:
        prompt = talk(pilot).prompt
        await until(pilot, lambda: prompt.placeholder == "HELO your-pc")
        await pilot.press("right", "enter")
        await settled(pilot)
        assert fake(pilot).sent == ["HELO your-pc"]
        await pilot.press(*"mai")
        await until(pilot, lambda: "mail FROM:<you'll" in text_of(pilot))
        await pilot.press("tab")
        assert prompt.value == "mail FROM:<you'll-never-know@student.example>"


def press_at_once(pilot: Screened, *keys: str) -> None:
    """Keys that are all there before the first is looked at, as from a terminal that pastes without saying so."""
    for key in keys:
        event = events.Key(key, key if len(key) == 1 else None)
        event.set_sender(pilot.app)
        pilot.app.post_message(event)


async def test_lines_typed_faster_than_the_screen_are_sent_as_typed(opened: Opener) -> None:
    async with opened() as pilot:
        lines = [f"NOOP{number}" for number in range(8)]
        press_at_once(pilot, *(key for line in lines for key in (*line, "enter")), *"QU")
        await until(pilot, lambda: len(fake(pilot).sent) >= len(lines))
        assert fake(pilot).sent == lines
        assert talk(pilot).prompt.value == "QU"
        assert talk(pilot).prompt.history == lines


@pytest.mark.parametrize("key", ["right", "tab"])
async def test_a_suggestion_is_taken_however_fast_enter_follows(opened: Opener, key: str) -> None:
    async with opened() as pilot:
        prompt = talk(pilot).prompt
        await until(pilot, lambda: prompt.placeholder == "HELO your-pc")
        press_at_once(pilot, *"HE", key, "enter", *"RSEx", "backspace", *"T", "enter", "up", "up")
        await until(pilot, lambda: len(fake(pilot).sent) >= 2)
        assert fake(pilot).sent == ["HELO your-pc", "RSET"]
        assert prompt.value == "HELO your-pc"


async def test_the_grey_line_is_not_offered_twice(opened: Opener) -> None:
    async with opened() as pilot:
        await until(pilot, lambda: talk(pilot).prompt.placeholder == "HELO your-pc")
        press_at_once(pilot, "right", "enter", "right", "x", "enter")
        await until(pilot, lambda: len(fake(pilot).sent) >= 2)
        assert fake(pilot).sent == ["HELO your-pc", "x"]


async def test_history_goes_back_and_forth_and_keeps_the_draft(opened: Opener) -> None:
    async with opened() as pilot:
        for line in ("HELO a", "NOOP"):
            await type_line(pilot, line)
        prompt = talk(pilot).prompt
        prompt.value = "dra"
        seen = []
        for key in ("up", "up", "up", "down", "down", "down"):
            await pilot.press(key)
            seen.append(prompt.value)
        assert seen == ["NOOP", "HELO a", "HELO a", "NOOP", "dra", "dra"]


@pytest.mark.parametrize(("key", "sent"), [("enter", ["HELO a", "", "NOOP", "MAIL"]), ("escape", [])])
async def test_several_pasted_lines_are_sent_one_by_one_after_asking(opened: Opener, key: str, sent: list[str]) -> None:
    async with opened() as pilot:
        talk(pilot).prompt.post_message(events.Paste("HELO a\r\n\nNOOP\rMAIL\n"))
        await until(pilot, lambda: isinstance(pilot.app.screen, Question))
        assert "Send 4 lines?" in text_of(pilot)
        assert fake(pilot).sent == []
        await pilot.press(key)
        await until(pilot, lambda: not isinstance(pilot.app.screen, Question) and len(fake(pilot).sent) >= len(sent))
        await settled(pilot)
        assert fake(pilot).sent == sent


async def test_one_pasted_line_waits_for_enter(opened: Opener) -> None:
    async with opened() as pilot:
        talk(pilot).prompt.post_message(events.Paste("QUIT\n"))
        await until(pilot, lambda: talk(pilot).prompt.value == "QUIT")
        assert fake(pilot).sent == []


async def test_the_cursor_rests_on_what_was_said_last_while_the_end_stays_in_view(opened: Opener) -> None:
    async with opened(size=(80, 24)) as pilot:
        await say(pilot, *LINES[:10])
        wire = talk(pilot).wire
        row = wire.selected()
        assert isinstance(row, Line)
        assert (row.side, row.data) == (Side.CLIENT, b".\r\n")
        assert wire.scroll_offset.y == wire.count() - wire.page.height
        assert "following" in str(wire.border_subtitle)


async def test_choosing_a_line_while_typing_stops_following_and_end_resumes_it(opened: Opener) -> None:
    async with opened() as pilot:
        await say(pilot, *LINES[:3])
        screen = talk(pilot)
        await pilot.press("ctrl+up", "ctrl+up")
        row = screen.wire.selected()
        await say(pilot, "NOOP")
        assert screen.wire.selected() is row
        assert "+2 new · End follows" in str(screen.wire.border_subtitle)
        assert screen.prompt.has_focus
        await pilot.press("escape")
        assert screen.wire.has_focus
        await pilot.press("end")
        await settled(pilot)
        assert "following" in str(screen.wire.border_subtitle)
        await pilot.press("i")
        assert screen.prompt.has_focus


async def test_the_inspector_shows_the_line_in_its_frame_with_reasons(opened: Opener) -> None:
    async with opened() as pilot:
        await say(pilot, *LINES[:8])
        text = text_of(pilot)
        assert "Inspector · mail data C5 · frame 16 · 32 octets · C▶S" in text
        assert "Ethernet⟦14 B IPv4⟦20 B TCP⟦20 B SMTP⟦..a line that began with a dot␍␊⟧⟧⟧⟧" in text
        assert "0       PCI       stuffed-dot" in text
        assert "1–29    user data content" in text
        assert "⟦2e│2e 61" in text
        assert "RFC 5321" in text
        (part,) = pilot.app.screen.query_one(HexView)._parts
        chosen = [octet for octet in part.octets if octet.chosen]
        assert [octet.field for octet in chosen] == ["stuffed-dot", *["content"] * 29, "line-end", "line-end"]
        assert not any(octet.hidden for octet in part.octets)
        assert part.first == len(part.frame.data) - 32
        assert {style.underline for style in hex_styles(pilot)} == {None, True}


def hex_styles(pilot: Screened) -> list[Style]:
    view = pilot.app.screen.query_one(HexView)
    return [segment.style for y in range(6) for segment in view.render_line(y) if segment.style is not None]


async def test_an_oddity_is_told_with_its_line(opened: Opener) -> None:
    async with opened() as pilot:
        fake(pilot).answers = False
        await say(pilot, "NOOP")
        fake(pilot).note("seen twice \x1b[2J")
        await settled(pilot)
        await pilot.press("ctrl+up", "ctrl+down")
        await settled(pilot)
        assert "! seen twice ␛[2J" in text_of(pilot)


async def test_what_nobody_understands_is_said_to_be_unknown_and_not_to_be_control_information(opened: Opener) -> None:
    async with opened() as pilot:
        fake(pilot).answers = False
        fake(pilot).line(Side.CLIENT, b"GET /", Pdu("unknown", "C1"), whole=False, flags=("not-understood",))
        await settled(pilot)
        told = " ".join(f"{row.head} {row.text.strip()}" for row in pilot.app.screen.query_one(Reasons)._rows)
        told = " ".join(told.split())
        assert "PCI part of unknown C1: unknown here; PCI by rule only [ours]" in told
        assert "! not-understood Nobody here knows this protocol" in told
        assert "control information only" not in told


async def test_a_gap_is_a_row_of_its_own(opened: Opener) -> None:
    async with opened() as pilot:
        fake(pilot).lose(Side.SERVER, 1460)
        await settled(pilot)
        assert "… 1460 octets of the server not captured …" in text_of(pilot)
        await pilot.press("ctrl+down")
        await settled(pilot)
        assert "╭─ Inspector ───" in text_of(pilot)


async def test_a_password_is_blotted_out_everywhere_until_it_is_asked_for(opened: Opener) -> None:
    async with opened() as pilot:
        await say(pilot, "PASS talking")
        text = text_of(pilot)
        assert "PASS *******" in text
        assert "talking" not in text
        assert "** ** **" in text
        assert "PASS talking" not in talk(pilot).prompt.history
        app = pilot.app
        assert isinstance(app, WiretalkApp)
        app.action_secrets()
        await settled(pilot)
        text = text_of(pilot)
        assert "» PASS talking" in text
        assert "PASS talking␍␊" in text
        assert "** **" not in text
        app.action_secrets()
        await settled(pilot)
        assert "talking" not in text_of(pilot)


@pytest.mark.parametrize("typed", ["PASSS talking", " PASS talking", "USER me PASS talking", "AUTHPLAIN dGFsa2luZw=="])
async def test_a_password_behind_a_typing_error_is_hidden_before_it_is_captured(opened: Opener, typed: str) -> None:
    async with opened() as pilot:
        fake(pilot).hold = True
        await type_line(pilot, typed)
        await until(pilot, lambda: fake(pilot).sent == [typed])
        await settled(pilot)
        assert "*******" in text_of(pilot)
        assert all(word not in text_of(pilot) for word in ("talking", "dGFsa2luZw"))
        assert talk(pilot).prompt.history == []


async def test_after_the_end_it_says_what_to_press_and_that_connects_again(opened: Opener) -> None:
    async with opened() as pilot:
        await say(pilot, "QUIT")
        await until(pilot, lambda: "Ctrl+R connects again · " in text_of(pilot))
        lines = text_of(pilot).splitlines()
        (said,) = (n for n, line in enumerate(lines) if "221 2.0.0" in line[:40])
        (over,) = (n for n, line in enumerate(lines) if "closed the connection." in line[:40])
        assert said < over
        await type_line(pilot, "NOOP")
        assert fake(pilot).sent == ["QUIT"]
        await until(pilot, lambda: "Not connected" in text_of(pilot))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "conversation 2 · 192.0.2.10:49153 ▶ 192.0.2.25:25" in text_of(pilot))
        assert "220 greeting" in str(talk(pilot).inspector.border_title)
        await say(pilot, "NOOP")
        assert fake(pilot).sent == ["QUIT", "NOOP"]
        assert not talk(pilot).wiretalk.dialog.entries[-1].faint


async def test_what_died_is_told_and_connecting_again_is_not_offered(opened: Opener) -> None:
    async with opened() as pilot:
        session = fake(pilot)
        session.failure = "The lab's supervisor has ended."
        session.tell(Failed(session.failure, "leave with Ctrl+Q"))
        session.tell(Closed("shannon reset the connection."))
        await until(pilot, lambda: "reset the connection." in " ".join(pane_rows(pilot)))
        told = " ".join(" ".join(pane_rows(pilot)).replace("·", "").split())
        assert "The lab's supervisor has ended. leave with Ctrl+Q" in told
        session.refuse_to_open = True
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "The lab cannot start." in text_of(pilot))
        await type_line(pilot, "NOOP")
        await until(pilot, lambda: "Not connected" in text_of(pilot))
        told = " ".join(" ".join(pane_rows(pilot)).replace("·", "").split())
        assert "Not connected: the line was not sent. Ctrl+Q quits; then start wiretalk again" in told
        assert "Ctrl+R" not in text_of(pilot)
        assert session.sent == []


async def test_connecting_again_while_connected_asks_first(opened: Opener) -> None:
    async with opened() as pilot:
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, Question))
        await pilot.press("n")
        await settled(pilot)
        assert talk(pilot).wiretalk.dialog.conversation == 1


async def test_what_cannot_be_opened_is_said_with_its_remedy(opened: Opener) -> None:
    session = FakeSession()
    session.refuse_to_open = True
    async with opened(session) as pilot:
        await until(pilot, lambda: "The lab cannot start." in text_of(pilot))
        assert "run wiretalk doctor" in text_of(pilot)
        assert "Ctrl+R connects again" in text_of(pilot)


async def test_events_of_the_socket_are_said_plainly(opened: Opener) -> None:
    async with opened() as pilot:
        session = fake(pilot)
        session.tell(Said("Recording goes on."))
        session.tell(Failed("The interface went down.", "bring it up"))
        session.tell(Closed("Connection reset."))
        await until(pilot, lambda: "Connection reset." in text_of(pilot))
        for sentence in ("Recording goes on.", "The interface went down.", "bring it up"):
            assert sentence in text_of(pilot)


async def test_ctrl_d_says_that_nothing_more_will_come(opened: Opener) -> None:
    async with opened() as pilot:
        await pilot.press("ctrl+d")
        await until(pilot, lambda: fake(pilot).half_closed)
        await until(pilot, lambda: "(FIN)" in text_of(pilot))


async def test_half_a_greeting_is_shown_faint(opened: Opener) -> None:
    session = FakeSession(answers=False)
    async with opened(session) as pilot:
        from tui.messages import Received

        session.tell(Received(b"220 no line end"))
        await until(pilot, lambda: "220 no line end" in text_of(pilot))
        assert style_at(pilot, "220 no line end").color == pilot.app.ink.dim.color  # type: ignore[attr-defined]


async def test_mouse_chooses_a_line_and_a_screen(opened: Opener) -> None:
    async with opened() as pilot:
        await say(pilot, *LINES[:3])
        wire = talk(pilot).wire
        await pilot.click("#wire", offset=(20, 2))
        await settled(pilot)
        assert wire.cursor == 1
        assert "HELO command C1" in str(talk(pilot).inspector.border_title)
        await pilot.click("TopBar", offset=(24, 0))
        await until(pilot, lambda: "The three labels" in text_of(pilot))


async def test_every_action_is_in_the_palette(opened: Opener) -> None:
    async with opened() as pilot:
        app = pilot.app
        assert isinstance(app, WiretalkApp)
        names = {command.title for command in app.get_system_commands(app.screen)}
        assert names >= {
            "Connect again",
            "Nothing more to send",
            "Zoom inspector",
            "Newest line",
            "Previous line",
            "Next line",
            "Show secrets",
            "Dark or light",
            "Help",
            "Talk",
            "Quit",
        }


async def test_a_change_of_theme_redraws_every_row(opened: Opener) -> None:
    async with opened() as pilot:
        await say(pilot, *LINES[:3])
        before = style_at(pilot, "250 reply")
        pilot.app.theme = "wiretalk-light"
        await settled(pilot)
        assert style_at(pilot, "250 reply") != before
        pilot.app.theme = "nord"
        await settled(pilot)
        pilot.app.theme = "textual-ansi" if "textual-ansi" in pilot.app.available_themes else "ansi-dark"
        await settled(pilot)
        assert "250 reply" in text_of(pilot)


async def test_quitting_closes_the_session_and_tells_what_is_left(opened: Opener) -> None:
    session = FakeSession()
    async with opened(session) as pilot:
        session.hold = True
        await say(pilot, "NOOP")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: session.closed)
    info = pilot.app.return_value
    assert info is not None
    assert (info.unseen, info.recording) == (1, session.status.recording)
    assert info.lines == 1


async def test_three_thousand_lines_at_once_are_taken_in_batches(opened: Opener) -> None:
    session = FakeSession(answers=False)
    async with opened(session) as pilot:
        await say(pilot, "DATA")
        session.typed(b"first")
        session._in_data = True
        for number in range(3_000):
            session.typed(b"line %d" % number)
        await until(pilot, lambda: talk(pilot).wire.count() == 3_002)
        assert "line 2999" in text_of(pilot)
        assert pilot.app.screen.query_one(Reasons).count() > 3
        await pilot.press("escape", "home")
        await settled(pilot)
        assert "DATA␍␊" in text_of(pilot)


def pane_rows(pilot: Screened) -> list[str]:
    """The rows of the session pane that are in view, as text."""
    pane = talk(pilot).transcript
    return [pane.render_line(y).text.rstrip() for y in range(pane.page.height)]


async def test_what_the_server_said_stays_above_what_was_typed_behind_it(opened: Opener) -> None:
    session = FakeSession(answers=False)
    async with opened(session) as pilot:
        session.hold = True
        session.answer("220 not labelled yet")
        app = pilot.app
        assert isinstance(app, WiretalkApp)
        app.drain()
        await say(pilot, "NOOP")
        await until(pilot, lambda: "220 not labelled yet" in text_of(pilot))
        session.tell(Said("A notice."))
        await until(pilot, lambda: "A notice." in text_of(pilot))
        assert pane_rows(pilot)[:3] == ["  220 not labelled yet", "» NOOP", "· A notice."]
        assert typed_style(pilot, "220 not labelled yet").color == app.ink.dim.color
        session.release()
        await settled(pilot)
        (said, typed, notice) = [row for row in pane_rows(pilot) if row]
        assert (said, typed.split(), notice) == ("  220 not labelled yet", ["»", "NOOP", "PDU"], "· A notice.")
        assert typed_style(pilot, "220 not labelled yet").color == app.ink.base.color


async def test_a_resize_leaves_the_end_in_view_and_what_was_looked_at(opened: Opener) -> None:
    async with opened(size=(120, 36)) as pilot:
        await say(pilot, "HELO x", *(f"NOOP {number}" for number in range(20)))
        pane = talk(pilot).transcript
        for size in ((80, 24), (120, 30), (70, 20)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
            assert pane.scroll_offset.y == pane.count() - pane.page.height > 0, size
            assert talk(pilot).wire.scroll_offset.y == talk(pilot).wire.count() - talk(pilot).wire.page.height
        await say(pilot, "NOOP again")
        assert "» NOOP again" in text_of(pilot)
        await pilot.press(*["pageup"] * 4)
        top = pane_rows(pilot)[0]
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert pane_rows(pilot)[0].split() == top.split()
        await pilot.press(*["pagedown"] * 9)
        await pilot.resize_terminal(120, 36)
        await settled(pilot)
        assert pane.scroll_offset.y == pane.count() - pane.page.height


async def test_the_wheel_leaves_the_end_and_comes_back_to_it(opened: Opener) -> None:
    async with opened(size=(80, 24)) as pilot:
        await say(pilot, *(f"NOOP {number}" for number in range(20)))
        pane = talk(pilot).transcript
        await pilot._post_mouse_events([events.MouseScrollUp], pane)
        await settled(pilot)
        assert pane.scroll_offset.y < pane.count() - pane.page.height
        fake(pilot).answer("250 late")
        await settled(pilot)
        assert "250 late" not in pane_rows(pilot)[-1]
        for _ in range(4):
            await pilot._post_mouse_events([events.MouseScrollDown], pane)
        await settled(pilot)
        assert pane.following
        assert "250 late" in pane_rows(pilot)[-1]


async def test_the_label_of_a_long_line_has_a_row_of_its_own(opened: Opener) -> None:
    async with opened(size=(80, 24)) as pilot:
        width = talk(pilot).transcript.page.width
        await say(pilot, "HELO x", "NOOP " + "x" * (width - 9))
        rows = [row for row in pane_rows(pilot) if row]
        at = next(place for place, row in enumerate(rows) if "xxx" in row)
        assert rows[at + 1].split() == ["PDU"]


async def test_what_was_typed_is_shown_as_text_and_what_went_out_as_octets(opened: Opener) -> None:
    async with opened() as pilot:
        await say(pilot, "HELO x", "NOOP zażółć \u202e漢字")
        assert "» NOOP zażółć \ufffd漢字" in text_of(pilot)
        assert "NOOP za" + "·" * 8 + " " + "·" * 9 + "␍␊" in text_of(pilot)
