"""``wiretalk label``: captures to labelled lines."""

from __future__ import annotations

import sys

import click

LAYERS = ["application", "message", "mime", "tls", "transport", "network", "link"]
EXAMPLES = """\b
Examples:
    wiretalk label capture.pcapng
    wiretalk label --filter '"credential" in flags' capture.pcapng
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
@click.option("--conversation", type=click.IntRange(min=1), metavar="N", help="Only the lines of this conversation.")
@click.option(
    "--filter", "expression", metavar="EXPR", help='Only lines that meet it, as in: label == "PCI" and side == "C".'
)
@click.option("--show-secrets", is_flag=True, help="Do not mask passwords (AUTH, PASS).")
def command(
    files: tuple[str, ...],
    form: str,
    layer: str,
    readings: tuple[str, ...],
    conversation: int | None,
    expression: str | None,
    show_secrets: bool,
) -> None:
    """Print every captured line of pcap and pcapng FILEs with its label: PDU, PCI or user data.

    '-' reads standard input. The exit status is 0; 1: there was no line to label; 2: a file is damaged or no capture.

    --filter compares the fields of the JSON lines: conversation side n offset time line label pdu pdu_id layer flags
    frames spans gap, by == != < <= > >=, ~ and !~ (a regular expression is found or not) and 'in', joined by not, and,
    or: --filter 'pdu ~ "mail data" and "8bit" in flags'.
    """
    from tui.condition import Condition
    from tui.reading import end

    condition = None if expression is None else Condition(expression)

    def work() -> int:
        if layer == "application" and not readings:
            from tui.labelling import label_files

            return label_files(
                files, form, show_secrets, sys.stdout, sys.stderr, conversation=conversation, condition=condition
            )
        from capture.readings import choose
        from tui.layered import label_layer

        return label_layer(
            files,
            form,
            show_secrets,
            sys.stdout,
            sys.stderr,
            layer=layer,
            readings=choose(readings),
            conversation=conversation,
            condition=condition,
        )

    end(work)
