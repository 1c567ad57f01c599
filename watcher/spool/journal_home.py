"""Where the journal of one queue lies: in `.watcher`, or in a directory outside it (`journal_dir`).

A journal on another disk is still there if the queue's disk is lost, or a backup is restored.
Guarantees: a directory outside has the journal of one queue. A file in it, `queue-directory`, names
that queue; without it, or if it names another one, nothing is written there. A process that serves
the queue makes it, once: if the queue records that its journal was there, a directory without the
file is taken for a disk that is not mounted, and no second journal is begun.
Fails: JournalUnreachable, an OSError whose text says what to do.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading

from watcher.errors import WatcherError
from watcher.rules.journal_keep import DEFAULT, Keep
from watcher.rules.names import Layout, display
from watcher.spool import links, state_files
from watcher.spool.dirs import DIRECTORY, names_in, open_dir
from watcher.spool.disk import DISK
from watcher.spool.journal_rotation import JournalFiles
from watcher.spool.state_home import LONGEST, MARK, Outside

_KNOWN = re.compile(rb"journal(\..+)?")  # may be in it before the mark: an operator moved them


class JournalUnreachable(OSError):
    """The directory of the journal cannot be used; the text says why, and what to do."""

    def __init__(self, path: bytes, why: str) -> None:
        super().__init__(f"{display(path)}: journal_dir: {why}")


class JournalHome:
    """Finds and opens the directory of the journal of one queue.

    `queue` is the descriptor of the queue, `lock` the spool's. Workers, the daemon's thread, and
    the end of the spool call it.
    """

    def __init__(
        self, queue: int, queue_path: bytes, layout: Layout, lock: threading.RLock
    ) -> None:
        self._fd = -1
        self._before: list[int] = []  # other threads may still use these
        self.outside: Outside | None = None  # None: in `.watcher`
        self.keep: Keep = DEFAULT
        self.may_make = False  # the queue does not record that its journal is there
        self._layout = layout
        self._queue_path = queue_path
        status = os.fstat(queue)
        self._owner = status.st_uid
        self._lock = lock

    def __del__(self) -> None:
        """Close the descriptors."""
        for fd in (*self._before, self._fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def use(self, outside: Outside | None, keep: Keep, *, may_make: bool = False) -> None:
        """Have the journal there from now on."""
        with self._lock:
            if outside != self.outside:
                self._forget()
            self.outside, self.keep, self.may_make = outside, keep, may_make

    def files(self, state_root: int) -> JournalFiles:
        """Return where the files of the journal are; `state_root` is `.watcher`."""
        outside = self.outside
        directory = state_root if outside is None else self._kept(outside)
        return JournalFiles(directory, state_root, self._layout, self.keep)

    def _kept(self, outside: Outside) -> int:
        """Return the descriptor of the directory, opened again if the path leads to another one."""
        with self._lock:
            if self._fd >= 0:
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(outside.path), os.fstat(self._fd)):
                        return self._fd
                self._forget()
            try:
                self._fd = self._open(outside)
            except JournalUnreachable:
                raise
            except FileNotFoundError:  # the directory, or the one above it
                why = "does not exist: mount its disk, or make it: mkdir -p"
                raise JournalUnreachable(outside.path, why) from None
            except (OSError, WatcherError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise JournalUnreachable(outside.path, f"cannot be used: {why}") from None
            self.may_make = False  # if it goes away now, no other one is begun in its place
            return self._fd

    def _forget(self) -> None:
        if self._fd >= 0:
            self._before.append(self._fd)
        self._fd = -1

    def _open(self, outside: Outside) -> int:
        self._check_path(outside)
        parent = os.open(outside.base, DIRECTORY)
        try:
            *levels, name = outside.below.split(b"/")
            for level in levels:
                self._make(level, parent, 0o755)
                above, parent = parent, open_dir(level, parent)
                os.close(above)
            self._make(name, parent, 0o700)
            fd = self._opened(name, parent)
        finally:
            os.close(parent)
        try:
            self._check_mark(outside.path, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _make(self, name: bytes, parent: int, mode: int) -> None:
        if self.may_make:
            DISK.make_directory(name, parent, mode)

    def _opened(self, name: bytes, parent: int) -> int:
        """Open the directory; it belongs to this process's user or, for root, to the queue's."""
        queue = os.open(self._queue_path, DIRECTORY)
        try:
            return state_files.open_directory(name, parent, queue)
        finally:
            os.close(queue)

    def _check_path(self, outside: Outside) -> None:
        queue = os.path.realpath(self._queue_path)
        if os.path.commonpath([queue, os.path.realpath(outside.path)]) == queue:
            why = f"expected a directory outside the queue {display(self._queue_path)}"
            raise JournalUnreachable(outside.path, why)
        if os.geteuid() == 0 and (link := links.foreign(outside.base, self._owner)) is not None:
            why = f"{display(link)} is a symbolic link of a user; name the directory itself"
            raise JournalUnreachable(outside.path, why)

    def _check_mark(self, path: bytes, fd: int) -> None:
        """Raise if the directory is not of this queue; mark it if it may be made."""
        queue = os.path.realpath(self._queue_path)
        mark = display(os.path.join(path, MARK))
        cure = f"realpath {display(self._queue_path)} > {mark}"
        try:
            named = state_files.read(MARK, fd, LONGEST).removesuffix(b"\n")
        except FileNotFoundError:
            if not self.may_make:
                why = f"has no journal of this queue: mount its disk; or begin one there: {cure}"
                raise JournalUnreachable(path, why) from None
        else:
            if os.path.realpath(named) != queue:
                why = f"has the journal of {display(named)}; if that queue was moved here: {cure}"
                raise JournalUnreachable(path, why)
            return
        if other := [name for name in names_in(fd) if not _KNOWN.fullmatch(name)]:
            why = f"expected a directory for this journal alone; there is {display(min(other))}"
            raise JournalUnreachable(path, why)
        with contextlib.suppress(FileExistsError):  # another process of the queue was quicker
            DISK.write_note(MARK, fd, queue + b"\n")
