"""``wiretalk conversations``: what conversations capture files hold."""

from __future__ import annotations

import sys

import click

EXAMPLES = """\b
Examples:
    wiretalk conversations capture.pcapng
    wiretalk conversations --format jsonl mail.pcap1 mail.pcap2 | jq 'select(.last_reply >= 500)'"""


@click.command("conversations", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(["table", "jsonl"]), default="table", show_default=True)
@click.option("--all", "every", is_flag=True, help="List all that is no mail too, and not only the first 256.")
def command(files: tuple[str, ...], form: str, every: bool) -> None:
    """List the TCP conversations of pcap and pcapng FILEs: who, when, how much, and what was said if it is mail.

    Mail is known by what is said, on any port. Of conversations that are none the first 256 are listed; behind these,
    what goes to ports of other protocols (https, ssh…) is passed over unread. How many were, is said at the end.

    Several FILEs are one capture, in order of time; '-' reads standard input. The exit status is 0; 1: there is no
    conversation; 2: a file is damaged or no capture.
    """
    from tui.reading import end
    from tui.surveying import list_conversations

    end(lambda: list_conversations(files, form, sys.stdout, sys.stderr, every=every))
