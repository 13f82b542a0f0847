"""SMTP as tables: commands, units, parameters, limits, extensions.

Made by `tools/make_tables.py` from commands.json, …; change the table, not this file.
"""

# ruff: noqa: E501

# verb: (fields of its arguments in order, how many are required, syntax, defined in, status)
VERBS: dict[str, tuple[tuple[str, ...], int, str, str, str]] = {
    "HELO": (("client-domain",), 1, '"HELO" SP Domain CRLF', "RFC 5321 4.1.1.1", "current (fallback)"),
    "EHLO": (("client-domain",), 1, '"EHLO" SP ( Domain / address-literal ) CRLF', "RFC 5321 4.1.1.1", "current"),
    "MAIL": (
        ("keyword", "reverse-path", "esmtp-keyword"),
        2,
        '"MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF',
        "RFC 5321 4.1.1.2",
        "current",
    ),
    "RCPT": (
        ("keyword", "forward-path", "esmtp-keyword"),
        2,
        '"RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF',
        "RFC 5321 4.1.1.3",
        "current",
    ),
    "DATA": ((), 0, '"DATA" CRLF', "RFC 5321 4.1.1.4", "current"),
    "RSET": ((), 0, '"RSET" CRLF', "RFC 5321 4.1.1.5", "current"),
    "VRFY": (("string",), 1, '"VRFY" SP String CRLF', "RFC 5321 4.1.1.6, 3.5", "current"),
    "EXPN": (("string",), 1, '"EXPN" SP String CRLF', "RFC 5321 4.1.1.7, 3.5", "optional"),
    "HELP": (("string",), 0, '"HELP" [ SP String ] CRLF', "RFC 5321 4.1.1.8", "optional (SHOULD)"),
    "NOOP": (("string",), 0, '"NOOP" [ SP String ] CRLF', "RFC 5321 4.1.1.9", "current"),
    "QUIT": ((), 0, '"QUIT" CRLF', "RFC 5321 4.1.1.10", "current"),
    "SEND": (
        ("keyword", "reverse-path"),
        2,
        '"SEND FROM:" Reverse-path CRLF',
        "RFC 821 3.4, 4.1.1",
        "obsolete (deprecated, RFC 5321 App. F.6)",
    ),
    "SOML": (
        ("keyword", "reverse-path"),
        2,
        '"SOML FROM:" Reverse-path CRLF',
        "RFC 821 3.4, 4.1.1",
        "obsolete (deprecated, RFC 5321 App. F.6)",
    ),
    "SAML": (
        ("keyword", "reverse-path"),
        2,
        '"SAML FROM:" Reverse-path CRLF',
        "RFC 821 3.4, 4.1.1",
        "obsolete (deprecated, RFC 5321 App. F.6)",
    ),
    "TURN": ((), 0, '"TURN" CRLF', "RFC 821 4.1.1", "obsolete (RFC 5321 App. F.1)"),
    "BDAT": (
        ("chunk-size", "last", "chunk"),
        2,
        '"BDAT" SP chunk-size [ SP "LAST" ] CRLF chunk',
        "RFC 3030 2",
        "extension CHUNKING",
    ),
    "AUTH": (
        ("mechanism", "initial-response"),
        1,
        '"AUTH" SP sasl-mech [SP initial-response] CRLF',
        "RFC 4954 4, 8",
        "extension AUTH",
    ),
    "STARTTLS": ((), 0, '"STARTTLS" CRLF', "RFC 3207 4", "extension STARTTLS"),
    "ETRN": (("node-name",), 1, '"ETRN" SP [option-char] node-name CRLF', "RFC 1985 5", "extension ETRN"),
    "ATRN": (
        ("domain-list",),
        0,
        '"ATRN" [SP domain *("," domain)] CRLF',
        "RFC 2645 5.2",
        "extension ATRN (port 366, ODMR)",
    ),
    "BURL": (
        ("uri", "last"),
        1,
        '"BURL" SP absolute-URI [SP "LAST"] CRLF',
        "RFC 4468 3",
        "extension BURL (submission only)",
    ),
    "VERB": ((), 0, '"VERB" CRLF', "IANA registry", "private, registered"),
    "ONEX": ((), 0, '"ONEX" CRLF', "IANA registry", "private, registered"),
    "LHLO": (
        ("client-domain",),
        1,
        '"LHLO" SP ( Domain / address-literal ) CRLF',
        "RFC 2033 4.1",
        "LMTP only, never on port 25",
    ),
}

# PDU: (direction, unit, answers, citation)
PDUS: dict[str, tuple[str, str, str, str]] = {
    "220 greeting": (
        "S",
        "one reply, single- or multi-line",
        "the connection",
        "RFC 5321 4.2 Greeting, 4.3.1; RFC 821 4.3",
    ),
    "554 greeting": (
        "S",
        "one reply",
        "the connection",
        "RFC 5321 3.1, 4.3.2 (CONNECTION ESTABLISHMENT E: 554); RFC 821: 421",
    ),
    "<VERB> command": ("C", "one line", "", 'RFC 5321 4.1.1, 2.3.1 "SMTP protocol units"'),
    "unknown command": ("C", "one line", "", "RFC 5321 4.1.1, 4.1.5, 4.2.4"),
    "<code> reply": ("S", "one reply, single- or multi-line", "one command, mail data or BDAT", "RFC 5321 4.2, 4.2.1"),
    "334 challenge": ("S", "one line", "AUTH command or AUTH response", "RFC 4954 4, 8 continue-req"),
    "mail data": (
        "C",
        'all content lines + the line ".": from the CRLF of DATA (after 354) to the CRLF behind the dot',
        "the 354 reply",
        'RFC 5321 2.3.9, 4.1.1.4, 4.2.1 (3yz: "send another command specifying this information"); RFC 2920 3.1 (message content is "the first \'command\' in a group")',
    ),
    "BDAT command": ("C", "header line + chunk-size octets", "", "RFC 3030 2"),
    "AUTH response": ("C", "one line", "334 challenge", "RFC 4954 4"),
    "AUTH cancel": ("C", 'the line "*"', "334 challenge", "RFC 4954 4"),
    "malformed reply": ("S", "one line", "one command", "RFC 5321 4.2"),
    "command (fragment) / reply (fragment)": ("C/S", "what a capture gap left of a line", "", "X.200 5.6.1.3"),
    "TLS record (<content type>)": ("C/S", "5-octet header + fragment", "", "RFC 8446 5.1, 5.2; RFC 5246 6.2"),
}

# keyword: (on, value, reference)
PARAMETERS: dict[str, tuple[str, str, str]] = {
    "SIZE": ("MAIL", "1*20DIGIT", "RFC 1870 3"),
    "BODY": ("MAIL", "7BIT / 8BITMIME / BINARYMIME", "RFC 6152 2; RFC 3030 3"),
    "RET": ("MAIL", "FULL / HDRS", "RFC 3461 4.3"),
    "ENVID": ("MAIL", "xtext", "RFC 3461 4.4"),
    "NOTIFY": ("RCPT", "NEVER / 1#(SUCCESS / FAILURE / DELAY)", "RFC 3461 4.1"),
    "ORCPT": ("RCPT", 'addr-type ";" xtext', "RFC 3461 4.2"),
    "AUTH": ("MAIL", "xtext (addr-spec or <>)", "RFC 4954 5"),
    "SMTPUTF8": ("MAIL (and VRFY, EXPN)", "", "RFC 6531 3.4"),
    "BY": ("MAIL", 'by-time ";" by-mode [by-trace]', "RFC 2852"),
    "MT-PRIORITY": ("MAIL", "priority-value", "RFC 6710 3"),
    "SOLICIT": ("MAIL", "keywords", "RFC 3865"),
    "MTRK": ("MAIL", "certifier[:timeout]", "RFC 3885"),
    "SUBMITTER": ("MAIL", "xtext mailbox", "RFC 4405 (historic)"),
    "HOLDFOR": ("MAIL", "seconds", "RFC 4865"),
    "HOLDUNTIL": ("MAIL", "date-time", "RFC 4865"),
    "TRANSID": ("MAIL", "<local@domain>", "RFC 1845"),
    "CONPERM": ("MAIL", "", "RFC 4141"),
    "CONNEG": ("RCPT", "", "RFC 4141"),
    "RRVS": ("RCPT", 'date-time [";" C / R]', "RFC 7293"),
    "REQUIRETLS": ("MAIL", "", "RFC 8689"),
}

# keyword: (octets a command line may be longer, group that counts once)
INCREMENTS: dict[str, tuple[int, str]] = {
    "SIZE": (26, "SIZE"),
    "RET": (107, "ENVID+RET"),
    "ENVID": (107, "ENVID+RET"),
    "NOTIFY": (500, "NOTIFY+ORCPT"),
    "ORCPT": (500, "NOTIFY+ORCPT"),
    "AUTH": (500, "AUTH"),
    "SMTPUTF8": (10, "SMTPUTF8"),
    "BY": (17, "BY"),
    "MT-PRIORITY": (15, "MT-PRIORITY"),
}

# octets, CRLF counted (RFC 5321 4.5.3.1)
LIMITS: dict[str, int] = {
    "command_line": 512,
    "reply_line": 512,
    "text_line": 1000,
    "local_part": 64,
    "domain": 255,
    "path": 256,
    "auth_line": 12288,
}

# EHLO keyword: (name, reference, status, effect on labels)
EXTENSIONS: dict[str, tuple[str, str, str, str]] = {
    "SEND": ("Send to terminal", "RFC 821 (deprecated in RFC 2821)", "obsolete", "none"),
    "SOML": ("Send as mail or to terminal", "RFC 821 (deprecated in RFC 2821)", "obsolete", "none"),
    "SAML": ("Send as mail and to terminal", "RFC 821 (deprecated in RFC 2821)", "obsolete", "none"),
    "EXPN": ("Expand the mailing list", "RFC 821; RFC 5321", "current", "none"),
    "HELP": ("Supply helpful information", "RFC 821; RFC 5321", "current", "none"),
    "TURN": (
        "Turn the operation around",
        "RFC 821 (deprecated in RFC 2821)",
        "obsolete",
        "roles of the two directions swap after 250",
    ),
    "8BITMIME": (
        "SMTP and Submit transport of 8-bit MIME content",
        "RFC 6152 (was RFC 1652, RFC 1426)",
        "current",
        "octets > 127 in mail data are not flagged 8bit",
    ),
    "SIZE": ("Message size declaration", "RFC 1870", "current", "none"),
    "VERB": ("Verbose", "Eric Allman (no RFC)", "private, registered", "none"),
    "ONEX": ("One message transaction only", "Eric Allman (no RFC)", "private, registered", "none"),
    "CHUNKING": ("Chunking", "RFC 3030", "current", "BDAT: length-counted user data, no dot rule"),
    "BINARYMIME": ("Binary MIME", "RFC 3030", "current", "any octet in a chunk is legal"),
    "CHECKPOINT": ("Checkpoint/Restart", "RFC 1845", "experimental", "none"),
    "PIPELINING": (
        "Command Pipelining",
        "RFC 2920 (was RFC 2197, RFC 1854)",
        "current",
        "several PDUs per segment are legal; replies matched by counting",
    ),
    "DSN": ("Delivery Status Notification", "RFC 3461 (was RFC 1891)", "current", "none"),
    "DELIVERBY": ("Deliver By", "RFC 2852", "current", "none"),
    "ETRN": ("Extended Turn", "RFC 1985", "current", "none"),
    "ENHANCEDSTATUSCODES": (
        "Enhanced Status Codes",
        "RFC 2034",
        "current",
        "field enhanced-status-code at the start of 2xx/4xx/5xx text, except greeting and HELO/EHLO replies",
    ),
    "STARTTLS": ("Start TLS", "RFC 3207 (was RFC 2487)", "current", "after 220: TLS records"),
    "NO-SOLICITING": ("Notification of no soliciting", "RFC 3865", "current", "none"),
    "MTRK": ("Message Tracking", "RFC 3885", "current", "none"),
    "SUBMITTER": ("SMTP Responsible Submitter", "RFC 4405", "historic", "none"),
    "ATRN": ("Authenticated TURN", "RFC 2645", "current", "roles swap after 250"),
    "AUTH": (
        "Authentication",
        "RFC 4954 (was RFC 2554)",
        "current",
        "base64 of AUTH, 334 and responses is user data (SASL)",
    ),
    "FUTURERELEASE": ("Future Message Release", "RFC 4865", "current", "none"),
    "BURL": ("Remote Content", "RFC 4468", "current", "the URL is pci; no content on this connection"),
    "CONPERM": ("Content Conversion Permission", "RFC 4141", "current", "none"),
    "CONNEG": ("SMTP Content Negotiation", "RFC 4141", "current", "none"),
    "UTF8SMTP": ("Internationalized email address", "RFC 5336", "obsolete (by SMTPUTF8)", "none"),
    "SMTPUTF8": (
        "Internationalized email address",
        "RFC 6531",
        "current",
        "UTF-8 in envelope, header and replies is not flagged 8bit",
    ),
    "MT-PRIORITY": ("Priority Message Handling", "RFC 6710", "current", "none"),
    "RRVS": ("Require Recipient Valid Since", "RFC 7293", "current", "none"),
    "REQUIRETLS": ("Require TLS", "RFC 8689", "current", "none"),
    "LIMITS": ("Server limits", "RFC 9422", "current", "none"),
    "XCLIENT": (
        "Postfix: pass client information",
        "Postfix XCLIENT_README (private)",
        "private",
        "after 220 the server restarts with a new greeting",
    ),
    "XFORWARD": (
        "Postfix: pass client information for logging",
        "Postfix XFORWARD_README (private)",
        "private",
        "none",
    ),
}
