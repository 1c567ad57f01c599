"""Remove a file whose name a writer may use again at any moment (drop folders do that).

Between a look at a name and its unlink, a writer may rename a new file over the name; the unlink
would remove the new file. This module calls the new file the *replacement*. So the file is first
moved aside: renamed into the directory in `inflight/` that only this process uses. There its inode
number is checked. The file that was claimed is unlinked; a replacement goes back into the queue.

Two other files go back too. One is a file that a process has open for writing: the kernel is asked
in the process directory, where no writer's name leads to the file, so the answer is final. The
other is a file that no longer holds what the handler was given. A name that no writer uses again
(`Layout.is_unique_name`) needs no move: its file is checked and unlinked in the queue.

The times tell whether a file was written to: a write sets mtime and ctime. FTP clients set mtime
after the rename, so another mtime alone is not a write; and a writer may set mtime back. If either
time differs, the contents decide. If the handler read neither key nor message, the contents are not
known: then another mtime counts as a write, and another ctime alone (a mode, an owner, a link) does
not.

Guarantees: only the file that was claimed is removed, whatever other processes do. A file that a
crash left aside returns to the queue (`put_back`), as an entry like any other (at least once). If
a replacement has its name by then, `recovery` moves it to `deferred/`, where it keeps name and key.
Fails: OSError or WatcherError; the file is then in the queue, or aside, where a recovery finds it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from watcher.errors import NoSpace, WatcherError
from watcher.rules.evidence import Writer
from watcher.settle.archiving import drop
from watcher.settle.put_back import mark_as_written, put_back
from watcher.spool import lease
from watcher.spool.archive import Archive
from watcher.spool.dirs import inode_of, stat_or_none
from watcher.spool.part import Part
from watcher.spool.process_dir import ProcessDirectory, process_dir_for
from watcher.spool.spool import Spool

IsAsRead = Callable[[], bool | None]  # does a file hold what was handled? None: not known


def _not_known() -> bool | None:
    return None


def remove(
    spool: Spool,
    part: Part,
    is_as_read: IsAsRead | None = _not_known,
    archive: Archive | None = None,
) -> bool:
    """Remove the file that was claimed as `part`, if its name still leads to it.

    Returns False if the file was written to since it was claimed, or may be yet: then it stays in
    the queue, or goes back there in a way that does not look like a writer's rename. `is_as_read`
    None: the contents do not matter. The file is moved to `archive`, if one is given.
    """
    if part.directory is not None:  # names in a state directory are not used again
        return _remove_put_away(spool, part, part.directory, is_as_read, archive)
    if spool.layout.is_unique_name(part.name):
        return remove_in_place(spool, part, is_as_read, archive)
    directory = _process_dir_unless_full(spool)
    if directory is None:
        return remove_in_place(spool, part, is_as_read, archive, ask=True)
    left = directory.aside.take(part.name)
    gave_up = True  # until it is known that no file of this name is left aside
    try:
        removed = _remove_aside(spool, part, directory.fd, is_as_read, archive, left=left)
        gave_up = False
    finally:
        directory.aside.give_back(part.name, left=gave_up)
    if removed is None and directory is process_dir_for(spool, sure=True):
        return True  # the handler moved the file away
    return remove(spool, part, is_as_read, archive) if removed is None else removed


def remove_in_place(
    spool: Spool,
    part: Part,
    is_as_read: IsAsRead | None,
    archive: Archive | None,
    *,
    ask: bool = False,
) -> bool:
    """Remove a file in the queue, right after the check; `ask` the kernel for its writers first."""
    now = stat_or_none(part.name, spool.fd)
    if now is None or now.st_ino != part.ino:
        return True
    writer = Writer.NONE
    if ask and (writer := _writer(spool, part)) is Writer.NONE:
        lease.give_back(part.fd)
    if not _may_go(part, writer, now, now.st_ctime_ns, is_as_read):
        return False
    if archive is None:  # as `drop` does; the most frequent case has no call more
        spool.disk.unlink(part.name, spool.fd)
    else:
        drop(spool, part, spool.fd, archive)
    return True


def _remove_aside(
    spool: Spool,
    part: Part,
    directory: int,
    is_as_read: IsAsRead | None,
    archive: Archive | None,
    *,
    left: bool,
) -> bool | None:
    """Move a file aside and remove it; None if the file, or the process directory, is gone.

    `left`: a file of this name may still be aside, because the disk refused an earlier last step.
    """
    there = inode_of(part.name, directory) if left else None
    if there is not None and there != part.ino:
        put_back(spool, part.name, directory, part.name)  # the disk refused that last time
    if there == part.ino:  # the disk refused its unlink last time
        ctime_ns = os.fstat(part.fd).st_ctime_ns
    else:
        before = stat_or_none(part.name, spool.fd)
        if before is None:
            return None
        if before.st_ino != part.ino:
            return True  # a replacement stays: a move would change its times, which are evidence
        ctime_ns = before.st_ctime_ns
        try:
            spool.disk.move_aside(part.name, spool.fd, directory)
        except FileNotFoundError:
            return None
    writer = _writer(spool, part)
    now = os.stat(part.name, dir_fd=directory, follow_symlinks=False)
    is_claimed = now.st_ino == part.ino
    if is_claimed and _may_go(part, writer, now, ctime_ns, is_as_read):
        drop(spool, part, directory, archive)
        return True
    _put_back(spool, part, writer, directory, now)
    return not is_claimed


def _remove_put_away(
    spool: Spool,
    part: Part,
    directory: int,
    is_as_read: IsAsRead | None,
    archive: Archive | None,
) -> bool:
    """Remove a file in a state directory: no writer's name leads there.

    But a writer may have opened the file while it was in the queue.
    """
    now = stat_or_none(part.name, directory)
    if now is None or now.st_ino != part.ino:
        return True
    if spool.layout.is_unique_name(part.queue_name):
        drop(spool, part, directory, archive)
        return True
    writer = _writer(spool, part)
    now = os.fstat(part.fd)
    if _may_go(part, writer, now, now.st_ctime_ns, is_as_read):
        drop(spool, part, directory, archive)
        return True
    _put_back(spool, part, writer, directory, now)
    return False


def _writer(spool: Spool, part: Part) -> Writer:
    """Ask the kernel for a writer, and keep the lease for the short time until the unlink."""
    return lease.take(part.fd) if spool.asks else Writer.UNKNOWN


def _may_go(
    part: Part, writer: Writer, now: os.stat_result, ctime_ns: int, is_as_read: IsAsRead | None
) -> bool:
    """Whether no process writes to a file, and the file holds what was handled.

    `ctime_ns` is its ctime before this process moved it.
    """
    if writer is Writer.SOME or is_as_read is None:
        return writer is not Writer.SOME
    if now.st_size != part.size:
        return False
    if (now.st_mtime_ns, ctime_ns) == (part.mtime_ns, part.ctime_ns):
        return True
    known = is_as_read()
    return now.st_mtime_ns == part.mtime_ns if known is None else known


def _put_back(
    spool: Spool, part: Part, writer: Writer, directory: int, now: os.stat_result
) -> None:
    """Return the file whose status is `now` to the queue, with times that mislead no scan.

    A move sets the ctime, and a ctime later than the mtime means: renamed in after the last write.
    That is false for a file that was written to meanwhile, because its writer may write more. In a
    queue with markers the marker decides, and it must not become older than the file.
    """
    if writer is Writer.NONE:
        lease.give_back(part.fd)
    put_back(spool, part.name, directory, part.queue_name)
    written = (now.st_mtime_ns, now.st_size) != (part.mtime_ns, part.size)
    if now.st_ino == part.ino and written and not spool.layout.marker:
        mark_as_written(part.fd)


def usable(spool: Spool) -> None:
    """Raise now what `remove` would raise after the handler's work, so that it does not begin."""
    spool.check_archives()
    _process_dir_unless_full(spool)


def _process_dir_unless_full(spool: Spool) -> ProcessDirectory | None:
    """Return this process's directory; None if the disk or the quota is too full to make one.

    Then a done file is unlinked in the queue, right after the check: else a full disk would stay
    full. Not in the raw format, where names are used again. The error decides: statvfs(2) does not
    know quotas, nor everything else that a file system may run out of.
    """
    try:
        return process_dir_for(spool)
    except (OSError, WatcherError) as error:
        if spool.layout.raw or not (isinstance(error, NoSpace) or _no_space(error)):
            raise
        return None


def _no_space(error: OSError | WatcherError) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
