"""``wiretalk mail``: the messages of captures as files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

EXAMPLES = """\b
Examples:
    wiretalk mail capture.pcapng -o messages
    wiretalk mail rotated-*.pcap -o messages && jq -r '.[].sha256' messages/manifest.json"""


@click.command("mail", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where to.")
@click.option("--force", is_flag=True, help="DIR need not be empty; files of the same names are replaced.")
def command(files: tuple[str, ...], output: Path, force: bool) -> None:
    """Write each message of the captures to DIR, byte for byte as it was sent, and a manifest.json with its SHA-256.

    A message of which something was not captured is named .incomplete.eml; the .json beside it says what and where.
    The exit status is 0; 1: there was no message; 2: a file is damaged (what it held is written) or no capture.
    """
    from tui.extracting import extract
    from tui.reading import end

    end(lambda: extract(files, output, sys.stdout, sys.stderr, force=force))
