"""Find one entry by the name an operator gives, in whatever state it is.

A name is a file's, or NAME without the suffix; in front of it may stand the state, as in
`dead/NAME`. Guarantees: a file of exactly that name comes before an entry that is only called so;
what is opened is a regular file, never waited for and never written.
Fails: NoSuch; Usage when several entries go by the name, with the names that tell them apart;
NotPermitted.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from watcher import contents
from watcher.entry import Part, read_part
from watcher.errors import NoSuch, NotPermitted, Undecodable, Usage
from watcher.inspect.notes import is_file, is_note, open_place
from watcher.lifecycle import State
from watcher.spool.disk import DISK
from watcher.spool.layout import OURS, STATE_DIRECTORIES, Kind, Layout, display
from watcher.spool.spool import Spool

_QUEUE = (State.READY, State.ARRIVING, State.CLAIMED)  # these lie in the queue itself
_PLACES: dict[bytes, State] = {
    **{state.value.encode(): state for state in (*_QUEUE, *STATE_DIRECTORIES)},
    **{directory: state for state, directory in STATE_DIRECTORIES.items()},
}
_READABLE = (Kind.ENTRY, Kind.MESSAGE_HALF, Kind.METADATA_HALF, Kind.TEMPORARY, Kind.LEFTOVER)


class Found(NamedTuple):
    """An entry's files, open for reading, message first."""

    parts: tuple[Part, ...]
    kind: str  # as `entry.Entry` has it, or "half" for a .db alone

    def close(self) -> None:
        """Close the files."""
        for part in self.parts:
            os.close(part.fd)


def find(spool: Spool, wanted: bytes, limit: int = contents.MAX_SIZE) -> Found:
    """Return the entry called `wanted`: NAME, a file name, or STATE/NAME."""
    place, slash, name = wanted.rpartition(b"/")
    if slash and place not in _PLACES:
        known = ", ".join(state.value for state in (*_QUEUE, *STATE_DIRECTORIES))
        raise Usage(f"{display(wanted)}: {display(place)} is no state; there are {known}")
    states = [_PLACES[place]] if slash else [State.READY, *STATE_DIRECTORIES]
    found: list[tuple[State, list[bytes]]] = []
    hidden: NotPermitted | None = None
    for state in states:
        try:
            found += [(state, files) for files in _files(spool, state, name)]
        except NotPermitted as error:
            hidden = error
    if not found:
        raise hidden or NoSuch(f"{display(wanted)}: no such entry in {display(spool.path)}")
    if len(found) > 1:
        names = ", ".join(f"{state.value}/{display(files[0])}" for state, files in found)
        raise Usage(f"{display(wanted)}: several entries go by this name: say {names}")
    return _open(spool, *found[0], limit)


def _directory(spool: Spool, state: State) -> int | None:
    return os.dup(spool.fd) if state in _QUEUE else open_place(spool, state)


def _files(spool: Spool, state: State, name: bytes) -> list[list[bytes]]:
    """Return the files of each entry that goes by this name in one place."""
    directory = _directory(spool, state)
    if directory is None:
        return []
    layout = spool.layout
    try:
        if is_file(directory, name) and _readable(directory, state, name, layout):
            return [_with_metadata(directory, name, layout)]
        if layout.raw:
            messages = [name + layout.suffix]
        else:
            messages = [name + suffix for suffix in (b".pck", b".msg")]
        found = [
            _with_metadata(directory, message, layout)
            for message in messages
            if is_file(directory, message)
        ]
        if not found and not layout.raw and is_file(directory, name + b".db"):
            found.append([name + b".db"])
        return found
    finally:
        os.close(directory)


def _readable(directory: int, state: State, name: bytes, layout: Layout) -> bool:
    """Whether a file may be asked for by its own name."""
    if state in _QUEUE:
        kind = layout._replace(legacy=not layout.raw).kind(name)
        return name != OURS and kind in _READABLE
    return not is_note(directory, name, layout)


def _with_metadata(directory: int, name: bytes, layout: Layout) -> list[bytes]:
    if layout.raw or not name.endswith((b".pck", b".msg")):
        return [name]
    metadata = name.rpartition(b".")[0] + b".db"
    return [name, metadata] if is_file(directory, metadata) else [name]


def _open(spool: Spool, state: State, files: list[bytes], limit: int) -> Found:
    directory = _directory(spool, state)
    if directory is None:
        raise NoSuch(f"{display(files[0])}: no longer there")
    parts: list[Part] = []
    try:
        parts.extend(_part(file, directory) for file in files)
    except BaseException:
        Found(tuple(parts), "").close()
        raise
    finally:
        os.close(directory)
    return Found(tuple(parts), _kind(spool.layout, parts, limit))


def _part(file: bytes, directory: int) -> Part:
    try:
        fd = DISK.open(file, directory)
    except PermissionError as error:
        raise NotPermitted(f"{display(file)}: cannot be read: {error.strerror}") from None
    except OSError as error:
        raise NoSuch(f"{display(file)}: cannot be opened: {error.strerror}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise NoSuch(f"{display(file)}: no longer a regular file")
    return Part(file, fd, status.st_ino, status.st_size, status.st_ctime_ns)


def _kind(layout: Layout, parts: list[Part], limit: int) -> str:
    """Say how the files are to be read: a file being written, as what it is to become."""
    name = parts[0].name.removesuffix(b".tmp")
    if layout.raw:
        return "raw"
    if name.endswith(b".db"):
        return "half"
    if name.endswith((b".bak", b".psv")):
        return "pck"
    if not name.endswith(b".pck"):
        return "pair" if len(parts) > 1 else "raw"
    try:
        one = len(parts) > 1 and contents.pickles(read_part(parts[0], limit)) == 1
    except Undecodable:
        one = False
    return "pck+db" if one else "pck"
