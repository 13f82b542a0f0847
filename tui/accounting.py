"""``wiretalk account``: what every captured octet was for.

Claim: the table balances (`capture.account` has the formula): each layer's user data is what the layers above it have,
and the captured octets are the lowest layer's PCI and user data.

As JSON, one object a line, for each conversation itself (``"message": null``), for its messages (their number) and for
the rest (``"message": "rest"``), in octets, each figure but the first as ``{"C": n, "S": n}``:

    {"conversation", "message", "captured", "layers": {LAYER: {"pci", "user_data"}}, "repeated", "other", "unknown",
     "share": user data of the message layer to captured}

and with a conversation itself also ``"frames": {"C": {KIND: n}, "S": …}`` and ``"cut"``, what the snap length kept from
the capture. At the end ``{"captured", "conversations", "elsewhere", "frames", "frames_elsewhere"}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from capture.account import Account, Octets, Row
from capture.errors import ExitCode
from capture.model import Layer
from tui.progress import Progress
from tui.reading import Reading

_NAMES = ("C", "S")


def account_files(files: Sequence[str], form: str, out: TextIO, err: TextIO, *, conversation: int | None = None) -> int:
    """Print the account of ``files`` as ``form`` (``table`` or ``jsonl``) to ``out``.

    Returns an `ExitCode`: OK, NOTHING_FOUND (no conversation), USAGE (a file is damaged). Raises `CaptureError`.
    """
    account, reading, found = Account(), Reading(files, err, Progress(files, err)), False
    for batch in reading.batches():
        for frame in batch:
            account.feed(frame)
    account.finish()
    for row in account.rows(conversation):
        found = True
        for text in FORMATS[form](row):
            out.write(text + "\n")
    if conversation is None:
        out.write((_total_json if form == "jsonl" else _total)(account) + "\n")
    if not found:
        err.write("wiretalk: no conversation to account for.\n")
    if reading.damaged:
        return ExitCode.USAGE
    return ExitCode.OK if found else ExitCode.NOTHING_FOUND


def _two(sides: tuple[Octets, Octets], name: str) -> dict[str, int]:
    return {side: getattr(octets, name) for side, octets in zip(_NAMES, sides, strict=True)}


def _json(row: Row) -> Iterator[str]:
    layers = [octets.layers() for octets in row.sides]
    both = row.both
    shown: dict[str, Any] = {
        "conversation": row.conversation,
        "message": {0: None, -1: "rest"}.get(row.message, row.message),
        "captured": both.captured,
        "layers": {
            layer.name.lower(): {
                name: {side: figures[layer][place] for side, figures in zip(_NAMES, layers, strict=True)}
                for place, name in enumerate(("pci", "user_data"))
            }
            for layer in Layer
        },
        "repeated": _two(row.sides, "repeated"),
        "other": _two(row.sides, "other"),
        "unknown": _two(row.sides, "unknown"),
        "share": round(both.body / both.captured, 6) if both.captured else None,
    }
    if row.message == 0:
        shown["frames"] = {side: kinds._asdict() for side, kinds in zip(_NAMES, row.frames, strict=True)}
        shown["cut"] = row.cut
    yield json.dumps(shown)


def _total_json(account: Account) -> str:
    return json.dumps(
        {
            "captured": account.captured,
            "conversations": account.captured - account.elsewhere,
            "elsewhere": account.elsewhere,
            "frames": account.frames,
            "frames_elsewhere": account.elsewhere_frames,
        }
    )


def _total(account: Account) -> str:
    inside = account.captured - account.elsewhere
    text = f"captured: {account.captured} octets in {account.frames} frames = {inside} in conversations"
    return f"{text} + {account.elsewhere} elsewhere ({account.elsewhere_frames} frames)"


def _table(row: Row) -> Iterator[str]:
    both = row.both
    if row.message == 0:
        facts = row.facts
        who = (
            f": client {facts.client} ↔ server {facts.server}, {facts.protocol or 'protocol unknown'}" if facts else ""
        )
        yield f"── conversation {row.conversation}{who}"
    if row.message and not both.captured:
        return
    name = {0: "whole", -1: "rest"}.get(row.message, f"message {row.message}")
    yield f"{name:12} {'PCI C':>10} {'PCI S':>10} {'user data C':>12} {'user data S':>12} {'PCI':>9}"
    layers = [octets.layers() for octets in row.sides]
    for layer in Layer:
        (pci_c, data_c), (pci_s, data_s) = (figures[layer] for figures in layers)
        if layer > Layer.TRANSPORT and not (pci_c or data_c or pci_s or data_s):
            continue
        share = f"{100 * (pci_c + pci_s) / both.captured:7.2f} %" if both.captured else ""
        yield f"  {layer.name.lower():10} {pci_c:>10} {pci_s:>10} {data_c:>12} {data_s:>12} {share:>9}"
    for words, owner in (("sent again", "repeated"), ("for SASL", "other"), ("unknown", "unknown")):
        client, server = (getattr(octets, owner) for octets in row.sides)
        if client or server:
            yield f"  {words:10} {'':>10} {'':>10} {client:>12} {server:>12}"
    line = f"  captured: {both.captured} octets"
    if both.body:
        line += f", of which {both.body} ({100 * both.body / both.captured:.2f} %) are the body of a message"
    yield line
    if row.message == 0:
        for side, kinds in zip(_NAMES, row.frames, strict=True):
            said = ", ".join(f"{count} {kind}" for kind, count in kinds._asdict().items() if count)
            yield f"  frames of {side}: {said or 'none'}"
        if row.cut:
            yield f"  {row.cut} octets more were on the wire; the snap length kept them from the capture"


FORMATS: dict[str, Callable[[Row], Iterator[str]]] = {"table": _table, "jsonl": _json}
