"""Makes the samples again, from the lab: real hosts, real servers, real frames. ``python -m samples.make [NAME…]``.

Claim: no sample is older than this script can account for, and none is somebody else's capture.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from lab import exercise, plan, watch
from tui.live import LiveSession
from tui.player import Player

HERE = Path(__file__).parent


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


SAMPLES: dict[str, Callable[[Path], Awaitable[None]]] = {"exercise.pcapng": make_exercise}


def main(names: list[str]) -> None:
    for name in names or list(SAMPLES):
        path = HERE / name
        path.unlink(missing_ok=True)
        asyncio.run(SAMPLES[name](path))  # type: ignore[arg-type]
        path.chmod(0o644)  # a sample holds no secret: the lab's passwords are printed by `wiretalk lab`
        print(f"{path.name}: {path.stat().st_size} octets")


if __name__ == "__main__":
    main(sys.argv[1:])
