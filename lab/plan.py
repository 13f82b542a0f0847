"""Who is who in the lab: hosts, addresses, names, people and ports, in one place, as data.

Everything else in `lab/` and the tests reads it here; nobody writes an address twice. Addresses are of RFC 5737 and
RFC 3849 (documentation), names end in ``.example`` (RFC 6761), MACs are locally administered, so nothing of the lab
can be mistaken for the world.
"""

from __future__ import annotations

from dataclasses import dataclass

SMTP, POP3, DNS = 25, 110, 53


@dataclass(frozen=True, slots=True)
class Host:
    """A host on the private wire: short name, full domain name, addresses, MAC, and the TCP ports it answers on."""

    name: str
    fqdn: str
    ipv4: str
    ipv6: str
    mac: str
    ports: tuple[int, ...] = ()


YOUR_PC = Host("your-pc", "your-pc.student.example", "192.0.2.10", "2001:db8:25::10", "02:00:00:00:00:10")
SHANNON = Host("shannon", "shannon.cs.utwente.example", "192.0.2.25", "2001:db8:25::25", "02:00:00:00:00:25", (SMTP,))
MAILHOST = Host(
    "mailhost", "mailhost.student.example", "192.0.2.110", "2001:db8:25::110", "02:00:00:00:01:10", (SMTP, POP3, DNS)
)
HOSTS: dict[str, Host] = {host.name: host for host in (YOUR_PC, SHANNON, MAILHOST)}


@dataclass(frozen=True, slots=True)
class Person:
    """A mailbox: local part, password for POP3, full name (VRFY shows it)."""

    user: str
    password: str
    name: str


STUDENT_DOMAIN = "student.example"  # its mail is on mailhost
STAFF_DOMAIN = "cs.utwente.example"  # its mail is on shannon
STUDENTS: dict[str, Person] = {
    p.user: p for p in (Person("student", "talking", "Stu Dent"), Person("anna", "layers", "Anna Log"))
}
STAFF: dict[str, Person] = {
    p.user: p for p in (Person("teacher", "osi-7", "Tess Teacher"), Person("postmaster", "postmaster", "Post Master"))
}
MOVED: dict[str, str] = {"pras": f"teacher@{STAFF_DOMAIN}"}  # a staff user who moved: RCPT and VRFY answer 551
LISTS: dict[str, tuple[str, ...]] = {"students": tuple(f"{user}@{STUDENT_DOMAIN}" for user in STUDENTS)}  # for EXPN
POLICY_WORD = "X-Policy-Test"  # a header field of this name is refused after DATA: 554 Transaction failed


def is_of_the_lab(name: str) -> bool:
    """Whether ``name`` is a host of the lab: short or full name in any case (RFC 1035 2.3.3), or an address of it.

    The addresses are documentation's (RFC 5737, RFC 3849), so they are nobody's outside.
    """
    wanted = name.rstrip(".").lower()
    return any(wanted in (host.name, host.fqdn, host.ipv4, host.ipv6) for host in HOSTS.values())
