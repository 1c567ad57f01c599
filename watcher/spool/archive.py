"""The archive of a queue: the open directory that handled entries are moved into.

A relative path is inside the queue directory. There, other users may be able to write, so each
directory on the way must be a real directory of this process's user (for root: of the queue's
owner) that no other user may write to, as the state directories are. It is made if it is missing.
An absolute path is the operator's word: it must exist, and links on the way are followed (root
follows none that another user may change).

Guarantees: a file can be moved there by one rename, as far as that can be known before. The queue
directory is never its own archive, no archive is a state directory, and with `archive_for` none is
a queue: the files in these were not handled. The target of a `move` handler is an archive, too, and
may be on another file system (`ArchiveOptions.crossing`). Threads may ask at the same time; each
gets a descriptor of its own.
Fails: WatcherError, which names the option; OSError from the calls on an open directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from watcher.errors import CannotCreate, NoSpace, NoSuch, NotPermitted, Unavailable, WatcherError
from watcher.rules.archived_names import DAY, ArchiveOptions, day_name
from watcher.rules.names import INFLIGHT, OURS, display
from watcher.spool import links, mounts, state_files
from watcher.spool.dirs import DIRECTORY, exists, open_dir, stat_or_none
from watcher.spool.disk import Disk

_READABLE = 0o755  # what a day's folder may have of the archive's own mode


class QueueDirectory(Protocol):
    """What an archive needs to know of its queue directory (`spool.Spool`)."""

    fd: int
    disk: Disk
    lock: threading.RLock
    identity: tuple[int, int]
    filesystem: str
    euid: int


class Archive:
    """The archive of one open queue directory. Its descriptors are closed with it."""

    def __init__(self, options: ArchiveOptions, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.options = options
        self.now_ns = now_ns
        # Under the spool's lock: the archive, under b"", and the folder of the last day.
        self._fds: dict[bytes, int] = {}

    def __del__(self) -> None:
        """Close the directories."""
        self._close()

    def __str__(self) -> str:
        """Return the option's value, for messages."""
        return f"{self.options.option} = {display(self.options.directory)}"

    def where(self) -> str:
        """Return where an entry goes that is handled now, for people."""
        day = b"/" + day_name(self.now_ns()) if self.options.dated else b""
        return display(self.options.directory + day)

    def open(self, spool: QueueDirectory) -> int:
        """Open the archive, for the caller to close."""
        with spool.lock:
            return os.dup(self._root(spool))

    def open_to_clear(self, spool: QueueDirectory) -> int:
        """Open the archive to remove old files, for the caller to close.

        Looks again for a queue there: its daemon may have started since the last look.
        """
        root = self.open(spool)
        try:
            self._refuse_unhandled(root)
        except BaseException:
            os.close(root)
            raise
        return root

    def open_folder(self, spool: QueueDirectory) -> int:
        """Open the directory for an entry that is handled now, for the caller to close."""
        with spool.lock:
            root = self._root(spool)
            return os.dup(self._day(spool, root) if self.options.dated else root)

    def open_day(self, spool: QueueDirectory, day: bytes) -> int:
        """Open the folder of a day, for the caller to close; of "" the archive itself.

        Raises OSError if there is no such folder, or it is not to be trusted.
        """
        root = self.open(spool)
        if not day:
            return root
        try:
            return state_files.open_directory(day, root)
        finally:
            os.close(root)

    def sync(self, spool: QueueDirectory) -> None:
        """Sync the archive, with the folders of this day and the day before."""
        root = self.open(spool)
        try:
            now = self.now_ns()
            for day in (day_name(now - DAY), day_name(now)) if self.options.dated else ():
                with contextlib.suppress(FileNotFoundError):
                    fd = open_dir(day, root)
                    try:
                        spool.disk.sync(fd)
                    finally:
                        os.close(fd)
            spool.disk.sync(root)
        finally:
            os.close(root)

    def check(self, spool: QueueDirectory) -> None:
        """Raise WatcherError if no entry could be archived now."""
        try:
            fd = self.open(spool)
            try:
                writable = os.access(".", os.W_OK | os.X_OK, dir_fd=fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._as_watcher_error(error) from None
        if not writable:
            raise NotPermitted(f"{self}: not writable for us; check its owner and mode")

    def _root(self, spool: QueueDirectory) -> int:
        """Return the descriptor of the archive, opened again if another directory has its path."""
        kept = self._fds.get(b"")
        if kept is not None and self._leads_to(spool, kept):
            return kept
        self._close()
        fd = self._open(spool)
        try:
            self._refuse_unfit(spool, fd)
        except BaseException:
            os.close(fd)
            raise
        self._fds[b""] = fd
        return fd

    def _day(self, spool: QueueDirectory, root: int) -> int:
        """Return the descriptor of the folder of this day, made if it does not exist."""
        day = day_name(self.now_ns())
        kept, now = self._fds.get(day), stat_or_none(day, root)
        if kept is not None and now is not None and os.path.samestat(now, os.fstat(kept)):
            return kept
        self._close(but=b"")
        mode = os.fstat(root).st_mode & _READABLE
        self._fds[day] = self._opened(spool, day, root, mode)
        return self._fds[day]

    def _leads_to(self, spool: QueueDirectory, kept: int) -> bool:
        path = self.options.directory
        with contextlib.suppress(OSError):
            now = os.stat(path, dir_fd=spool.fd, follow_symlinks=path[:1] == b"/")
            return os.path.samestat(now, os.fstat(kept))
        return False

    def _close(self, but: bytes | None = None) -> None:
        for name in [name for name in self._fds if name != but]:
            with contextlib.suppress(OSError):
                os.close(self._fds.pop(name))

    def _open(self, spool: QueueDirectory) -> int:
        path = self.options.directory
        if path[:1] == b"/":
            try:
                fd = os.open(path, DIRECTORY)
            except OSError as error:
                raise self._as_watcher_error(error) from None
            return fd
        fd = os.dup(spool.fd)
        for name in path.split(b"/"):
            parent = fd
            try:
                fd = self._opened(spool, name, parent, 0o700)
            finally:
                os.close(parent)
        return fd

    def _opened(self, spool: QueueDirectory, name: bytes, parent: int, mode: int) -> int:
        try:
            if stat_or_none(name, parent) is None:
                spool.disk.make_directory(name, parent, mode)
            return state_files.open_directory(name, parent)
        except state_files.Odd as error:
            raise NotPermitted(f"{self}: {display(name)}/ {error.strerror}") from None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise CannotCreate(
                    f"{self}: {display(name)} is no directory (a file or a link): move it away"
                ) from None
            raise self._as_watcher_error(error) from None

    def _refuse_unfit(self, spool: QueueDirectory, fd: int) -> None:
        """Raise if the open directory cannot be the archive of this queue."""
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == spool.identity:
            raise NotPermitted(f"{self}: that is the queue directory itself")
        if not self.options.crossing and not mounts.are_one(fd, spool.fd):
            raise self.crossing()
        self._refuse_unhandled(fd)
        untold = spool.filesystem in mounts.CTIME_LOST and not self.options.dated
        if untold and self.options.keep_for is not None:
            why = f"{spool.filesystem} does not store when a file was moved"
            raise Unavailable(f"archive_for: {why}: set archive_dated = true")
        path = self.options.directory
        if path[:1] == b"/" and spool.euid == 0:
            link = links.foreign(path, status.st_uid)
            if link is not None:
                raise NotPermitted(f"{self}: {display(link)} is a symbolic link of a user")

    def _refuse_unhandled(self, fd: int) -> None:
        """Raise if files that were not handled may be in a directory, by mistake or by a link."""
        outside = exists(b"../queue.json", fd) and exists(b"../" + INFLIGHT, fd)  # a `state_dir`
        if outside or OURS in _real_path(fd).split(b"/"):
            raise NotPermitted(f"{self}: that is a state directory of a queue: choose another one")
        if self.options.keep_for is not None and exists(OURS, fd):
            raise NotPermitted(
                f"{self}: archive_for would remove what waits there: it is a queue, too; choose"
                " another directory, or leave archive_for out"
            )

    def crossing(self) -> WatcherError:
        """Return the error for an archive that one rename cannot reach."""
        if self.options.crossing:  # the handler saw one file system: another mount came since
            return Unavailable(
                f"{self}: the kernel refuses a rename there (EXDEV): another mount came just now,"
                " or the two directories have different project quotas: choose another directory"
            )
        return Unavailable(
            f"{self}: it is on another file system than the queue (or another mount of it), so that"
            " no rename leads there: choose a directory beside or in the queue"
        )

    def _as_watcher_error(self, error: OSError) -> WatcherError:
        if error.errno == errno.ENOENT:
            return NoSuch(f"{self}: does not exist; make it first: mkdir")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return NotPermitted(f"{self}: cannot be used: {error.strerror}; check owner and mode")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(f"{self}: cannot be made: {error.strerror}; free some space")
        return Unavailable(f"{self}: cannot be used: {error.strerror}")


def _real_path(fd: int) -> bytes:
    """Return where an open directory is, without links; b"" if that is not known."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}".encode())
    except OSError:
        return b""
