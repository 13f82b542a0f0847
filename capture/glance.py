"""A plain SMTP session, read at a glance: what its lines would come to, without making them.

Claim: where `glance` answers, the dialogue would have said the same; wherever it is not certain of that it answers
None. It knows sessions in which the client waits (RFC 5321) or pipelines (RFC 2920), every reply is complete and of one
code, every command is one of the eight below and well formed, and mail data end in CRLF.CRLF. Everything else, and
everything odd, is the dialogue's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from capture.facts import Sum
from capture.model import Gap, Side

_OTHER_PORTS = frozenset({24, 110, 995, 143, 993})  # where another protocol than SMTP is presumed
_LONGEST = 512  # octets of lines that are remembered
_LONGEST_GREETING = 500  # the registry decides by the first octets; a greeting as usual leaves it one decision only

_REPLY = re.compile(rb"([2-5][0-9]{2})(?:-[^\r\n\0]*\r\n\1)*(?: [^\r\n\0]*)?\r\n")
_GREETING = re.compile(rb"220(?:-[^\r\n\0]*\r\n220)*(?: [^\r\n\0]*)?\r\n")
_HELLO = re.compile(rb"(?:EHLO|HELO) [!-~]+\r\n", re.IGNORECASE)
_COMMAND = re.compile(
    rb"(?:MAIL FROM:<([!#-;=?-\[\]-~]*)>|RCPT TO:<([!#-;=?-\[\]-~]+)>)(?: [A-Za-z0-9][A-Za-z0-9-]*(?:=[!-~]*)?)*\r\n"
    rb"|(DATA)\r\n|(QUIT)\r\n|(?:(?:EHLO|HELO) [!-~]+|RSET|NOOP)\r\n",
    re.IGNORECASE,
)
_SERVER = Side.SERVER
_END = b"\r\n.\r\n"
_MAIL, _RCPT, _DATA, _QUIT = 1, 2, 3, 4  # groups of `_COMMAND`

_REMEMBERED = 4096  # commands and replies that were seen before; they come again and again

Said = Sequence[tuple[Side, list[bytes]] | Gap]


class _Command(NamedTuple):
    """One or more command lines that came together. asks: the last one is DATA; quits: the last one is QUIT."""

    lines: int
    asks: bool
    quits: bool
    senders: tuple[str, ...]
    recipients: tuple[str, ...]


_commands: dict[bytes, _Command | None] = {}
_codes: dict[tuple[bytes, int], int | None] = {}


def glance(port: int, said: Said) -> Sum | None:
    """What a whole conversation comes to, or None: it must be read line by line.

    port: the server's; said: runs of octets of one side, sides taking turns, in order of cause.
    """
    if len(said) < 2 or port in _OTHER_PORTS or said[0][0] is not Side.SERVER:
        return None
    senders: list[str] = []
    recipients: list[str] = []
    owed, commands, messages, code = 1, 0, 0, None
    asked = quitting = in_data = False  # DATA waits for its reply; QUIT was sent; 354 was said
    for item in said:
        if isinstance(item, Gap):
            return None
        side, parts = item
        octets = parts[0] if len(parts) == 1 else b"".join(parts)
        if side is _SERVER:
            code = _replies(octets, owed) if commands else _greeting(octets)
            if code is None:
                return None
            in_data, asked, owed = asked and code == 354, False, 0
            continue
        if quitting or owed:
            return None
        if in_data:
            end = 3 if octets.startswith(b".\r\n") else octets.find(_END) + 5
            if end == 4:
                return None
            messages += 1
            in_data, owed = False, 1
            octets = octets[end:]
            if not octets:
                continue
        elif not commands and not _HELLO.match(octets):
            return None
        told = _command(octets)
        if told is None:
            return None
        owed += told.lines
        commands += told.lines
        asked, quitting = told.asks, told.quits
        if told.senders:
            senders += told.senders
        if told.recipients:
            recipients += told.recipients
    return Sum(commands, messages, tuple(senders), tuple(recipients), code) if commands else None


def _command(octets: bytes) -> _Command | None:
    """Lines that are whole commands, DATA and QUIT only at the end; None: something else."""
    try:
        return _commands[octets]
    except KeyError:
        pass
    if len(_commands) >= _REMEMBERED:
        _commands.clear()
    told = _parse(octets)
    if len(octets) <= _LONGEST:
        _commands[octets] = told
    return told


def _parse(octets: bytes) -> _Command | None:
    at = count = 0
    size, last = len(octets), 0
    senders: list[str] = []
    recipients: list[str] = []
    while at < size:
        found = _COMMAND.match(octets, at)
        if found is None or last in (_DATA, _QUIT):
            return None
        at = found.end()
        count += 1
        last = found.lastindex or 0
        if last == _MAIL:
            senders.append(found[1].decode("latin-1"))
        elif last == _RCPT:
            recipients.append(found[2].decode("latin-1"))
    return _Command(count, last == _DATA, last == _QUIT, tuple(senders), tuple(recipients))


def _greeting(octets: bytes) -> int | None:
    found = _GREETING.fullmatch(octets)
    return 220 if found is not None and len(octets) <= _LONGEST_GREETING else None


def _replies(octets: bytes, owed: int) -> int | None:
    """The code of the last of so many replies; None: there are fewer or more, or one is not plain."""
    try:
        return _codes[octets, owed]
    except KeyError:
        pass
    if len(_codes) >= _REMEMBERED:
        _codes.clear()
    at = code = 0
    told: int | None = None
    for _ in range(owed):
        found = _REPLY.match(octets, at)
        if found is None:
            break
        at = found.end()
        code = int(found[1])
    else:
        told = code if at == len(octets) and owed else None
    if len(octets) <= _LONGEST:
        _codes[octets, owed] = told
    return told
