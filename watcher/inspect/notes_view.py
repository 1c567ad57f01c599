"""The files in the directories of the states, as the commands that inspect a queue read them.

Guarantees: nothing is created or changed, also if the directories belong to another user.
Fails: `open_state_dir` raises NotPermitted or Unavailable.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator

from watcher.errors import Unavailable
from watcher.rules.lifecycle import State
from watcher.rules.names import (
    STATE_DIRECTORIES,
    Layout,
    display,
    is_note,
)
from watcher.rules.pair_names import MESSAGE_SUFFIXES, message_names, metadata_name
from watcher.rules.stamp import Schedule, parse
from watcher.spool.dirs import names_in, scan_dir, stat_or_none
from watcher.spool.spool import Spool, as_watcher_error

MAX_SORTED = 200_000  # deferred entries that are shown in the order of falling due
STAMPED = (State.DEFERRED, State.HELD)  # where a file's name may begin with a stamp


def open_state_dir(spool: Spool, state: State) -> int | None:
    """Open the directory of a state, for the caller to close; None if there is none."""
    try:
        return spool.home.open(STATE_DIRECTORIES[state])
    except FileNotFoundError:
        return None
    except OSError as error:
        shown = os.path.join(spool.home.path, STATE_DIRECTORIES[state])
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Unavailable(
                f"{display(shown)}: in the way of our own directory; move it away"
            ) from None
        raise as_watcher_error(error, shown, f"where {state.value} entries lie") from None


def entries_in(
    directory: int, layout: Layout, state: State
) -> Iterator[tuple[tuple[bytes, ...], os.stat_result]]:
    """Yield the files of each entry in a state's directory, message first, and the first's stat."""
    found = _soonest(directory) if state is State.DEFERRED else None
    for name, status in files_of(directory) if found is None else _looked_at(directory, found):
        if not stat.S_ISREG(status.st_mode) or name[:1] == b".":
            continue
        if is_note(name, layout):
            continue
        if layout.raw:
            yield (name,), status
        elif not name.endswith(b".db"):
            yield with_metadata(directory, name, layout), status
        elif not any(is_file(directory, half) for half in message_names(name)):
            yield (name,), status


def _soonest(directory: int) -> list[bytes] | None:
    """Return the names of a directory by due time, as stamps sort; None if they are too many."""
    names = list(itertools.islice(names_in(directory), MAX_SORTED + 1))
    return sorted(names) if len(names) <= MAX_SORTED else None


def _looked_at(directory: int, names: list[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    for name in names:
        status = look(directory, name)
        if status is not None:
            yield name, status


def with_metadata(directory: int, name: bytes, layout: Layout) -> tuple[bytes, ...]:
    """Return the message's file, and its metadata's file if that is in the same directory."""
    if layout.raw or not name.endswith(MESSAGE_SUFFIXES):
        return (name,)
    metadata = metadata_name(name)
    return (name, metadata) if is_file(directory, metadata) else (name,)


def stem_of(name: bytes, layout: Layout) -> bytes:
    """Return NAME of a file in a state's directory, where pairs count even without `legacy`."""
    return layout.in_state_dir().stem(name)


def split(name: bytes, layout: Layout) -> tuple[bytes, bytes]:
    """Return the two parts of a file's name in a state's directory: `Layout.split`."""
    return layout.in_state_dir().split(name)


def stamp_of(name: bytes, state: State) -> tuple[Schedule | None, bytes]:
    """Return the schedule in the stamp of a file's name, if any, and the name without it."""
    found = parse(name) if state in STAMPED else None
    return (None, name) if found is None else found


def files_of(directory: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield every name in a directory with its stat, in the directory's order, one at a time."""
    for item in scan_dir(directory):
        try:
            status = item.stat(follow_symlinks=False)
        except OSError:
            continue
        yield os.fsencode(item.name), status


def look(directory: int, name: bytes) -> os.stat_result | None:
    """Return the stat of a name, not followed; None if it cannot be read."""
    try:
        return stat_or_none(name, directory)
    except (OSError, ValueError):  # ValueError: an operator gave a name with a NUL
        return None


def is_file(directory: int, name: bytes) -> bool:
    """Whether a regular file has this name."""
    status = look(directory, name)
    return status is not None and stat.S_ISREG(status.st_mode)
