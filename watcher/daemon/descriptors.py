"""Raise the limit on open files for a daemon of many queues.

Guarantees: the limit is raised by what the queues need and not further: commands inherit it, and
some programs close every number below it.
Fails: never; a queue that gets no descriptor is unhealthy, and says which limit it is.
"""

from __future__ import annotations

import contextlib
import resource

from watcher.batch import OF_BATCHED

OF_EACH = 8  # descriptors: four while nothing happens, the others for an entry in hand
OF_PROCESS = 256


def make_room(queues: int, batched: int = 0) -> None:
    """Raise the soft limit to what so many queues need, at most to the hard limit.

    `batched` is how many entries may be in hand in batches.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OF_PROCESS + OF_EACH * queues + OF_BATCHED * batched
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
