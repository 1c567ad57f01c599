"""Where the `.watcher` of a queue lies: in the queue, or in a directory outside it (`state_dir`).

A program that mirrors a folder copies or removes what it finds there, `.watcher` too. So the state
directories of such a queue lie elsewhere, on the same file system: entries get there by rename(2).
Guarantees: a directory outside serves one queue. A file in it, `queue-directory`, names that queue,
and a directory that names another one is not used. Neither is one that has other files. While an
entry lies in the queue's own `.watcher`, no directory outside is used: that entry would be
forgotten.
Fails: OSError, or BadConfiguration with what to do.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from watcher.errors import BadConfiguration
from watcher.rules.names import INFLIGHT, OURS, STATE_DIRECTORIES, display
from watcher.spool import links, mounts, state_files
from watcher.spool.dirs import DIRECTORY, names_in, open_dir, stat_or_none
from watcher.spool.disk import Disk

MARK = b"queue-directory"
_OWN_FILES = (b"journal", b"last-daemon.json", b"paused", b"queue.json")
_KNOWN = frozenset({INFLIGHT, *_OWN_FILES, *STATE_DIRECTORIES.values()})
LONGEST = 8192  # bytes of a path in it


class Outside(NamedTuple):
    """A state directory outside its queue."""

    base: bytes  # must exist
    below: bytes  # below it, made if need be: one component, or one for each level of a pattern

    @property
    def path(self) -> bytes:
        """The state directory itself."""
        return os.path.join(self.base, self.below)


def queue_of_outside(path: bytes) -> bytes | None:
    """Return the queue whose state directory a directory outside is; None if it is none."""
    try:
        fd = os.open(path, DIRECTORY)
    except OSError:
        return None
    try:
        return state_files.read(MARK, fd, LONGEST).removesuffix(b"\n")
    except OSError:
        return None
    finally:
        os.close(fd)


class StateHome:
    """Finds and opens the state directory of one queue.

    Attributes
    ----------
    path:    of the state directory, to be shown
    outside: where it was configured to lie, None: in the queue
    queue:   the descriptor of the queue; its owner owns the state directory
    """

    def __init__(self, queue: int, queue_path: bytes, outside: Outside | None) -> None:
        self.queue = queue
        self.path = os.path.join(queue_path, OURS) if outside is None else outside.path
        self.name = os.path.basename(self.path)
        self._queue_path = queue_path
        self.outside = outside
        self._parent = queue if outside is None else -1  # the directory that it lies in

    def __del__(self) -> None:
        """Close the descriptor, if it is this object's own."""
        if self.outside is not None and self._parent >= 0:
            with contextlib.suppress(OSError):
                os.close(self._parent)

    @property
    def label(self) -> str:
        """The state directory for a line of `check`."""
        return ".watcher/" if self.outside is None else f"{display(self.path)}/"

    def parent(self, disk: Disk | None = None) -> int:
        """Return the descriptor of the directory that it lies in, made if `disk` is given."""
        if self._parent < 0 and self.outside is not None:
            self._parent = self._open_parent(self.outside, disk)
        return self._parent

    def _open_parent(self, outside: Outside, disk: Disk | None) -> int:
        try:
            parent = os.open(outside.base, DIRECTORY)
        except FileNotFoundError:
            raise BadConfiguration(
                f"{display(outside.base)}: state_dir: does not exist; make it: mkdir -p"
            ) from None
        try:
            self._check(outside, parent)
            for name in os.path.dirname(outside.below).split(b"/"):
                if name:
                    above, parent = parent, self._level(name, parent, disk)
                    os.close(above)
        except BaseException:
            os.close(parent)
            raise
        return parent

    @staticmethod
    def _level(name: bytes, parent: int, disk: Disk | None) -> int:
        if disk is not None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
            disk.sync(parent)
        return open_dir(name, parent)

    def _check(self, outside: Outside, base: int) -> None:
        """Raise BadConfiguration if entries could not be moved there, or would be forgotten."""
        shown = display(outside.path)
        if os.geteuid() == 0:
            owner = os.fstat(self.queue).st_uid
            if (link := links.foreign(outside.base, owner)) is not None:
                raise BadConfiguration(
                    f"{shown}: state_dir: {display(link)} is a symbolic link of a user; name the"
                    " directory itself"
                )
        queue = os.path.realpath(self._queue_path)
        if os.path.commonpath([queue, os.path.realpath(outside.path)]) == queue:
            raise BadConfiguration(
                f"{shown}: state_dir: expected a directory outside the queue"
                f" {display(self._queue_path)}"
            )
        if not mounts.are_one(self.queue, base):
            raise BadConfiguration(
                f"{shown}: state_dir: expected a directory on the file system of"
                f" {display(self._queue_path)}: entries are moved there by rename(2)"
            )
        if left := self._left_inside():
            raise BadConfiguration(
                f"{shown}: state_dir: entries lie in {display(left)}: stop what serves the queue,"
                f" then: mv {display(os.path.join(self._queue_path, OURS))} {shown}"
            )

    def _left_inside(self) -> bytes | None:
        """Return a directory of the queue's own `.watcher` in which an entry lies."""
        inflight = os.path.join(OURS, INFLIGHT)
        processes = [os.path.join(INFLIGHT, process) for process in self._names(inflight)]
        for place in (*STATE_DIRECTORIES.values(), *processes):
            # In a process directory: a replacement that has not gone back into the queue yet.
            if any(name[:1] != b"." for name in self._names(os.path.join(OURS, place))):
                return os.path.join(self._queue_path, OURS, place)
        return None

    def _names(self, place: bytes) -> list[bytes]:
        """Return the names in a directory of the queue; none if it cannot be read."""
        with contextlib.suppress(OSError):
            fd = open_dir(place, self.queue)
            try:
                return list(names_in(fd))
            finally:
                os.close(fd)
        return []

    def stat(self, name: bytes = b"") -> os.stat_result | None:
        """Return the status of the state directory, or of a name in it; None if not there."""
        try:
            parent = self.parent()
        except FileNotFoundError:
            return None
        return stat_or_none(os.path.join(self.name, name) if name else self.name, parent)

    def open(self, name: bytes = b"") -> int:
        """Open the state directory, or a directory in it, for the caller to close."""
        root = open_dir(self.name, self.parent())
        try:
            self._check_mark(root)
            return os.dup(root) if not name else open_dir(name, root)
        finally:
            os.close(root)

    def make(self, disk: Disk) -> int:
        """Open the state directory, made if need be, for the caller to close."""
        parent = self.parent(disk)
        disk.make_directory(self.name, parent)
        root = state_files.open_directory(self.name, parent, self.queue)
        try:
            if not self._check_mark(root) and self.outside is not None:
                self._mark(disk, root)
        except BaseException:
            os.close(root)
            raise
        return root

    def _check_mark(self, root: int) -> bool:
        """Whether the state directory names this queue; raise BadConfiguration if another one."""
        if self.outside is None:
            return False
        try:
            named = state_files.read(MARK, root, LONGEST).removesuffix(b"\n")
        except FileNotFoundError:
            return False
        if os.path.realpath(named) != os.path.realpath(self._queue_path):
            raise BadConfiguration(
                f"{display(self.path)}: state_dir: belongs to the queue {display(named)}, not to"
                f" {display(self._queue_path)}; if that queue was moved here, remove"
                f" {display(os.path.join(self.path, MARK))}"
            )
        return True

    def _mark(self, disk: Disk, root: int) -> None:
        names = set(names_in(root))
        if names and names.isdisjoint(_KNOWN):
            raise BadConfiguration(
                f"{display(self.path)}: state_dir: expected a directory for this queue alone;"
                f" there is {display(min(names))} in it"
            )
        try:
            disk.write_note(MARK, root, os.path.realpath(self._queue_path) + b"\n")
        except FileExistsError:  # another process was quicker
            self._check_mark(root)
