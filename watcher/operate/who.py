"""Who gives the command: what is recorded of an operator, and whose files come of it.

Guarantees: what the superuser makes in a queue belongs to the user whose queue it is, so that a
daemon that runs as this user can go on with it.
"""

from __future__ import annotations

import codecs
import os
from typing import NamedTuple

from watcher.errors import one_line
from watcher.settle.settle import prepare
from watcher.spool.layout import OURS
from watcher.spool.spool import Spool


class Who(NamedTuple):
    """An operator."""

    user: str
    uid: int
    sudo: str = ""  # who became this user by sudo(8)

    def __str__(self) -> str:
        by = f" for {one_line(self.sudo)}" if self.sudo else ""
        return f"{self.user} (uid {self.uid}){by}"


def who() -> Who:
    """Return who runs this process."""
    import pwd

    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Who(user, uid, os.environ.get("SUDO_USER", ""))


def work_as_owner(spool: Spool) -> None:
    """Give up the superuser's rights for those of the user whose queue it is."""
    if os.geteuid() != 0:
        return
    status = spool.stat(OURS) or os.fstat(spool.fd)
    if status.st_uid != 0:
        prepare()  # this user may not be allowed to read the modules that are not imported yet
        codecs.lookup("ascii")
        os.setegid(status.st_gid)
        os.seteuid(status.st_uid)
