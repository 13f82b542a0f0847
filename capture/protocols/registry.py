"""Which protocol is spoken: decided by the first octets, and by the port only where they do not say.

Claim: what is said counts, not the number. A conversation on a port of ours is taken at the port's word unless the
first octets contradict it; on any other port nothing is assumed: the octets must speak for themselves. In this order:

1. client begins EHLO, HELO, MAIL FROM:, RCPT TO:, STARTTLS, DATA or BDAT: smtp; LHLO: lmtp.
2. client begins with a TLS record, and the server with one or with nothing: tls (on a port of ours the port's own
   dialogue, which then shows the records).
3. server begins +OK or -ERR and client with a POP3 keyword: pop3; server ``* OK``, ``* PREAUTH`` or ``* BYE`` and
   client with a tag and an IMAP command: imap.
4. a port of ours and four octets of anybody that contradict nothing, or mid-stream, or the end: the port's.
5. server says 220, 554 or 421 with the word SMTP in its first line, client nothing yet: smtp; ``* OK`` with the word
   IMAP: imap.
6. `GIVE_UP` octets of a side, or the end of the conversation, without any of these: opaque.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from capture.model import Side
from capture.protocols.dialogue import Dialogue
from capture.protocols.imap import ImapDialogue
from capture.protocols.opaque import OpaqueDialogue, TlsDialogue
from capture.protocols.pop3 import Pop3Dialogue
from capture.protocols.records import is_record
from capture.protocols.smtp import SmtpDialogue

# Ports whose protocol is presumed (IANA service names; 2525 and 1025 are customary for test servers and are left to
# what is said there).
PORTS = {25: "smtp", 587: "smtp", 465: "smtp", 24: "lmtp", 110: "pop3", 995: "pop3", 143: "imap", 993: "imap"}

# A greeting and a first command fit in two reply lines; who has not said by then what it is will not say it.
GIVE_UP = 1024

PROTOCOLS: dict[str, Callable[..., Dialogue]] = {
    "smtp": SmtpDialogue,
    "lmtp": SmtpDialogue,
    "pop3": Pop3Dialogue,
    "imap": ImapDialogue,
    "tls": TlsDialogue,
    "opaque": OpaqueDialogue,
}

_SMTP_CLIENT = re.compile(
    rb"(?:(LHLO)|EHLO|HELO)[ \r\n]|MAIL FROM:|RCPT TO:|STARTTLS\r?\n|DATA\r?\n|BDAT \d", re.IGNORECASE
)
_POP3_CLIENT = re.compile(rb"(?:USER|APOP|AUTH|PASS) |(?:CAPA|STLS|AUTH|STAT|QUIT|LIST|UIDL|NOOP)\r?\n", re.IGNORECASE)
_SMTP_SERVER = re.compile(rb"(?:220|554|421)[ -]")
_POP3_SERVER = re.compile(rb"(?:\+OK|-ERR)(?: |\r?\n)")
_IMAP_CLIENT = re.compile(
    rb"[^\s(){%*\"\\+]{1,32} +(?:CAPABILITY|NOOP|LOGIN|LOGOUT|AUTHENTICATE|STARTTLS|ID|SELECT|EXAMINE|ENABLE|LIST)"
    rb"[ \r\n]",
    re.IGNORECASE,
)
_IMAP_SERVER = re.compile(rb"\* (?:OK|PREAUTH|BYE)[ \r\n]", re.IGNORECASE)
_SERVERS = {"smtp": _SMTP_SERVER, "pop3": _POP3_SERVER, "imap": re.compile(rb"\* ")}  # how none of the others begins


def choose(
    server_port: int, first: Mapping[Side, bytes], *, midstream: bool = False, final: bool = False
) -> str | None:
    """The name of the protocol, or ``None`` while the first octets (of either side, in order) do not tell.

    final: no more will come; then there is always an answer.
    """
    client, server = first.get(Side.CLIENT, b""), first.get(Side.SERVER, b"")
    port = PORTS.get(server_port)
    said = _said(client, server)
    if said == "tls":  # on a port of mail a server may answer it in plain, and only where the beginning was captured
        return port if port is not None and client and not midstream else "tls"
    if said is not None:
        return said
    if port is not None and not _contradicts(port, client, server):
        enough = max(len(client), len(server)) >= 4  # the first speaker's word, so that a port that lies is found out
        return port if enough or midstream or final else None
    alone = _server_alone(server) if not client else None
    if alone is not None:
        return alone
    if final or len(client) >= GIVE_UP or len(server) >= GIVE_UP:
        return "opaque"
    return None


def _said(client: bytes, server: bytes) -> str | None:
    """What the octets alone prove."""
    found = _SMTP_CLIENT.match(client)
    if found is not None:
        return "lmtp" if found[1] else "smtp"
    if is_record(client[:3]) and len(client) >= 3 and (not server or is_record(server[:3]) is not False):
        return "tls"
    if is_record(server[:3]) and len(server) >= 3 and not client:
        return "tls"
    if _POP3_SERVER.match(server) and _POP3_CLIENT.match(client):
        return "pop3"
    if _IMAP_SERVER.match(server) and _IMAP_CLIENT.match(client):
        return "imap"
    return None


def _server_alone(server: bytes) -> str | None:
    """A 220 is said by FTP too, a ``* OK`` by others; with a client that is silent, the word after it decides."""
    words = server.split(b"\n", 1)[0].upper()
    if _SMTP_SERVER.match(server) and b"SMTP" in words:
        return "smtp"
    return "imap" if _IMAP_SERVER.match(server) and b"IMAP" in words else None


def _contradicts(port: str, client: bytes, server: bytes) -> bool:
    """Whether the first octets cannot be what the port promises."""
    if client[:4] in (b"GET ", b"SSH-") or server[:4] == b"SSH-":
        return True
    own = "smtp" if port == "lmtp" else port
    return any(begins.match(server) for spoken, begins in _SERVERS.items() if spoken != own)


def make(protocol: str, conversation: int, midstream: bool = False) -> Dialogue:
    """A new dialogue. protocol: a key of `PROTOCOLS`; raises KeyError for any other name."""
    dialogue = PROTOCOLS[protocol](conversation=conversation, midstream=midstream)
    if protocol == "lmtp":
        dialogue.protocol = "lmtp"
    return dialogue
