"""``wiretalk pairs``: commands and replies side by side, with how long each reply took."""

from __future__ import annotations

import sys

import click

EXAMPLES = """\b
Examples:
    wiretalk pairs capture.pcapng
    wiretalk pairs --format jsonl capture.pcap | jq -r 'select(.summary) | .summary.saved'"""


@click.command("pairs", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--conversation", type=click.IntRange(min=1), metavar="N", help="Only this one.")
@click.option("--format", "form", type=click.Choice(["table", "jsonl"]), default="table", show_default=True)
def command(files: tuple[str, ...], conversation: int | None, form: str) -> None:
    """Print each command with the reply to it and how long that took; then the round trips, and what pipelining saved.

    The exit status is 0; 1: there was neither a command nor a reply; 2: a file is damaged or no capture.
    """
    from tui.pairing import pair_files
    from tui.reading import end

    end(lambda: pair_files(files, form, sys.stdout, sys.stderr, conversation=conversation))
