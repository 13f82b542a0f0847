"""Write `capture/data/*.py` from the labelling tables: one source of truth, turned into literals that import fast.

    python tools/make_tables.py FOLDER      FOLDER holds commands.json, replies.json, fields.json, flags.json, …

The modules are plain typed dictionaries without behaviour; nobody edits them by hand. Run it when a table changes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "capture" / "data"
HEAD = (
    '"""{claim}\n\nMade by `tools/make_tables.py` from {source}; change the table, not this file.\n"""\n\n'
    "# ruff: noqa: E501\n\n"
)


def constant(name: str, kind: str, value: object, comment: str) -> str:
    """One annotated assignment with the shape of its values said above it."""
    return f"# {comment}\n{name}: {kind} = {value!r}\n\n"


def words(load: Any) -> str:
    """Fields, flags and the contested readings."""
    fields = {
        f["field"]: (f["layer"], f["role"], f["meaning"], f["citation"], f["contested"] or "")
        for f in load("fields.json")
    }
    flags = {f["flag"]: (f["meaning"], f["citation"], f["pdu_incomplete"]) for f in load("flags.json")}
    contested = {
        c["id"]: (c["question"], c["default"], c["reading_default"], c["reading_alternative"])
        for c in load("contested.json")
    }
    return (
        HEAD.format(claim="The vocabulary of lines: span fields, flags, contested readings.", source="fields.json, …")
        + constant("FIELDS", "dict[str, tuple[str, str, str, str, str]]", fields,
                   "field: (layer, role, meaning, citation, contested reading or '')")
        + constant("FLAGS", "dict[str, tuple[str, str, bool]]", flags,
                   "flag: (meaning, citation, a unit with it is incomplete)")
        + constant("CONTESTED", "dict[str, tuple[str, str, str, str]]", contested,
                   "reading: (question, default, the default's reason, the alternative's reason)")
    )  # fmt: skip


def smtp(load: Any) -> str:
    """Commands, kinds of PDU, MAIL and RCPT parameters, limits, extensions."""
    table = load("commands.json")
    verbs = {}
    for c in table["commands"]:
        wanted = tuple(p["field"].split(",")[0] for p in c["params"])
        required = sum(not p["optional"] for p in c["params"])
        verbs[c["verb"]] = (wanted, required, c["syntax"], c["defined_in"], c["status"])
    pdus = {p["pdu"]: (p["dir"], p["unit"], p["answers"] or "", p["citation"]) for p in table["pdus"]}
    # "with RET 107": the increment belongs to the pair and counts once (RFC 3461 4.5)
    increments = {}
    for p in table["mail_params"]:
        grown = p["line_increment"]
        if isinstance(grown, int):
            increments[p["keyword"]] = (grown, p["keyword"])
        elif grown:
            partner, octets = grown.removeprefix("with ").split()
            increments[p["keyword"]] = (int(octets), "+".join(sorted((p["keyword"], partner))))
    limits = {name: octets for name, octets in table["limits"].items() if isinstance(octets, int)}
    params = {p["keyword"]: (p["on"], p["value"] or "", p["ref"]) for p in table["mail_params"]}
    extensions = {
        e["keyword"]: (e["name"], e["reference"], e["status"], e["effect_on_labels"])
        for e in load("extensions.json")["extensions"]
    }
    return (
        HEAD.format(claim="SMTP as tables: commands, units, parameters, limits, extensions.", source="commands.json, …")
        + constant("VERBS", "dict[str, tuple[tuple[str, ...], int, str, str, str]]", verbs,
                   "verb: (fields of its arguments in order, how many are required, syntax, defined in, status)")
        + constant("PDUS", "dict[str, tuple[str, str, str, str]]", pdus, "PDU: (direction, unit, answers, citation)")
        + constant("PARAMETERS", "dict[str, tuple[str, str, str]]", params, "keyword: (on, value, reference)")
        + constant("INCREMENTS", "dict[str, tuple[int, str]]", increments,
                   "keyword: (octets a command line may be longer, group that counts once)")
        + constant("LIMITS", "dict[str, int]", limits, "octets, CRLF counted (RFC 5321 4.5.3.1)")
        + constant("EXTENSIONS", "dict[str, tuple[str, str, str, str]]", extensions,
                   "EHLO keyword: (name, reference, status, effect on labels)")
    )  # fmt: skip


def replies(load: Any) -> str:
    """Reply codes in both RFCs, and the enhanced status codes."""
    codes = {}
    for r in load("replies.json")["replies"]:
        texts = [
            (r[rfc]["text"], f"{title} {', '.join(r[rfc]['sections'])}") if r[rfc] else ("", "")
            for rfc, title in (("rfc821", "RFC 821"), ("rfc5321", "RFC 5321"))
        ]
        others = tuple((e["ref"], e["meaning"]) for e in r["extensions"])
        codes[r["code"]] = (r["severity"], r["category"], texts[0], texts[1], others)
    enhanced = {c["code"]: (c["summary"], c["reference"]) for c in load("enhanced_status.json")["codes"]}
    return (
        HEAD.format(claim="Reply codes and enhanced status codes, with their texts.", source="replies.json, …")
        + constant("REPLIES",
                   "dict[str, tuple[str, str, tuple[str, str], tuple[str, str], tuple[tuple[str, str], ...]]]", codes,
                   "code: (severity, category, (text, where) in RFC 821, the same in RFC 5321, (reference, meaning) …)")
        + constant("ENHANCED", "dict[str, tuple[str, str]]", enhanced, "X.n.m: (summary, reference)")
    )  # fmt: skip


def pop3(load: Any) -> str:
    """POP3 commands: when the response has several lines, and of what."""
    table = load("pop3.json")
    commands = {}
    for c in table["commands"]:
        when = {"never": "never", "if +OK": "always", "if no argument and +OK": "bare"}[c["multi_line"].split(" (")[0]]
        syntax = c["syntax"].removesuffix(" CRLF")
        required = syntax.split("[")[0].count(" SP ")
        most = -1 if c["command"] == "PASS" else syntax.count("SP ")
        content = "content" if "(user data)" in c["response_content"] else "listing"
        commands[c["command"]] = (required, most, when, content, c["syntax"], c["reference"])
    return HEAD.format(claim="POP3 as a table.", source="pop3.json") + constant(
        "COMMANDS", "dict[str, tuple[int, int, str, str, str, str]]", commands,
        "keyword: (arguments required, arguments at most or -1, several lines after +OK: never, always or bare (without"
        " argument), their field, syntax, reference)",
    )  # fmt: skip


def main(folder: Path) -> None:
    """Write the four modules and format them."""

    def load(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    made = []
    for name, maker in {"words": words, "smtp": smtp, "replies": replies, "pop3": pop3}.items():
        path = DATA / f"{name}.py"
        path.write_text(maker(load), encoding="utf-8")
        made.append(str(path))
    subprocess.run([sys.executable, "-m", "ruff", "check", "--fix", "-q", *made], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", *made], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
