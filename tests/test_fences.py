"""The floors hold: proved in a fresh interpreter for each import, and by import-linter for the whole graph."""

from __future__ import annotations

import subprocess
import sys

import pytest

CASES = [
    ("capture", {"scapy", "textual", "rich", "click", "lab", "tui", "dpkt"}),
    ("capture.model", {"scapy", "textual", "rich", "click", "lab", "tui"}),
    ("capture.analyzer", {"scapy", "textual", "rich", "click", "lab", "tui"}),
    ("capture.sources.files", {"scapy", "textual", "rich", "click", "lab", "tui"}),
    ("capture.export", {"scapy", "textual", "rich", "click", "lab", "tui"}),
    ("capture.sources.sniffer", {"textual", "rich", "click", "lab", "tui"}),
    ("lab.laboratory", {"textual", "rich", "click", "tui", "scapy"}),
    ("lab.connection", {"textual", "rich", "click", "tui", "scapy"}),
    ("lab.servers", {"textual", "rich", "click", "tui", "scapy"}),
    ("tui.cli", {"textual", "scapy"}),
]


@pytest.mark.parametrize(("module", "forbidden"), CASES, ids=[module for module, _ in CASES])
def test_importing_a_room_loads_no_room_above_it(module: str, forbidden: set[str]) -> None:
    program = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-bb", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module.split(".", maxsplit=1)[0] in loaded
    assert not loaded & forbidden


def test_import_linter_finds_every_contract_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
