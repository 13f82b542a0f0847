"""The words of the observer: frozen values, no behaviour beyond what a value knows of itself.

Claim: ``(conversation, side, stream offset)`` names a byte for ever. Everything here is immutable, holds
captured octets as ``bytes`` (never as text), and may cross a thread boundary as it is.

Vocabulary: ITU-T X.200 for layering (PDU, PCI, user data), RFC 5321 for mail, Wireshark for *conversation*.
Tuples are used where a capture makes millions of them, slotted dataclasses elsewhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple


class Side(enum.Enum):
    """Who sent it: the host that opened the conversation, or the one that answered."""

    CLIENT = "C"
    SERVER = "S"

    @property
    def other(self) -> Side:
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class Role(enum.Enum):
    """What an octet is to the layer in view (X.200 5.6.1.1, 5.6.1.2)."""

    PCI = "pci"
    USER_DATA = "ud"


class Label(enum.Enum):
    """What a *line* is to the layer in view; computed by `capture.labels.label`, never stored."""

    PDU = "PDU"
    PCI = "PCI"
    USER_DATA = "user data"


class Layer(enum.IntEnum):
    """Where the lens may be set, bottom up (labels.md 3)."""

    LINK = 1
    NETWORK = 2
    TRANSPORT = 3
    TLS = 4
    APPLICATION = 5
    MESSAGE = 6


class Frame(NamedTuple):
    """The link-layer PDU as captured.

    number: 1-based, in order of arrival; time: ns since the epoch; data: the captured octets;
    length: octets on the wire (more than ``len(data)`` when a snap length cut it);
    link: the LINKTYPE_/DLT_ number (1 = Ethernet); interface: index in its capture.
    """

    number: int
    time: int
    data: bytes
    length: int
    link: int = 1
    interface: int = 0


class Endpoint(NamedTuple):
    """A transport address. ``address`` is the packed network address, 4 or 16 octets."""

    address: bytes
    port: int

    def __str__(self) -> str:
        host = str(ip_address(self.address)) if len(self.address) in (4, 16) else self.address.hex(":")
        return f"[{host}]:{self.port}" if len(self.address) == 16 else f"{host}:{self.port}"


class Segment(NamedTuple):
    """One TCP PDU (RFC 9293 3.1) with the frame that carried it.

    frame, time: number and time of that frame; scope: what else tells equal 4-tuples apart (VLAN tags),
    ``()`` as a rule; payload: captured octets of user data; at: where they begin in the frame's data;
    missing: octets of payload that the sender put into the segment and the snap length cut off.
    """

    frame: int
    time: int
    source: Endpoint
    destination: Endpoint
    sequence: int
    acknowledgement: int
    flags: int
    window: int
    payload: bytes
    at: int
    missing: int = 0
    scope: tuple[int, ...] = ()


FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


class Chunk(NamedTuple):
    """In-order octets of one side, all brought by one frame.

    offset: stream offset of the first octet; frame, time: of the frame that carried them;
    at: where they begin in that frame's data.
    """

    side: Side
    offset: int
    data: bytes
    frame: int
    time: int
    at: int = 0


class Gap(NamedTuple):
    """Octets known to be missing from one side's stream. frame, time: what proved them missing."""

    side: Side
    offset: int
    length: int
    frame: int
    time: int


class Span(NamedTuple):
    """A run of octets ``[start, end)`` of a line with one role and one field name (labels.md L5)."""

    start: int
    end: int
    role: Role
    field: str


class Pdu(NamedTuple):
    """What a protocol answers as a whole, or the whole answer (labels.md 2.1). ident: ``C3``, ``S5``."""

    name: str
    ident: str


class Line(NamedTuple):
    """A row on the screen: octets of one side that tile its stream.

    number: 1-based within the side, in order of offset; whole: the line is exactly one complete PDU;
    flags: words of flags.json; layer: APPLICATION, or TLS for records; frames: numbers of the frames that
    carried it; time: ns, of its first octet; order: place of its first octet among all octets that the
    analyzer delivered, of every conversation and side: lines sorted by it stand in capture order. (A held-back
    line is made later than a line behind it, so the order of making is not the order of capture.)
    """

    conversation: int
    side: Side
    number: int
    offset: int
    data: bytes
    pdu: Pdu
    spans: tuple[Span, ...]
    flags: tuple[str, ...]
    whole: bool
    layer: Layer = Layer.APPLICATION
    frames: tuple[int, ...] = ()
    time: int = 0
    order: int = 0


class Run(NamedTuple):
    """Lines of content that stand one behind another, as one value: `capture.runs.lines` gives them one by one.

    Each ends in CRLF and is plain: no dot in front, nothing odd, never a whole PDU, spans as `capture.runs.plain`
    has them. They are numbered from ``number`` on, ``total`` of them; ``pdu``, ``flags``, ``frames`` and ``time`` are
    those of every one of them (several frames: of the only one), ``offset`` and ``order`` those of the first octet.
    """

    conversation: int
    side: Side
    number: int
    offset: int
    data: bytes
    pdu: Pdu
    flags: tuple[str, ...]
    total: int
    frames: tuple[int, ...] = ()
    time: int = 0
    order: int = 0


class Missing(NamedTuple):
    """A gap's place among the lines: "n octets not captured". Same coordinates as `Line`."""

    conversation: int
    side: Side
    offset: int
    length: int
    time: int = 0
    order: int = 0


class Note(NamedTuple):
    """An oddity that was seen: a value, never an exception.

    kind: a key of `capture.glossary.NOTES`; text: a sentence; frame 0, conversation 0, offset -1 = none.
    octets: the other copy, for an overlap conflict.
    """

    kind: str
    text: str
    frame: int = 0
    conversation: int = 0
    side: Side | None = None
    offset: int = -1
    octets: bytes = b""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The two-way exchange of one pair of endpoints. Replaced, never changed: the newest one is true.

    ident: 1-based, in order of first sight; protocol: ``smtp``, ``pop3``, ``lmtp``, ``tls``, ``opaque``, or
    ``""`` while unknown; start, end: ns; frames: how many; octets: stream octets per side, gaps included.
    midstream: no SYN was seen. closed: FIN from both sides or a RST was seen. over: no line, gap or note of it comes
    any more, late frames at most.
    """

    ident: int
    client: Endpoint
    server: Endpoint
    protocol: str = ""
    start: int = 0
    end: int = 0
    frames: int = 0
    octets: tuple[int, int] = (0, 0)
    midstream: bool = False
    closed: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """What feeding frames (or finishing) made known. Frozen: the only thing that crosses threads.

    runs: empty unless the analyzer was asked for them; then they hold lines that ``lines`` does not.
    """

    conversations: tuple[Conversation, ...] = ()
    lines: tuple[Line, ...] = ()
    gaps: tuple[Missing, ...] = ()
    notes: tuple[Note, ...] = ()
    runs: tuple[Run, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.conversations or self.lines or self.gaps or self.notes or self.runs)


@dataclass(frozen=True, slots=True)
class Header:
    """One layer's PDU inside a frame's captured octets: PCI ``[start, body)``, user data ``[body, end)``.

    name: ``Ethernet``, ``802.1Q``, ``IPv4``, ``IPv6``, ``TCP``…; unit: ``frame``, ``packet``, ``segment``;
    fields: ``(start, end, name, value as text)`` within the frame, tiling the PCI.
    """

    layer: Layer
    name: str
    unit: str
    start: int
    body: int
    end: int
    fields: tuple[tuple[int, int, str, str], ...] = field(default=())
