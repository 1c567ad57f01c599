"""Dovecot and Postfix of the distribution, in a directory of a test's own, on loopback ports.

Nothing of theirs outside that directory is read but their programs: each has its own configuration,
state, queue and log there. Each runs in a process namespace, so that a KILL of it ends all of its
processes at once, as a crash of the machine would.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.mail_server import certificate

PATIENCE = 30  # seconds
# `timeout` is the first process of the namespace, so all others die with it. It ends what a killed
# test run leaves; and Postfix, which changes its user, would not notice that unshare is killed.
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "timeout", "-s", "KILL", "600"]
UID = GID = 65_534  # of no person: what the servers deliver as


@functools.cache
def missing(program):
    """Return why a server cannot be started here, or ""."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which(program) is None:
        return f"there is no {program}: scripts/install_packages installs it"
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class RealServer:
    """One server. Its users may enter the directory, and deliver below `mail`."""

    program: list[str]
    ports: list[int]

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="watcher-mail-"))
        self.directory.chmod(0o755)
        self.mail = self.directory / "mail"
        self.mail.mkdir()
        os.chown(self.mail, UID, GID)
        self.process = None

    def start(self):
        """Start it; it listens when the call returns."""
        log = open(self.directory / "output", "ab")  # noqa: SIM115 - the child's
        with log:
            self.process = subprocess.Popen(
                [*NAMESPACE, *self.program], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        for port in self.ports:
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                assert self.process.poll() is None, self.log()
                time.sleep(0.02)
            else:
                raise AssertionError(self.log())

    def kill(self):
        """Kill all of its processes at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None

    def remove(self):
        self.kill()
        deadline = time.monotonic() + PATIENCE
        while self.directory.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.directory, ignore_errors=True)  # the last process may still write

    def log(self):
        return "".join(
            path.read_text(errors="replace")
            for path in (self.directory / "output", self.directory / "log")
            if path.exists()
        )

    def delivered(self, user):
        """Return the keys of the messages in a user's mailbox, sorted."""
        keys = []
        for folder in ("new", "cur"):
            for path in (self.mail / user / folder).glob("*"):
                lines = path.read_text(errors="replace").splitlines()
                keys += [line.split()[1] for line in lines if line.startswith("X-Watcher-Key: ")]
        return sorted(keys)


class Dovecot(RealServer):
    """Takes mail by LMTP at `address` and at the socket `path`, for the users that it is told."""

    def __init__(self):
        super().__init__()
        here = self.directory
        port = free_port()
        self.ports = [port]
        self.address, self.path = f"127.0.0.1:{port}", str(here / "run" / "lmtp")
        self.program = ["dovecot", "-F", "-c", str(here / "dovecot.conf")]
        (here / "dovecot.conf").write_text(
            f"""\
base_dir = {here}/run
state_dir = {here}/run
log_path = {here}/log
protocols = lmtp
ssl = no
default_vsz_limit = 128M
mail_location = maildir:{here}/mail/%u
mail_plugins = quota
first_valid_uid = 1
first_valid_gid = 1
userdb {{
  driver = passwd-file
  args = {here}/users
}}
passdb {{
  driver = static
  args = nopassword=y
}}
plugin {{
  quota = count:User quota
  quota_vsizes = yes
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0600
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""
        )
        self.users({})

    def users(self, quotas):
        """Say which users there are, and how much each may have (None: all)."""
        lines = []
        for user, quota in quotas.items():
            rule = f"userdb_quota_rule=*:storage={quota}" if quota else ""
            lines.append(f"{user}::{UID}:{GID}::{self.mail}/{user}::{rule}\n")
        (self.directory / "users.new").write_text("".join(lines))
        (self.directory / "users.new").rename(self.directory / "users")

    def start(self):
        # A lock file names its process, and every namespace has the same few numbers of processes.
        for stale in (*self.directory.glob("run/master.pid"), *self.mail.rglob("*.lock")):
            stale.unlink(missing_ok=True)
        super().start()


class Postfix(RealServer):
    """Takes mail by SMTP for ann and bob of example.org, and throws away that for other domains.

    `address` takes five recipients at a time and 100,000 bytes; `full` has no room; `slow` sleeps.
    """

    def __init__(self):
        super().__init__()
        here = self.directory
        self.ports = [free_port() for _ in range(3)]
        self.address, self.full, self.slow = (f"localhost:{port}" for port in self.ports)
        self.program = ["postfix", "-c", str(here / "etc"), "start-fg"]
        for name in ("etc", "spool", "data"):
            (here / name).mkdir()
        shutil.chown(here / "data", "postfix")
        self.certificate = f"{certificate(here / 'etc')}.crt"
        (here / "etc" / "main.cf").write_text(
            f"""\
compatibility_level = 3.6
queue_directory = {here}/spool
data_directory = {here}/data
maillog_file = {here}/log
maillog_file_prefixes = {here}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = test.example
mydestination =
alias_maps =
local_recipient_maps =
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.org
virtual_mailbox_base = {here}/mail
virtual_mailbox_maps = inline:{{ann@example.org=ann/, bob@example.org=bob/}}
virtual_uid_maps = static:{UID}
virtual_gid_maps = static:{GID}
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
default_transport = discard
smtpd_tls_chain_files = {here}/etc/localhost.pem
smtpd_tls_security_level = may
message_size_limit = 100000
smtpd_recipient_limit = 5
"""
        )
        usual, full, slow = self.ports
        (here / "etc" / "master.cf").write_text(
            f"""\
127.0.0.1:{usual} inet n - n - - smtpd
127.0.0.1:{full} inet n - n - - smtpd
  -o queue_minfree=999999999999999
127.0.0.1:{slow} inet n - n - - smtpd
  -o {{ smtpd_data_restrictions = sleep 9 }}
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
        )
