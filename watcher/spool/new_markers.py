"""Give markers to entries that were just committed, if the queue has markers.

Guarantees: no file is overwritten. An entry without its marker is not complete, so what got none
may be removed again: no process has taken it.
Fails: never; what stopped it is returned.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from watcher.rules.companions import parsed
from watcher.spool.disk import give

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_markers(
    directory: int, entries: Sequence[bytes], template: bytes
) -> tuple[list[bytes], OSError | None]:
    """Make the markers of entries, in their order; return them, and what stopped it.

    The entries without a marker are removed.
    """
    made: list[bytes] = []
    for number, entry in enumerate(entries):
        marker = parsed(template).name_for(entry)
        try:
            fd = os.open(marker, _NEW, 0o660, dir_fd=directory)
        except OSError as error:
            for left in entries[number:]:
                with contextlib.suppress(OSError):
                    os.unlink(left, dir_fd=directory)
            return made, error
        made.append(marker)
        with contextlib.suppress(OSError):  # a marker of root's counts as well
            give(fd, directory)
        os.close(fd)
    return made, None
