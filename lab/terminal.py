"""A program of the lab on the caller's own terminal, as if it had been started by the caller's shell.

Claim: Ctrl-C, Ctrl-Z, Ctrl-D, line editing and the window's size reach the program, a shell is usable, and the
terminal is afterwards as it was before.
Rule: pipes and files are handed over as they are. Only a terminal is not: a program in another session cannot have
it, so the program gets a terminal of its own, and octets go to and fro untouched.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.laboratory import Lab

_CHUNK = 1 << 14


def interact(lab: Lab, host: str, argv: Sequence[str]) -> int:
    """Run ``argv`` on ``host`` to its end; 128 + n if signal n ended it, as shells say. Raises `OSError`."""
    sys.stdout.flush()
    sys.stderr.flush()
    code = _on_terminal(lab, host, argv) if os.isatty(0) and os.isatty(1) else _on_pipes(lab, host, argv)
    return 128 - code if code < 0 else code


def _on_pipes(lab: Lab, host: str, argv: Sequence[str]) -> int:
    pid = lab.spawn(host, argv, 0, 1, 2)
    while True:
        try:
            return lab.wait(pid)
        except KeyboardInterrupt:  # it sits in another session, so the terminal's Ctrl-C came to us alone
            with contextlib.suppress(ProcessLookupError):
                lab.kill(pid, signal.SIGINT)


def _on_terminal(lab: Lab, host: str, argv: Sequence[str]) -> int:
    import pty
    import termios

    master, slave = pty.openpty()
    try:
        termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(0))  # the same keys mean the same
        _copy_size(master)
        try:
            errors = slave if os.isatty(2) else 2
            pid = lab.spawn(host, argv, slave, slave, errors, terminal=True)
        finally:
            os.close(slave)
        with _raw(0), _following_size(master):
            _relay(master, lab.status(pid))
    finally:
        os.close(master)  # what still runs there hears SIGHUP
    return lab.wait(pid)


def _relay(master: int, ended: int) -> None:
    """Carry octets both ways until the program has ended and all it wrote has been shown."""
    os.set_blocking(master, False)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    keyboard, typed = select.POLLIN, b""
    try:
        while True:
            # What the program has not taken yet is offered again; nothing more is read from the keyboard meanwhile,
            # and what the program writes is shown all the same: neither can block the other.
            poll.register(0, 0 if typed else keyboard)
            poll.register(master, select.POLLIN | (select.POLLOUT if typed else 0))
            ready = dict(poll.poll())
            if ready.get(master, 0) & (select.POLLIN | select.POLLHUP):
                octets = _read(master)
                if not octets:
                    return
                _write(1, octets)
            elif ended in ready:  # a daemon may keep the terminal open for ever; what was written has been shown
                return
            if typed and ready.get(master, 0) & select.POLLOUT:
                typed = typed[os.write(master, typed) :]
            elif not typed and ready.get(0, 0) & select.POLLIN:
                typed = _read(0)
                keyboard = select.POLLIN if typed else 0
            elif ready.get(0, 0) & (select.POLLHUP | select.POLLERR):
                return  # the caller's terminal is gone
    finally:
        os.close(ended)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:  # EIO: the other end of a terminal is closed
        return b""


def _write(descriptor: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(descriptor, octets) :]


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Every key goes through, Ctrl-C too; afterwards the terminal is as it was."""
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)  # not FLUSH: what was typed meanwhile is for the program
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _following_size(master: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may catch signals
        yield
        return
    before = signal.signal(signal.SIGWINCH, lambda *_: _copy_size(master))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _copy_size(master: int) -> None:
    import termios

    termios.tcsetwinsize(master, termios.tcgetwinsize(0))
