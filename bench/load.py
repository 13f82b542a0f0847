"""The load: real SMTP traffic of two programs over a private wire, captured once and kept.

Claim: nothing in it is forged. Postfix's smtp-source talks to its smtp-sink across a veth pair in network namespaces of
their own, tcpdump writes what passes: 38,000 sessions, 1.3 million frames, 780 MB. Of this three files are made:

* ``smtp.pcap``: as it was captured;
* ``tenth.pcap``: its first tenth, to see how time grows;
* ``mixed.pcap``: the same frames, but 99 of 100 conversations are no mail: they go to port 443, and every octet of
  their user data is another one, for wiretalk knows mail by what is said.

They lie in ``$WIRETALK_BENCH`` or ``/var/tmp/wiretalk-bench``, never in the repository.
"""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import subprocess
from pathlib import Path

PLACE = Path(os.environ.get("WIRETALK_BENCH", "/var/tmp/wiretalk-bench"))
SESSIONS = ((30_000, 6_000), (8_000, 60_000))  # how many messages of how many octets
KEPT_OF = 100  # one conversation in so many stays mail in the mixed capture

_TOOLS = ("smtp-source", "smtp-sink", "tcpdump", "unshare", "nsenter", "ip", "ethtool")
_WHERE = (os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/lib/postfix/sbin")
_LEAST = 1_000_000  # frames; fewer mean that tcpdump lost some or a session failed

_RECIPE = """
set -eu
ip link set lo up
ip link add name eth0 type veth peer name eth1
unshare -n sleep 3600 & there=$!
trap 'kill $there $sink $dump 2>/dev/null || true' EXIT
sink= dump=
until [ "$(readlink /proc/$there/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set eth1 netns $there
ip addr add 192.0.2.10/24 dev eth0
ip link set eth0 up
ethtool -K eth0 tso off gso off gro off
nsenter -t $there -n ip addr add 192.0.2.25/24 dev eth1
nsenter -t $there -n ip link set eth1 up
nsenter -t $there -n ethtool -K eth1 tso off gso off gro off
nsenter -t $there -n smtp-sink -u nobody 192.0.2.25:25 200 & sink=$!
tcpdump -i eth0 -s 0 -B 262144 -Z root -w "$OUT" tcp port 25 2>"$OUT.log" & dump=$!
until grep -q listening "$OUT.log" && nsenter -t $there -n sh -c 'grep -q ":0019 " /proc/net/tcp'; do
    kill -0 $dump $sink
    sleep 0.05
done
while read -r messages octets; do
    smtp-source -s 4 -m "$messages" -l "$octets" -f a@example.org -t b@example.net 192.0.2.25:25
done
sleep 2
kill -INT $dump
wait $dump
dump=
"""


FILES = {name: PLACE / f"{name}.pcap" for name in ("smtp", "tenth", "mixed")}


def load() -> dict[str, Path]:
    """The three `FILES`, made if they are not there.

    Raises SystemExit with a sentence when a program that makes them is missing, or it takes root to make them.
    """
    PLACE.mkdir(parents=True, exist_ok=True)
    files = FILES
    if not files["smtp"].exists():
        _capture(files["smtp"])
    for name, make in (("tenth", _tenth), ("mixed", _mixed)):
        if not files[name].exists():
            part = files[name].with_suffix(".part")
            part.write_bytes(make(files["smtp"].read_bytes()))
            part.rename(files[name])
    return files


def frames(path: Path) -> int:
    """How many frames a capture of ours holds."""
    return len(_starts(path.read_bytes())) - 1


def main() -> None:
    """Make what is not there, and say how much it is."""
    files = load()
    print(f"{frames(files['smtp'])} frames, {files['smtp'].stat().st_size >> 20} MiB")


def _capture(path: Path) -> None:
    where = os.pathsep.join(_WHERE)
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=where) is None]
    if missing:
        raise SystemExit(
            f"the load cannot be made: {', '.join(missing)} not installed (Debian: postfix, which need not be started; "
            "tcpdump, util-linux, iproute2, ethtool)"
        )
    if os.geteuid() != 0:
        raise SystemExit("the load can only be made by root, once: smtp-sink and tcpdump change to users of their own")
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    environment = {**os.environ, "PATH": where, "OUT": str(part)}
    argv = ["unshare", "-n", "sh", "-c", _RECIPE]
    sessions = "".join(f"{messages} {octets}\n" for messages, octets in SESSIONS)
    subprocess.run(argv, env=environment, input=sessions, text=True, check=True)
    if (count := frames(part)) < _LEAST:
        raise SystemExit(f"only {count} frames were captured, of more than {_LEAST}: see {part}")
    part.rename(path)
    part.with_suffix(".part.log").unlink()


def _starts(data: bytes) -> list[int]:
    """Where each record begins, and where the last one ends."""
    starts, at, captured = [], 24, struct.Struct("=8xI").unpack_from
    while at + 16 <= len(data):
        starts.append(at)
        at += 16 + captured(data, at)[0]
    return [*starts, at]


def _tenth(data: bytes) -> bytes:
    starts = _starts(data)
    return data[: starts[len(starts) // 10]]


def _mixed(data: bytes) -> bytes:
    other = bytes(octet ^ 0x55 for octet in range(256))
    mixed = bytearray(data)
    starts = _starts(data)
    for start, end in itertools.pairwise(starts):
        tcp = start + 16 + 34  # the frames are Ethernet, IPv4 without options, TCP
        sport, dport = struct.unpack_from(">HH", data, tcp)
        if (max(sport, dport) >> 1) % KEPT_OF:
            struct.pack_into(">H", mixed, tcp + (0 if sport == 25 else 2), 443)
            body = tcp + (data[tcp + 12] >> 4 << 2)
            mixed[body:end] = mixed[body:end].translate(other)
    return bytes(mixed)


if __name__ == "__main__":
    main()
