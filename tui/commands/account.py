"""``wiretalk account``: what every captured octet was for."""

from __future__ import annotations

import sys

import click

EXAMPLES = """\b
Examples:
    wiretalk account capture.pcapng
    wiretalk account --format jsonl capture.pcap | jq 'select(.message == null) | .share'"""


@click.command("account", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--conversation", type=click.IntRange(min=1), metavar="N", help="Only this one.")
@click.option("--format", "form", type=click.Choice(["table", "jsonl"]), default="table", show_default=True)
def command(files: tuple[str, ...], conversation: int | None, form: str) -> None:
    """Account for every captured octet: PCI and user data of each layer, both directions, per conversation and message.

    Handshakes, acknowledgements and retransmissions are in it, so the layers add up to the captured octets. The exit
    status is 0; 1: there was no conversation; 2: a file is damaged or no capture.
    """
    from tui.accounting import account_files
    from tui.reading import end

    end(lambda: account_files(files, form, sys.stdout, sys.stderr, conversation=conversation))
