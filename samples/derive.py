"""What a bad capture does to a good one: frames lost, swapped, repeated with other octets.

Claim: a derived sample differs from the session that was captured by one of these functions and nothing else. A frame
is named by what it carries, so that a making whose frames fall otherwise still gives the same sample.
"""

from __future__ import annotations

import struct

from capture.decode import decode
from capture.model import Frame

LATER = 200_000_000  # ns: the shortest retransmission time-out of Linux


def carrying(frames: list[Frame], octets: bytes) -> int:
    """Index of the one frame whose TCP payload holds ``octets``. Raises `LookupError` if it is not exactly one."""
    found = [n for n, frame in enumerate(frames) if (segment := decode(frame)) and octets in segment.payload]
    if len(found) != 1:
        raise LookupError(f"{len(found)} frames carry {octets!r}")
    return found[0]


def without(frames: list[Frame], octets: bytes) -> list[Frame]:
    """The frame that carries ``octets`` was not captured."""
    lost = carrying(frames, octets)
    return frames[:lost] + frames[lost + 1 :]


def since(frames: list[Frame], octets: bytes) -> list[Frame]:
    """The capture began with the frame that carries ``octets``."""
    return frames[carrying(frames, octets) :]


def swapped(frames: list[Frame], octets: bytes, others: bytes) -> list[Frame]:
    """The two frames arrived in each other's place, at each other's time."""
    one, other = carrying(frames, octets), carrying(frames, others)
    arrived = list(frames)
    arrived[one] = frames[other]._replace(time=frames[one].time)
    arrived[other] = frames[one]._replace(time=frames[other].time)
    return arrived


def contradicted(frames: list[Frame], octets: bytes, others: bytes) -> list[Frame]:
    """The frame that carries ``octets`` comes again right behind itself, with ``others`` in their place.

    Both have the same length; the TCP checksum is that of the changed octets (RFC 1624), as a forger's would be.
    """
    if len(octets) != len(others):
        raise ValueError("a retransmission of the same octets has their length")
    place = carrying(frames, octets)
    frame = frames[place]
    segment = decode(frame)
    assert segment is not None
    payload = segment.payload.replace(octets, others)
    data = frame.data[: segment.at] + payload + frame.data[segment.at + len(payload) :]
    start = _checksum_at(frame)
    old = int.from_bytes(frame.data[start : start + 2], "big")
    new = 0xFFFF - (0xFFFF - old - _sum(segment.payload) + _sum(payload)) % 0xFFFF
    data = data[:start] + struct.pack(">H", new) + data[start + 2 :]
    return [*frames[: place + 1], frame._replace(data=data, time=frame.time + 1_000), *frames[place + 1 :]]


def _checksum_at(frame: Frame) -> int:
    """Where the TCP checksum stands in a frame of the lab: Ethernet II, IPv4, TCP (RFC 791 3.1, RFC 9293 3.1)."""
    return 14 + (frame.data[14] & 15) * 4 + 16


def _sum(octets: bytes) -> int:
    """Sum of 16-bit words (RFC 1071), the carry left to the caller's modulus."""
    octets += b"\0" * (len(octets) % 2)
    return sum(struct.unpack(f">{len(octets) // 2}H", octets))
