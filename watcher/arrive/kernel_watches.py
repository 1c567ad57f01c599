"""The watches that the kernel lists for an inotify descriptor: `/proc/self/fdinfo/FD`, proc(5).

Guarantees: what is listed is what the kernel has, whatever this process remembers. However many
watches there are, their listing takes one part in `SHARE` of the time.
Fails: never; None if the kernel lists nothing of the kind (no /proc, another kernel).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

LISTED_FOR = 0.1  # seconds: many queues are looked at in one wake-up ...
SHARE = 100  # ... and a long listing is believed for longer
_MOVED_TO = 0x80  # IN_MOVED_TO

_LINE = re.compile(rb"^inotify wd:([0-9a-f]+) .*?\bmask:([0-9a-f]+)", re.MULTILINE)


def masks_in(text: bytes) -> dict[int, int]:
    """Return the mask of each watch in the text of such a file, by watch descriptor."""
    return {int(watch, 16): int(mask, 16) for watch, mask in _LINE.findall(text)}


def listed(fd: int) -> dict[int, int] | None:
    """Return the mask of each watch of an inotify descriptor, by watch descriptor."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            return masks_in(file.read())
    except OSError:
        return None


class KernelWatches:
    """Which queues' watches the kernel lists, of one inotify descriptor; the caller has a lock."""

    def __init__(self) -> None:
        self._queues: dict[int, bool] = {}  # by tag
        self._until = 0.0  # when the listing must be read again (monotonic)
        self._lists = False  # whether the kernel ever listed a watch

    def forget(self) -> None:
        """Note that watches change: the listing must be read again."""
        self._until = 0.0

    def has(self, tag: int, fd: int, tags: Mapping[int, int]) -> bool | None:
        """Whether the kernel lists a queue's watch for renames into it; None if it cannot be told.

        `tags` are those of the queues, by watch descriptor.
        """
        began = time.monotonic()
        if began >= self._until:
            masks = listed(fd)
            self._lists = self._lists or bool(masks)
            self._queues = {}
            if masks is not None and self._lists:
                for watch, of_queue in tags.items():
                    self._queues[of_queue] = bool(masks.get(watch, 0) & _MOVED_TO)
            now = time.monotonic()
            self._until = now + max(LISTED_FOR, SHARE * (now - began))
        return self._queues.get(tag)
