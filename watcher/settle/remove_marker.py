"""Remove a marker with its entry, so that it never completes a later file of the entry's name.

A writer may use the name again: it writes a new `report.csv`, then gives a new `report.csv.done`.
What happens on disk, in this order:

    an entry is done                       | it goes to a state directory
    ---------------------------------------|------------------------------------------------
    the marker goes aside                  | the entry moves
    the entry goes aside, and is looked at | the marker goes aside
    the entry is unlinked                  | the marker is unlinked
    the marker is unlinked                 |

*Aside* is this process's directory in `inflight/`. A done entry's marker goes first: with the
marker gone a half-written file that takes the entry's name is not complete. An entry that was not
handled goes first: a writer may take the marker's absence for leave to write into the entry.

If another file has the entry's name, or the entry was written to, the marker may be that one's:
then it was written to after the other file last changed, and goes back.

Guarantees: a marker is removed only with its entry. After a crash `put_back_markers` knows from the
marker that is aside what to do (`recovery`).
Fails: `remove_marked` as `unlink.remove`; the marker is then aside, or in the queue.
`forget_marker` never: a marker that cannot be removed stays, and is reported.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable

from watcher.errors import WatcherError
from watcher.rules.companions import is_of_newer
from watcher.rules.kinds import Kind
from watcher.spool.dirs import exists, names_in, stat_or_none
from watcher.spool.marker_files import marker_status
from watcher.spool.part import Part
from watcher.spool.process_dir import process_dir_for
from watcher.spool.spool import Spool


def remove_marked(spool: Spool, part: Part, remove: Callable[[], bool]) -> bool:
    """Remove a done entry in the queue by `remove`, and its marker; return what `remove` returns.

    It returns False if the file was written to meanwhile, and stays.
    """
    marker = spool.layout.marker_of(part.name)
    directory = process_dir_for(spool, sure=True)
    directory.aside.take(marker)  # of two workers with files of this name, one at a time
    is_aside, went_back = True, False
    try:
        moment_ns = _move_aside(spool, marker, directory.fd)
        is_aside = moment_ns is not None
        if moment_ns is not None and _is_of_another(spool, part, moment_ns):
            _return(spool, marker, directory.fd)
            is_aside, went_back = False, True
        removed = remove()
        if is_aside:
            _drop(spool, marker, directory.fd)
            is_aside = False
    finally:
        directory.aside.give_back(marker, left=is_aside)
    if went_back and removed and not exists(part.name, spool.fd):
        forget_marker(spool, part.name)  # it went back for a file that was not another one
    return removed


def forget_marker(spool: Spool, entry: bytes, *, put_back: bool = False) -> None:
    """Remove the marker of an entry that has left the queue, unless it is another file's by now.

    `put_back`: this process moved that other file and put it back, which changed its ctime.
    """
    layout = spool.layout
    if not layout.marker or marker_status(layout, spool.fd, entry) is None:
        return
    with contextlib.suppress(OSError, WatcherError):
        marker = layout.marker_of(entry)
        directory = process_dir_for(spool, sure=True)
        directory.aside.take(marker)
        try:
            moment_ns = _move_aside(spool, marker, directory.fd)
            if moment_ns is not None:
                _settle(spool, entry, directory.fd, moment_ns, put_back=put_back)
        finally:
            left = exists(marker, directory.fd)
            directory.aside.give_back(marker, left=left)


def put_back_markers(spool: Spool, directory: int) -> None:
    """Settle the markers that a dead process left aside; raises OSError.

    The process died between two steps of the table above. An entry that was in hand is in
    `deferred/` by now, where it needs no marker. If a file has the entry's name in the queue, the
    marker goes back to it if it is that file's.
    """
    if not spool.layout.marker:
        return
    for marker in [name for name in names_in(directory) if is_marker(spool, name)]:
        entry, there = spool.layout.entry_beside(marker), stat_or_none(marker, directory)
        if entry is not None and there is not None and not exists(entry, directory):
            _settle(spool, entry, directory, there.st_mtime_ns)


def covers(spool: Spool, part: Part, directory: int) -> bool:
    """Whether the marker that a dead process left aside completes the file aside beside it.

    The file's move aside changed its ctime; its mtime tells when it was last written to.
    """
    marker = spool.layout.marker_of(part.name)
    there = stat_or_none(marker, directory) if marker else None
    return there is not None and is_of_newer(part.mtime_ns, there.st_mtime_ns)


def is_marker(spool: Spool, name: bytes) -> bool:
    """Whether a file in a process directory is a marker."""
    return spool.layout.kind(name) is Kind.MARKER


def _move_aside(spool: Spool, marker: bytes, directory: int) -> int | None:
    """Move a marker aside; return when it was given, in nanoseconds, None if there is none.

    That is its ctime before the move, which changes it, or its mtime, if it was written to since. A
    marker that a refused step left aside is overwritten: the one in the queue is the newer one.
    """
    now = stat_or_none(marker, spool.fd)
    if now is not None and stat.S_ISREG(now.st_mode):
        with contextlib.suppress(FileNotFoundError):
            spool.disk.move_aside(marker, spool.fd, directory)
    there = stat_or_none(marker, directory)
    if there is None:
        return None
    before_ns = now.st_ctime_ns if now is not None and now.st_ino == there.st_ino else 0
    return max(before_ns, there.st_mtime_ns)


def _is_of_another(spool: Spool, part: Part, moment_ns: int) -> bool:
    """Whether a marker that went aside was given for another file than the claimed one.

    The entry is looked at after the marker went: if it is unchanged now, the marker is its own.
    """
    now = stat_or_none(part.name, spool.fd)
    if now is None or (now.st_ino, now.st_ctime_ns) == (part.ino, part.ctime_ns):
        return False
    return is_of_newer(now.st_ctime_ns, moment_ns)


def _settle(
    spool: Spool, entry: bytes, directory: int, moment_ns: int, *, put_back: bool = False
) -> None:
    """Give a marker that is aside to the file that now has the entry's name, or unlink it."""
    marker = spool.layout.marker_of(entry)
    now = stat_or_none(entry, spool.fd)
    if now is not None:
        changed_ns = min(now.st_mtime_ns, now.st_ctime_ns) if put_back else now.st_ctime_ns
        if is_of_newer(changed_ns, moment_ns):
            _return(spool, marker, directory)
            return
    _drop(spool, marker, directory)


def _return(spool: Spool, marker: bytes, directory: int) -> None:
    """Return a marker to the queue; if a newer one is there, unlink this one."""
    with contextlib.suppress(FileExistsError):
        spool.disk.move(marker, directory, marker, spool.fd)
        return
    _drop(spool, marker, directory)


def _drop(spool: Spool, marker: bytes, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        spool.disk.unlink(marker, directory)
