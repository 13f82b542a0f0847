"""POP3 as a table.

Made by `tools/make_tables.py` from pop3.json; change the table, not this file.
"""

# ruff: noqa: E501

# keyword: (arguments required, arguments at most or -1, several lines after +OK: never, always or bare (without argument), their field, syntax, reference)
COMMANDS: dict[str, tuple[int, int, str, str, str, str]] = {
    "USER": (1, 1, "never", "listing", '"USER" SP name CRLF', "RFC 1939 7"),
    "PASS": (1, -1, "never", "listing", '"PASS" SP string CRLF', "RFC 1939 7"),
    "APOP": (2, 2, "never", "listing", '"APOP" SP name SP digest CRLF', "RFC 1939 7"),
    "AUTH": (1, 2, "never", "listing", '"AUTH" SP mechanism [SP initial-response] CRLF', "RFC 1734; RFC 5034"),
    "QUIT": (0, 0, "never", "listing", '"QUIT" CRLF', "RFC 1939 4, 6"),
    "STAT": (0, 0, "never", "listing", '"STAT" CRLF', "RFC 1939 5"),
    "LIST": (0, 1, "bare", "listing", '"LIST" [SP msg] CRLF', "RFC 1939 5"),
    "RETR": (1, 1, "always", "content", '"RETR" SP msg CRLF', "RFC 1939 5"),
    "DELE": (1, 1, "never", "listing", '"DELE" SP msg CRLF', "RFC 1939 5"),
    "NOOP": (0, 0, "never", "listing", '"NOOP" CRLF', "RFC 1939 5"),
    "RSET": (0, 0, "never", "listing", '"RSET" CRLF', "RFC 1939 5"),
    "TOP": (2, 2, "always", "content", '"TOP" SP msg SP n CRLF', "RFC 1939 7"),
    "UIDL": (0, 1, "bare", "listing", '"UIDL" [SP msg] CRLF', "RFC 1939 7"),
    "CAPA": (0, 0, "always", "listing", '"CAPA" CRLF', "RFC 2449 5"),
    "STLS": (0, 0, "never", "listing", '"STLS" CRLF', "RFC 2595 4"),
    "UTF8": (0, 0, "never", "listing", '"UTF8" CRLF', "RFC 6856 2"),
    "LANG": (0, 1, "bare", "listing", '"LANG" [SP tag] CRLF', "RFC 6856 3"),
}
