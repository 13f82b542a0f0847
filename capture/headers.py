"""One frame taken apart, header by header, field by field: what the inspector shows of the one frame looked at.

Claim: the fields are those of the layers table (offsets and names of IEEE 802.3, 802.1Q, RFC 791, 8200, 9293), tile
each header's PCI, and stop where the captured octets stop. Dear, so made on demand only.

PCI may stand behind the user data too: Ethernet's pad. Such a field lies at or beyond `Header.body`; `spans` gives the
whole layer as tiles with roles, user data named by the layer (``mac-client-data``, ``data``, ``upper-layer-data``…).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from capture.carrier import Carrier, carry
from capture.links import ETHERNET, LOOP, NULL, SLL, SLL2, VLANS, packet
from capture.model import Frame, Header, Layer, Role, Span

_Field = tuple[int, int, str, str]
_Shape = tuple[tuple[int, str, Callable[[bytes], str]], ...]  # length, name, how the value reads


def headers(frame: Frame) -> tuple[Header, ...]:
    """The frame's PDUs, outermost first: link, IP, TCP; as far down as the captured octets go. Never raises."""
    carrier = carry(frame)
    found = packet(frame.data, frame.link)
    made = []
    link = _link(frame, None if found is None else found.at, carrier)
    if link is not None:
        made.append(link)
    if carrier is not None:
        made.append(_network(frame.data, carrier))
        if carrier.protocol == 6 and not carrier.fragment:
            transport = _tcp(frame.data, carrier)
            if transport is not None:
                made.append(transport)
    return tuple(made)


def spans(header: Header) -> tuple[Span, ...]:
    """The whole layer ``[start, end)`` as tiles with roles, offsets in the frame: its fields, and its user data."""
    front = [Span(a, b, Role.PCI, name) for a, b, name, _ in header.fields if a < header.body]
    behind = [Span(a, b, Role.PCI, name) for a, b, name, _ in header.fields if a >= header.body]
    stop = behind[0].start if behind else header.end
    middle = [Span(header.body, stop, Role.USER_DATA, _CARRIES.get(header.name, "data"))] if stop > header.body else []
    return (*front, *middle, *behind)


def _link(frame: Frame, network: int | None, carrier: Carrier | None) -> Header | None:
    data, size = frame.data, len(frame.data)
    if frame.link == ETHERNET:
        if size < 14:
            return None
        fields = [*_read(data, 0, _ETHERNET)]
        at = 12
        while data[at : at + 2] in _TAGGED and at + 6 <= size:
            fields += _read(data, at, _TAG)
            at += 4
        fields += _read(data, at, ((2, "ethertype", _hex),))
        body = at + 2
        if network is not None and network > body:
            fields.append((body, network, "encapsulation", data[body:network].hex(" ")))
            body = network
        # Only the outermost packet tells the pad: a tunnelled one is shorter than the frame for other reasons too.
        if carrier is not None and carrier.start == network and body < carrier.end < size:
            fields.append((carrier.end, size, "pad", data[carrier.end :].hex(" ")))
        return Header(Layer.LINK, "Ethernet", "frame", 0, body, size, tuple(fields))
    if frame.link not in _PSEUDO:
        if not network:
            return None  # nothing is in front of the packet, or nobody knows what
        fields = [(0, network, "encapsulation", data[:network].hex(" "))]
        return Header(
            Layer.LINK, _RARER.get(frame.link, f"link type {frame.link}"), "frame", 0, network, size, tuple(fields)
        )
    name, unit, shape = _PSEUDO[frame.link]
    fields = [*_read(data, 0, shape)]
    body = fields[-1][1] if fields else 0
    return Header(Layer.LINK, name, unit, 0, body, size, tuple(fields)) if fields else None


def _network(data: bytes, carrier: Carrier) -> Header:
    start, body, end = carrier.start, min(carrier.body, len(data)), min(carrier.end, len(data))
    if carrier.version == 4:
        fields = [*_read(data, start, _IPV4)]
        if body > start + 20:
            fields.append((start + 20, body, "options", data[start + 20 : body].hex(" ")))
        unit = "packet (fragment)" if carrier.fragment else "datagram"
        return Header(Layer.NETWORK, "IPv4", unit, start, body, end, tuple(fields))
    fields = [*_read(data, start, _IPV6), *_extensions(data, start + 40, body, data[start + 6])]
    unit = "packet (fragment)" if carrier.fragment else "packet"
    return Header(Layer.NETWORK, "IPv6", unit, start, body, end, tuple(fields))


def _extensions(data: bytes, at: int, body: int, kind: int) -> Iterable[_Field]:
    while at + 2 <= body:
        length = 8 if kind == 44 else 8 + (data[at + 1] << (2 if kind == 51 else 3))
        stop = min(at + length, body)
        yield at, stop, _EXTENSIONS.get(kind, f"extension-header-{kind}"), data[at:stop].hex(" ")
        kind, at = data[at], stop


def _tcp(data: bytes, carrier: Carrier) -> Header | None:
    start, end = carrier.body, min(carrier.end, len(data))
    if end < start + 20:
        return None
    body = start + (data[start + 12] >> 4 << 2)
    if body < start + 20 or body > carrier.end:
        return None
    body = min(body, end)
    fields = [*_read(data, start, _TCP)]
    if body > start + 20:
        fields.append((start + 20, body, "options", _options(data[start + 20 : body])))
    return Header(Layer.TRANSPORT, "TCP", "segment", start, body, end, tuple(fields))


def _read(data: bytes, at: int, shape: _Shape) -> Iterable[_Field]:
    for length, name, value in shape:
        stop = min(at + length, len(data))
        if stop <= at:
            return
        octets = data[at:stop]
        yield at, stop, name, value(octets) if len(octets) == length else octets.hex(" ")
        at = stop


def _hex(octets: bytes) -> str:
    return "0x" + octets.hex()


def _number(octets: bytes) -> str:
    return str(int.from_bytes(octets, "big"))


def _hardware(octets: bytes) -> str:
    return octets.hex(":")


def _address(octets: bytes) -> str:
    return str(ip_address(octets))


def _tci(octets: bytes) -> str:
    tci = int.from_bytes(octets, "big")
    return f"VLAN {tci & 0x0FFF}, priority {tci >> 13}" + (", drop eligible" if tci & 0x1000 else "")


def _version_ihl(octets: bytes) -> str:
    return f"version {octets[0] >> 4}, header {(octets[0] & 15) * 4} octets"


def _dscp(octets: bytes) -> str:
    return f"DSCP {octets[0] >> 2}, ECN {octets[0] & 3}"


def _class_flow(octets: bytes) -> str:
    word = int.from_bytes(octets, "big")
    return f"version {word >> 28}, class {word >> 20 & 0xFF}, flow {word & 0xFFFFF:#07x}"


def _fragment(octets: bytes) -> str:
    word = int.from_bytes(octets, "big")
    marks = [name for bit, name in ((0x4000, "DF"), (0x2000, "MF")) if word & bit]
    return ", ".join([*marks, f"offset {(word & 0x1FFF) * 8}"])


def _protocol(octets: bytes) -> str:
    return f"{octets[0]}" + (f" ({_PROTOCOLS[octets[0]]})" if octets[0] in _PROTOCOLS else "")


def _data_offset(octets: bytes) -> str:
    return f"header {(octets[0] >> 4) * 4} octets"


def _flags(octets: bytes) -> str:
    return " ".join(name for bit, name in _FLAGS if octets[0] & bit) or "none"


def _options(octets: bytes) -> str:
    """TCP options by name (RFC 9293 3.2, 7323, 2018); what does not parse is shown as it is."""
    said, at = [], 0
    while at < len(octets):
        kind = octets[at]
        if kind == 0:
            said.append("end")
            break
        if kind == 1:
            said.append("no-op")
            at += 1
            continue
        length = octets[at + 1] if at + 1 < len(octets) else 0
        if length < 2 or at + length > len(octets):
            said.append(octets[at:].hex(" "))
            break
        value = octets[at + 2 : at + length]
        name = _OPTIONS.get(kind, f"option {kind}")
        said.append(f"{name} {_option(kind, value)}".rstrip())
        at += length
    return ", ".join(said)


def _option(kind: int, value: bytes) -> str:
    if kind in (2, 3):
        return _number(value)
    if kind == 8 and len(value) == 8:
        return f"{_number(value[:4])} echo {_number(value[4:])}"
    return value.hex(" ")


_TAGGED = frozenset(kind.to_bytes(2, "big") for kind in VLANS)
_PROTOCOLS = {0: "hop-by-hop", 1: "ICMP", 4: "IPv4", 6: "TCP", 17: "UDP", 41: "IPv6", 43: "routing", 44: "fragment"}
_PROTOCOLS |= {47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 59: "none", 60: "destination options"}
_FLAGS = ((0x80, "CWR"), (0x40, "ECE"), (0x20, "URG"), (0x10, "ACK"), (8, "PSH"), (4, "RST"), (2, "SYN"), (1, "FIN"))
_OPTIONS = {2: "MSS", 3: "window scale", 4: "SACK permitted", 5: "SACK", 8: "timestamps", 30: "MPTCP", 34: "fast open"}
_EXTENSIONS = {0: "hop-by-hop-options", 43: "routing-header", 44: "fragment-header", 60: "destination-options"}
_EXTENSIONS |= {51: "authentication-header"}
_CARRIES = {"Ethernet": "mac-client-data", "IPv4": "data", "IPv6": "upper-layer-data", "TCP": "data"}
_CARRIES |= {"Linux SLL": "payload", "Linux SLL2": "payload", "Loopback": "payload"}

_ETHERNET: _Shape = ((6, "destination-address", _hardware), (6, "source-address", _hardware))
_TAG: _Shape = ((2, "tpid", _hex), (2, "tci", _tci))
_SLL: _Shape = (
    (2, "packet-type", _number),
    (2, "arphrd-type", _number),
    (2, "address-length", _number),
    (8, "address", _hardware),
    (2, "protocol-type", _hex),
)
_SLL2: _Shape = (
    (2, "protocol-type", _hex),
    (2, "reserved", _hex),
    (4, "interface-index", _number),
    (2, "arphrd-type", _number),
    (1, "packet-type", _number),
    (1, "address-length", _number),
    (8, "address", _hardware),
)
_LOOPBACK: _Shape = ((4, "address-family", _hex),)
_PSEUDO: dict[int, tuple[str, str, _Shape]] = {
    SLL: ("Linux SLL", "cooked capture header + packet", _SLL),
    SLL2: ("Linux SLL2", "cooked capture header + packet", _SLL2),
    NULL: ("Loopback", "loopback frame", _LOOPBACK),
    LOOP: ("Loopback", "loopback frame", _LOOPBACK),
}
# Links whose headers are not taken apart field by field, by their LINKTYPE_ numbers.
_RARER = {6: "IEEE 802.5", 8: "SLIP", 10: "FDDI", 51: "PPPoE", 100: "ATM", 104: "Cisco HDLC", 107: "Frame Relay"}
_RARER |= {109: "ENC", 117: "PFLOG", 122: "Fibre Channel", 138: "IEEE 1394", 192: "PPI", 219: "MPLS", 239: "NFLOG"}
_RARER |= dict.fromkeys((9, 50, 166, 204), "PPP") | dict.fromkeys((105, 119, 127, 163), "IEEE 802.11")
_RARER |= dict.fromkeys((240, 241, 274), "Ethernet") | dict.fromkeys((149, 258), "PKTAP")
_IPV4: _Shape = (
    (1, "version-ihl", _version_ihl),
    (1, "dscp-ecn", _dscp),
    (2, "total-length", _number),
    (2, "identification", _hex),
    (2, "flags-fragment-offset", _fragment),
    (1, "ttl", _number),
    (1, "protocol", _protocol),
    (2, "header-checksum", _hex),
    (4, "source-address", _address),
    (4, "destination-address", _address),
)
_IPV6: _Shape = (
    (4, "version-class-flow", _class_flow),
    (2, "payload-length", _number),
    (1, "next-header", _protocol),
    (1, "hop-limit", _number),
    (16, "source-address", _address),
    (16, "destination-address", _address),
)
_TCP: _Shape = (
    (2, "source-port", _number),
    (2, "destination-port", _number),
    (4, "sequence-number", _number),
    (4, "acknowledgment-number", _number),
    (1, "data-offset", _data_offset),
    (1, "flags", _flags),
    (2, "window", _number),
    (2, "checksum", _hex),
    (2, "urgent-pointer", _number),
)
