"""The command line: what a person or a script types after ``wiretalk``.

Claim: every failure is one clear sentence and an exit code (`capture.errors.ExitCode`), never a traceback; it is caught
here, once. Heavy libraries are imported by the command that needs them, so ``--help`` and ``label`` start at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capture.errors import ExitCode, WiretalkError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "0.1.0"
EXAMPLES = {
    "wiretalk": """\b
    wiretalk                          talk SMTP to shannon on the built-in lab
    wiretalk talk mail.example:2525   talk to another server
    wiretalk label capture.pcapng     print every line of a capture, labelled""",
    "talk": """\b
    wiretalk talk                            the lab: three hosts on a private wire
    wiretalk talk mailhost:110               the lab's POP3 server
    wiretalk talk localhost:2525             a server of your own
    wiretalk talk --script lines.txt         play lines from a file, print the labelled capture""",
    "label": """\b
    wiretalk label capture.pcapng
    wiretalk label --format jsonl capture.pcap | jq -r .label | sort | uniq -c""",
    "lab": """\b
    wiretalk lab                                       start the lab, say who is where
    wiretalk lab -- telnet shannon 25                  run a program on your-pc
    wiretalk lab --record telnet.pcapng -- telnet shannon 25
    wiretalk lab -- swaks --to student@student.example --server shannon""",
    "doctor": """\b
    wiretalk doctor                    exit status 0 when the lab can start here""",
}


def _example(name: str) -> str:
    return f"Examples:\n\n{EXAMPLES[name]}"


class _Group(click.Group):
    """Bare ``wiretalk`` is ``wiretalk talk``, so the options of talk work there too: ``wiretalk --record FILE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {"--help", "--version"}
        if not args or (args[0].startswith("-") and args[0] not in known):
            args = ["talk", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group, epilog=_example("wiretalk"), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="wiretalk %(version)s")
def cli() -> None:
    """Talk SMTP by hand and see every captured line labelled PDU, PCI or user data.

    Without a command: the Talk screen on the built-in lab, three hosts on a private wire, no root, no set-up.
    """


@cli.command(epilog=_example("talk"))
@click.argument("target", required=False, metavar="[HOST[:PORT]]")
@click.option("--script", type=click.Path(), metavar="FILE", help="Play the lines of FILE ('-': standard input).")
@click.option("--no-wait", is_flag=True, help="With --script: send all lines at once, do not wait for replies.")
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE", help="Write the capture to FILE (pcapng).")
@click.option("--interface", metavar="NAME", help="Sniff this interface instead of the one that leads to HOST.")
@click.option("--show-secrets", is_flag=True, help="Do not mask passwords in what is printed.")
@click.option("--ipv6", is_flag=True, help="Give the lab's hosts IPv6 addresses too.")
@click.option("--no-vrfy", is_flag=True, help="Switch VRFY off on the lab's servers: they answer 252.")
def talk(**options: Any) -> None:
    """Talk SMTP (or POP3) by hand; see what the keystrokes became on the wire.

    HOST may be one of the lab (shannon, mailhost) or any other. Without a terminal, the exercise's session is played
    in the lab (or the lines of --script, or of standard input to HOST) and the labelled capture is printed; the exit
    status is 0 only if every line typed was seen on the wire, the message arrived, and the recording reads the same.
    """
    from tui.start import Options, start_talk

    raise SystemExit(start_talk(Options(**options)))


@cli.command(epilog=_example("label"))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
@click.option("--show-secrets", is_flag=True, help="Do not mask passwords (AUTH, PASS).")
def label(files: tuple[str, ...], form: str, show_secrets: bool) -> None:
    """Print every captured line of pcap and pcapng FILEs with its label: PDU, PCI or user data.

    '-' reads standard input. The exit status is 0; 1: there was no line to label; 2: a file is damaged or no capture.
    """
    from tui.labelling import label_files

    try:
        code = label_files(files, form, show_secrets, sys.stdout, sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (| head): nothing to say, and nothing more to write at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    raise SystemExit(code)


@cli.command(epilog=_example("lab"), context_settings={"ignore_unknown_options": True})
@click.option("--ipv6", is_flag=True, help="Give the hosts IPv6 addresses too.")
@click.option("--no-vrfy", is_flag=True, help="Switch VRFY off: the servers answer 252.")
@click.option(
    "--record", type=click.Path(path_type=Path), metavar="FILE", help="Write your-pc's frames to FILE (pcapng)."
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def lab(ipv6: bool, no_vrfy: bool, record: Path | None, command: tuple[str, ...]) -> None:
    """Start the lab alone and say who is where; or run COMMAND on your-pc, with working names, and end."""
    from tui.start import start_lab

    raise SystemExit(start_lab(command, ipv6=ipv6, vrfy=not no_vrfy, record=record))


@cli.command(epilog=_example("doctor"))
def doctor() -> None:
    """Say what this machine can do, what it cannot, why, and the command that mends it."""
    from tui.start import start_doctor

    raise SystemExit(start_doctor())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the only place where errors become sentences."""
    # readline and some terminals pin the size through these two, and the screen would never follow the window.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    return _run(lambda: cli.main(arguments, prog_name="wiretalk", standalone_mode=False))


def _run(command: Callable[[], object]) -> int:
    try:
        code = command()
        sys.stdout.flush()
    except SystemExit as end:
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except WiretalkError as error:
        click.echo(f"wiretalk: {error.sentence}", err=True)
        if error.remedy:
            click.echo(f"  to mend it: {error.remedy}", err=True)
        return error.exit_code
    except click.exceptions.Abort:
        return ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        click.echo(err=True)
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    return code if isinstance(code, int) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
