"""List the files of a queue and of its state and process directories, for the audit.

Guarantees: nothing is opened but directories.
Fails: PermissionError or another OSError if a directory cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from watcher.inspect.same_entry import QUEUE, stem_of
from watcher.rules.age import SECOND
from watcher.rules.names import INFLIGHT, STATE_DIRECTORIES, is_stored
from watcher.spool.birth import birth_of
from watcher.spool.dirs import open_dir, scan_dir, stat_or_none
from watcher.spool.spool import Spool


class File(NamedTuple):
    """A file in the queue or in a directory of `.watcher`."""

    place: bytes
    name: bytes
    directory: int
    path: bytes  # from `directory`

    def written(self) -> float | None:
        """Return its latest mtime, which a copy keeps; None if the file is gone.

        Some programs keep whole seconds only.
        """
        status = stat_or_none(self.path, self.directory)
        if status is None:
            return None
        whole = status.st_mtime_ns % SECOND == 0
        return status.st_mtime + 1.0 if whole else status.st_mtime

    def birth(self) -> int | None:
        """Return its time of birth in ns, None if the file system has none."""
        return birth_of(self.path, self.directory)


class Disk(NamedTuple):
    """The files of the queue: by inode, and the NAMEs of all."""

    by_inode: dict[int, File]
    by_name: set[bytes]


def look(spool: Spool, state_root: int) -> Disk:
    """List the files of the queue and of the directories in `.watcher`."""
    by_inode = {
        inode: file
        for inode, file in _files(spool.fd, state_root)
        if is_stored(file.name, spool.layout) or not file.place
    }
    return Disk(by_inode, {stem_of(file.name, spool.layout) for file in by_inode.values()})


def _files(queue: int, state_root: int) -> Iterator[tuple[int, File]]:
    for name, inode in _names(queue, b"."):
        yield inode, File(QUEUE, name, queue, name)
    places = [(state, state) for state in STATE_DIRECTORIES.values()]
    processes = _names(state_root, INFLIGHT, directories=True)
    places += [(INFLIGHT, os.path.join(INFLIGHT, process)) for process, _ in processes]
    for place, path in places:
        for name, inode in _names(state_root, path):
            yield inode, File(place, name, state_root, os.path.join(path, name))


def _names(
    directory: int, path: bytes, *, directories: bool = False
) -> Iterator[tuple[bytes, int]]:
    """Yield name and inode of the regular files of a directory, or of its directories."""
    try:
        fd = open_dir(path, directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for item in scan_dir(fd):
            kind = item.is_dir if directories else item.is_file
            if kind(follow_symlinks=False):
                yield os.fsencode(item.name), item.inode()
    finally:
        os.close(fd)
