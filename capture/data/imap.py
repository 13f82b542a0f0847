"""IMAP as tables, written by hand from RFC 9051 (and, where it says so, its predecessors and extensions)."""

from __future__ import annotations

# command: (syntax behind the tag, reference)
COMMANDS: dict[str, tuple[str, str]] = {
    "CAPABILITY": ("CAPABILITY", "RFC 9051 6.1.1"),
    "NOOP": ("NOOP", "RFC 9051 6.1.2"),
    "LOGOUT": ("LOGOUT", "RFC 9051 6.1.3"),
    "STARTTLS": ("STARTTLS", "RFC 9051 6.2.1"),
    "AUTHENTICATE": ("AUTHENTICATE SP mechanism [SP initial-response]", "RFC 9051 6.2.2"),
    "LOGIN": ("LOGIN SP user SP password", "RFC 9051 6.2.3"),
    "ENABLE": ("ENABLE 1*(SP capability)", "RFC 9051 6.3.1"),
    "SELECT": ("SELECT SP mailbox", "RFC 9051 6.3.2"),
    "EXAMINE": ("EXAMINE SP mailbox", "RFC 9051 6.3.3"),
    "CREATE": ("CREATE SP mailbox", "RFC 9051 6.3.4"),
    "DELETE": ("DELETE SP mailbox", "RFC 9051 6.3.5"),
    "RENAME": ("RENAME SP mailbox SP mailbox", "RFC 9051 6.3.6"),
    "SUBSCRIBE": ("SUBSCRIBE SP mailbox", "RFC 9051 6.3.7"),
    "UNSUBSCRIBE": ("UNSUBSCRIBE SP mailbox", "RFC 9051 6.3.8"),
    "LIST": ("LIST SP reference SP pattern", "RFC 9051 6.3.9"),
    "LSUB": ("LSUB SP reference SP pattern", "RFC 3501 6.3.9"),
    "NAMESPACE": ("NAMESPACE", "RFC 9051 6.3.10"),
    "STATUS": ("STATUS SP mailbox SP (items)", "RFC 9051 6.3.11"),
    "APPEND": ("APPEND SP mailbox [SP (flags)] [SP date] SP literal", "RFC 9051 6.3.12"),
    "IDLE": ("IDLE", "RFC 9051 6.3.13"),
    "CHECK": ("CHECK", "RFC 3501 6.4.1"),
    "CLOSE": ("CLOSE", "RFC 9051 6.4.1"),
    "UNSELECT": ("UNSELECT", "RFC 9051 6.4.2"),
    "EXPUNGE": ("EXPUNGE", "RFC 9051 6.4.3"),
    "SEARCH": ("SEARCH SP criteria", "RFC 9051 6.4.4"),
    "FETCH": ("FETCH SP set SP items", "RFC 9051 6.4.5"),
    "STORE": ("STORE SP set SP item SP flags", "RFC 9051 6.4.6"),
    "COPY": ("COPY SP set SP mailbox", "RFC 9051 6.4.7"),
    "MOVE": ("MOVE SP set SP mailbox", "RFC 9051 6.4.8"),
    "UID": ("UID SP command", "RFC 9051 6.4.9"),
    "ID": ("ID SP parameters", "RFC 2971 3.1"),
    "SORT": ("SORT SP (criteria) SP charset SP keys", "RFC 5256 BASE.6.4.SORT"),
    "THREAD": ("THREAD SP algorithm SP charset SP keys", "RFC 5256 BASE.6.4.THREAD"),
    "GETQUOTA": ("GETQUOTA SP root", "RFC 9208 4.1.1"),
    "GETQUOTAROOT": ("GETQUOTAROOT SP mailbox", "RFC 9208 4.1.2"),
    "SETQUOTA": ("SETQUOTA SP root SP (limits)", "RFC 9208 4.1.3"),
    "GETACL": ("GETACL SP mailbox", "RFC 4314 3.3"),
    "SETACL": ("SETACL SP mailbox SP identifier SP rights", "RFC 4314 3.1"),
    "MYRIGHTS": ("MYRIGHTS SP mailbox", "RFC 4314 3.5"),
    "GETMETADATA": ("GETMETADATA SP mailbox SP entries", "RFC 5464 4.2"),
    "SETMETADATA": ("SETMETADATA SP mailbox SP (entries)", "RFC 5464 4.3"),
    "COMPRESS": ("COMPRESS SP algorithm", "RFC 4978 3"),
    "NOTIFY": ("NOTIFY SP events", "RFC 5465 3"),
}

STATUSES = frozenset({"OK", "NO", "BAD", "PREAUTH", "BYE"})  # RFC 9051 7.1
GREETINGS = frozenset({"OK", "PREAUTH", "BYE"})  # RFC 9051 7.1, 9 (greeting)
