"""What the screens look like: golden text at both sizes, roles by style, and no colour when none is wanted."""

from __future__ import annotations

import pytest
from rich.style import Style

from tests.tui.conftest import Golden, Opener, say, settled, style_at, talk, text_of, until
from tests.tui.fake import LINES, FakeSession
from tui.messages import Status
from tui.palette import DARK, LIGHT, colourless, ink
from tui.screens.help import HelpScreen


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (160, 50)], ids=lambda size: "x".join(map(str, size)))
async def test_the_talk_screen_in_the_middle_of_a_message(
    opened: Opener, golden: Golden, size: tuple[int, int]
) -> None:
    async with opened(size=size) as pilot:
        await say(pilot, *LINES[:8])
        await golden(f"talk_{size[0]}x{size[1]}", pilot)


async def test_the_talk_screen_after_the_last_word(opened: Opener, golden: Golden) -> None:
    async with opened(size=(80, 24)) as pilot:
        await say(pilot, *LINES)
        await until(pilot, lambda: "Ctrl+R connects again · " in text_of(pilot))
        await golden("talk_over_80x24", pilot)


async def test_the_zoomed_inspector(opened: Opener, golden: Golden) -> None:
    async with opened(size=(80, 24)) as pilot:
        await say(pilot, *LINES[:8])
        await pilot.press("ctrl+o")
        await settled(pilot)
        await golden("talk_zoomed_80x24", pilot)


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=lambda size: "x".join(map(str, size)))
async def test_the_help_screen(opened: Opener, golden: Golden, size: tuple[int, int]) -> None:
    async with opened(size=size) as pilot:
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen) and "Keys" in text_of(pilot))
        await golden(f"help_{size[0]}x{size[1]}", pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "Session" in text_of(pilot))


async def test_a_session_that_is_not_sniffed_says_so_in_every_pane(opened: Opener, golden: Golden) -> None:
    status = Status("socket", live=True, sniffed=False, notice="No right to sniff: run as root, or setcap.")
    async with opened(FakeSession(status=status), size=(80, 24)) as pilot:
        await until(pilot, lambda: "setcap" in text_of(pilot))
        assert text_of(pilot).count("not sniffed") == 4
        await golden("talk_unsniffed_80x24", pilot)


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_pci_is_solid_and_user_data_is_underlined_on_a_tint(opened: Opener, theme: str) -> None:
    async with opened(theme=theme) as pilot:
        await say(pilot, *LINES[:6])
        pci, data = style_at(pilot, "student@student.example>␍"[:24]), style_at(pilot, "Talking SMTP")
        wire = talk(pilot).wire
        strip = wire.render_line(wire.cursor - wire.scroll_offset.y)
        data = next(segment.style for segment in strip if "Talking" in segment.text)
        strip = wire.render_line(wire.cursor - 2 - wire.scroll_offset.y)
        pci = next(segment.style for segment in strip if "354" in segment.text)
        assert data is not None
        assert pci is not None
        assert (data.underline, pci.underline) == (True, None)
        assert pci.bold
        assert pci.bgcolor != data.bgcolor
        assert contrast(pci) > 6
        assert contrast(data) > 6


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_every_text_can_be_read(theme: object) -> None:
    styles = ink(
        {"background": theme.background, "foreground": theme.foreground, "accent": theme.accent},  # type: ignore[attr-defined]
        dark=theme.dark,  # type: ignore[attr-defined]
    )
    for style in (styles.base, styles.dim, styles.accent, styles.trouble, *styles.text.values()):
        assert contrast(style) > 3.5
    for style in (*styles.solid.values(), *styles.tint.values(), styles.base):
        assert contrast(style) > 6


def test_without_colour_the_three_roles_differ_by_attributes() -> None:
    styles = colourless()
    roles = [*styles.solid.values(), *styles.tint.values(), styles.dim, styles.base]
    assert not any(style.color or style.bgcolor for style in roles)
    assert len({(s.reverse, s.underline, s.dim) for s in roles}) == 4


async def test_no_color_sends_no_colour(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(size=(80, 24)) as pilot:
        await say(pilot, *LINES[:6])
        styles = [s.style for strip in pilot.app.screen._compositor.render_strips() for s in strip if s.style]
        assert not {str(style) for style in styles if coloured(style)}
        assert any(style.reverse for style in styles)
        assert any(style.underline for style in styles)


async def test_no_window_is_too_small_to_live_in(opened: Opener) -> None:
    async with opened(size=(80, 24)) as pilot:
        await say(pilot, *LINES[:6])
        for size in [(1, 1), (8, 3), (20, 10), (59, 17), (60, 18), (300, 100), (80, 24)]:
            await pilot.resize_terminal(*size)
            await settled(pilot)
            small = size[0] < 60 or size[1] < 18
            if size[0] > 30:
                assert ("make the window larger" in text_of(pilot)) == small, size
        assert "Talking" in text_of(pilot)
        assert talk(pilot).prompt.has_focus


def coloured(style: Style) -> bool:
    return any(colour is not None and not colour.is_default for colour in (style.color, style.bgcolor))


def contrast(style: Style) -> float:
    """WCAG 2 contrast of a style's text on its ground."""

    def luminance(triplet: tuple[int, ...]) -> float:
        parts = [(p / 255 / 12.92 if p / 255 <= 0.03928 else ((p / 255 + 0.055) / 1.055) ** 2.4) for p in triplet]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    assert style.color is not None
    assert style.bgcolor is not None
    a, b = sorted((luminance(style.color.get_truecolor()), luminance(style.bgcolor.get_truecolor())))
    return (b + 0.05) / (a + 0.05)
