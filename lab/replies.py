"""The words of the MTA: how a reply is made, which commands there are, and a guess at what a typing error meant.

Claim: what a client sent never stands in a reply but printable and short, and a word that may be a password or a SASL
message, for it stands where a command should, never at all.
"""

from __future__ import annotations

import re

SYNTAX = {  # RFC 5321 4.1.1
    "HELO": "HELO <SP> <domain>",
    "EHLO": "EHLO <SP> <domain or address literal>",
    "MAIL": "MAIL FROM:<reverse-path> [<SP> <parameters>]",
    "RCPT": "RCPT TO:<forward-path>",
    "DATA": "DATA",
    "RSET": "RSET",
    "VRFY": "VRFY <SP> <user name or address>",
    "EXPN": "EXPN <SP> <mailing list>",
    "HELP": "HELP [<SP> <command>]",
    "NOOP": "NOOP [<SP> <anything>]",
    "QUIT": "QUIT",
}
# Commands that exist and are not served here: 502, where a word that is no command gets 500 (RFC 5321 4.2.4).
NOT_SERVED = {
    "SEND": "RFC 821 3.4",
    "SOML": "RFC 821 3.4",
    "SAML": "RFC 821 3.4",
    "TURN": "RFC 821 3.8",
    "AUTH": "RFC 4954",
    "STARTTLS": "RFC 3207",
    "BDAT": "RFC 3030",
    "ETRN": "RFC 1985",
    "ATRN": "RFC 2645",
    "BURL": "RFC 4468",
    "LHLO": "RFC 2033",
}

_ECHOED = re.compile(r"[A-Za-z]{1,12}:?")  # no verb is longer (STARTTLS has 8); base64 seldom has letters only
_HEADER_FIELD = re.compile(r"[A-Z][A-Z0-9-]*:")


def reply(code: int, status: str, *lines: str) -> str:
    """A reply, multi-line if there are several ``lines``, the enhanced ``status`` on each (RFC 2034 4)."""
    prefix = f"{status} " if status else ""
    return "\r\n".join(
        f"{code}{'-' if at < len(lines) else ' '}{prefix}{line}" for at, line in enumerate(lines, start=1)
    )


def quoted(word: str) -> str:
    """A word of the client's as it may stand in a reply: printable, and not endless."""
    return '"' + re.sub(r"[^ -~]", "?", word)[:40] + '"'


def unrecognized(word: str) -> str:
    """The reply to a word that is no command, with a guess at what was meant."""
    import difflib

    hint = "try HELP"
    known = next((verb for verb in SYNTAX if len(word) > len(verb) and word.startswith(verb)), "")
    close = difflib.get_close_matches(word, list(SYNTAX), n=1)
    if _HEADER_FIELD.fullmatch(word):
        hint = "a header field of a message? It comes after DATA"
    elif known:
        hint = f"the syntax is {SYNTAX[known]}"
    elif close:
        hint = f"did you mean {close[0]}?"
    echo = f": {quoted(word)}" if _ECHOED.fullmatch(word) else ""
    return reply(500, "5.5.2", f"Syntax error, command unrecognized{echo}; {hint}")
