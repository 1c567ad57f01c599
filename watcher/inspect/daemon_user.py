"""The user whose daemon serves a queue, and what the mode bits allow this user.

If root checks another user's queue, root's own rights say nothing: the owner's rights count.
Guarantees: nothing is opened.
Fails: never.
"""

from __future__ import annotations

import os
import pwd
from typing import NamedTuple

_CAP_LEASE = 1 << 28  # capabilities(7)


class Viewer(NamedTuple):
    """The user that a daemon would run as."""

    uid: int
    gids: frozenset[int]
    any_lease: bool  # CAP_LEASE: leases on other users' files, too

    @property
    def name(self) -> str:
        """The user's name, or number."""
        return user(self.uid)

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """Whether this user has all the rights `wanted` (os.R_OK, W_OK, X_OK) to a file."""
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            granted = status.st_mode >> 6
        elif status.st_gid in self.gids:
            granted = status.st_mode >> 3
        else:
            granted = status.st_mode
        return granted & wanted == wanted


def viewer_of(directory: os.stat_result) -> Viewer:
    """Return the user whose daemon serves a queue: this one, or for root the directory's owner."""
    us = os.geteuid()
    if us != 0 or directory.st_uid == 0:
        return Viewer(us, frozenset((os.getegid(), *os.getgroups())), has_cap_lease() is True)
    try:
        found = pwd.getpwuid(directory.st_uid)
        gids = os.getgrouplist(found.pw_name, found.pw_gid)
    except KeyError:
        gids = [directory.st_gid]
    return Viewer(directory.st_uid, frozenset(gids), any_lease=False)


def user(uid: int) -> str:
    """Return a user's name, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def has_cap_lease(pid: int | None = None) -> bool | None:
    """Whether a process, or this one, has CAP_LEASE; None where /proc does not say."""
    try:
        process = "self" if pid is None else pid
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as lines:
            effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
        return bool(int(effective, 16) & _CAP_LEASE)
    except (OSError, ValueError, IndexError, StopIteration):
        return None
