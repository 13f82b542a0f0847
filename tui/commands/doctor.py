"""``wiretalk doctor``: what works here."""

from __future__ import annotations

import click

EXAMPLES = """\b
Examples:
    wiretalk doctor                    exit status 0 when the lab can start here"""


@click.command("doctor", epilog=EXAMPLES)
def command() -> None:
    """Say what this machine can do, what it cannot, why, and the command that mends it."""
    from tui.start import start_doctor

    raise SystemExit(start_doctor())
