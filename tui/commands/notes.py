"""``wiretalk notes``: the oddities of a capture."""

from __future__ import annotations

import sys

import click

EXAMPLES = """\b
Examples:
    wiretalk notes capture.pcapng
    wiretalk notes --format jsonl capture.pcap | jq -r .kind | sort | uniq -c"""


@click.command("notes", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--conversation", type=click.IntRange(min=1), metavar="N", help="Only this one.")
@click.option("--format", "form", type=click.Choice(["table", "jsonl"]), default="table", show_default=True)
@click.option("--show-octets", is_flag=True, help="Show octets that notes keep, in hex; they may be secret.")
def command(files: tuple[str, ...], conversation: int | None, form: str, show_octets: bool) -> None:
    """List what is odd about the captures: retransmissions, conflicts, gaps' causes, limits that were passed, damage.

    Each has its frame, conversation, side and stream offset. The exit status is 0; 1: nothing is odd; 2: a file is
    damaged or no capture.
    """
    from tui.noting import note_files
    from tui.reading import end

    end(lambda: note_files(files, form, sys.stdout, sys.stderr, conversation=conversation, octets=show_octets))
