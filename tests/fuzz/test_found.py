"""Every input that ever broke a promise, and every seed of the fuzzer, keeps it now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import smaller
from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import SEEDS, TARGETS

FOUND = sorted((Path(__file__).parent / "found").glob("*.bin"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_was_found_is_mended(path: Path) -> None:
    TARGETS[path.stem.split("-")[0]](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_keep_their_promises_and_so_do_some_mutations(target: str) -> None:
    seeds = SEEDS[target]()
    assert len(seeds) > 10
    mutator = Mutator(seeds, seed=2025)
    for octets in [*seeds, *(mutator.draw() for _ in range(150))]:
        TARGETS[target](octets)


def test_a_broken_promise_is_seen_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses_x(octets: bytes) -> None:
        assert b"x" not in octets

    monkeypatch.setitem(TARGETS, "dialogue", refuses_x)
    wrong = "AssertionError at test_found.py"
    from tests.fuzz.__main__ import failure

    assert failure("dialogue", b"abc") == ""
    seen = failure("dialogue", b"abxc")
    assert seen.startswith(wrong)
    assert smaller("dialogue", b"abcdefgh" * 20 + b"x" + b"ab" * 20, seen) == b"x"
