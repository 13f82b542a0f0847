"""The classroom's sentences: what each word of the labelling scheme says to a student, with its source.

Written by hand; the tests hold it against the tables, so that no field, flag or kind of unit is without a sentence.
Citations that the tables have are not repeated here.
"""

from __future__ import annotations

LABELS: dict[str, tuple[str, str]] = {
    "PDU": (
        "This line is one whole protocol data unit: control information and possibly user data, nothing missing.",
        "X.200 5.6.1.3",
    ),
    "PCI": (
        "This line is part of a unit and holds control information only: it co-ordinates the two protocol entities.",
        "X.200 5.6.1.1",
    ),
    "user data": (
        "This line is part of a unit and holds octets that the protocol carries, unread, for the layer above.",
        "X.200 5.6.1.2",
    ),
}

FIELDS: dict[str, str] = {
    "verb": "The command verb says what the client wants; upper and lower case are the same.",
    "sp": "Spaces separate the elements of a command or reply.",
    "keyword": "A fixed word of the command: FROM: or TO: in SMTP, the whole command word in POP3.",
    "client-domain": "The client says who it is: its domain name or its address in brackets.",
    "reverse-path": "The envelope sender, to which a report of failure would go; it need not be who the header says.",
    "forward-path": "An envelope recipient, by which the server decides where the message goes.",
    "esmtp-keyword": "The name of a parameter that a service extension added to MAIL or RCPT.",
    "eq": "The equals sign between a parameter's name and its value.",
    "esmtp-value": "The value of an extension's parameter.",
    "string": "The argument of VRFY, EXPN, HELP or NOOP: a name, a list, a topic, or anything.",
    "mechanism": "The SASL mechanism that both SMTP entities are to use.",
    "initial-response": "A SASL message in base64, sent along with AUTH; SMTP carries it for the mechanism.",
    "empty-initial-response": "The equals sign says that there is an initial response and that it is empty.",
    "auth-response": "A SASL message in base64, the answer to the server's challenge.",
    "auth-cancel": "The client gives up the authentication exchange.",
    "challenge": "The server's SASL message in base64, to which the client must respond.",
    "chunk-size": "How many octets of the message follow this line; no dot ends them.",
    "last": "This chunk is the last one of the message.",
    "chunk": "Octets of the message, counted and otherwise unread.",
    "node-name": "The host whose queued mail the server should send now.",
    "domain-list": "The domains for which the client asks to be given mail.",
    "uri": "Where the server is to fetch content; a reference, not the content itself.",
    "argument": "What stands behind the verb and could not, or need not, be taken further apart.",
    "trailing-ws": "White space in front of the line end, which a server should tolerate.",
    "crlf": "Carriage return and line feed end the line, and only the two together do.",
    "lf": "A line feed alone was used to end the line, which the standard forbids.",
    "reply-code": "Three digits that a program can act on: the first says whether it went well.",
    "separator": "A hyphen says that more lines of this reply follow, a space that this is the last one.",
    "enhanced-status-code": "Class, subject and detail of the result, finer than the three digits.",
    "server-domain": "The server says who it is.",
    "greet-text": "A word of welcome in the answer to HELO or EHLO.",
    "ehlo-keyword": "The name of a service extension that the server offers.",
    "ehlo-param": "A detail of that extension, such as a size or a mechanism.",
    "text": "An explanation for the human user; programs act on the code alone.",
    "content": "Octets of the message, handed to the receiver as they are.",
    "line-end": "The CRLF of a content line belongs to the message, also the one in front of the final dot.",
    "stuffed-dot": "A dot that the client put in front of a line that begins with a dot; the server takes it away.",
    "eod-dot": "A line that is a dot and nothing else ends the data.",
    "raw": "These octets could not be decoded.",
    "status-indicator": "+OK or -ERR: the POP3 server says whether it worked.",
    "listing": "A line of a list: message number and size, unique identifier, or capability.",
    "content-type": "What the TLS record carries: handshake, alert, application data.",
    "legacy-record-version": "A version number that TLS keeps for old equipment's sake.",
    "length": "How many octets follow in this unit.",
    "fragment": "What the record carries; encrypted, it hides its true type and padding.",
    "field-name": "The name of a header field of the message.",
    "colon": "The colon between a header field's name and its body.",
    "field-body": "The body of a header field, which may go on over several lines.",
    "separator-line": "The empty line between the header section and the body of a message.",
    "body": "The body of the message: what its author wanted to say.",
    "boundary": "The line that separates the parts of a MIME message, with the CRLF in front of it.",
    "part-header": "Header fields of one part of a MIME message.",
    "buffer": "Octets protected by a SASL security layer.",
}

# Fields that labels.md 2.5 names and fields.json does not list: (sentence is above) their source.
MORE_FIELDS: dict[str, str] = {"buffer": "RFC 4422 3.7"}

FLAGS: dict[str, str] = {
    "unknown-command": "The verb is not one of SMTP's, or the line is empty; a server answers 500.",
    "syntax": "The verb is known, its arguments are not what it takes; a server answers 501.",
    "unexpected-argument": "This command takes no argument, or no more than one.",
    "space-after-colon": "There must be no space between FROM: or TO: and the path.",
    "path-without-brackets": "An envelope address stands between < and >.",
    "trailing-ws": "There is white space in front of the line end.",
    "overlong": "The line is longer than the standard allows.",
    "bare-lf": "A line feed stands without a carriage return in front of it.",
    "bare-cr": "A carriage return stands without a line feed behind it; it never ends a line.",
    "nul": "The line holds an octet of value 0.",
    "8bit": "The line holds octets above 127 although no extension allowed them.",
    "credential": "This line may reveal a password, so it is masked unless you ask for it.",
    "malformed-reply": "The server's line does not begin with a reply code.",
    "code-mismatch": "The lines of one reply carry different codes.",
    "no-separator": "The reply code is followed by the line end at once.",
    "unsolicited": "The server answered although nothing was waiting for an answer.",
    "early-talker": "The client did not wait for the greeting.",
    "after-quit": "The client went on talking behind QUIT.",
    "after-starttls": "Plain text stands where only TLS records should: behind an accepted STARTTLS.",
    "assumed": "This label rests on octets that were not captured.",
    "start-missing": "The capture began inside this unit, so its start may be missing.",
    "cut-by-gap": "The line is cut off by octets that were not captured.",
    "after-gap": "Octets that were not captured stand right before this line.",
    "eod-in-gap": "The end of the mail data is among the octets that were not captured; the reply proves it.",
    "incomplete": "The capture ends inside this unit.",
    "nonstandard-eod": "The data were ended in a way the standard forbids, and the server took it for the end.",
}

# name or pattern of a PDU: (sentence, citation)
PDUS: dict[str, tuple[str, str]] = {
    "220 greeting": ("The server opens the session and says who it is.", "RFC 5321 4.2, 4.3.1"),
    "554 greeting": ("The server refuses the session at once.", "RFC 5321 3.1"),
    "<code> greeting": ("The first reply of a session is the greeting, whatever its code.", "RFC 5321 4.3.1"),
    "<VERB> command": ("One command line; the server answers it with one reply.", "RFC 5321 4.1.1"),
    "unknown command": ("A line where a command stands, though no command of SMTP's.", "RFC 5321 4.1.1, 4.2.4"),
    "<code> reply": ("One reply, on one line or several, answers one command or the mail data.", "RFC 5321 4.2"),
    "334 challenge": ("The server asks the client for the next SASL message.", "RFC 4954 4"),
    "mail data": ("The message and the lone dot behind it: one unit with one reply.", "RFC 5321 2.3.9, 4.1.1.4"),
    "BDAT command": ("A header line with a length, and so many octets of the message.", "RFC 3030 2"),
    "AUTH response": ("One SASL message of the client.", "RFC 4954 4"),
    "AUTH cancel": ("The client gives up the authentication exchange.", "RFC 4954 4"),
    "malformed reply": ("A line of the server that is no reply line, counted as a reply.", "RFC 5321 4.2"),
    "command (fragment)": ("What a gap in the capture left of a command.", "X.200 5.6.1.3"),
    "reply (fragment)": ("What a gap in the capture left of a reply.", "X.200 5.6.1.3"),
    "+OK greeting": ("The POP3 server opens the session.", "RFC 1939 4"),
    "-ERR greeting": ("The POP3 server refuses the session.", "RFC 1939 4"),
    "+OK response": ("The POP3 server did what was asked; listings and messages belong to it.", "RFC 1939 3"),
    "-ERR response": ("The POP3 server did not do what was asked.", "RFC 1939 3"),
    "+ challenge": ("The POP3 server asks for the next SASL message.", "RFC 5034 4"),
    "TLS record (<content type>)": ("One record: a header that can be read and, mostly, an encrypted rest.",
                                    "RFC 8446 5.1"),
    "SASL buffer": ("One unit of a SASL security layer: its length and protected octets.", "RFC 4422 3.7"),
    "PROXY header": ("A proxy tells the server whose connection this is; no reply follows.", "PROXY protocol 2.1"),
    "unknown": ("The protocol is not known, so nothing can be said of these octets.", "X.200 5.6.1.3"),
}  # fmt: skip

# kind of note: (sentence, citation)
NOTES: dict[str, tuple[str, str]] = {
    # the wire
    "gap": ("Octets of the stream were not captured, so what they said is not known.", "RFC 9293 3.4"),
    "retransmission": ("The sender sent octets again that were captured before.", "RFC 9293 3.8.1"),
    "overlap-conflict": ("The same octet came twice with different values; the first is kept.", "RFC 9293 3.10.7.4"),
    "out-of-order": ("A segment arrived before one that precedes it in the stream.", "RFC 9293 3.4"),
    "late-octets": ("Octets arrived after their place had been declared a gap; they are shown apart.", "RFC 9293 3.4"),
    "before-start": ("Octets from before the place where this stream was picked up.", "RFC 9293 3.4"),
    "out-of-window": ("A sequence number so far off that its octets cannot be of this stream.", "RFC 9293 3.10.7.4"),
    "keep-alive": ("A segment asked only whether the other side is still there.", "RFC 9293 3.8.4"),
    "port-reuse": ("The same pair of endpoints opened a new connection.", "RFC 9293 3.6.1"),
    "snaplen": ("The capture kept only the first octets of this frame.", "pcap snap length"),
    "truncated-frame": ("The frame is shorter than its own headers say.", "RFC 791 3.1; RFC 8200 3"),
    "unknown-link": ("The link layer of this capture is not one that can be taken apart here.", "pcap link types"),
    # limits of ours
    "held-back": ("Too many octets waited for an answer that was not captured; their labels are presumed.",
                  "RFC 5321 3.3"),
    "held-limit": ("Too many octets waited behind a hole in the stream; it is taken for a gap.", "RFC 9293 3.8.6"),
    "conversation-limit": ("Too many connections are open; the one that was silent longest is finished.",
                           "RFC 9293 3.3.2"),
    "internal": ("The analyser failed on this conversation; its octets are shown without labels.", "X.200 5.6.1.3"),
    "dropped": ("The capturing host lost frames before they could be read.", "packet(7), PACKET_STATISTICS"),
    # the capture file
    "cut-file": ("The capture file ends inside a record; what precedes it was read.", "pcap and pcapng formats"),
    "bad-record": ("A record of the capture file makes no sense and was left out.", "pcap and pcapng formats"),
    "unknown-block": ("Blocks of the capture file that are not known here were passed over.", "pcapng format"),
    "no-time": ("These frames carry no time of capture.", "pcapng format, Simple Packet Block"),
}  # fmt: skip
