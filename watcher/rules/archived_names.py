"""Names and ages in an archive: where a handled entry goes, and when it is old enough to go. PURE.

    ARCHIVE/NAME                 an entry that was handled; NAME~1.csv if NAME.csv was taken
    ARCHIVE/NAME~1~0.csv         an entry whose own name is NAME~1.csv: it always has a number
    ARCHIVE/YYYY-MM-DD/NAME      with `archive_dated`: in a folder for each day, UTC

Guarantees: no two numbers of a name give the same name, and in an archive no two names give the
same name, but those that were cut: `queue_name` finds the entry's own name. `is_expired` is never
early: a file counts from its ctime, which the move into the archive sets, or from the end of its
folder's day, if the ctime is earlier than that day.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from typing import NamedTuple

from watcher.rules.age import SECOND
from watcher.rules.names import NAME_MAX, OURS

DAY = 86_400 * SECOND  # nanoseconds
_DAY = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_ENDING = 32  # bytes: what is longer is no ending
_MARK = re.compile(rb"~(?:0|[1-9][0-9]{0,8})\Z")  # at the end of the stem


class ArchiveOptions(NamedTuple):
    """Where handled entries go, and for how long."""

    directory: bytes  # relative to the queue directory, or absolute
    dated: bool = False  # a folder for each day
    keep_for: float | None = None  # seconds; None: nothing is removed
    option: str = "archive"  # what names the directory, for messages
    crossing: bool = False  # it may be on another file system, where a handler puts copies

    @property
    def own_name(self) -> bytes | None:
        """The name in the queue directory that leads to the archive; None if it is elsewhere."""
        return None if self.directory[:1] == b"/" else self.directory.partition(b"/")[0]

    def file_name(self, name: bytes, number: int) -> bytes:
        """Return the `number`th name to try for an entry's file in this directory.

        A name that looks as if it had a number gets one in any case, so that the entry's own name
        is known. The target of a `move` handler has the files for others: there it keeps its name.
        """
        plain = self.crossing or number or not _MARK.search(_split(name)[0])
        return archived_name(name, number) if plain else _marked(name, 0)


def target_options(directory: bytes) -> ArchiveOptions:
    """Return the options of the directory that the handler `move` names."""
    return ArchiveOptions(directory, option="handler.move", crossing=True)


def archive_path(value: str) -> str:
    """Return the normal form of the option's value; raise ValueError if no archive can be there."""
    path = os.path.normpath(value)
    inside = not os.path.isabs(path)
    path = path if inside else "/" + path.lstrip("/")  # POSIX keeps two slashes
    if "\0" in value or path in (".", "/") or path.split(os.sep)[0] == "..":
        raise ValueError
    if inside and os.fsencode(path).split(b"/")[0] == OURS:
        raise ValueError
    if any(len(os.fsencode(word)) > NAME_MAX for word in path.split(os.sep)):
        raise ValueError
    return path


def archived_name(name: bytes, number: int) -> bytes:
    """Return the `number`th name to try for an entry's file: first its own, then NAME~1 and so on.

    The number comes before the ending, so that the file keeps its type.
    """
    return _marked(name, number) if number else name


def queue_name(file: bytes) -> bytes | None:
    """Return the name that a file of an archive had in the queue; None if a part of it was cut."""
    stem, ending = _split(file)
    own = _MARK.sub(b"", stem)
    if own == stem:
        return file
    return None if len(file) == NAME_MAX else own + ending


def _marked(name: bytes, number: int) -> bytes:
    stem, ending = _split(name)
    mark = b"~%d" % number
    return stem[: NAME_MAX - len(mark) - len(ending)] + mark + ending


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Return the parts of a name between which a number comes."""
    stem, ending = os.path.splitext(name)
    return (name, b"") if len(ending) > _LONGEST_ENDING else (stem, ending)


def day_name(real_ns: int) -> bytes:
    """Return the name of the folder for a moment: its day in UTC."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=real_ns // SECOND)
    return moment.date().isoformat().encode()


def day_begin(name: bytes) -> int | None:
    """Return when the day of a folder begins, in nanoseconds; None if the name is no day."""
    if not _DAY.fullmatch(name):
        return None
    try:
        day = dt.date.fromisoformat(name.decode())
    except ValueError:
        return None
    return (day - dt.date(1970, 1, 1)).days * DAY


def is_expired(ctime_ns: int, day_ns: int | None, now_ns: int, keep_ns: int) -> bool:
    """Whether a file was archived longer than `keep_ns` ago.

    `day_ns` is when the day of its folder begins, None if it is in no such folder.
    """
    since = ctime_ns
    if day_ns is not None and ctime_ns < day_ns:
        since = day_ns + DAY  # the ctime does not tell when it was archived
    return now_ns - since > keep_ns
