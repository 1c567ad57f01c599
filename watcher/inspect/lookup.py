"""Find one entry by the name an operator gives, in whatever state it is.

A name is a file's, or NAME without stamp and suffix; in front of it may stand the state, as in
`dead/NAME`. Guarantees: a file of exactly that name comes before an entry that is only called so;
what is opened is a regular file, never waited for and never written.
Fails: NoSuch; Usage when several entries go by the name, with the names that tell them apart;
NotPermitted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from watcher import contents
from watcher.entry import Entry, Part, read_part
from watcher.errors import NoSuch, NotPermitted, Undecodable, Usage
from watcher.inspect.notes import (
    STAMPED,
    is_file,
    names_of,
    open_place,
    stamp_of,
    with_metadata,
)
from watcher.lifecycle import State
from watcher.spool.disk import DISK
from watcher.spool.layout import OURS, STATE_DIRECTORIES, Kind, Layout, display, is_note, stored
from watcher.spool.schedule import stamped
from watcher.spool.spool import Spool

_QUEUE = (State.READY, State.ARRIVING, State.CLAIMED)  # these lie in the queue itself
_PLACES: dict[bytes, State] = {
    **{state.value.encode(): state for state in (*_QUEUE, *STATE_DIRECTORIES)},
    **{directory: state for state, directory in STATE_DIRECTORIES.items()},
}
_DASHES = 5  # in front of NAME, in STAMP-NAME
_CUT = 150  # bytes: a longer NAME may have been cut to make room for a stamp
_READABLE = (Kind.ENTRY, Kind.MESSAGE_HALF, Kind.METADATA_HALF, Kind.TEMPORARY, Kind.LEFTOVER)


class Found(NamedTuple):
    """An entry's files, open for reading, message first."""

    parts: tuple[Part, ...]
    kind: str  # as `entry.Entry` has it, or "half" for a .db alone

    def close(self) -> None:
        """Close the files."""
        for part in self.parts:
            os.close(part.fd)


class Lying(NamedTuple):
    """Where an entry's files lie, message first."""

    state: State
    files: tuple[bytes, ...]


def find(spool: Spool, wanted: bytes, limit: int = contents.MAX_SIZE) -> Found:
    """Return the entry called `wanted`: NAME, a file name, or STATE/NAME."""
    (found,) = look_up(spool, [wanted], (State.READY, *STATE_DIRECTORIES))
    if not found:
        raise no_such(spool, wanted)
    if len(found) > 1:
        raise several(wanted, found)
    return open_files(spool, found[0], limit)


def no_such(spool: Spool, wanted: bytes) -> NoSuch:
    """Say that no entry goes by a name; and how to say one that was shown with escapes."""
    shown = display(wanted)
    hint = f"; if it was shown so, say it as $'{shown}' (bash)" if b"\\" in wanted else ""
    return NoSuch(f"{shown}: no such entry in {display(spool.path)}{hint}")


def several(wanted: bytes, found: Sequence[Lying]) -> Usage:
    """Say that a name is not one entry's, and which names are."""
    names = ", ".join(f"{each.state.value}/{display(each.files[0])}" for each in found)
    return Usage(f"{display(wanted)}: several entries go by this name: say {names}")


def look_up(spool: Spool, wanted: Sequence[bytes], states: Sequence[State]) -> list[list[Lying]]:
    """Return, for each name, the entries of `states` that go by it.

    `deferred/` and `held/` are read once, whatever the number of names.
    """
    found: list[list[Lying]] = [[] for _ in wanted]
    asked: dict[State, list[tuple[int, bytes]]] = {state: [] for state in states}
    for index, each in enumerate(wanted):
        place, slash, name = each.rpartition(b"/")
        if slash and place not in _PLACES:
            known = ", ".join(state.value for state in (*_QUEUE, *STATE_DIRECTORIES))
            raise Usage(f"{display(each)}: {display(place)} is no state; there are {known}")
        for state in [_PLACES[place]] if slash else states:
            asked.setdefault(state, []).append((index, name))
    hidden: NotPermitted | None = None
    for state, names in asked.items():
        try:
            for index, files in _in_state(spool, state, names) if names else ():
                found[index].append(Lying(state, files))
        except NotPermitted as error:
            hidden = error
    if hidden is not None and not all(found):
        raise hidden
    return found


def _in_state(
    spool: Spool, state: State, names: list[tuple[int, bytes]]
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    directory = _directory(spool, state)
    if directory is None:
        return
    try:
        others = []
        for index, name in names:
            exactly, called = _files(directory, spool.layout, state, name)
            yield from ((index, files) for files in exactly or called)
            if not exactly:
                others.append((index, name))
        if state in STAMPED:
            yield from _stamped(directory, spool.layout, state, others)
    finally:
        os.close(directory)


def _directory(spool: Spool, state: State) -> int | None:
    return os.dup(spool.fd) if state in _QUEUE else open_place(spool, state)


def _files(
    directory: int, layout: Layout, state: State, name: bytes
) -> tuple[list[tuple[bytes, ...]], list[tuple[bytes, ...]]]:
    """Return the files of the entry with a file of this name, and of those that are called so."""
    if is_file(directory, name) and _readable(state, name, layout):
        return [with_metadata(directory, name, layout)], []
    called = [
        with_metadata(directory, file, layout)
        for file in _messages_of(layout, state, name)
        if is_file(directory, file)
    ]
    if not called and not layout.raw and is_file(directory, name + b".db"):
        called.append((name + b".db",))
    return [], called


def _messages_of(layout: Layout, state: State, name: bytes) -> list[bytes]:
    suffixes = [layout.suffix] if layout.raw else [b".pck", b".msg"]
    if state in _QUEUE:
        return [name + suffix for suffix in suffixes]
    files = [name + suffix for suffix in suffixes]
    cut = [stored(name, suffix, 0) for suffix in suffixes]  # a name too long to have a note
    return list(dict.fromkeys(files + cut))


def _stamped(
    directory: int, layout: Layout, state: State, names: list[tuple[int, bytes]]
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield the entries under a stamp that go by one of the names, soonest due first."""
    suffixes = [layout.suffix] if layout.raw else [b".pck", b".msg", b".db"]
    wanted: dict[bytes, set[int]] = {}  # by the name of a file
    cut: dict[bytes, list[tuple[int, bytes]]] = {}  # by the beginning of a NAME
    for index, name in names:
        for own in (name, *(name + suffix for suffix in suffixes)):
            wanted.setdefault(own, set()).add(index)
        if len(name) > _CUT:
            cut.setdefault(name[:_CUT], []).append((index, name))
    if not wanted:
        return
    for file in sorted(_candidates(directory, wanted, cut)):
        schedule, own = stamp_of(file, state)
        if schedule is None or is_note(file, layout):
            continue
        if file.endswith(b".db") and not layout.raw and _has_message(directory, file):
            continue
        files = with_metadata(directory, file, layout)
        found = set(wanted.get(own, ()))
        for index, name in cut.get(own[:_CUT], ()):
            if any(stamped(schedule, name, suffix) == file for suffix in suffixes):
                found.add(index)
        yield from ((index, files) for index in found)


def _candidates(directory: int, wanted: Container[bytes], cut: Container[bytes]) -> Iterator[bytes]:
    """Yield the names that may be STAMP-OWN with OWN wanted; the stamp itself is not looked at."""
    for file in names_of(directory):
        own = file.split(b"-", _DASHES)[-1]
        if own in wanted or own[:_CUT] in cut:
            yield file


def _has_message(directory: int, metadata: bytes) -> bool:
    stem = metadata.removesuffix(b".db")
    return any(is_file(directory, stem + suffix) for suffix in (b".msg", b".pck"))


def _readable(state: State, name: bytes, layout: Layout) -> bool:
    """Whether a file may be asked for by its own name."""
    if state in _QUEUE:
        kind = layout._replace(legacy=not layout.raw).kind(name)
        return name != OURS and kind in _READABLE
    return not is_note(name, layout)


def open_files(spool: Spool, lying: Lying, limit: int) -> Found:
    """Open an entry's files to read them; raise NoSuch or NotPermitted."""
    state, files = lying
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


def metadata(found: Found, limit: int) -> dict[str, object]:
    """Decode an entry's metadata; raise Undecodable."""
    if found.kind == "half":
        return contents.read_db(read_part(found.parts[0], limit))
    return Entry(
        queue="",
        name=found.parts[0].name,
        directory=b"",
        parts=found.parts,
        kind=found.kind,
        limit=limit,
    ).metadata
