"""Symbolic links on the path of a queue: root follows no link that another user may change.

A user who owns the parent of a queue directory can replace the queue by a link to any directory of
the machine; root would hand the files there to a handler and remove them.
Guarantees: each link on the path belongs to root or to the owner of the directory that it leads to.
Fails: `foreign` raises OSError if the path cannot be followed.
"""

from __future__ import annotations

import os
import stat

_MOST = 40  # links, as in the kernel


def foreign(path: bytes, owner: int) -> bytes | None:
    """Return the first link on the path that belongs neither to root nor to `owner`; else None.

    If the path has more than `_MOST` links, return the path.
    """
    for _ in range(_MOST):
        found = _first_link(path)
        if found is None:
            return None
        link, rest = found
        if os.lstat(link).st_uid not in (0, owner):
            return link
        target = os.path.join(os.path.dirname(link), os.readlink(link))
        path = os.path.join(target, rest) if rest else target
    return path


def _first_link(path: bytes) -> tuple[bytes, bytes] | None:
    """Return the first symbolic link in a path, and what follows it."""
    parts = path.strip(b"/").split(b"/")
    for count in range(1, len(parts) + 1):
        upto = b"/" + b"/".join(parts[:count])
        if stat.S_ISLNK(os.lstat(upto).st_mode):
            return upto, b"/".join(parts[count:])
    return None
