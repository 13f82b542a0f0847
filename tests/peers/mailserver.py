"""Postfix and Dovecot on mailhost: real servers in the lab's private mounts, the machine's own files untouched.

Claim: all of it lives in the lab and ends with it. What the packages keep in /etc, /var and /run is covered by tmpfs,
in the mount namespace of these servers alone; mailboxes and logs are in a directory of the test's. Postfix changes to
other users, so this needs root.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from lab.laboratory import Lab

ADDRESS, PASSWORD = "student@student.example", "talking"

_MAIN = """\
compatibility_level = 3.6
myhostname = mailhost.student.example
inet_interfaces = all
inet_protocols = ipv4
mydestination =
mynetworks = 127.0.0.0/8
smtpd_banner = $myhostname ESMTP Postfix
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:12345
smtp_dns_support_level = disabled
smtp_host_lookup = native
maillog_file_prefixes = {place}
maillog_file = {place}/postfix.log
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = student.example
virtual_mailbox_base = {place}
virtual_mailbox_maps = inline:{{student@student.example=student/}}
virtual_minimum_uid = 8
virtual_uid_maps = static:8
virtual_gid_maps = static:8
"""

_MASTER = """\
smtp inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

_DOVECOT = """\
protocols = pop3
listen = *
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:{place}/%n
first_valid_uid = 8
mail_uid = 8
mail_gid = 8
log_path = {place}/dovecot.log
passdb {{
  driver = static
  args = password={{plain}}talking
}}
userdb {{
  driver = static
  args = uid=8 gid=8 home={place}/%n
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = 12345
  }}
}}
"""

# No postfix-script: it checks the owners of the machine's files, which is nobody's business here.
_START = """\
set -e
cp /etc/postfix/dynamicmaps.cf /etc/postfix/postfix-files /dev/shm/
for place in /etc/postfix /etc/dovecot /var/spool/postfix /var/lib/postfix /var/lib/dovecot; do
    mount -t tmpfs -o mode=755 tmpfs "$place"
done
mkdir -p /run/dovecot && mount -t tmpfs -o mode=755 tmpfs /run/dovecot
mv /dev/shm/dynamicmaps.cf /dev/shm/postfix-files /etc/postfix/
printf %s "$MAIN" >/etc/postfix/main.cf
printf %s "$MASTER" >/etc/postfix/master.cf
printf %s "$DOVECOT" >/etc/dovecot/dovecot.conf
chown postfix:postfix /var/lib/postfix
cd /var/spool/postfix
for queue in active bounce corrupt defer deferred flush hold incoming private saved trace; do
    mkdir -m 700 "$queue"
    chown postfix "$queue"
done
mkdir -m 710 public
mkdir -m 1730 maildrop
mkdir pid
chown postfix:postdrop public maildrop
dovecot -F &
exec /usr/lib/postfix/sbin/master -d
"""


class MailServer:
    """Both servers of ``lab``, which has none of its own. place: an empty directory that everybody may enter."""

    def __init__(self, lab: Lab, place: Path) -> None:
        """Returns when both answer on mailhost. Raises `TimeoutError` with what they logged."""
        self._lab, self._place = lab, place
        place.chmod(0o755)
        (place / "student").mkdir()
        shutil.chown(place / "student", "mail", "mail")
        files = {"MAIN": _MAIN, "MASTER": _MASTER, "DOVECOT": _DOVECOT}
        lab.spawn(
            "mailhost", ["sh", "-c", _START], env={name: text.format(place=place) for name, text in files.items()}
        )
        deadline = time.monotonic() + 30
        for port, greeting in ((25, b"220 "), (110, b"+OK ")):
            while not self._greets(port, greeting):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nobody greets on port {port}: {self.log()}")
                time.sleep(0.05)

    def _greets(self, port: int, greeting: bytes) -> bool:
        with self._lab.socket("mailhost") as connection:
            connection.settimeout(5)
            try:
                connection.connect(("127.0.0.1", port))
                return connection.recv(512).startswith(greeting)
            except OSError:
                return False

    def log(self) -> str:
        """What the two wrote down, to be shown when a test fails."""
        return "".join(path.read_text() for path in sorted(self._place.glob("*.log")))

    def mailbox(self, count: int) -> list[bytes]:
        """The messages delivered, as soon as there are so many; oldest first."""
        deadline = time.monotonic() + 20
        while True:
            files = [path for kind in ("new", "cur") for path in (self._place / "student" / kind).glob("*")]
            if len(files) >= count:
                return [path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(files)} messages of {count}: {self.log()}")
            time.sleep(0.05)
