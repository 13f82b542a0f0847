"""Every word on the screen has a sentence for the student and a source for the teacher.

Claim: what a field, a flag, a label, a unit, a note, a reply code or a verb means is data, said in one place. The words
themselves are those of the labelling tables (`capture.data`); they are loaded when somebody first asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from capture.data import prose


class Entry(NamedTuple):
    """A sentence in plain words, and where it is written."""

    sentence: str
    citation: str


class Reply(NamedTuple):
    """A reply code.

    rfc821, rfc5321: its text and the sections, both ``""`` where that RFC has not this code; elsewhere: (reference,
    meaning) of extensions.
    """

    code: str
    severity: str
    category: str
    rfc821: Entry
    rfc5321: Entry
    elsewhere: tuple[tuple[str, str], ...]


class Verb(NamedTuple):
    """A command verb: its syntax, where it is defined, and whether it is current."""

    verb: str
    syntax: str
    citation: str
    status: str


class Reading(NamedTuple):
    """A contested reading: the question, the default's name and reason, the other reading's reason."""

    ident: str
    question: str
    default: str
    reason: str
    alternative: str


UNKNOWN = Entry("This word is not in the glossary.", "")

NOTES: Mapping[str, Entry] = {kind: Entry(*entry) for kind, entry in prose.NOTES.items()}


@cache
def _entries() -> dict[str, Entry]:
    """Fields, flags, labels, units and notes in one table; a word that is field and flag is explained as a field."""
    from capture.data.words import FIELDS, FLAGS

    table = {name: Entry(*entry) for name, entry in (*prose.NOTES.items(), *prose.PDUS.items(), *prose.LABELS.items())}
    table |= {flag: Entry(prose.FLAGS[flag], row[1] or "X.200 5.6.1.3") for flag, row in FLAGS.items()}
    table |= {flag: Entry(prose.FLAGS[flag], citation) for flag, citation in prose.MORE_FLAGS.items()}
    table |= {field: Entry(prose.FIELDS[field], row[3] or "X.200 5.6.1.1") for field, row in FIELDS.items()}
    table |= {field: Entry(prose.FIELDS[field], citation) for field, citation in prose.MORE_FIELDS.items()}
    return table


def explain(word: str) -> Entry:
    """The entry of a field, flag, label, PDU name or note kind; `UNKNOWN` for any other word."""
    found = _entries().get(word)
    return found if found is not None else pdu(word)


def flag(name: str) -> Entry:
    """The entry of a flag, also of one that has the name of a field (``trailing-ws``)."""
    from capture.data.words import FLAGS

    if name in prose.MORE_FLAGS:
        return Entry(prose.FLAGS[name], prose.MORE_FLAGS[name])
    return Entry(prose.FLAGS[name], FLAGS[name][1] or "X.200 5.6.1.3") if name in FLAGS else UNKNOWN


def pdu(name: str) -> Entry:
    """The entry of a PDU by its name on a line: ``HELO command``, ``250 reply``, ``TLS record (alert)``."""
    if name in prose.PDUS:
        return Entry(*prose.PDUS[name])
    for pattern, key in _PATTERNS:
        found = re.fullmatch(pattern, name)
        if found is None:
            continue
        entry = Entry(*prose.PDUS[key])
        if key == "<VERB> command":
            described = verb(found[1])
            return entry if described is None else Entry(entry.sentence, described.citation)
        return entry
    return UNKNOWN


_PATTERNS = (
    (r"([A-Z0-9]+) command", "<VERB> command"),
    (r"\d\d\d reply", "<code> reply"),
    (r"\d\d\d greeting", "<code> greeting"),
    (r"[A-Z][A-Z0-9.-]* response", "<NAME> response"),
    (r"TLS record \(\w+\)", "TLS record (<content type>)"),
)


def reply(code: str) -> Reply | None:
    """What a reply code says in RFC 821, in RFC 5321 and elsewhere; ``None`` when no document here has it."""
    from capture.data.replies import REPLIES

    row = REPLIES.get(code)
    return None if row is None else Reply(code, row[0], row[1], Entry(*row[2]), Entry(*row[3]), row[4])


def enhanced(code: str) -> Entry | None:
    """What an enhanced status code (``5.7.1``) says, whatever its class (RFC 3463); ``None`` when it has no entry."""
    from capture.data.replies import ENHANCED

    row = ENHANCED.get("X" + code[1:])
    return None if row is None else Entry(*row)


def verb(name: str) -> Verb | None:
    """A command verb of SMTP, or of POP3 or IMAP when only that has it; in any case of letters."""
    from capture.data import imap, pop3, smtp

    name = name.upper()
    if name in smtp.VERBS:
        _, _, syntax, defined, status = smtp.VERBS[name]
        return Verb(name, syntax, defined, status)
    if name in pop3.COMMANDS:
        return Verb(name, pop3.COMMANDS[name][4], pop3.COMMANDS[name][5], "POP3")
    if name in imap.COMMANDS:
        return Verb(name, *imap.COMMANDS[name], "IMAP")
    return None


def extension(keyword: str) -> Entry | None:
    """A service extension by its EHLO keyword."""
    from capture.data.smtp import EXTENSIONS

    row = EXTENSIONS.get(keyword.upper())
    return None if row is None else Entry(row[0], row[1])


def readings() -> tuple[Reading, ...]:
    """The six contested readings, C1 to C6."""
    from capture.data.words import CONTESTED

    return tuple(Reading(ident, *row) for ident, row in sorted(CONTESTED.items()))
