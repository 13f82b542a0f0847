"""What every test may ask for. A test that a machine cannot run is skipped with the reason, never passed in silence."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from lab import probe

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def why_no_lab() -> str:
    """Empty when the lab can start here, else the stage that failed and why."""
    return "; ".join(f"{f.stage}: {f.reason}" for f in probe.namespaces() if not f.ok)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") is not None and (why := why_no_lab()):
        pytest.skip(f"the lab cannot start here ({why})")
