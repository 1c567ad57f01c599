"""The operator that runs a command, and the user whose rights the command uses.

Guarantees: files that root makes in a queue belong to the queue's owner, so that a daemon of this
user can work with them.
Fails: OSError if the kernel refuses the change of user.
"""

from __future__ import annotations

import codecs
import os
from typing import NamedTuple

from watcher.errors import one_line
from watcher.settle.moves import prepare
from watcher.spool.spool import Spool


class Operator(NamedTuple):
    """An operator."""

    user: str
    uid: int
    sudo: str = ""  # the user who ran sudo(8)

    def __str__(self) -> str:
        by = f" for {one_line(self.sudo)}" if self.sudo else ""
        return f"{self.user} (uid {self.uid}){by}"


def current_operator() -> Operator:
    """Return the user of this process."""
    import pwd

    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Operator(user, uid, os.environ.get("SUDO_USER", ""))


def work_as_self() -> None:
    """Change back to root, if `work_as_owner` changed from it: another queue comes."""
    if os.getuid() == 0 and os.geteuid() != 0:
        os.seteuid(0)
        os.setegid(os.getgid())


def work_as_owner(spool: Spool) -> None:
    """Change from root to the user who owns the queue."""
    if os.geteuid() != 0:
        return
    status = spool.home.stat() or os.fstat(spool.fd)
    if status.st_uid != 0:
        prepare()  # this user may not be allowed to read the modules that are not imported yet
        codecs.lookup("ascii")
        os.setegid(status.st_gid)
        os.seteuid(status.st_uid)
