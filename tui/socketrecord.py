"""Records a connection's octets at the socket, where nothing may be sniffed.

Claim: what is written is what `capture.exported` can say without making anything up: who, whom, the octets of one read
or one write, and when. One `SocketRecord` serves one connection after the other in one feed.
"""

from __future__ import annotations

import time

from capture import exported
from capture.model import Endpoint, Frame, Side
from tui.feed import Feed


class SocketRecord:
    """Call `begin` before connecting, `octets` as they pass, `opened` once the ends are known, `ended` at the end."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._ends: dict[Side, Endpoint] | None = None
        self._early: list[tuple[Side, bytes, int]] = []
        self._began = 0

    def begin(self) -> None:
        self._ends, self._early, self._began = None, [], time.time_ns()

    def octets(self, side: Side, data: bytes, when: int) -> None:
        """``when``: ns since the epoch. A greeting may come before the ends are known; it is kept until then."""
        if self._ends is None:
            self._early.append((side, data, when))
        else:
            self._write(self._ends, side, data, when)

    def opened(self, client: Endpoint, server: Endpoint) -> None:
        """The connection stands: a record without octets from the side that opened it."""
        self._ends = {Side.CLIENT: client, Side.SERVER: server}
        self._write(self._ends, Side.CLIENT, b"", self._began)
        early, self._early = self._early, []
        for side, data, when in early:
            self._write(self._ends, side, data, when)

    def ended(self, side: Side) -> None:
        """``side`` ended the connection; nothing if it never stood."""
        if self._ends is not None:
            self._write(self._ends, side, b"", time.time_ns())
            self._ends = None

    def _write(self, ends: dict[Side, Endpoint], side: Side, data: bytes, when: int) -> None:
        packed = exported.pack(ends[side], ends[side.other], data)
        self._feed.take([Frame(self._feed.frames + 1, when, packed, len(packed), exported.LINKTYPE_UPPER_PDU)])
