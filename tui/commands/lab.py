"""``wiretalk lab``: the lab alone, or a program run in it."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """\b
Examples:
    wiretalk lab                                       start the lab, say who is where
    wiretalk lab -- telnet shannon 25                  run a program on your-pc
    wiretalk lab --record telnet.pcapng -- telnet shannon 25
    wiretalk lab -- swaks --to student@student.example --server shannon"""


@click.command("lab", epilog=EXAMPLES, context_settings={"ignore_unknown_options": True})
@click.option("--ipv6", is_flag=True, help="Give the hosts IPv6 addresses too.")
@click.option("--no-vrfy", is_flag=True, help="Switch VRFY off: the servers answer 252.")
@click.option(
    "--record", type=click.Path(path_type=Path), metavar="FILE", help="Write your-pc's frames to FILE (pcapng)."
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def command(ipv6: bool, no_vrfy: bool, record: Path | None, argv: tuple[str, ...]) -> None:
    """Start the lab alone and say who is where; or run COMMAND on your-pc, with working names, and end."""
    from tui.start import start_lab

    raise SystemExit(start_lab(argv, ipv6=ipv6, vrfy=not no_vrfy, record=record))
