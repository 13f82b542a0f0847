"""Colours and attributes: hue says the layer, solidity says the role.

Claim: PCI and user data can be told apart without colour. PCI is solid (a filled cell), user data is underlined on a
tint, what lies outside the layer in view is dim. With ``NO_COLOR`` the same three are reverse, underline and dim, and
no colour at all is sent. Hues are Okabe and Ito's, safe for colour-blind eyes; text on them is better than 6:1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from textual.color import Color, ColorParseError
from textual.theme import Theme

from capture.model import Label, Layer, Role

HUES: dict[Layer, str] = {
    Layer.LINK: "#CC79A7",
    Layer.NETWORK: "#E69F00",
    Layer.TRANSPORT: "#56B4E9",
    Layer.TLS: "#9FA8C9",
    Layer.APPLICATION: "#2DB88F",
    Layer.MESSAGE: "#E8C14A",
}
# The same hues, dark enough to be read as text on white (5.7:1 and better).
HUES_ON_LIGHT: dict[Layer, str] = {
    Layer.LINK: "#8F3A69",
    Layer.NETWORK: "#8A5A00",
    Layer.TRANSPORT: "#0B6299",
    Layer.TLS: "#4A5480",
    Layer.APPLICATION: "#00694C",
    Layer.MESSAGE: "#755B00",
}
LETTERS: dict[Layer, str] = {
    Layer.LINK: "E",
    Layer.NETWORK: "I",
    Layer.TRANSPORT: "T",
    Layer.TLS: "S",
    Layer.APPLICATION: "A",
    Layer.MESSAGE: "M",
}
TROUBLE = "#D55E00"
BLACK = Color.parse("#0B0D10")

DARK = Theme(
    "wiretalk-dark",
    primary="#56B4E9",
    secondary="#2DB88F",
    accent="#F0E442",
    warning="#E69F00",
    error=TROUBLE,
    success="#2DB88F",
    foreground="#E4E8EE",
    background="#10141B",
    surface="#161B24",
    panel="#222A36",
    dark=True,
    variables={
        "border": "#3A4657",
        "border-blurred": "#3A4657",
        "footer-key-foreground": "#F0E442",
        "footer-background": "#1B222D",
        "block-cursor-text-style": "none",
    },
)
LIGHT = Theme(
    "wiretalk-light",
    primary="#0072B2",
    secondary="#00694C",
    accent="#B2470A",
    warning="#8A5A00",
    error="#B03A00",
    success="#00694C",
    foreground="#15191F",
    background="#FBFBF8",
    surface="#F2F2ED",
    panel="#E2E3DC",
    dark=False,
    variables={
        "border": "#B5B8AE",
        "border-blurred": "#B5B8AE",
        "footer-key-foreground": "#8F3A00",
        "footer-background": "#E8E9E2",
        "block-cursor-text-style": "none",
    },
)


@dataclass(frozen=True, slots=True)
class Ink:
    """The styles of one theme. ``solid`` is PCI, ``strong`` its words that carry the meaning, ``tint`` user data."""

    base: Style
    dim: Style
    bold: Style
    accent: Style
    trouble: Style
    cursor: Style
    solid: Mapping[Layer, Style]
    strong: Mapping[Layer, Style]
    tint: Mapping[Layer, Style]
    text: Mapping[Layer, Style]

    def role(self, role: Role, layer: Layer = Layer.APPLICATION, *, strong: bool = False) -> Style:
        """How octets of a role look at a layer."""
        if role is Role.USER_DATA:
            return self.tint[layer]
        return self.strong[layer] if strong else self.solid[layer]

    def label(self, label: Label) -> Style:
        """How the word of a label looks."""
        return {Label.PDU: self.bold, Label.PCI: self.text[Layer.APPLICATION], Label.USER_DATA: self.base}[label]


def colourless() -> Ink:
    """Attributes only: nothing in it sends a colour."""
    plain, bold = Style(), Style(bold=True)
    solid, strong = Style(reverse=True), Style(reverse=True, bold=True)
    return Ink(
        base=plain,
        dim=Style(dim=True),
        bold=bold,
        accent=bold,
        trouble=Style(bold=True, underline=True),
        cursor=Style(),
        solid=dict.fromkeys(Layer, solid),
        strong=dict.fromkeys(Layer, strong),
        tint=dict.fromkeys(Layer, Style(underline=True)),
        text=dict.fromkeys(Layer, bold),
    )


def ink(variables: Mapping[str, str], *, dark: bool) -> Ink:
    """The styles for a theme, from its variables ``background``, ``foreground`` and ``accent``.

    A theme of terminal colours, whose values nobody knows, gets the colourless ink.
    """
    try:
        ground, front, accent = (Color.parse(variables[name]) for name in ("background", "foreground", "accent"))
    except (KeyError, ColorParseError):
        return colourless()
    if any(colour.ansi is not None for colour in (ground, front)):
        return colourless()
    front = Color(front.r, front.g, front.b)
    hues = {layer: Color.parse(hue) for layer, hue in HUES.items()}
    texts = hues if dark else {layer: Color.parse(hue) for layer, hue in HUES_ON_LIGHT.items()}

    def style(colour: Color, on: Color = ground, *, bold: bool | None = None, underline: bool | None = None) -> Style:
        return Style(color=colour.rich_color, bgcolor=on.rich_color, bold=bold, underline=underline)

    return Ink(
        base=style(front),
        dim=style(ground.blend(front, 0.55 if dark else 0.66)),
        bold=style(front, bold=True),
        accent=style(accent, bold=True),
        trouble=style(Color.parse(TROUBLE if dark else "#B03A00"), bold=True),
        cursor=Style(bgcolor=ground.blend(front, 0.16).rich_color),
        solid={layer: style(BLACK, hue) for layer, hue in hues.items()},
        strong={layer: style(BLACK, hue, bold=True) for layer, hue in hues.items()},
        tint={layer: style(front, ground.blend(hue, 0.3), underline=True) for layer, hue in hues.items()},
        text={layer: style(texts[layer], bold=True) for layer in hues},
    )
