"""``wiretalk label``: captures to labelled lines."""

from __future__ import annotations

import os
import signal
import sys

import click

LAYERS = ["application", "message", "mime", "tls", "transport", "network", "link"]
EXAMPLES = """\b
Examples:
    wiretalk label capture.pcapng
    wiretalk label --layer message capture.pcapng
    wiretalk label --format jsonl capture.pcap | jq -r .label | sort | uniq -c"""


@click.command("label", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
@click.option(
    "--layer", type=click.Choice(LAYERS), default="application", show_default=True, help="Whose units to show."
)
@click.option(
    "--reading", "readings", multiple=True, metavar="C1=...", help="Switch a contested reading (docs/labels.md)."
)
@click.option("--show-secrets", is_flag=True, help="Do not mask passwords (AUTH, PASS).")
def command(files: tuple[str, ...], form: str, layer: str, readings: tuple[str, ...], show_secrets: bool) -> None:
    """Print every captured line of pcap and pcapng FILEs with its label: PDU, PCI or user data.

    '-' reads standard input. The exit status is 0; 1: there was no line to label; 2: a file is damaged or no capture.
    """
    from tui.labelling import label_files

    try:
        if layer == "application" and not readings:
            code = label_files(files, form, show_secrets, sys.stdout, sys.stderr)
        else:
            from capture.readings import choose
            from tui.layered import label_layer

            chosen = choose(readings)
            code = label_layer(files, form, show_secrets, sys.stdout, sys.stderr, layer=layer, readings=chosen)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (| head): nothing to say, and nothing more to write at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    raise SystemExit(code)
