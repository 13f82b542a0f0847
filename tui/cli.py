"""The command line: what a person or a script types after ``wiretalk``.

Claim: every failure is one clear sentence and an exit code (`capture.errors.ExitCode`), never a traceback; it is caught
here, once. Each command is a module of `tui.commands`, read in when it is asked for: ``label`` starts without textual.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

import click

from capture.errors import ExitCode, WiretalkError

VERSION = "0.1.0"

COMMANDS: dict[str, str] = {
    "talk": "Talk SMTP (or POP3) by hand; see what the keystrokes became on the wire.",
    "label": "Print every captured line of capture files with its label.",
    "conversations": "List the conversations of capture files: who, when, how much, what was said.",
    "mail": "Write the messages of capture files to a directory, octet for octet.",
    "stream": "Write what one side of a conversation sent, as octets.",
    "pairs": "Print commands with their replies, how long these took, and what pipelining saved.",
    "account": "Account for every captured octet, layer by layer, and for each message.",
    "notes": "List what is odd about capture files.",
    "lab": "Start the lab alone, or run a program in it.",
    "doctor": "Say what this machine can do, and what mends the rest.",
}
"""Name → what the list of commands says; ``tui.commands.NAME`` has the command itself, as ``command``."""

EXAMPLES = """\b
Examples:
    wiretalk                          talk SMTP to shannon on the built-in lab
    wiretalk talk mail.example:2525   talk to another server
    wiretalk label capture.pcapng     print every line of a capture, labelled"""


class Commands(click.Group):
    """The commands, imported when needed. Bare ``wiretalk`` is ``wiretalk talk``: so is ``wiretalk --record FILE``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"tui.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version")):
            args = ["talk", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Commands, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="wiretalk %(version)s")
def cli() -> None:
    """Talk SMTP by hand and see every captured line labelled PDU, PCI or user data.

    Without a command: the Talk screen on the built-in lab, three hosts on a private wire, no root, no set-up.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the only place where errors become sentences."""
    # readline and some terminals pin the size through these two, and the screen would never follow the window.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    _mend_streams()
    try:
        code = _run(lambda: cli.main(arguments, prog_name="wiretalk", standalone_mode=False))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away (| head): nothing to say
        code = 128 + signal.SIGPIPE
        _abandon_output()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"wiretalk: {where}{(error.strerror or str(error)).lower()}.")
        code = ExitCode.USAGE
        _abandon_output()
    return code


def _run(command: Callable[[], object]) -> int:
    try:
        code = command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except WiretalkError as error:
        _say(f"wiretalk: {error.sentence}")
        if error.remedy:
            _say(f"  to mend it: {error.remedy}")
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


def _say(sentence: str) -> None:
    """To standard error; a file name may hold what a terminal would obey."""
    click.echo("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in sentence), err=True)


def _mend_streams() -> None:
    """Closed standard streams become the null device, lest a socket take their number; no character is unprintable."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _abandon_output() -> None:
    """What could not be written is given up, or the interpreter would complain of it once more at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
