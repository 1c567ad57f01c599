"""Reads, makes and removes `.watcher/paused`: while a file has this name, no attempt begins.

The name alone decides, also if the file is no JSON, is not a regular file, or may not be read: an
operator wants the handler to stay idle, a wait loses nothing, and an attempt cannot be taken back.
Other users cannot make the name, because only its owner may write to `.watcher`. The contents
(since when, by which user and process, and why) only explain.
Guarantees: a check is one lstat(2). The file is written whole and is durable when `pause` returns.
Nothing is followed, waited for or read beyond `LARGEST` bytes. What root writes belongs to the
owner of `.watcher`.
Fails: `is_there` and `read` raise OSError if the name cannot be looked at; `pause`, `write` and
`resume` raise WatcherError.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import NamedTuple

from watcher.errors import Unavailable, one_line
from watcher.rules.names import display
from watcher.spool import state_files
from watcher.spool.spool import Spool, as_watcher_error

NAME = b"paused"
LARGEST = 4096  # bytes
LATEST = 1 << 33  # seconds since the epoch: in the year 2242
LONGEST = 500  # characters of a reason or a user's name


class Paused(NamedTuple):
    """Since when a queue is paused, by which user and process, and why; as far as is known."""

    since: float  # seconds since the epoch
    user: str = ""
    process: int | None = None
    why: str = ""
    trouble: str = ""  # why the file is not one that `watcher pause` wrote

    def __str__(self) -> str:
        """Return the words for a log line, `status`, `list` and `check`."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        by = f" by {self.user}" if self.user else ""
        why = f": {self.why}" if self.why else ""
        trouble = f" ({self.trouble}; `watcher resume` removes it)" if self.trouble else ""
        return f"paused since {since}{by}{why}{trouble}"


def is_there(spool: Spool) -> bool:
    """Whether the queue is paused."""
    return spool.home.stat(NAME) is not None


def read(spool: Spool) -> Paused | None:
    """Return since when, by which user and why the queue is paused; None if it is not."""
    status = spool.home.stat(NAME)
    if status is None:
        return None
    since = status.st_mtime
    if not stat.S_ISREG(status.st_mode):
        return Paused(since, trouble=f"{_shown(spool)} is not a regular file")
    try:
        root = spool.home.open()
        try:
            data = state_files.read(NAME, root, LARGEST + 1)
        finally:
            os.close(root)
    except FileNotFoundError:  # it was removed just now
        return None
    except OSError as error:
        return Paused(since, trouble=f"{_shown(spool)} cannot be read: {error.strerror}")
    return _decode(data, since) or Paused(
        since, trouble=f"{_shown(spool)} was not written by `watcher pause`"
    )


def _decode(data: bytes, since: float) -> Paused | None:
    """Return what a file says; None if it makes no sense. `since` is its time of change."""
    import json

    if not data:
        return Paused(since)  # made by touch(1)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if len(data) > LARGEST or not isinstance(found, dict):
        return None
    moment, process = found.get("since"), found.get("process")
    if isinstance(moment, (int, float)) and 0 <= moment < LATEST:
        since = moment
    return Paused(
        since,
        _text(found.get("user")),
        process if isinstance(process, int) else None,
        _text(found.get("why")),
    )


def _text(value: object) -> str:
    return one_line(value[:LONGEST]) if isinstance(value, str) else ""


def pause(spool: Spool, user: str, why: str) -> Paused | None:
    """Pause the queue; return what was there before, if it was paused already: that stays."""
    try:
        before = read(spool)
    except OSError as error:
        raise as_watcher_error(error, spool.home.path, "our own directory") from None
    if before is None:
        write(spool, Paused(round(time.time(), 3), user, os.getpid(), why))
    return before


def write(spool: Spool, paused: Paused) -> None:
    """Write the file; raises WatcherError."""
    import json

    fields = {
        "since": paused.since,
        "user": paused.user[:LONGEST],
        "process": paused.process,
        "why": paused.why[:LONGEST],
    }
    root = spool.state_root()
    try:
        spool.disk.write_record(NAME, root, json.dumps(fields).encode() + b"\n")
    except OSError as error:
        raise as_watcher_error(error, os.path.join(spool.home.path, NAME), "the file") from None


def resume(spool: Spool) -> Paused | None:
    """Have attempts begin again; return what was there, None if the queue was not paused."""
    try:
        before = read(spool)
        if before is not None:
            _remove(spool, spool.state_root())
    except OSError as error:
        raise as_watcher_error(error, os.path.join(spool.home.path, NAME), "the file") from None
    return before


def _remove(spool: Spool, root: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # another command was quicker
        try:
            spool.disk.unlink(NAME, root)
        except IsADirectoryError:
            try:
                os.rmdir(NAME, dir_fd=root)
            except OSError as error:
                why = f"{_shown(spool)} is a directory, and cannot be removed: {error.strerror}"
                raise Unavailable(f"{why}: move it away") from None
    spool.disk.sync(root)


def _shown(spool: Spool) -> str:
    return display(os.path.join(spool.home.path, NAME))
