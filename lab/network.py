"""The private wire: three hosts, each a network namespace held as a descriptor, on one bridge of real Ethernet.

Claim: what a packet socket on it sees is what a cable would carry: frames of at most 1514 octets, checksums right,
MACs fixed, and nothing that the lab's hosts did not say (no IPv6 chatter unless asked for, no spanning tree).
Rule: nothing is named outside and nothing touches the disk; when the last descriptor goes, the wire is gone.

    wire namespace   br0 ── your-pc, shannon, mailhost   (one end of each veth pair)
    host namespace   eth0 (the other end), lo
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab import kernel
from lab.plan import HOSTS, Host

WIRE = "wire"  # the name under which the bridge's own namespace is reached
INTERFACE = "eth0"
MTU = 1500
_PREFIX4, _PREFIX6 = 24, 64
_NODAD = 0x02  # IFA_F_NODAD: the address is usable at once
_FORWARDING = 3  # BR_STATE_FORWARDING
_LINK_DEADLINE = 5.0  # seconds


class Network:
    """Built and owned by one single-threaded process that is root of its user namespace.

    ``low_ports``: an ordinary uid may bind ports below 1024. False where the kernel's switch cannot be written
    (a container with a read-only ``/proc/sys``): servers then need CAP_NET_BIND_SERVICE.
    """

    def __init__(self, ipv6: bool = False) -> None:
        self.ipv6 = ipv6
        self.low_ports = True
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._namespaces: dict[str, int] = {WIRE: self._home}

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Everything the caller does meanwhile happens in ``host`` (``wire`` is the bridge's side)."""
        self.enter(host)
        try:
            yield
        finally:
            kernel.setns(self._home)

    def enter(self, host: str) -> None:
        """Move the caller into ``host`` for good: for a child that is about to exec."""
        kernel.setns(self._namespaces[host])

    def open_socket(self, host: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket made in ``host``; it stays there for life, whoever holds it."""
        with self.inside(host):
            return socket.socket(family, kind, protocol)

    def build(self) -> None:
        """Namespaces, bridge, pairs, addresses; returns when every port forwards. Raises `OSError`."""
        from pyroute2 import IPRoute  # 100 ms; after the stages that may fail faster
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            _hush(ipv6=False)
            with IPRoute() as wire:
                wire.link("add", ifname="br0", kind="bridge", br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0)
                bridge = wire.link_lookup(ifname="br0")[0]
                wire.link("set", index=bridge, state="up")
                for host in HOSTS.values():
                    self._plug(wire, bridge, host)
                self._await_forwarding(wire)
        except NetlinkError as error:  # its errno hides in .code
            raise OSError(error.code, str(error)) from error

    def _plug(self, wire: Any, bridge: int, host: Host) -> None:
        from pyroute2 import IPRoute

        with self.inside(WIRE):
            kernel.unshare(kernel.NEWNET)
            self._namespaces[host.name] = namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        peer = {"ifname": INTERFACE, "net_ns_fd": namespace, "address": host.mac, "mtu": MTU}
        wire.link("add", ifname=host.name, kind="veth", mtu=MTU, peer=peer)
        port = wire.link_lookup(ifname=host.name)[0]
        wire.link("set", index=port, master=bridge)
        kernel.offloads_off(host.name)
        wire.link("set", index=port, state="up")
        with self.inside(host.name):
            _hush(self.ipv6)
            self.low_ports &= _set("net/ipv4/ip_unprivileged_port_start", 0)
            kernel.offloads_off(INTERFACE)
            with IPRoute() as inside:
                loopback, ethernet = (inside.link_lookup(ifname=name)[0] for name in ("lo", INTERFACE))
                inside.link("set", index=loopback, state="up")
                inside.addr("add", index=ethernet, address=host.ipv4, prefixlen=_PREFIX4)
                if self.ipv6:
                    inside.addr("add", index=ethernet, address=host.ipv6, prefixlen=_PREFIX6, flags=_NODAD)
                inside.link("set", index=ethernet, state="up")

    def _await_forwarding(self, wire: Any) -> None:
        """The kernel tells a bridge of its ports' carrier a little later; a frame sent before that is lost."""
        deadline = time.monotonic() + _LINK_DEADLINE
        while waiting := [host for host in HOSTS if not _forwards(wire, host)]:
            if time.monotonic() > deadline:
                raise OSError(errno.ENETDOWN, f"no carrier on the port of {', '.join(waiting)}")
            select.select([], [], [], 0.0005)


def _forwards(wire: Any, host: str) -> bool:
    (link,) = wire.get_links(ifname=host)
    details = link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
    return bool(link.get_attr("IFLA_CARRIER")) and bool(details.get_attr("IFLA_BRPORT_STATE") == _FORWARDING)


def _hush(ipv6: bool) -> None:
    """In the caller's network namespace, before a link comes up: no word on the wire that nobody asked for."""
    if not ipv6:
        for scope in ("all", "default"):
            _set(f"net/ipv6/conf/{scope}/disable_ipv6", 1)
        return
    if not os.path.exists("/proc/sys/net/ipv6"):
        raise OSError(errno.EAFNOSUPPORT, "this kernel has no IPv6")
    for scope in ("all", "default"):
        _set(f"net/ipv6/conf/{scope}/disable_ipv6", 0)
    for name, value in (("accept_dad", 0), ("router_solicitations", 0), ("accept_ra", 0)):
        _set(f"net/ipv6/conf/{INTERFACE}/{name}", value)


def _set(path: str, value: int) -> bool:
    """Write a sysctl of the caller's network namespace. False where it is absent or may not be written."""
    try:
        with open(f"/proc/sys/{path}", "w", encoding="ascii") as file:
            file.write(str(value))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM):
            return False
        raise
    return True
