"""Move a done file into the archive, in the place of its unlink.

Guarantees: one rename, and only of the file that was claimed: a replacement that is moved in its
place goes back into the queue. Nothing is overwritten: a file whose name is taken gets a number.
The archive's directory is synced. The halves of a pair get the same number.
Fails: OSError or WatcherError. The file is then where it was, or in the archive and its directory
is not synced; the caller repeats the step, which finds that the file is gone from where it was.
"""

from __future__ import annotations

import contextlib
import errno
import os

from watcher.errors import NotPermitted, TryAgain
from watcher.rules.archived_names import ArchiveOptions
from watcher.rules.names import TRIES, display, free_number
from watcher.rules.pair_names import other_half_names
from watcher.settle.put_back import put_back
from watcher.spool import lease
from watcher.spool.archive import Archive
from watcher.spool.dirs import exists, inode_of
from watcher.spool.part import Part
from watcher.spool.spool import Spool


def drop(spool: Spool, part: Part, directory: int, archive: Archive | None) -> None:
    """Move a done file from `directory` to the archive; unlink it if there is none."""
    if archive is None:
        spool.disk.unlink(part.name, directory)
        return
    folder = archive.open_folder(spool)
    try:
        target = _move(spool, archive, part, directory, folder)
        if inode_of(target, folder) != part.ino:  # a replacement: not handled yet
            put_back(spool, target, folder, part.queue_name)
        elif spool.asks:  # the file stays: a process that opens it must not have to wait
            with contextlib.suppress(OSError):  # there may be no lease
                lease.give_back(part.fd)
        spool.disk.sync(folder)
    finally:
        os.close(folder)


def _move(spool: Spool, archive: Archive, part: Part, directory: int, folder: int) -> bytes:
    """Move the file; return its name in the archive."""
    name = part.queue_name
    options, raw = archive.options, spool.layout.raw
    number = 0 if raw else _number(options, name, folder, 0)
    for _ in range(TRIES):
        target = options.file_name(name, number)
        try:
            spool.disk.archive(part.name, directory, target, folder)
        except FileExistsError:
            number = _number(options, name, folder, number + 1, raw=raw)
        except PermissionError:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
                raise NotPermitted(f"{archive}: not writable for us") from None
            raise  # this file alone is refused
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise archive.crossing() from None
            raise
        else:
            return target
    raise TryAgain(f"{archive}: others take each name for {display(name)} before it can be had")


def _number(
    options: ArchiveOptions, name: bytes, folder: int, first: int, *, raw: bool = False
) -> int:
    """Return a number from `first` on that is free for a file, and for the other half of a pair.

    The `.db` of a pair gets the number of its message, which was moved before it.
    """
    others = () if raw else tuple(other_half_names(name))
    if name.endswith(b".db") and others:
        number = first
        while any(exists(options.file_name(other, number), folder) for other in others):
            if not exists(options.file_name(name, number), folder):
                return number
            number += 1
        others = ()
    names = (name, *others)
    return free_number(
        lambda n: any(exists(options.file_name(each, n), folder) for each in names), first
    )
