"""Makes the samples again, from the lab: real hosts, real servers, real frames. ``python -m samples.make [NAME…]``.

Claim: no sample is older than these scripts can account for, and none is somebody else's capture. ``NAME.pcapng`` is
the capture, ``expected/NAME.jsonl`` what `wiretalk label --format jsonl` said of it: read its changes before they are
committed, for the tests take it at its word.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from capture.export.pcapng import Recorder
from capture.model import Frame
from lab import exercise, plan, watch
from samples.sessions import SESSIONS
from tui.labelling import label_files
from tui.live import LiveSession
from tui.player import Player

HERE = Path(__file__).parent
EXERCISE = "exercise"
NAMES = (EXERCISE, *SESSIONS)


async def make_exercise(path: Path) -> None:
    """The exercise: the message typed to shannon by SMTP, then fetched from mailhost by POP3."""
    session = LiveSession(record=path)
    player = Player(session)
    try:
        sent = await player.play(exercise.SMTP_LINES)
        assert session.lab is not None
        count = await asyncio.to_thread(watch.wait_for_mail, session.lab, 2, 30.0)
        session.turn_to(plan.MAILHOST.name, plan.POP3)
        fetched = await player.play(exercise.pop3_lines(count))
    finally:
        await session.close()
    for outcome in (sent, fetched):
        if outcome.failed or outcome.unseen or outcome.unanswered:
            raise SystemExit(f"{path.name}: {outcome}")


def write(path: Path, frames: list[Frame]) -> None:
    with Recorder(path, (("eth0", frames[0].link),)) as recorder:
        recorder.write_all(frames)


def expect(path: Path) -> None:
    """Write down what the labeller says of this capture now."""
    with (HERE / "expected" / f"{path.stem}.jsonl").open("w", encoding="ascii") as out:
        label_files([str(path)], "jsonl", False, out, sys.stderr)


def main(names: list[str]) -> None:
    for name in names or NAMES:
        path = HERE / f"{name}.pcapng"
        path.unlink(missing_ok=True)
        if name == EXERCISE:
            asyncio.run(make_exercise(path))
        else:
            write(path, SESSIONS[name]())
        path.chmod(0o644)  # a sample holds no secret: the lab's passwords are printed by `wiretalk lab`
        expect(path)
        print(f"{path.name}: {path.stat().st_size} octets")


if __name__ == "__main__":
    main(sys.argv[1:])
