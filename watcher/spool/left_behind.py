"""State directories outside (`state_dir`) with entries of a queue directory that is gone.

Nothing of the watcher's keeps the directory of such a queue, so an rmdir(2) succeeds while entries
lie in deferred/, held/, dead/ or orphans/. With a path that is a pattern no queue has them then: no
command would show them, and no deferred one would be tried again.
Guarantees: only what the file `queue-directory` marks as a state directory is looked at. A queue
directory that is there, whether it matches or not, is none of these.
Fails: never; what cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator

from watcher.rules.names import STATE_DIRECTORIES, display
from watcher.spool.dirs import names_in, open_dir
from watcher.spool.state_home import queue_of_outside


def left_behind(base: bytes, levels: int, known: Collection[bytes]) -> str:
    """Say which state directories have entries of no queue; "" if there are none.

    `base` is the `state_dir` of a pattern with so many levels; what is `known`, relative to it, has
    its queue directory.
    """
    found = [path for path in _gone(base, levels, known) if _has_entries(path)]
    if not found:
        return ""
    first = found[0]
    queue = queue_of_outside(first) or b""
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return (
        f"{display(first)}: entries lie there{others}, and their queue directory {display(queue)}"
        " is gone: make it again, or they stay where they are"
    )


def _gone(base: bytes, levels: int, known: Collection[bytes]) -> Iterator[bytes]:
    """Yield the state directories whose queue directory does not exist."""
    level = [b""]
    for _ in range(levels):
        level = [os.path.join(above, name) for above in level for name in _names(base, above)]
    for below in level:
        if below not in known:
            path = os.path.join(base, below)
            queue = queue_of_outside(path)
            if queue is not None and not os.path.lexists(queue):
                yield path


def _has_entries(path: bytes) -> bool:
    places = STATE_DIRECTORIES.values()
    return any(name[:1] != b"." for place in places for name in _names(path, place))


def _names(base: bytes, below: bytes) -> list[bytes]:
    """Return the names in a directory, sorted; none if it cannot be read."""
    with contextlib.suppress(OSError):
        parent = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = open_dir(below or b".", parent)
        finally:
            os.close(parent)
        try:
            return sorted(names_in(fd))
        finally:
            os.close(fd)
    return []
