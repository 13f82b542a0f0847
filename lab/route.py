"""Which interface leads to an address: the one to sniff when talking to a host outside the lab."""

from __future__ import annotations

import socket

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError


def interface_towards(address: str) -> str | None:
    """The name of the interface the kernel routes ``address`` through (``lo`` for one's own), or None: no route.

    A scope (``fe80::1%eth0``) names the interface itself.
    """
    address, _, scope = address.partition("%")
    if scope:
        return scope
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with IPRoute() as routes:
            found = list(routes.route("get", dst=address, family=family))
    except (NetlinkError, OSError):
        return None
    index = found[0].get_attr("RTA_OIF") if found else None
    return socket.if_indextoname(index) if index else None
