"""``wiretalk mail``: the messages of captures as files.

Claim: nothing that a message says decides where anything is written. A file's name is the number of the conversation,
that of the message in it, and what is left of the subject when only letters, digits and hyphens of ASCII are kept, at
most `SUBJECT` of them: ``0003-01-talking-smtp.eml``. A message that lacks something is ``….incomplete.eml``, and
``….incomplete.json`` beside it says what, where and how many octets; its octets stand in the file as they were
captured, nothing is put in a gap's place. ``manifest.json`` lists every file with its SHA-256.

* *Where*: the directory is made with mode 0700; one that is there must be empty unless ``force`` is given, and then
  files of the same names are replaced. Files have mode 0600.
* *Whole files only*: a message grows under a temporary name and gets its own when everything about it is known. When
  the work is interrupted, what was finished stays and is in the manifest; the rest is taken away.
* *Memory* does not grow with messages: octets go to the file as they come, at most `OPEN` files are open.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO

from capture.analyzer import Analyzer
from capture.errors import ExitCode, WiretalkError
from capture.mail import Ended, Event, Message, Messages, Piece, Told
from capture.protocols.encoded import display
from tui.reading import Reading, beside

SUBJECT = 60  # characters of the subject in a name
HEAD = 16 * 1024  # octets of a message in which its subject is looked for
OPEN = 64  # files open at once; a process may have 1024, often 256
MANIFEST = "manifest.json"

_SUBJECT = re.compile(rb"^subject[ \t]*:((?:.*\r?\n[ \t])*.*)", re.IGNORECASE | re.MULTILINE)
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")


class OutputError(WiretalkError):
    """What was asked for cannot be written there."""

    def __init__(self, sentence: str, remedy: str = "", *, forbidden: bool = False) -> None:
        super().__init__(sentence, remedy)
        if forbidden:
            self.exit_code = ExitCode.PERMISSION


def extract(files: Sequence[str], directory: Path, out: TextIO, err: TextIO, *, force: bool = False) -> int:
    """Write the messages of ``files`` to ``directory``, a row for each to ``out``, what was odd to ``err``.

    Returns an `ExitCode`: OK, NOTHING_FOUND (no message; then nothing is made), USAGE (a file is damaged; what it still
    held is written). Raises `CaptureError` for a file that is no capture, `OutputError` when nothing can be written,
    `BrokenPipeError` when ``out`` is not read to its end; the files are written all the same.
    """
    analyzer, messages, reading = Analyzer(runs=True), Messages(), Reading(files, err, beside(out, files, err))
    with Letters(directory, out, force=force) as letters:
        for batch in reading.batches():
            for event in messages.feed(analyzer.feed_all(batch)):
                letters.take(event)
        for update in analyzer.finishing():
            for event in messages.feed(update):
                letters.take(event)
        for event in messages.finish():
            letters.take(event)
    if letters.unread is not None:
        raise letters.unread
    if not letters.count:
        err.write("wiretalk: no message in this capture.\n")
    if reading.damaged:
        return ExitCode.USAGE
    return ExitCode.OK if letters.count else ExitCode.NOTHING_FOUND


class Letters:
    """Messages becoming files. A context manager; count: how many there are."""

    def __init__(self, directory: Path, out: TextIO, *, force: bool = False) -> None:
        self.count = 0
        self.unread: BrokenPipeError | None = None  # nobody reads the list any more
        self._directory, self._out, self._force = directory, out, force
        self._made = False
        self._names: dict[int, Path] = {}  # temporary files of messages under way, by id
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()
        self._manifest: TextIO | None = None
        if not force:
            _empty(directory)

    def take(self, event: Event) -> None:
        """One more event. Raises `OutputError`."""
        said = ""
        try:
            if isinstance(event, Piece):
                self._file(event.message).write(event.octets)
            elif isinstance(event, Ended):
                self._file(event.message)  # also a message without octets is a file
                self._close(id(event.message))
            else:
                said = self._finish(event)
        except OSError as error:
            raise _refusal(self._directory, error) from error
        if isinstance(event, Told):
            self._print(said)

    def __enter__(self) -> Letters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._open):
            with suppress(OSError):  # the disk is full, say; the file goes away with the next lines
                self._close(key)
        for path in self._names.values():
            with suppress(OSError):
                path.unlink()
        if self._manifest is not None:
            try:
                self._manifest.write("\n]\n")
                self._manifest.close()
            except OSError as failed:
                if error is None:
                    raise _refusal(self._directory, failed) from failed

    def _print(self, text: str) -> None:
        """Who reads the list may go away; the files are what was asked for."""
        if self.unread is None:
            try:
                self._out.write(text)
            except BrokenPipeError as error:
                self.unread = error

    # --- files --------------------------------------------------------------------------------------------------

    def _file(self, message: Message) -> BinaryIO:
        """The open file of a message under way."""
        key = id(message)
        file = self._open.get(key)
        if file is not None:
            self._open.move_to_end(key)
            return file
        while len(self._open) >= OPEN:
            self._close(next(iter(self._open)))
        path = self._names.get(key)
        if path is None:
            self._make()
            path = self._names[key] = self._directory / f".{message.conversation}-{message.ordinal}.part"
            file = os.fdopen(_create(path), "wb")
        else:
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC), "ab")
        self._open[key] = file
        return file

    def _close(self, key: int) -> None:
        file = self._open.pop(key, None)
        if file is not None:
            file.close()

    def _make(self) -> None:
        """Nothing is made before there is something to put in it."""
        if self._made:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._manifest = os.fdopen(_create(self._directory / MANIFEST), "w", encoding="ascii")
        self._manifest.write("[")
        self._made = True

    def _finish(self, event: Told) -> str:
        message = event.message
        part = self._names[id(message)]
        subject = _subject(part)
        kind = "" if message.complete else ".incomplete"
        stem = f"{message.conversation:04}-{message.ordinal:02}{_slug(subject)}{kind}"
        row = entry(message, f"{stem}.eml", subject)
        if not message.complete:
            beside = self._directory / f"{stem}.json"
            with os.fdopen(_create(beside), "w", encoding="ascii") as file:
                json.dump(row, file, indent=1)
                file.write("\n")
        part.replace(self._directory / f"{stem}.eml")
        del self._names[id(message)]
        assert self._manifest is not None
        self._manifest.write(f"{',' if self.count else ''}\n{json.dumps(row)}")
        self.count += 1
        said = "" if message.complete else "  " + " ".join(message.why)
        return f"{stem}.eml  {message.octets} octets{said}\n"


def entry(message: Message, name: str, subject: str = "") -> dict[str, Any]:
    """A message's row of the manifest, and what its sidecar says.

    gaps: where in the file (``at``) octets are missing, where in the stream, how many on the wire (stuffed dots
    included), and whether all of them are this message's (``whole``). refused: recipients by reply code.
    """
    facts, envelope = message.facts, message.envelope
    return {
        "file": name,
        "sha256": message.sha256,
        "octets": message.octets,
        "complete": message.complete,
        "why": list(message.why),
        "conversation": message.conversation,
        "message": message.ordinal,
        "client": str(facts.client) if facts is not None else None,
        "server": str(facts.server) if facts is not None else None,
        "side": message.side.value,
        "command": message.command,
        "offset": message.offset,
        "end": message.end,
        "frames": list(message.frames),
        "time": f"{message.time // 1_000_000_000}.{message.time % 1_000_000_000:09}",
        "subject": subject,
        "mail_from": envelope.mail_from,
        "rcpt_to": [recipient.address for recipient in envelope.recipients],
        "refused": {r.address: r.code for r in envelope.recipients if r.code and not r.code.startswith("2")},
        "more_recipients": envelope.more,
        "envelope_complete": envelope.whole and envelope.mail_from is not None,
        "reply": message.reply or None,
        "replies": message.replies,
        "end_of_data": message.ending or None,
        "gaps": [hole._asdict() for hole in message.holes],
        "more_gaps": message.more_holes,
    }


def _subject(path: Path) -> str:
    """The subject of a message, for people; ``""`` when it has none."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith((b"\r\n", b"\n")):
        return ""  # no header at all
    header = _END_OF_HEADER.split(head, maxsplit=1)[0]
    found = _SUBJECT.search(header)
    return display(found[1].strip(b" \t")).strip()[:998] if found is not None else ""


def _slug(subject: str) -> str:
    """What of a subject may stand in a file's name, a hyphen in front of it, or nothing."""
    plain = unicodedata.normalize("NFKD", subject).encode("ascii", "ignore").decode("ascii").lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SUBJECT].rstrip("-")
    return f"-{words}" if words else ""


def _create(path: Path) -> int:
    """A new file that nobody else can read, in place of whatever had its name; a link is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        path.unlink()
        return os.open(path, flags, 0o600)


def _empty(directory: Path) -> None:
    """Raise `OutputError` unless the directory is empty or not there."""
    try:
        if any(directory.iterdir()):
            raise OutputError(
                f"{directory} is not empty, and what is there might be overwritten.",
                "name another directory, or give --force",
            )
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(directory, error) from error


def _refusal(directory: Path, error: OSError) -> OutputError:
    forbidden = isinstance(error, PermissionError)
    return OutputError(f"Messages cannot be written to {directory}: {error.strerror}.", forbidden=forbidden)
