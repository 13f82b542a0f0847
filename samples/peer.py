"""A small SMTP server for the samples: what shannon does not do. ``python -m samples.peer PORT [OPTION…]``.

Claim: it says the same words in every run, so that two makings of a sample differ in numbers and times only. It takes
PIPELINING (RFC 2920), BDAT (RFC 3030), AUTH PLAIN and LOGIN (RFC 4954; any password is right) and, with a certificate,
STARTTLS (RFC 3207); it stores nothing. It serves one connection after another on every address, and writes ``ready``
to its standard output when it listens.

    --no-crlf             the greeting ends without CRLF, as one server seen in the wild
    --certificate FILE    key and certificate in PEM, for STARTTLS
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
import sys
from typing import BinaryIO

NAME = "peer.example"
EXTENSIONS = ("PIPELINING", "8BITMIME", "CHUNKING", "AUTH PLAIN LOGIN")


class Talk:
    """One connection, from its greeting to its end."""

    def __init__(self, connection: socket.socket, tls: ssl.SSLContext | None, crlf: bool) -> None:
        self._connection = connection
        self._tls = tls
        self._crlf = crlf
        self._stream: BinaryIO = connection.makefile("rb")
        self._sender = False
        self._recipients = 0

    def serve(self) -> None:
        self._say(f"220 {NAME} ESMTP", end="\r\n" if self._crlf else "")
        while line := self._stream.readline():
            words = line.decode("latin-1").split()
            verb = words[0].upper() if words else ""
            if not getattr(self, f"_{verb.lower()}", self._unknown)(words[1:]):
                break
        self._connection.close()

    def _say(self, *lines: str, end: str = "\r\n") -> bool:
        """One reply, in one write. True: the session goes on."""
        self._connection.sendall(("\r\n".join(lines) + end).encode())
        return True

    def _unknown(self, _: list[str]) -> bool:
        return self._say("500 5.5.2 What?")

    def _helo(self, _: list[str]) -> bool:
        return self._say(f"250 {NAME}")

    def _ehlo(self, _: list[str]) -> bool:
        offered = EXTENSIONS + (("STARTTLS",) if self._tls else ())
        return self._say(f"250-{NAME}", *(f"250-{word}" for word in offered[:-1]), f"250 {offered[-1]}")

    def _mail(self, _: list[str]) -> bool:
        self._sender = True
        return self._say("250 2.1.0 Sender OK")

    def _rcpt(self, _: list[str]) -> bool:
        if not self._sender:
            return self._say("503 5.5.1 MAIL first")
        self._recipients += 1
        return self._say("250 2.1.5 Recipient OK")

    def _rset(self, _: list[str]) -> bool:
        self._sender, self._recipients = False, 0
        return self._say("250 2.0.0 Flushed")

    def _noop(self, _: list[str]) -> bool:
        return self._say("250 2.0.0 OK")

    def _quit(self, _: list[str]) -> bool:
        self._say(f"221 2.0.0 {NAME} closing")
        return False

    def _data(self, _: list[str]) -> bool:
        if not self._recipients:
            return self._say("503 5.5.1 RCPT first")
        self._say("354 End data with <CRLF>.<CRLF>")
        while (line := self._stream.readline()) != b".\r\n":
            if not line:
                return False
        self._sender, self._recipients = False, 0
        return self._say("250 2.0.0 Taken")

    def _bdat(self, words: list[str]) -> bool:
        size = int(words[0])
        if len(self._stream.read(size)) < size:
            return False
        if words[1:] != ["LAST"]:
            return self._say(f"250 2.0.0 {size} octets received")
        self._sender, self._recipients = False, 0
        return self._say(f"250 2.0.0 {size} octets received, message taken")

    def _auth(self, words: list[str]) -> bool:
        prompts = ("VXNlcm5hbWU6", "UGFzc3dvcmQ6") if words[0].upper() == "LOGIN" else ("",)  # Username: Password:
        for prompt in prompts[len(words) - 1 :]:
            self._say(f"334 {prompt}")
            if self._stream.readline() in (b"*\r\n", b""):
                return self._say("501 5.7.0 Cancelled")
        return self._say("235 2.7.0 Welcome")

    def _starttls(self, _: list[str]) -> bool:
        if self._tls is None:
            return self._say("502 5.5.1 No certificate here")
        self._say("220 2.0.0 Ready to start TLS")
        self._connection = self._tls.wrap_socket(self._connection, server_side=True)
        self._stream = self._connection.makefile("rb")
        return True


def main() -> None:
    asked = argparse.ArgumentParser(prog="samples.peer")
    asked.add_argument("port", type=int)
    asked.add_argument("--no-crlf", action="store_true")
    asked.add_argument("--certificate")
    options = asked.parse_args()
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
    with socket.create_server(("", options.port)) as listening:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            with connection, contextlib.suppress(OSError):  # a client that goes away costs its own session only
                Talk(connection, tls, not options.no_crlf).serve()


if __name__ == "__main__":
    main()
