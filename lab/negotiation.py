"""Telnet's commands inside a server's octets: taken out, and every option refused (RFC 854, RFC 855).

Claim: any cutting of the same octets gives the same text and the same answers.
Rule: a refusal is never repeated for what is already refused, so two refusing ends cannot loop (RFC 854, "rules").
"""

from __future__ import annotations

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240


class Negotiation:
    """The receiving half of a network virtual terminal that has no options."""

    def __init__(self) -> None:
        self._held = bytearray()  # the beginning of a command whose rest has not come
        self._inside = False  # a subnegotiation

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """The text in ``data``, and the octets to answer with."""
        if not self._held and not self._inside and IAC not in data:
            return data, b""
        octets = bytes(self._held) + data
        self._held.clear()
        text, answer = bytearray(), bytearray()
        at = 0
        while at < len(octets):
            command = octets.find(IAC, at)
            end = len(octets) if command < 0 else command
            if not self._inside:
                text += octets[at:end]
            at = end
            if command < 0:
                break
            length = self._command(octets[at : at + 3], text, answer)
            if length == 0:
                self._held += octets[at:]
                break
            at += length
        return bytes(text), bytes(answer)

    def _command(self, octets: bytes, text: bytearray, answer: bytearray) -> int:
        """How many octets the command at the start of ``octets`` has; 0 if its end has not come."""
        if len(octets) < 2:
            return 0
        what = octets[1]
        if self._inside:
            self._inside = what != SE
        elif what == IAC:
            text.append(IAC)
        elif what == SB:
            self._inside = True
        elif what in (DO, DONT, WILL, WONT):
            if len(octets) < 3:
                return 0
            refusal = {DO: WONT, WILL: DONT}.get(what)  # DONT and WONT say what is so already
            if refusal is not None:
                answer += bytes((IAC, refusal, octets[2]))
            return 3
        return 2
