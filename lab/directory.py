"""Who is who for one mail host: an address in, what the host does with it out.

Claim: RCPT, VRFY, EXPN and delivery all ask here, so they cannot disagree. Data from `lab.plan`; no lookup goes on the
wire (what a *foreign* domain does with its mail, only its exchanger can tell, and that is asked when relaying).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab import plan, zone
from lab.address import Mailbox
from lab.plan import Host, Person

POSTMASTER = "postmaster"  # every host that takes mail has one (RFC 5321 4.5.1)


class Kind(enum.Enum):
    """What the host does with mail for an address."""

    LOCAL = "delivered here"
    LIST = "a mailing list kept here"
    MOVED = "was here, has another address now"
    UNKNOWN = "would be here, but there is no such user"
    REMOTE = "of another host of the lab: relayed"
    FOREIGN = "of a domain that the lab does not have: relaying denied"


@dataclass(frozen=True, slots=True)
class Directory:
    """The mailboxes of one host.

    domains: names whose mail is delivered here, the first one the name of the users, in lower case.
    people: by local part; moved: local part → new address; lists: local part → member addresses.
    """

    host: Host
    domains: tuple[str, ...]
    people: Mapping[str, Person]
    moved: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def kind(self, address: Mailbox) -> Kind:
        """What becomes of mail for ``address``."""
        if not self.is_local(address.domain):
            return Kind.REMOTE if zone.has(address.domain) else Kind.FOREIGN
        user = address.user
        if user in self.people:
            return Kind.LOCAL
        if user in self.moved:
            return Kind.MOVED
        return Kind.LIST if user in self.lists else Kind.UNKNOWN

    def is_local(self, domain: str) -> bool:
        """Whether mail for ``domain``, a name or an address literal, is delivered here."""
        return domain.lower() in self.domains or domain.lower() in (f"[{self.host.ipv4}]", f"[ipv6:{self.host.ipv6}]")

    def address(self, user: str) -> str:
        """The address of a local user."""
        return f"{user}@{self.domains[0]}"

    def find(self, text: str) -> list[Person]:
        """The people here whom a VRFY string may mean: the one with that local part, else all whose name has it."""
        wanted = text.lower()
        if wanted in self.people:
            return [self.people[wanted]]
        return [person for person in self.people.values() if wanted and wanted in person.name.lower()]


def of(host: Host) -> Directory:
    """The directory of a host of the lab that takes mail. Raises `KeyError` for one that takes none."""
    return {
        plan.SHANNON.name: Directory(
            plan.SHANNON,
            (plan.STAFF_DOMAIN, plan.SHANNON.fqdn),
            plan.STAFF,
            plan.MOVED,
            plan.LISTS,
        ),
        plan.MAILHOST.name: Directory(
            plan.MAILHOST,
            (plan.STUDENT_DOMAIN, plan.MAILHOST.fqdn),
            {**plan.STUDENTS, POSTMASTER: plan.STAFF[POSTMASTER]},
        ),
    }[host.name]


def full_name(address: str) -> str:
    """The name of the person with this address, wherever the mailbox is, or empty."""
    user, _, domain = address.partition("@")
    people = {plan.STAFF_DOMAIN: plan.STAFF, plan.STUDENT_DOMAIN: plan.STUDENTS}.get(domain, {})
    return people[user].name if user in people else ""
