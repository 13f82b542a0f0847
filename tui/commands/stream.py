"""``wiretalk stream``: what one side of one conversation sent, as octets."""

from __future__ import annotations

import sys

import click

EXAMPLES = """\b
Examples:
    wiretalk stream capture.pcapng --conversation 1 --side C | xxd
    wiretalk stream capture.pcap --conversation 3 --side S > server.bin"""


@click.command("stream", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--conversation", required=True, type=click.IntRange(min=1), metavar="N", help="Its number.")
@click.option("--side", required=True, type=click.Choice(["C", "S"]), help="Who sent it: client or server.")
def command(files: tuple[str, ...], conversation: int, side: str) -> None:
    """Write the octets that one side of a conversation sent to standard output, reassembled, gaps closed up.

    Gaps are told on standard error. The exit status is 0; 1: there is no such conversation; 2: a file is damaged or no
    capture, or standard output is a terminal.
    """
    from capture.model import Side
    from tui.reading import end
    from tui.streaming import stream_file

    out = sys.stdout.buffer
    end(lambda: stream_file(files, conversation, Side(side), out, sys.stderr, terminal=sys.stdout.isatty()))
