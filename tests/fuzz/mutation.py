"""Octets changed by chance, but not blindly: what is inserted is what protocols and formats are made of.

Claim: the same seed gives the same mutations.
"""

from __future__ import annotations

import random
import struct

WORDS: tuple[bytes, ...] = (
    b"\r\n", b"\n", b"\r", b".\r\n", b"\r\n.\r\n", b"\n.\n", b"\0", b"\xff", b"220 mx\r\n", b"250 ok\r\n",
    b"250-mx\r\n", b"354 go\r\n", b"334 \r\n", b"235 ok\r\n", b"421 bye\r\n", b"503 no\r\n", b"220 ready\r\n",
    b"EHLO c\r\n", b"LHLO c\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"BDAT 5 LAST\r\n",
    b"BDAT 18446744073709551616\r\n", b"AUTH LOGIN\r\n", b"AUTH PLAIN =\r\n", b"*\r\n", b"STARTTLS\r\n", b"TURN\r\n",
    b"QUIT\r\n", b"RSET\r\n", b"+OK\r\n", b"-ERR\r\n", b"USER a\r\n", b"PASS b\r\n", b"RETR 1\r\n", b"TOP 1 0\r\n",
    b"STLS\r\n", b"CAPA\r\n", b"a1 LOGIN u p\r\n", b"* OK\r\n", b"{5}\r\n",
    b"\x16\x03\x01\x00\x05hello", b"\x17\x03\x03\x00\x01x", b"\x0a\x0d\x0d\x0a", b"\x1a\x2b\x3c\x4d",
    b"\x4d\x3c\x2b\x1a", b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\x81\x00\x00\x05", b"\x88\xa8", b"\x86\xdd",
    b"\x08\x00\x45", b"\x60\0\0\0",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 28, 32, 60, 64, 127, 128, 255, 256, 1460, 1500, 0x7FFF, 0x8000, 0xFFFF,
           0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
LONGEST = 1 << 16  # octets of one input: longer ones cost time and find the same


class Mutator:
    """Draws from ``seeds``; what proved interesting is added to them by `keep`."""

    def __init__(self, seeds: list[bytes], seed: int) -> None:
        self._pool = [octets[:LONGEST] for octets in seeds]
        self._chance = random.Random(seed)

    def keep(self, octets: bytes) -> None:
        self._pool.append(octets)

    def draw(self) -> bytes:
        """One of the pool, changed a few times."""
        octets = bytearray(self._chance.choice(self._pool))
        for _ in range(1 << self._chance.randrange(5)):
            self._chance.choice((self._set, self._set, self._number, self._word, self._cut, self._again, self._splice))(
                octets
            )
        return bytes(octets[:LONGEST])

    def _place(self, octets: bytearray) -> int:
        return self._chance.randrange(len(octets) + 1)

    def _stretch(self, octets: bytearray) -> slice:
        start = self._place(octets)
        return slice(start, start + self._chance.choice((1, 2, 4, 16, 64, 256, 4096)))

    def _set(self, octets: bytearray) -> None:
        if octets:
            octets[self._chance.randrange(len(octets))] = self._chance.randrange(256)

    def _number(self, octets: bytearray) -> None:
        size = self._chance.choice("BHI")
        number = self._chance.choice(NUMBERS) & (1 << 8 * struct.calcsize(size)) - 1
        start = self._place(octets)
        value = struct.pack(self._chance.choice("<>") + size, number)
        octets[start : start + len(value)] = value

    def _word(self, octets: bytearray) -> None:
        start = self._place(octets)
        word = self._chance.choice(WORDS)
        octets[start : start + self._chance.choice((0, len(word)))] = word

    def _cut(self, octets: bytearray) -> None:
        del octets[self._stretch(octets)]

    def _again(self, octets: bytearray) -> None:
        start = self._place(octets)
        octets[start:start] = octets[self._stretch(octets)]

    def _splice(self, octets: bytearray) -> None:
        other = self._chance.choice(self._pool)
        start = self._place(octets)
        if other:
            at = self._chance.randrange(len(other))
            octets[start:] = other[at:]
