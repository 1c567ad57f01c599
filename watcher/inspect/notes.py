"""What lies in a directory of ours, and the note beside it that says why.

Guarantees: nothing is made, and whoever owns the directories: looking is the operator's right. A
note that cannot be read costs its explanation only.
Fails: `open_place` raises NotPermitted or Unavailable.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
from collections.abc import Iterator

from watcher.errors import Unavailable
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY, LOOK
from watcher.spool.layout import OURS, STATE_DIRECTORIES, Layout, display, is_note, note_of
from watcher.spool.schedule import Schedule, parse
from watcher.spool.spool import Spool, told

MAX_NOTE = 1 << 20  # bytes
MAX_SORTED = 200_000  # deferred entries that are shown in the order of falling due
STAMPED = (State.DEFERRED, State.HELD)  # where a file's name may begin with a stamp
NOTE = b".json"


def open_place(spool: Spool, state: State) -> int | None:
    """Open the directory of a state, for the caller to close; None when there is none."""
    parent = spool.fd
    for name in (OURS, STATE_DIRECTORIES[state]):
        try:
            fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        except FileNotFoundError:
            return None
        except OSError as error:
            shown = os.path.join(spool.path, OURS, STATE_DIRECTORIES[state])
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise Unavailable(
                    f"{display(shown)}: in the way of our own directory; move it away"
                ) from None
            raise told(error, shown, f"where {state.value} entries lie") from None
        finally:
            if parent != spool.fd:
                os.close(parent)
        parent = fd
    return parent


def put_away(
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
        elif not any(is_file(directory, half) for half in _messages(name, layout)):
            yield (name,), status


def _soonest(directory: int) -> list[bytes] | None:
    """Return the names of a directory, sorted: stamps sort by due time. None of too many."""
    names = list(itertools.islice(names_of(directory), MAX_SORTED + 1))
    return sorted(names) if len(names) <= MAX_SORTED else None


def _looked_at(directory: int, names: list[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    for name in names:
        status = look(directory, name)
        if status is not None:
            yield name, status


def with_metadata(directory: int, name: bytes, layout: Layout) -> tuple[bytes, ...]:
    """Return the file of a message, and that of its metadata where one lies beside it."""
    if layout.raw or not name.endswith((b".pck", b".msg")):
        return (name,)
    metadata = name.rpartition(b".")[0] + b".db"
    return (name, metadata) if is_file(directory, metadata) else (name,)


def stem_of(name: bytes, layout: Layout) -> bytes:
    """Return NAME of a file put away: pairs are pairs there, whatever the queue serves now."""
    return layout.as_put_away().stem(name)


def stamp_of(name: bytes, state: State) -> tuple[Schedule | None, bytes]:
    """Return what the stamp of a file put away says, and the file's name without it."""
    found = parse(name) if state in STAMPED else None
    return (None, name) if found is None else found


def _messages(metadata: bytes, layout: Layout) -> tuple[bytes, bytes]:
    return layout._replace(legacy=True).message_halves(metadata)


def read_note(directory: int, name: bytes, layout: Layout) -> dict[str, object]:
    """Return what the note beside the file `name` says; {} when there is none to be read."""
    try:
        fd = os.open(note_of(name, layout), LOOK, dir_fd=directory)
    except OSError:
        return {}
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return {}
        found = json.loads(os.pread(fd, MAX_NOTE, 0))
    except (ValueError, OSError, RecursionError):
        return {}
    finally:
        os.close(fd)
    return found if isinstance(found, dict) else {}


def names_of(directory: int) -> Iterator[bytes]:
    """Yield every name of a directory, in its order, one at a time, without a look at the file."""
    fd = os.open(b".", DIRECTORY, dir_fd=directory)  # an offset of its own
    try:
        with os.scandir(fd) as items:
            for item in items:
                yield os.fsencode(item.name)
    finally:
        os.close(fd)


def files_of(directory: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield every name of a directory, in its order, one at a time."""
    fd = os.open(b".", DIRECTORY, dir_fd=directory)  # an offset of its own
    try:
        with os.scandir(fd) as items:
            for item in items:
                try:
                    yield os.fsencode(item.name), item.stat(follow_symlinks=False)
                except OSError:
                    continue
    finally:
        os.close(fd)


def look(directory: int, name: bytes) -> os.stat_result | None:
    """Look at a name without following it; None when nothing can be seen there."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (OSError, ValueError):  # ValueError: a NUL in a name an operator gave
        return None


def is_file(directory: int, name: bytes) -> bool:
    """Whether a regular file has this name."""
    status = look(directory, name)
    return status is not None and stat.S_ISREG(status.st_mode)
