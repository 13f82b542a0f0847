"""Every note has a kind with a sentence and a source, and says where it belongs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.analyzer import Analyzer
from capture.glossary import NOTES, UNKNOWN, explain
from capture.model import Note, Side
from tests.capture.forge import C, S, Wire
from tests.capture.test_mail import DATA, END, session

ROOT = Path(__file__).parents[2]
ROOMS = ("capture", "lab", "tui")

# Functions that make a note of the kind that they are given first; their callers are looked at instead.
MAKERS = {"note", "once", "_note", "_told"}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path, ast.parse(path.read_text(), str(path))


def constants() -> dict[str, str]:
    """Names that stand for one word in a module: ``CUT = "cut-file"``."""
    found = {}
    for _, tree in modules():
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found[target.id] = node.value.value
    return found


def made_in(tree: ast.Module) -> Iterator[tuple[int, ast.expr, str]]:
    """Where a note is made: line, its kind, and the function around it."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[int, ast.expr, str]]:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Call) and node.args:
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            # a maker is a method, given a kind and a text; one that is given a note makes none
            maker = name in MAKERS and isinstance(node.func, ast.Attribute) and len(node.args) > 1
            if name == "Note" or maker:
                yield node.lineno, node.args[0], function
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(tree, "")


def kinds() -> list[tuple[str, str]]:
    """``(place, kind)`` of every note that the source makes."""
    named, found = constants(), []
    for path, tree in modules():
        for line, kind, function in made_in(tree):
            place = f"{path.relative_to(ROOT)}:{line}"
            alternatives = (kind.body, kind.orelse) if isinstance(kind, ast.IfExp) else (kind,)
            for one in alternatives:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    found.append((place, one.value))
                elif isinstance(one, ast.Name | ast.Attribute):
                    name = one.id if isinstance(one, ast.Name) else one.attr
                    if name in named:
                        found.append((place, named[name]))
                    else:
                        # a maker's argument, or one of those that were made before and are counted at the end
                        known = name == "kind" and function in MAKERS | {"close", "finish"}
                        assert known, f"{place}: which kind of note is this?"
    return found


def test_every_kind_of_note_that_is_made_has_its_sentence_and_its_source() -> None:
    made = kinds()
    assert len({kind for _, kind in made}) >= 15, "the search found too little to be right"
    assert [(place, kind) for place, kind in made if kind not in NOTES] == []


def test_sentences_end_and_sources_are_named() -> None:
    for kind, entry in NOTES.items():
        assert entry.sentence.endswith("."), kind
        assert entry.citation, kind
        assert explain(kind) != UNKNOWN


@pytest.mark.parametrize(
    ("what", "kind"),
    [("again", "retransmission"), ("other", "overlap-conflict"), ("swapped", "out-of-order")],
)
def test_a_note_of_the_wire_names_its_frame_conversation_side_and_offset(what: str, kind: str) -> None:
    wire = Wire()
    frames = [*wire.open(), wire.say(S, b"220 mx\r\n"), wire.say(C, b"NOOP\r\n"), wire.say(C, b"HELP\r\n")]
    if what == "again":
        frames.append(wire.segment(C, b"HELP\r\n", sequence=(wire.sequence[C] - 6) & 0xFFFFFFFF))
    elif what == "other":
        frames.append(wire.segment(C, b"XXXX\r\n", sequence=(wire.sequence[C] - 6) & 0xFFFFFFFF))
    else:
        frames[-2], frames[-1] = frames[-1], frames[-2]
    frames = [frame._replace(number=number) for number, frame in enumerate(frames, 1)]
    analyzer, notes = Analyzer(strict=True), list[Note]()
    for frame in frames:
        notes += analyzer.feed(frame).notes
    notes += analyzer.finish().notes
    [note] = [note for note in notes if note.kind == kind]
    assert (note.conversation, note.side) == (1, Side.CLIENT)
    assert note.frame == len(frames)
    assert note.offset == (0 if what == "swapped" else 6)
    assert note.octets == (b"XXXX\r\n" if what == "other" else b"")


def test_an_ordinary_session_has_no_note() -> None:
    analyzer, notes = Analyzer(strict=True), list[Note]()
    for frame in session(*DATA, "C: hi\n.", *END):
        notes += analyzer.feed(frame).notes
    assert (notes, analyzer.finish().notes) == ([], ())
