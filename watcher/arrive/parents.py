"""The directories in which queues come and go, and the events of them.

Guarantees: an overflow of the kernel's queue is a change of every directory. One thread uses it.
Fails: `watch` returns why a directory cannot be watched; `Parents()` raises WatchFailed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from watcher.arrive.inotify import (
    COMES_AND_GOES,
    HEADER,
    IGNORED,
    ISDIR,
    OVERFLOW,
    READ,
    add_watch,
    new_instance,
    remove_watch,
)
from watcher.errors import WatchFailed
from watcher.rules.names import display


class Change(NamedTuple):
    """A name that came to a directory or went from it; without a name: look at the whole of it."""

    directory: str
    name: bytes = b""
    is_directory: bool = True


class Parents:
    """The directories in which queues come and go, in an inotify instance of their own.

    A directory may be a queue and the parent of queues; the kernel keeps one watch for a directory
    in each instance, so both in one instance would change each other's mask. Only the daemon's
    thread uses it.
    """

    def __init__(self) -> None:
        self._manager, self._fd = new_instance()
        self._watches: dict[str, int] = {}  # by directory
        self._directories: dict[int, str] = {}  # the other way round

    def fileno(self) -> int:
        """Return the inotify descriptor."""
        return self._fd

    def watch(self, directories: Iterable[str]) -> dict[str, str]:
        """Watch these directories and no others; return why, for each that cannot be watched."""
        wanted, failed = set(directories), {}
        for directory in self._watches.keys() - wanted:
            self._forget(directory)
        for directory in wanted:  # also those that are watched: a path may lead elsewhere by now
            try:
                number = self._add(directory)
            except WatchFailed as error:
                failed[directory] = str(error)
                continue
            if self._watches.get(directory, number) != number:
                self._forget(directory)
            self._watches[directory], self._directories[number] = number, directory
        return failed

    def watches(self, directory: str) -> bool:
        """Whether a directory is watched."""
        return directory in self._watches

    def _add(self, directory: str) -> int:
        shown = os.fsencode(directory)
        try:
            fd = os.open(shown, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise WatchFailed(f"{display(shown)}: cannot be watched ({error.strerror})") from None
        try:  # by descriptor: the name needs no encoding
            return add_watch(self._manager, f"/proc/self/fd/{fd}", shown, COMES_AND_GOES)
        finally:
            os.close(fd)

    def _forget(self, directory: str) -> None:
        number = self._watches.pop(directory)
        if number in self._watches.values():  # by another path, through a symbolic link
            return
        self._directories.pop(number, None)
        remove_watch(self._manager, number)

    def read(self) -> list[Change]:
        """Return what changed, without waiting; an overflow is a change of every directory."""
        try:
            data = os.read(self._fd, READ)
        except BlockingIOError:
            return []
        changes, offset = [], 0
        while offset < len(data):
            number, mask, _cookie, length = HEADER.unpack_from(data, offset)
            name = data[offset + HEADER.size : offset + HEADER.size + length].rstrip(b"\0")
            offset += HEADER.size + length
            if mask & OVERFLOW:
                changes += [Change(directory) for directory in self._watches]
            elif (directory := self._directories.get(number)) is not None:
                if mask & IGNORED and self._watches.get(directory) == number:
                    self._forget(directory)
                changes.append(Change(directory, name, bool(not name or mask & ISDIR)))
        return changes

    def close(self) -> None:
        """Close the descriptor, and the watches with it."""
        self._manager.close()
