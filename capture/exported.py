"""Octets read at a socket, in a capture file, without pretending that they were sniffed.

Claim: nothing is made up. Where no right to sniff exists, a session's octets are kept as "upper PDU" records
(LINKTYPE_WIRESHARK_UPPER_PDU, 252): the addresses and ports of the connection as tags, then the octets of one read or
one write. There is no Ethernet, IP or TCP header in the file, because nobody saw one; tshark still reads it as SMTP.

The connection's beginning is a record without octets, sent by the host that opened it; its end is one more, from
whoever ended it. Tag numbers: Wireshark's ``epan/exported_pdu.h`` (a list that only grows).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from capture.model import Endpoint, Frame

LINKTYPE_UPPER_PDU = 252
NOT_SNIFFED = "recorded at the socket, not sniffed"
"""What every view of such octets says, and the section comment of a recording of them."""

_END, _DISSECTOR = 0, 12
_IPV4_SOURCE, _IPV4_DESTINATION, _IPV6_SOURCE, _IPV6_DESTINATION = 20, 21, 22, 23
_PORT_TYPE, _SOURCE_PORT, _DESTINATION_PORT = 24, 25, 26
_TCP = 2  # the port type of the tags, not IP's protocol number
_TAG = struct.Struct(">HH")
_NUMBER = struct.Struct(">I")


class Octets(NamedTuple):
    """What one record says: who sent it to whom, and the octets; ``at``: where they begin in the frame's data."""

    source: Endpoint
    destination: Endpoint
    data: bytes
    at: int


def pack(source: Endpoint, destination: Endpoint, data: bytes, protocol: str = "smtp") -> bytes:
    """One record's captured octets: tags, then ``data``. Addresses must be of one family (4 or 16 octets)."""
    four = len(source.address) == 4
    tags = (
        (_DISSECTOR, protocol.encode()),
        (_IPV4_SOURCE if four else _IPV6_SOURCE, source.address),
        (_IPV4_DESTINATION if four else _IPV6_DESTINATION, destination.address),
        (_PORT_TYPE, _NUMBER.pack(_TCP)),
        (_SOURCE_PORT, _NUMBER.pack(source.port)),
        (_DESTINATION_PORT, _NUMBER.pack(destination.port)),
    )
    parts = []
    for tag, value in tags:
        padded = value + bytes(-len(value) % 4)
        parts.append(_TAG.pack(tag, len(padded)) + padded)
    return b"".join(parts) + _TAG.pack(_END, 0) + data


def unpack(frame: Frame) -> Octets | None:
    """The record in ``frame``, or None when it is no TCP record with both endpoints. Never raises."""
    data, at = frame.data, 0
    values: dict[int, bytes] = {}
    while at + 4 <= len(data):
        tag, length = _TAG.unpack_from(data, at)
        at += 4
        if tag == _END:
            break
        if at + length > len(data):
            return None
        values[tag] = data[at : at + length]
        at += length
    else:
        return None
    source = _endpoint(values, _IPV4_SOURCE, _IPV6_SOURCE, _SOURCE_PORT)
    destination = _endpoint(values, _IPV4_DESTINATION, _IPV6_DESTINATION, _DESTINATION_PORT)
    if source is None or destination is None or values.get(_PORT_TYPE) != _NUMBER.pack(_TCP):
        return None
    return Octets(source, destination, data[at:], at)


def _endpoint(values: dict[int, bytes], four: int, six: int, port: int) -> Endpoint | None:
    address, number = values.get(four) or values.get(six), values.get(port)
    if address is None or len(address) not in (4, 16) or number is None or len(number) != 4:
        return None
    return Endpoint(address, _NUMBER.unpack(number)[0])
