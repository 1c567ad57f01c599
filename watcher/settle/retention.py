"""Remove from an archive what was archived longer ago than `archive_for`, a few files at a time.

It removes regular files in the archive itself and in its folders of a day (YYYY-MM-DD), also those
that an operator put there, once they are older than the limit (`is_expired`); then
the empty folders of a day. Nothing else: no link, no other folder, and nothing in one.
Guarantees: nothing in a queue or in a state directory is removed, whatever `archive` says. No
symbolic link is followed, and nothing outside the archive's file system is listed. A file whose age
is not known is not removed: after a step of the clock nothing is removed for a day (or for the
limit, if that is shorter), because the step may be a mistake. A file is removed under a claim, so
that no new file of its name is, if `requeue` takes the old one out of the archive meanwhile.
Fails: OSError or WatcherError if the archive cannot be listed; a file that cannot be removed stays.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator

from watcher.rules.age import SECOND, Ages, Clock
from watcher.rules.archived_names import DAY, ArchiveOptions, day_begin, is_expired
from watcher.rules.names import OURS
from watcher.spool.dirs import exists, inode_of, names_in, open_dir, scan_dir, stat_or_none
from watcher.spool.spool import Spool

BATCH = 256  # files that are looked at
LONGEST = 0.01  # seconds for one batch, unless a single call takes longer
_AFTER_STEP = 86_400.0  # seconds


class Retention:
    """The removal of old files from the archive of one queue. One thread calls it."""

    def __init__(self, clock: Clock) -> None:
        self.removed = 0  # files, in this pass
        self._clock = clock
        self._ages = Ages(clock)
        self._pause_until = 0.0
        self._pass: Iterator[None] | None = None

    def batch(self, spool: Spool, files: int = BATCH, seconds: float = LONGEST) -> bool:
        """Look at some files; return True if there are more. The next call after False begins anew.

        The pass ends at an error.
        """
        archive = spool.archive
        if archive is None or archive.options.keep_for is None:
            return False
        mono = self._clock.mono() / SECOND
        if self._ages.notice_step():
            self._pause_until = mono + min(_AFTER_STEP, archive.options.keep_for)
        if mono < self._pause_until:
            self._pass = None
            return False
        if self._pass is None:
            self.removed = 0
            self._pass = self._look(spool, archive.open_to_clear(spool), archive.options)
        deadline = time.monotonic() + seconds
        try:
            for _ in range(files):
                next(self._pass)
                if time.monotonic() > deadline:
                    break
        except StopIteration:
            self._pass = None
        except BaseException:
            self._pass = None
            raise
        return self._pass is not None

    def _look(self, spool: Spool, root: int, options: ArchiveOptions) -> Iterator[None]:
        """Look at each file of the archive, and yield after each; closes `root`."""
        keep_ns = round((options.keep_for or 0.0) * SECOND)
        days: list[tuple[int, bytes]] = []
        try:
            for item in scan_dir(root):
                name = os.fsencode(item.name)
                begin = day_begin(name)
                if begin is not None and item.is_dir(follow_symlinks=False):
                    days.append((begin, name))
                else:
                    self._remove_if_old(spool, root, name, None, keep_ns)
                yield
            for begin, name in sorted(days):
                if self._clock.real() - begin > keep_ns:
                    yield from self._look_at_day(spool, root, name, begin, keep_ns)
        finally:
            os.close(root)

    def _look_at_day(
        self, spool: Spool, root: int, day: bytes, begin: int, keep_ns: int
    ) -> Iterator[None]:
        try:
            fd = open_dir(day, root)
        except OSError:
            return  # it is gone, or another user's
        try:
            if os.fstat(fd).st_dev != spool.identity[0] or exists(OURS, fd):  # a queue, too
                return
            for name in names_in(fd):
                self._remove_if_old(spool, fd, name, begin, keep_ns)
                yield
        finally:
            os.close(fd)
        if self._clock.real() - begin - DAY > keep_ns:
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(day, dir_fd=root)

    def _remove_if_old(
        self, spool: Spool, directory: int, name: bytes, begin: int | None, keep_ns: int
    ) -> None:
        with contextlib.suppress(OSError):
            now = stat_or_none(name, directory)
            if now is None or not stat.S_ISREG(now.st_mode):
                return
            if is_expired(now.st_ctime_ns, begin, self._clock.real(), keep_ns):
                self.removed += _unlink(spool, directory, name, now.st_ino)


def _unlink(spool: Spool, directory: int, name: bytes, inode: int) -> bool:
    """Remove a file that nothing has claimed, if it is still the one with this inode number."""
    disk = spool.disk
    try:
        fd = (disk.open_writable if spool.write_to_lock else disk.open)(name, directory)
    except PermissionError:  # nor can `requeue` claim what this user may not open
        disk.unlink(name, directory)
        return True
    try:
        disk.lock(fd)
        if os.fstat(fd).st_ino != inode or inode_of(name, directory) != inode:
            return False
        disk.unlink(name, directory)
    finally:
        os.close(fd)  # ends the claim
    return True
