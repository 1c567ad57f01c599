"""What lies in a directory of ours, and the note beside it that says why.

Guarantees: nothing is made, and whoever owns the directories: looking is the operator's right. A
note that cannot be read costs its explanation only.
Fails: `open_place` raises NotPermitted or Unavailable.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator

from watcher.errors import Unavailable
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY, LOOK
from watcher.spool.layout import OURS, STATE_DIRECTORIES, Layout, display
from watcher.spool.spool import Spool, told

MAX_NOTE = 1 << 20  # bytes
NOTE = b".json"
_RAW_NOTE = b".note.json"  # beside a raw entry whose own name ends in .json


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


def put_away(directory: int, layout: Layout) -> Iterator[tuple[tuple[bytes, ...], os.stat_result]]:
    """Yield the files of each entry in a state's directory, message first, and the first's stat."""
    for name, status in files_of(directory):
        if not stat.S_ISREG(status.st_mode) or name[:1] == b".":
            continue
        if is_note(directory, name, layout):
            continue
        if layout.raw:
            yield (name,), status
        elif not name.endswith(b".db"):
            other = stem_of(name, layout) + b".db"
            yield ((name, other) if is_file(directory, other) else (name,)), status
        elif not any(is_file(directory, half) for half in _messages(name, layout)):
            yield (name,), status


def stem_of(name: bytes, layout: Layout) -> bytes:
    """Return NAME of a file put away: pairs are pairs there, whatever the queue serves now."""
    return layout._replace(legacy=not layout.raw).stem(name)


def _messages(metadata: bytes, layout: Layout) -> tuple[bytes, bytes]:
    return layout._replace(legacy=True).message_halves(metadata)


def is_note(directory: int, name: bytes, layout: Layout) -> bool:
    """Whether a file explains an entry. A raw entry may end in .json itself: look for the entry."""
    if not name.endswith(NOTE):
        return False
    if not name.endswith(layout.suffix):
        return True
    if layout.suffix == NOTE:
        explained = name.removesuffix(_RAW_NOTE) + NOTE
    else:
        explained = name.removesuffix(NOTE) + layout.suffix
    return explained != name and is_file(directory, explained)


def read_note(directory: int, name: bytes, layout: Layout) -> dict[str, object]:
    """Return what the note beside the file `name` says; {} when there is none to be read."""
    stem = stem_of(name, layout)
    note = stem + NOTE
    try:
        fd = os.open(stem + _RAW_NOTE if note == name else note, LOOK, dir_fd=directory)
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
