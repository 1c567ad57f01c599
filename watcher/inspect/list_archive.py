"""List the entries in the archive of a queue: those that were handled and kept.

Guarantees: nothing is made, opened for writing or moved; memory for one entry at a time. In the
queue directory no link is followed, because other users may be able to write there.
Fails: NoSuch if there is no archive; NotPermitted or Unavailable if it cannot be opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator

from watcher.errors import NoSuch, NotPermitted, Unavailable
from watcher.inspect.list_entries import EntryInfo
from watcher.inspect.notes_view import files_of, is_file, look, stem_of, with_metadata
from watcher.rules.archived_names import DAY, ArchiveOptions, day_begin
from watcher.rules.lifecycle import State
from watcher.rules.names import OURS, display
from watcher.rules.pair_names import message_names
from watcher.spool.dirs import DIRECTORY, open_dir
from watcher.spool.spool import Spool


def list_archive(spool: Spool, options: ArchiveOptions) -> Iterator[EntryInfo]:
    """Yield what lies in the archive, in the order of its directories."""
    root = open_archive(spool, options)
    try:
        days: list[bytes] = []
        for name, status in files_of(root):
            if stat.S_ISDIR(status.st_mode) and day_begin(name) is not None:
                days.append(name)
            elif (found := _entry(spool, root, name, status, None)) is not None:
                yield found
        for day in sorted(days):
            yield from _of_day(spool, root, day)
    finally:
        os.close(root)


def _of_day(spool: Spool, root: int, day: bytes) -> Iterator[EntryInfo]:
    with contextlib.suppress(OSError):  # it was removed, or it is not ours to read
        folder = open_dir(day, root)
        try:
            for name, status in files_of(folder):
                found = _entry(spool, folder, name, status, day)
                if found is not None:
                    yield found
        finally:
            os.close(folder)


def _entry(
    spool: Spool, directory: int, name: bytes, status: os.stat_result, day: bytes | None
) -> EntryInfo | None:
    if name == OURS or not stat.S_ISREG(status.st_mode):
        return None
    layout = spool.layout
    if not layout.raw and name.endswith(b".db"):
        if any(is_file(directory, message) for message in message_names(name)):
            return None  # listed with its message
        files: tuple[bytes, ...] = (name,)
    else:
        files = with_metadata(directory, name, layout)
    size = status.st_size
    for other in files[1:]:
        there = look(directory, other)
        size += 0 if there is None else there.st_size
    since, begin = status.st_ctime, day_begin(day) if day is not None else None
    if begin is not None and status.st_ctime_ns < begin:
        since = (begin + DAY) / 1e9  # the ctime does not tell when it was archived
    age = max(0.0, time.time() - since)
    why = "" if day is None else f"in {display(day)}/"
    stem = stem_of(name, layout)
    return EntryInfo(
        *(State.DONE, stem, files, size, age, why), changed=status.st_ctime, day=day or b""
    )


def open_folder(spool: Spool, options: ArchiveOptions, day: bytes) -> int:
    """Open the folder of a day, for the caller to close; of "" the archive itself."""
    root = open_archive(spool, options)
    if not day:
        return root
    try:
        return open_dir(day, root)
    except OSError as error:
        where = display(options.directory + b"/" + day)
        raise NoSuch(f"archive = {where}: cannot be opened: {error.strerror}") from None
    finally:
        os.close(root)


def open_archive(spool: Spool, options: ArchiveOptions) -> int:
    """Open the archive, for the caller to close; unlike `Archive.open`, make nothing."""
    path = options.directory
    try:
        if path[:1] == b"/":
            return os.open(path, DIRECTORY)
        fd = os.dup(spool.fd)
        for name in path.split(b"/"):
            parent = fd
            try:
                fd = open_dir(name, parent)
            finally:
                os.close(parent)
    except FileNotFoundError:
        raise NoSuch(f"archive = {display(path)}: does not exist yet") from None
    except PermissionError as error:
        raise NotPermitted(f"archive = {display(path)}: {error.strerror}") from None
    except OSError as error:
        raise Unavailable(f"archive = {display(path)}: cannot be read: {error.strerror}") from None
    return fd
