"""A plain SMTP session, read at a glance: what its lines would come to, without making them.

Claim: where `glance` answers, the dialogue would have said the same; wherever it is not certain of that it answers
None. It knows sessions in which the client waits (RFC 5321) or pipelines (RFC 2920), every reply is complete and of one
code, every command is one of the eight below and well formed, and mail data end in CRLF.CRLF. Everything else, and
everything odd, is the dialogue's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from capture.facts import Count
from capture.model import Gap, Side

_OTHER_PORTS = frozenset({24, 110, 995, 143, 993})  # where another protocol than SMTP is presumed
_LONGEST_GREETING = 500  # the registry decides by the first octets; a greeting as usual leaves it one decision only

_REPLY = re.compile(rb"([2-5][0-9]{2})(?:-[^\r\n\0]*\r\n\1)*(?: [^\r\n\0]*)?\r\n")
_GREETING = re.compile(rb"220(?:-[^\r\n\0]*\r\n220)*(?: [^\r\n\0]*)?\r\n")
_HELLO = re.compile(rb"(?:EHLO|HELO) [!-~]+\r\n", re.IGNORECASE)
_COMMAND = re.compile(
    rb"(?:MAIL FROM:<([!#-;=?-\[\]-~]*)>|RCPT TO:<([!#-;=?-\[\]-~]+)>)(?: [A-Za-z0-9][A-Za-z0-9-]*(?:=[!-~]*)?)*\r\n"
    rb"|(DATA)\r\n|(QUIT)\r\n|(?:(?:EHLO|HELO) [!-~]+|RSET|NOOP)\r\n",
    re.IGNORECASE,
)
_END = b"\r\n.\r\n"
_MAIL, _RCPT, _DATA, _QUIT = 1, 2, 3, 4  # groups of `_COMMAND`

Said = Sequence[tuple[Side, list[bytes]] | Gap]


def glance(port: int, said: Said) -> Count | None:
    """What a whole conversation comes to, or None: it must be read line by line.

    port: the server's; said: runs of octets of one side, sides taking turns, in order of cause.
    """
    if len(said) < 2 or port in _OTHER_PORTS or said[0][0] is not Side.SERVER:
        return None
    count = Count()
    owed = 1  # replies
    asked = quitting = in_data = False  # DATA waits for its reply; QUIT was sent; 354 was said
    for item in said:
        if isinstance(item, Gap):
            return None
        side, parts = item
        octets = parts[0] if len(parts) == 1 else b"".join(parts)
        if side is Side.SERVER:
            code = _replies(octets, owed) if count.commands else _greeting(octets)
            if code is None:
                return None
            count.last_reply = code
            in_data, asked, owed = asked and code == 354, False, 0
            continue
        if quitting or owed:
            return None
        at = 0
        if in_data:
            end = 3 if octets.startswith(b".\r\n") else octets.find(_END) + 5
            if end == 4:
                return None
            at, owed, in_data = end, 1, False
            count.messages += 1
        elif not count.commands and not _HELLO.match(octets):
            return None
        size = len(octets)
        while at < size:
            found = _COMMAND.match(octets, at)
            if found is None or quitting or asked:
                return None
            at = found.end()
            owed += 1
            count.commands += 1
            kind = found.lastindex
            if kind == _MAIL:
                count.mail_from.append(found[1].decode("latin-1"))
            elif kind == _RCPT:
                count.rcpt_to.append(found[2].decode("latin-1"))
            elif kind == _DATA:
                asked = True
            elif kind == _QUIT:
                quitting = True
    return count if count.commands else None


def _greeting(octets: bytes) -> int | None:
    found = _GREETING.fullmatch(octets)
    return 220 if found is not None and len(octets) <= _LONGEST_GREETING else None


def _replies(octets: bytes, owed: int) -> int | None:
    """The code of the last of so many replies; None: there are fewer or more, or one is not plain."""
    at = code = 0
    size = len(octets)
    for _ in range(owed):
        found = _REPLY.match(octets, at)
        if found is None:
            return None
        at = found.end()
        code = int(found[1])
    return code if at == size and owed else None
