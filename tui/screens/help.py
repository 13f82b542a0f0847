"""The help screen: the keys, how to read the screen, and where the octets go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.style import Style as RichStyle
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.style import Style
from textual.widget import Widget
from textual.widgets import Static

from capture.model import Label, Layer, Role
from tui.palette import LETTERS, Ink
from tui.render import safe_text
from tui.screens.base import Place

KEYS: tuple[tuple[str, str], ...] = (
    ("Enter", "send the line, exactly as typed, with CR LF"),
    ("→ or Tab", "take the grey suggestion"),
    ("↑ ↓", "lines sent earlier"),
    ("Ctrl+↑ Ctrl+↓", "previous, next captured line, while typing"),
    ("Esc", "to the captured lines; there ↑ ↓ PgUp PgDn Home End"),
    ("i or Enter", "back to typing"),
    ("Ctrl+O", "inspector large and small"),
    ("Ctrl+D", "nothing more to send (FIN); still listening"),
    ("Ctrl+R", "connect again, after QUIT or when closed"),
    ("Ctrl+P", "every command by name: theme, show secrets …"),
    ("Ctrl+Q", "quit"),
)


class HelpScreen(Place):
    """One page of text."""

    MODE = "help"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.switch_mode('talk')", "Back"),
    ]

    def body(self) -> Iterable[Widget]:
        box = VerticalScroll(Static(id="page"), id="help", classes="panel")
        box.border_title = "Help"
        yield box

    def on_mount(self) -> None:
        self.query_one("#help").focus()

    def on_screen_resume(self) -> None:
        self.query_one("#page", Static).update(self.page(self.wiretalk.ink))

    def page(self, ink: Ink) -> Content:
        """The text, with samples in the colours of the theme."""
        pci = ink.role(Role.PCI, strong=True)
        parts: list[Content] = [_head("Keys")]
        parts += [Content.assemble(f"  {key:<15}", _styled(what, ink.base)) for key, what in KEYS]
        parts += [
            _head("The three labels of a line"),
            Content.assemble(
                "  ", _styled("PDU      ", ink.bold), " one whole protocol data unit: a command, a one-line reply"
            ),
            Content.assemble(
                "  ",
                _styled("PCI      ", ink.label(Label.PCI)),
                " part of a PDU, control only: a line of a long reply, the dot",
            ),
            Content.assemble(
                "  ", _styled("user data", ink.base), " part of a PDU that carries the user's octets: the text"
            ),
            _head("How to read a captured line"),
            Content.assemble("  ", _styled(" solid ", pci), "  PCI: the octets SMTP itself reads"),
            Content.assemble(
                "  ", _styled("underlined", ink.tint[Layer.APPLICATION]), " user data: SMTP carries them unread"
            ),
            Content("  ␍␊  CR and LF, two octets   ·  an octet that is not ASCII"),
            Content("  ╭ │ ╰  lines of one PDU, with its name (S3: the server's third)"),
            Content("  faint line: sent, but not yet seen on the wire"),
            Content(
                "  hex: "
                + "  ".join(
                    f"{LETTERS[x]} {name}"
                    for x, name in (
                        (Layer.LINK, "Ethernet"),
                        (Layer.NETWORK, "IP"),
                        (Layer.TRANSPORT, "TCP"),
                        (Layer.APPLICATION, "SMTP"),
                    )
                )
                + "   ⟦ a layer starts  │ a field starts"
            ),
            _head("Where the octets go"),
            *map(Content, self._where()),
        ]
        return Content("\n").join(parts)

    def _where(self) -> list[str]:
        status = self.wiretalk.session.status
        lines = []
        if status.sniffed:
            lines.append(
                f"  Sniffed on {safe_text(status.source)}: what you see came off the wire, not off the keyboard."
            )
        else:
            lines.append("  Recorded at the socket, not sniffed.")
        if status.notice:
            lines.append(f"  {safe_text(status.notice)}")
        if status.recording is not None:
            lines.append(f"  Every frame is written to {safe_text(str(status.recording))}")
        lines.append("  Passwords are blotted out on the screen; the recording has them.")
        return lines


def _head(text: str) -> Content:
    return Content.assemble("\n", (text, "bold"))


def _styled(text: str, style: RichStyle) -> Content:
    return Content.assemble((text, Style.from_rich_style(style)))
