"""What a command of the command line sets in motion, and what it leaves said at the end.

Claim: exit status 0 means that it was seen: every typed line came off the wire, the message lay in the mailbox, and
the recording, read again, gave the same lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from capture.errors import ExitCode, LabError, UnreadableCapture, WiretalkError
from capture.exported import NOT_SNIFFED
from capture.model import Role
from lab import plan
from tui.dialog import hide

if TYPE_CHECKING:
    from lab.laboratory import Lab
    from tui.live import LiveSession
    from tui.player import Outcome, Player

LAST_FRAMES = 0.1  # seconds for the FINs and ACKs of a program that has just ended to cross the wire
DELIVERY = 30.0  # seconds within which the lab delivers a message; it takes a fraction of one


@dataclass(frozen=True, slots=True)
class Options:
    """What ``wiretalk talk`` was told; the names are those of its options."""

    target: str | None = None
    script: str | None = None
    no_wait: bool = False
    record: Path | None = None
    interface: str | None = None
    theme: str | None = None
    show_secrets: bool = False
    ipv6: bool = False
    no_vrfy: bool = False


@dataclass(slots=True)
class Verdict:
    """What went wrong, in sentences; none: all is well."""

    faults: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        if outcome.failed:
            self.faults.append("No session: " + (" ".join(outcome.sentences) or "the connection did not open."))
        elif outcome.sentences and (outcome.unseen or outcome.unanswered):
            self.faults.append(" ".join(outcome.sentences))  # why: the capture ended, the server closed
        for text in outcome.unseen:
            self.faults.append(f"Typed, but never seen on the wire: {_told(text)}")
        for text in outcome.unanswered:
            self.faults.append(f"No reply in time to {_told(text)}")


def _told(text: str) -> str:
    """A typed line as it may be printed: no control character, no password."""
    return repr(hide(text.encode("utf-8", "replace")).decode("utf-8", "replace"))


# ── talk ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def start_talk(options: Options) -> int:
    """The Talk screen where there is a terminal; else the player. Raises `WiretalkError`."""
    from tui.live import LiveSession

    if options.record is not None and str(options.record) == "-":
        raise WiretalkError("A recording is read again at the end, so it must be a file.", "--record FILE")
    session = LiveSession(
        options.target,
        record=options.record,
        interface=options.interface,
        ipv6=options.ipv6,
        vrfy=not options.no_vrfy,
    )
    if options.script is None and sys.stdin.isatty() and sys.stdout.isatty():
        return _screen(session, options.theme)
    if options.script is not None:
        lines: list[str] | None = _script(options.script)
    elif options.target is not None and not sys.stdin.isatty():
        lines = _script("-")
    elif options.target is not None:
        # Never the exercise's forged sender to a host that somebody only wanted to talk to.
        raise WiretalkError(
            "Without a terminal for the screen, the lines to send must come from somewhere.",
            f"wiretalk talk --script FILE {options.target}",
        )
    else:
        lines = None
    return asyncio.run(_play(session, lines, options))


def _screen(session: LiveSession, theme: str | None) -> int:
    from tui.app import WiretalkApp

    app = WiretalkApp(session, theme=theme)
    # A terminating signal leaves as Ctrl+Q does, so that the terminal is given back and the recording closed.
    signal.signal(signal.SIGTERM, lambda *_: app.call_later(app.action_quit))
    left = app.run()
    if left is not None and left.recording is not None and left.frames:
        unseen = f"; {left.unseen} lines typed were not seen on the wire" if left.unseen else ""
        print(f"{left.frames} frames, {left.lost} lost, in {left.recording}{unseen}")
    return app.return_code or ExitCode.OK


async def _play(session: LiveSession, lines: list[str] | None, options: Options) -> int:
    from tui.player import Player

    verdict = Verdict()
    player = Player(session, wait=not options.no_wait)
    exercise = lines is None
    # A terminating signal must unwind the stack, so that the recording is closed; the lab goes either way.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _interrupt)
    try:
        if lines is None:
            await _exercise(session, player, verdict)
        else:
            verdict.add(await player.play(lines))
    finally:
        await session.close()
    player.settle()
    if session.status.recording is None:  # it never came to a connection
        return _tell(verdict)
    _print(session, player, options.show_secrets)
    _reread(session, player, verdict)
    status = session.status
    if status.lost:
        verdict.faults.append(f"The kernel lost {status.lost} frames before they could be read.")
    if not verdict.faults:
        how = "seen on the wire" if status.sniffed else NOT_SNIFFED
        also = "; the message arrived" if exercise else ""
        same = f"; {status.recording} reads the same" if status.recording and status.recording.is_file() else ""
        print(f"wiretalk: every line typed was {how}{also}{same}.", file=sys.stderr)
    return _tell(verdict)


def _tell(verdict: Verdict) -> int:
    for fault in verdict.faults:
        print(f"wiretalk: {fault}", file=sys.stderr)
    return ExitCode.NOTHING_FOUND if verdict.faults else ExitCode.OK


def _interrupt() -> None:
    raise KeyboardInterrupt


async def _exercise(session: LiveSession, player: Player, verdict: Verdict) -> None:
    """The exercise's session, then POP3, in the lab; the mailbox is watched from shannon, off this wire."""
    from lab import exercise, watch

    sent = await player.play(exercise.SMTP_LINES)
    verdict.add(sent)
    if sent.failed:
        return
    lab = session.lab
    if lab is None:
        raise WiretalkError("The exercise needs the lab.", "wiretalk talk, without a host")
    count = await asyncio.to_thread(watch.wait_for_mail, lab, 2, DELIVERY)
    if count < 2:
        verdict.faults.append(f"The message did not arrive in the mailbox within {DELIVERY:.0f} s.")
        return
    session.turn_to(plan.MAILHOST.name, plan.POP3)
    verdict.add(await player.play(exercise.pop3_lines(count)))
    fetched = b"".join(
        line.data[span.start : span.end]
        for line in player.record.lines
        if line.pdu.name == "+OK response"
        for span in line.spans
        if span.role is Role.USER_DATA
    )
    if not fetched.endswith(exercise.content()):
        verdict.faults.append("The message fetched by POP3 is not the one that was typed.")


def _print(session: LiveSession, player: Player, show_secrets: bool) -> None:
    from tui.labelling import write

    if not session.status.sniffed:
        print(f"# {NOT_SNIFFED}: the numbers are of reads and writes, not of frames. {session.status.notice}")
    write(player.record, "text", show_secrets, sys.stdout)


def _reread(session: LiveSession, player: Player, verdict: Verdict) -> None:
    from capture.analyzer import Analyzer
    from capture.record import Record
    from capture.sources.files import read

    path = session.status.recording
    if path is None:
        verdict.faults.append("Nothing was recorded.")
        return
    if path.exists() and not path.is_file():  # --record /dev/null: wanted so
        print(f"wiretalk: {path} is no file and was not read again.", file=sys.stderr)
        return
    again, analyzer = Record(), Analyzer()
    with read(path) as capture:
        for frame in capture:
            again.apply(analyzer.feed(frame))
    again.apply(analyzer.finish())
    if again.rows() != player.record.rows():
        verdict.faults.append(f"{path}, read again, gives other lines than were seen live.")


def _script(name: str) -> list[str]:
    """The lines of a script file, as typed: UTF-8, any line end. Raises `UnreadableCapture`."""
    from lab.connection import split_paste

    try:
        octets = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = octets.decode("utf-8-sig")  # a byte order mark is the editor's, not a line to send
    except OSError as error:
        raise UnreadableCapture(f"{name}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise WiretalkError(f"{name} is not UTF-8 text (octet {error.start}).") from error
    return split_paste(text)


# ── lab, doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────


def start_lab(command: Iterable[str], *, ipv6: bool, vrfy: bool, record: Path | None = None) -> int:
    """Run ``command`` on your-pc, or say who is where and stay until interrupted. Raises `WiretalkError`.

    record: every frame of your-pc's end of the wire goes to this file, ARP included.
    """
    from lab.laboratory import Lab

    argv = list(command)
    with Lab(ipv6=ipv6, vrfy=vrfy) as lab, _recording(lab, record):
        if argv:
            return _run_on_your_pc(lab, argv)
        return _stay(lab, ipv6)


@contextlib.contextmanager
def _recording(lab: Lab, path: Path | None) -> Iterator[None]:
    """Record your-pc's wire while the body runs; say at the end what was lost or went wrong."""
    if path is None:
        yield
        return
    from capture.export.pcapng import Recorder
    from capture.sources.sniffer import Sniffer

    with Recorder(path) as recorder:
        sniffer = Sniffer(lab.packet_socket(plan.YOUR_PC.name), ports=None, on_frames=recorder.write_all)
        sniffer.start()
        try:
            yield
        finally:
            time.sleep(LAST_FRAMES)
            sniffer.stop()
    lost = sniffer.statistics().lost
    print(f"wiretalk: {recorder.frames} frames, {lost} lost, in {path}", file=sys.stderr)
    if sniffer.failure is not None:
        raise sniffer.failure


def _run_on_your_pc(lab: Lab, argv: list[str]) -> int:
    """The command's own exit status; 126 and 127 as a shell gives them when it cannot be started."""
    try:
        return lab.interact(plan.YOUR_PC.name, argv)
    except (FileNotFoundError, PermissionError) as error:
        missing = isinstance(error, FileNotFoundError)
        print(f"wiretalk: {argv[0]}: {'no such program' if missing else 'cannot be run'}.", file=sys.stderr)
        return 127 if missing else 126


def _who_is_where(ipv6: bool) -> None:
    print("The lab is up: three hosts on a private wire. Ctrl-C ends it and leaves nothing behind.\n")
    services = {plan.SMTP: "SMTP", plan.POP3: "POP3", plan.DNS: "DNS"}
    for host in plan.HOSTS.values():
        address = f"{host.ipv4:<13}" + (f" {host.ipv6:<18}" if ipv6 else "")
        ports = ", ".join(f"{services[port]} on {port}" for port in host.ports) or "you type here"
        print(f"  {host.name:<9} {address} {host.mac}  {host.fqdn:<27} {ports}")
    print("\nMailboxes (user, password):")
    for domain, people, server in (
        (plan.STUDENT_DOMAIN, plan.STUDENTS, plan.MAILHOST),
        (plan.STAFF_DOMAIN, plan.STAFF, plan.SHANNON),
    ):
        for person in people.values():
            print(f"  {person.user + '@' + domain:<30} {person.password:<12} on {server.name}")
    print("\nFrom another terminal this lab cannot be entered; run programs in one of their own:")
    print("  wiretalk lab -- telnet shannon 25", flush=True)


def _stay(lab: Lab, ipv6: bool) -> int:
    """Say who is where, and stay until SIGINT or SIGTERM, or until a part of the lab ends."""
    stop = threading.Event()
    # Both by hand: a shell starts background commands with SIGINT ignored, and then Python would ignore it too.
    old = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _who_is_where(ipv6)
        while not stop.wait(0.5):
            if lab.failure:
                raise LabError("servers", lab.failure)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return ExitCode.OK


def start_doctor() -> int:
    """Print one row a finding. OK when the lab can start; PERMISSION when not."""
    from lab import probe
    from lab.isolation import STAGES

    findings = probe.doctor()
    wide = max(len(finding.stage) for finding in findings)
    for finding in findings:
        mark = "ok" if finding.ok else "NO"
        print(f"{mark}  {finding.stage:<{wide}}  {finding.reason}")
        if finding.remedy:
            print(f"    {'':<{wide}}  to mend it: {finding.remedy}")
    can_start = all(finding.ok for finding in findings if finding.stage in STAGES)
    return ExitCode.OK if can_start else ExitCode.PERMISSION
