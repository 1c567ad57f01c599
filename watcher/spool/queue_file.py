"""Reads and writes `.watcher/queue.json`, in which a queue says what it is (`rules.queue_record`).

A file is believed if it is regular, has one name, and belongs to the queue's owner, to this
process's user or to root; and so does `.watcher` itself, which other users may not write to.
Guarantees: reading makes, changes and follows nothing, and reads at most `LARGEST` bytes. The file
is replaced whole, by a rename, and only if it says something else. What root writes belongs to the
owner of `.watcher`.
Fails: `read` raises NotBelieved, or BadConfiguration if a newer program wrote it; `keep` raises
BadConfiguration and the kernel's OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from watcher.errors import BadConfiguration, WatcherError
from watcher.rules.names import OURS, display
from watcher.rules.queue_record import (
    LARGEST,
    Damaged,
    Newer,
    QueueRecord,
    decode,
    differences,
    encode,
)
from watcher.spool.dirs import DIRECTORY, open_dir
from watcher.spool.spool import Spool
from watcher.spool.state_home import Outside

NAME = b"queue.json"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NONE = (errno.ENOENT, errno.ENOTDIR)


class NotBelieved(WatcherError):
    """There is a file, and it does not say what the queue is; the text says why, and what to do."""

    exit_code = os.EX_CONFIG


class Hidden(NotBelieved):
    """This process's user may not read `.watcher` or the file."""


def read(queue: bytes, outside: Outside | None = None) -> QueueRecord | None:
    """Return the record of the queue at a path; None if it has none."""
    place = OURS if outside is None else outside.path  # the queue's path may be a relative one
    shown = os.path.join(queue, place, NAME)
    try:
        fd = os.open(queue, DIRECTORY)
        try:
            root = open_dir(place, fd)
            try:
                return _read(root, {0, os.geteuid(), os.fstat(fd).st_uid}, shown)
            finally:
                os.close(root)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise _not_believed(error, shown) from None


def prepare_journal(spool: Spool, record: QueueRecord) -> None:
    """Make the directory of the journal, unless the queue records that its journal is there.

    If it cannot be made, the journal says so when it is written.
    """
    if not record.journal_dir or not spool.journal.enabled:
        return
    with contextlib.suppress(OSError, WatcherError):
        try:
            before = read(spool.path, spool.home.outside)
        except NotBelieved:
            before = None
        known = before is not None and before.journal_dir == record.journal_dir
        spool.journal_home.may_make = not known
        spool.journal_files()


def _with_journal_there(spool: Spool, record: QueueRecord, before: str) -> QueueRecord:
    """Return the record with the directory of the journal that is in use, or was before."""
    if not record.journal_dir or record.journal_dir == before:
        return record
    try:
        spool.journal_files()
    except (OSError, WatcherError):
        return record._replace(journal_dir=before)
    return record


def keep(spool: Spool, record: QueueRecord) -> str:
    """Write a queue's record, if it is another than before; return a line about the one before.

    A file that is not believed is replaced. A newer program's is not: raises BadConfiguration. A
    directory for the journal is recorded when it is in use.
    """
    root = spool.state_root()
    shown = os.path.join(spool.home.path, NAME)
    before: QueueRecord | None = None
    words = ""
    try:
        before = _read(root, {0, spool.euid, os.fstat(spool.fd).st_uid}, shown)
    except FileNotFoundError:
        pass
    except NotBelieved as error:
        words = str(error).partition(": the queue's daemon")[0]
    except OSError as error:
        words = f"{display(shown)}: {error.strerror}"
    record = _with_journal_there(spool, record, "" if before is None else before.journal_dir)
    if before == record:
        return ""
    if before is not None:
        words = f"{display(shown)} said {differences(before, record)}"
    spool.disk.write_record(NAME, root, encode(record))
    return f"{words}: it is written anew" if words else ""


def check_version(spool: Spool) -> None:
    """Raise BadConfiguration if a newer program made this queue."""
    try:
        read(spool.path, spool.home.outside)
    except NotBelieved:
        return


def _read(root: int, trusted: set[int], shown: bytes) -> QueueRecord:
    directory = os.fstat(root)
    if directory.st_uid not in trusted or directory.st_mode & _OTHERS_WRITE:
        why = f"its directory is user {directory.st_uid}'s, or others may write to it"
        raise NotBelieved(_unbelieved(shown, why))
    fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise NotBelieved(_unbelieved(shown, "not a regular file with one name"))
        if status.st_uid not in trusted:
            raise NotBelieved(_unbelieved(shown, f"it belongs to user {status.st_uid}"))
        if status.st_mode & _OTHERS_WRITE:
            raise NotBelieved(_unbelieved(shown, "others may write to it"))
        return decode(os.pread(fd, LARGEST + 1, 0))
    except Damaged as error:
        raise NotBelieved(_unbelieved(shown, f"damaged: {error}")) from None
    except Newer as error:
        raise BadConfiguration(
            f"{display(shown)}: {error}: a newer watcher made this queue; use that, or a newer one"
        ) from None
    finally:
        os.close(fd)


def _not_believed(error: OSError, shown: bytes) -> NotBelieved:
    if isinstance(error, PermissionError):
        return Hidden(_unbelieved(shown, "we may not read it"))
    why = "a symbolic link" if error.errno == errno.ELOOP else error.strerror or "cannot be read"
    return NotBelieved(_unbelieved(shown, why))


def _unbelieved(shown: bytes, why: str) -> str:
    cure = "the queue's daemon writes it anew when it starts; or remove it, and say --format"
    return f"{display(shown)}: not believed: {why}: {cure}"
