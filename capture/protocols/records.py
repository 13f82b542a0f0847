"""TLS records, and SASL buffers, on one side of a dialogue: units with a length in front.

Claim: a record is a PDU of the layer below the application and its header is the only part that can be read without
keys (RFC 8446 5.1, 5.2). What does not look like a record any more is ``unknown``, and stays so: behind a broken length
nothing says where the next record begins.
"""

from __future__ import annotations

from capture.model import Layer, Pdu, Role, Span
from capture.protocols.voice import NOT_UNDERSTOOD, Voice

PCI, UD = Role.PCI, Role.USER_DATA

CONTENT_TYPES = {20: "change_cipher_spec", 21: "alert", 22: "handshake", 23: "application_data", 24: "heartbeat"}

HEADER = 5
LONGEST_FRAGMENT = 2**14 + 2048  # RFC 5246 6.2.3; RFC 8446 5.2 allows 2^14 + 256

# A SASL buffer may be announced with up to 2^24 octets (RFC 4422 3.7 leaves it to the mechanism); GSSAPI and DIGEST-MD5
# agree on 64 KiB and less in practice, and what is longer could not be held back.
LONGEST_BUFFER = 2**16

UNKNOWN_PIECE = 1024  # octets of a line of what is unknown


def is_record(octets: bytes) -> bool | None:
    """Whether these first octets begin a TLS record; ``None`` while there are too few to say."""
    if octets and octets[0] not in CONTENT_TYPES:
        return False
    if len(octets) > 1 and octets[1] != 3:
        return False
    return octets[2] <= 4 if len(octets) > 2 else None


class Records:
    """Reads units with a length in front from a voice: TLS records, or SASL buffers if ``sasl``."""

    __slots__ = ("_header", "_layer", "_lost", "_pdu", "_rest", "_sasl", "voice")

    def __init__(self, voice: Voice, sasl: bool = False) -> None:
        self.voice = voice
        self._sasl = sasl
        self._header = 4 if sasl else HEADER
        self._layer = Layer.APPLICATION if sasl else Layer.TLS
        self._lost = False  # the place of the next unit is not known
        self._pdu: Pdu | None = None  # a unit cut by a gap, of which octets are to come
        self._rest = 0

    def read(self, ending: bool = False) -> bool:
        """Read one unit or piece. False: nothing more can be read now."""
        voice = self.voice
        available = len(voice)
        if not available:
            if voice.broken:
                self._cross()
                return True
            return False
        if self._lost:
            return self._unknown(available, ending)
        if self._pdu is not None:
            return self._remainder(available, ending)
        head = voice.peek(self._header)
        if self._implausible(head):
            self._lost = True
            return True
        if len(head) == self._header and available >= (size := self._header + self._fragment(head)):
            data = voice.take(size)
            odd = ("after-gap", "assumed") if voice.after_gap else ()
            voice.give(data, voice.pdu(self._name(head)), self._spans(size), odd, True, self._layer)
            return True
        if not (voice.broken or ending):
            return False
        size = self._header + self._fragment(head) if len(head) == self._header else -1
        pdu = voice.pdu(self._name(head))
        data = voice.rest()
        flags: tuple[str, ...] = ("after-gap",) if voice.after_gap else ()
        flags += ("cut-by-gap" if voice.broken else "incomplete",)
        voice.give(data, pdu, self._spans(len(data)), flags, False, self._layer)
        if voice.broken:
            self._pdu, self._rest = pdu, size - len(data) if size > 0 else -1
        return True

    def _cross(self) -> None:
        """A gap inside a unit is counted off its length (as rule G6 does for chunks)."""
        length = self.voice.cross()
        if self._pdu is not None:
            self._rest -= length
            if self._rest <= 0:
                self._lost = self._rest < 0
                self._pdu = None
        if self._lost and not self._sasl:
            self._lost = False  # a TLS header is plausible or not: try

    def _remainder(self, available: int, ending: bool) -> bool:
        """What follows a gap inside a unit."""
        voice, pdu = self.voice, self._pdu
        if (available < self._rest and not (voice.broken or ending)) or pdu is None:
            return False
        data = voice.take(self._rest)
        self._rest -= len(data)
        flags: tuple[str, ...] = ("after-gap",) if voice.after_gap else ()
        if self._rest:
            flags += ("cut-by-gap" if voice.broken else "incomplete",)
        field = "buffer" if self._sasl else "fragment"
        voice.give(data, pdu, (Span(0, len(data), UD, field),), flags, False, self._layer)
        if not self._rest:
            self._pdu = None
        return True

    def _unknown(self, available: int, ending: bool) -> bool:
        voice = self.voice
        if available < UNKNOWN_PIECE and not (voice.broken or ending):
            return False
        data = voice.take(UNKNOWN_PIECE)
        flags = (NOT_UNDERSTOOD, "after-gap") if voice.after_gap else (NOT_UNDERSTOOD,)
        voice.give(data, voice.pdu("unknown"), (Span(0, len(data), PCI, "raw"),), flags, False, self._layer)
        return True

    def _implausible(self, head: bytes) -> bool:
        if self._sasl:
            return len(head) == self._header and self._fragment(head) > LONGEST_BUFFER
        return is_record(head) is False or (len(head) == HEADER and self._fragment(head) > LONGEST_FRAGMENT)

    def _fragment(self, head: bytes) -> int:
        return int.from_bytes(head[self._header - (4 if self._sasl else 2) :], "big")

    def _name(self, head: bytes) -> str:
        return "SASL buffer" if self._sasl else f"TLS record ({CONTENT_TYPES[head[0]]})"

    def _spans(self, size: int) -> tuple[Span, ...]:
        fields = (
            ((4, PCI, "length"), (size, UD, "buffer"))
            if self._sasl
            else (
                (1, PCI, "content-type"),
                (3, PCI, "legacy-record-version"),
                (5, PCI, "length"),
                (size, UD, "fragment"),
            )
        )
        spans, at = [], 0
        for stop, role, field in fields:
            end = min(stop, size)
            if end > at:
                spans.append(Span(at, end, role, field))
                at = end
        return tuple(spans)
