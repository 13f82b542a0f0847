"""``wiretalk label``: saved captures to labelled lines on standard output.

Claim: what a damaged file still holds is printed before its damage is told; several files are one capture, read in the
order given, with frame numbers that run on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from capture.analyzer import Analyzer
from capture.errors import ExitCode
from capture.export import FORMATS
from capture.record import Record
from capture.sources.files import DAMAGE, read


def label_files(files: Sequence[str], form: str, show_secrets: bool, out: TextIO, err: TextIO) -> int:
    """Read ``files``, write them as ``form`` to ``out`` and what was odd about the files to ``err``.

    Returns an `ExitCode`: OK, NOTHING_FOUND (no line), USAGE (a file is damaged). Raises `CaptureError` for a file that
    is no capture at all.
    """
    record, analyzer, damaged, number = Record(), Analyzer(), False, 1
    for name in files:
        with read(name, first_number=number) as capture:
            for frame in capture:
                record.apply(analyzer.feed(frame))
                number = frame.number + 1
        for note in capture.notes:
            damaged = damaged or note.kind in DAMAGE
            err.write(f"wiretalk: {name}: {note.text}\n")
    record.apply(analyzer.finish())
    write(record, form, show_secrets, out)
    if damaged:
        return ExitCode.USAGE
    if not record.rows():
        err.write("wiretalk: no line to label: no TCP octets of a mail session in this capture.\n")
        return ExitCode.NOTHING_FOUND
    return ExitCode.OK


def write(record: Record, form: str, show_secrets: bool, out: TextIO) -> None:
    """What ``record`` holds, as ``form``, in capture order."""
    conversations = {facts.ident: facts for facts in record.conversations}
    for text in FORMATS[form](record.rows(), conversations, show_secrets=show_secrets):
        out.write(text + "\n")
