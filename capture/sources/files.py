"""Saved captures: `read` gives frames from pcap or pcapng, packed or not, from a file or standard input.

Claim: everything in front of a break is read and the break is a note; what is no capture at all is refused with one
sentence that says what it looks like. The container reader is our own because every library tried misreads some files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType

from capture.errors import BadCapture
from capture.model import Frame, Note
from capture.sources import pcap, pcapng
from capture.sources.findings import DAMAGE, Comment, Findings, Interface
from capture.sources.octets import Octets, open_octets

__all__ = ["DAMAGE", "Capture", "Comment", "Interface", "read"]

# what else people open by mistake: first octets -> what it is
_LOOKS = (
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it with 'zstd -d' first, or add the package backports.zstd"),
    (b"\x04\x22\x4d\x18", "compressed by lz4: unpack it with 'lz4 -d' first"),
    (b"BZh", "compressed by bzip2 twice: unpack it with 'bunzip2' first"),
    (b"\xfd7zXZ\0", "compressed by xz twice: unpack it with 'unxz' first"),
    (b"\x1f\x8b", "a gzip inside a gzip: unpack it with 'gunzip' first"),
    (b"\x1f\x9d", "compressed by compress: unpack it with 'uncompress' first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"snoop\0\0\0", "a Solaris snoop capture: convert it with 'editcap -F pcapng' first"),
    (b"GMBU", "a Microsoft Network Monitor capture: convert it with 'editcap -F pcapng' first"),
    (b"RTSS", "a Microsoft Network Monitor capture: convert it with 'editcap -F pcapng' first"),
    (b"TRSNIFF data", "a Sniffer capture: convert it with 'editcap -F pcapng' first"),
    (b"XCP\0", "a NetXray capture: convert it with 'editcap -F pcapng' first"),
    (b"iptrace ", "an AIX iptrace capture: convert it with 'editcap -F pcapng' first"),
    (b"\x7fver", "an EtherPeek capture: convert it with 'editcap -F pcapng' first"),
    (b"btsnoop\0", "a Bluetooth capture, which holds no mail"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"),
)


class Capture:
    """An open capture: iterate it once for its frames, in the order of the file. A context manager.

    notes: what is odd about the container, damage when their kind is in `DAMAGE`; comments: of the file and of frames;
    interfaces: in order of `Frame.interface`. The three grow while frames are read and are whole at the end.
    """

    def __init__(self, name: str, source: Octets, batches: Iterator[list[Frame]], findings: Findings) -> None:
        self.name = name
        self._source = source
        self._findings = findings
        self._batches = chain(self._first(batches), batches)

    @staticmethod
    def _first(batches: Iterator[list[Frame]]) -> list[list[Frame]]:
        """What came with the file header: it tells the link type before the first frame is asked for."""
        return [batch for batch in (next(batches, None),) if batch]

    def batches(self) -> Iterator[list[Frame]]:
        """The frames as they are read, a gulp of the file at a time. A batch may be empty.

        Raises `UnreadableCapture` when the system refuses to read on.
        """
        yield from self._batches
        self._findings.close()

    def __iter__(self) -> Iterator[Frame]:
        return chain.from_iterable(self.batches())

    @property
    def notes(self) -> list[Note]:
        return self._findings.notes

    @property
    def comments(self) -> list[Comment]:
        return self._findings.comments

    @property
    def interfaces(self) -> list[Interface]:
        return self._findings.interfaces

    @property
    def link(self) -> int | None:
        """The LINKTYPE_ of the first interface, None while no interface is known."""
        return self.interfaces[0].link if self.interfaces else None

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: str | Path, first_number: int = 1, gulp: int = 0) -> Capture:
    """Open a capture; ``-`` is standard input. Frames are numbered from ``first_number``. gulp: octets read at once.

    Raises `UnreadableCapture` (no such file, a directory, no permission) and `BadCapture` (empty, cut in its header,
    or no capture), each with one sentence.
    """
    source = open_octets(path, gulp)
    findings = Findings()
    try:
        head = source.fill(b"", 4)
        if head[:4] in pcap.MAGICS:
            batches = pcap.walk(source, head, findings, first_number)
        elif head[:4] == pcapng.MAGIC:
            batches = pcapng.walk(source, head, findings, first_number)
        else:
            raise BadCapture(_refusal(source, head))
        return Capture(source.name, source, batches, findings)
    except BaseException:
        source.close()
        raise


def _refusal(source: Octets, head: bytes) -> str:
    inside = ", once unpacked," if source.packed else ""
    if not head:
        return f"{source.name} cannot be unpacked: {source.broken}." if source.broken else f"{source.name} is empty."
    for magic, looks in _LOOKS:
        if head.startswith(magic):
            return f"{source.name}{inside} is not a capture but {looks}."
    if len(head) < 4:
        return f"{source.name}{inside} is not a capture: it has only {len(head)} octets."
    if all(octet in b"\t\n\f\r\x1b" or (octet >= 0x20 and octet != 0x7F) for octet in head[:512]):
        return f"{source.name}{inside} is not a capture but text."
    return (
        f"{source.name}{inside} is not a capture: it begins with {head[:4].hex(' ')}, which is neither pcap nor pcapng."
    )
