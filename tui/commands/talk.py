"""``wiretalk talk``: the Talk screen, or, without a terminal, the player."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

EXAMPLES = """\b
Examples:
    wiretalk talk                            the lab: three hosts on a private wire
    wiretalk talk mailhost:110               the lab's POP3 server
    wiretalk talk localhost:2525             a server of your own
    wiretalk talk --script lines.txt         play lines from a file, print the labelled capture"""


@click.command("talk", epilog=EXAMPLES)
@click.argument("target", required=False, metavar="[HOST[:PORT]]")
@click.option("--script", type=click.Path(), metavar="FILE", help="Play the lines of FILE ('-': standard input).")
@click.option("--no-wait", is_flag=True, help="With --script: send all lines at once, do not wait for replies.")
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE", help="Write the capture to FILE (pcapng).")
@click.option("--interface", metavar="NAME", help="Sniff this interface instead of the one that leads to HOST.")
@click.option("--theme", type=click.Choice(["dark", "light"]), help="Colours of the screen.")
@click.option("--show-secrets", is_flag=True, help="Do not mask passwords in what is printed.")
@click.option("--ipv6", is_flag=True, help="Give the lab's hosts IPv6 addresses too.")
@click.option("--no-vrfy", is_flag=True, help="Switch VRFY off on the lab's servers: they answer 252.")
def command(**options: Any) -> None:
    """Talk SMTP (or POP3) by hand; see what the keystrokes became on the wire.

    HOST may be one of the lab (shannon, mailhost) or any other. Without a terminal, the exercise's session is played
    in the lab (or the lines of --script, or of standard input to HOST) and the labelled capture is printed; the exit
    status is 0 only if every line typed was seen on the wire, the recording reads the same, and (the exercise) the
    message arrived.
    """
    from tui.start import Options, start_talk

    raise SystemExit(start_talk(Options(**options)))
