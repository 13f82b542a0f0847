"""A conversation that is not understood, and one that is TLS from its first octet.

Claim: saying "unknown" is an answer. Every octet is in exactly one line of the PDU ``unknown``, field ``raw``: a line
ends at LF, or after `PIECE` octets, so that the lines do not depend on segmentation. Its octets count as PCI (``raw``
of the vocabulary), because nothing shows that they are carried for somebody else; the flag ``not-understood`` says that
this is no more than a rule.
"""

from __future__ import annotations

from capture.model import Chunk, Gap, Line, Note, Role, Side, Span
from capture.protocols.records import Records
from capture.protocols.voice import NOT_UNDERSTOOD, Voice

PIECE = 1024  # a row on a screen shows no more, and a binary protocol has no LF


class OpaqueDialogue:
    """Both sides unknown."""

    protocol = "opaque"

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        self.midstream = midstream
        self._out: list[Line] = []
        self._voices = {side: Voice(conversation, side, self._out) for side in Side}

    def feed(self, chunk: Chunk) -> list[Line]:
        self._voices[chunk.side].put(chunk.data)
        return self._read(chunk.side)

    def gap(self, gap: Gap) -> list[Line]:
        self._voices[gap.side].put_gap(gap.length)
        return self._read(gap.side)

    def finish(self) -> list[Line]:
        return [line for side in Side for line in self._read(side, ending=True)]

    def settled(self, side: Side) -> int:
        return self._voices[side].offset

    def take_notes(self) -> list[Note]:
        return []

    def _read(self, side: Side, ending: bool = False) -> list[Line]:
        voice = self._voices[side]
        while True:
            found = voice.peek(PIECE).find(b"\n")
            if found >= 0 or len(voice) >= PIECE:
                self._give(voice, voice.take(found + 1 if found >= 0 else PIECE), "")
            elif voice.broken:
                self._give(voice, voice.rest(), "cut-by-gap")
                voice.cross()
            else:
                if ending:
                    self._give(voice, voice.rest(), "incomplete")
                lines = self._out[:]
                self._out.clear()
                return lines

    def _give(self, voice: Voice, data: bytes, flag: str) -> None:
        if data:
            flags: tuple[str, ...] = (NOT_UNDERSTOOD, flag) if flag else (NOT_UNDERSTOOD,)
            if voice.after_gap:
                flags += ("after-gap",)
            voice.give(data, voice.pdu("unknown"), (Span(0, len(data), Role.PCI, "raw"),), flags)


class TlsDialogue:
    """TLS records on both sides (RFC 8446 5.1)."""

    protocol = "tls"

    def __init__(self, *, conversation: int, midstream: bool = False) -> None:
        self.midstream = midstream
        self._out: list[Line] = []
        self._records = {side: Records(Voice(conversation, side, self._out)) for side in Side}

    def feed(self, chunk: Chunk) -> list[Line]:
        self._records[chunk.side].voice.put(chunk.data)
        return self._read(chunk.side)

    def gap(self, gap: Gap) -> list[Line]:
        self._records[gap.side].voice.put_gap(gap.length)
        return self._read(gap.side)

    def finish(self) -> list[Line]:
        return [line for side in Side for line in self._read(side, ending=True)]

    def settled(self, side: Side) -> int:
        return self._records[side].voice.offset

    def take_notes(self) -> list[Note]:
        return []

    def _read(self, side: Side, ending: bool = False) -> list[Line]:
        while self._records[side].read(ending):
            pass
        lines = self._out[:]
        self._out.clear()
        return lines
