"""Find one entry, in any state, by the name that an operator gives.

The name is a file name, or NAME without stamp and suffix. A state may precede it: `dead/NAME`.
Guarantees: a file of exactly that name comes before an entry whose NAME it is. Only regular files
are opened, for reading, without waiting.
Fails: NoSuch; NotPermitted; Unavailable; Usage if several entries have the name, with the names to
use instead.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from watcher import mailman
from watcher.errors import NoSuch, NotPermitted, Undecodable, Usage
from watcher.handle.entry import Entry
from watcher.inspect.notes_view import (
    STAMPED,
    is_file,
    open_state_dir,
    stamp_of,
    with_metadata,
)
from watcher.rules.form import Form
from watcher.rules.kinds import KIND_INFO
from watcher.rules.lifecycle import State
from watcher.rules.names import OURS, STATE_DIRECTORIES, Layout, display, is_note, numbered_name
from watcher.rules.pair_names import MESSAGE_SUFFIXES, SUFFIXES, message_names
from watcher.rules.stamp import Schedule, stamped
from watcher.spool.dirs import names_in
from watcher.spool.disk import DISK
from watcher.spool.part import Part, read_part
from watcher.spool.spool import Spool

_QUEUE = (State.READY, State.ARRIVING, State.CLAIMED)  # these lie in the queue itself
_PLACES: dict[bytes, State] = {
    **{state.value.encode(): state for state in (*_QUEUE, *STATE_DIRECTORIES)},
    **{directory: state for state, directory in STATE_DIRECTORIES.items()},
}
_DASHES = 5  # before NAME in STAMP-NAME, without the optional identity
_IDENTITY = len("k") + 16
_CUT = 150  # bytes: a longer NAME may have been cut to make room for a stamp


class OpenEntry(NamedTuple):
    """The files of an entry, open for reading, message first."""

    parts: tuple[Part, ...]
    form: Form  # HALF: a .db alone

    def close(self) -> None:
        """Close the files."""
        for part in self.parts:
            os.close(part.fd)


class EntryLocation(NamedTuple):
    """The state and the files of an entry, message first."""

    state: State
    files: tuple[bytes, ...]


def find(spool: Spool, wanted: bytes, limit: int = mailman.MAX_SIZE) -> OpenEntry:
    """Return the entry called `wanted`: NAME, a file name, or STATE/NAME."""
    (found,) = look_up(spool, [wanted], (State.READY, *STATE_DIRECTORIES))
    if not found:
        raise no_such(spool, wanted)
    if len(found) > 1:
        raise several(wanted, found)
    return open_files(spool, found[0], limit)


def no_such(spool: Spool, wanted: bytes) -> NoSuch:
    """Return the error for a name that no entry has, and how to write the name that was meant."""
    shown = display(wanted)
    hint = f"; if it was shown so, say it as $'{shown}' (bash)" if b"\\" in wanted else ""
    if (meant := _with_ending(spool, wanted)) is not None:
        hint = f"; did you mean {display(meant)}"
    return NoSuch(f"{shown}: no such entry in {display(spool.path)}{hint}")


def _with_ending(spool: Spool, wanted: bytes) -> bytes | None:
    """Return the name of a raw entry that was given without its ending; None if there is none."""
    for ending in spool.layout.endings():
        place, slash, name = (wanted + ending).rpartition(b"/")
        states = [_PLACES[place]] if slash else [State.READY, *STATE_DIRECTORIES]
        for state in states:
            try:
                found = list(_in_state(spool, state, [(0, name)]))
            except NotPermitted:
                continue
            if found:
                return place + slash + name
    return None


def several(wanted: bytes, found: Sequence[EntryLocation]) -> Usage:
    """Return the error for a name that several entries have, with a name for each of them."""
    names = ", ".join(f"{each.state.value}/{display(each.files[0])}" for each in found)
    return Usage(f"{display(wanted)}: several entries go by this name: say {names}")


def look_up(
    spool: Spool, wanted: Sequence[bytes], states: Sequence[State]
) -> list[list[EntryLocation]]:
    """Return, for each name, the entries in `states` that have it.

    `deferred/` and `held/` are read once for all names.
    """
    found: list[list[EntryLocation]] = [[] for _ in wanted]
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
                found[index].append(EntryLocation(state, files))
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
    return os.dup(spool.fd) if state in _QUEUE else open_state_dir(spool, state)


def _files(
    directory: int, layout: Layout, state: State, name: bytes
) -> tuple[list[tuple[bytes, ...]], list[tuple[bytes, ...]]]:
    """Return the files of the entry with a file of this name, and of the entries of this NAME."""
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
    if layout.raw:  # the whole name; in a state directory, a long one is cut for its note
        return [] if state in _QUEUE else [numbered_name(*layout.split(name), 0)]
    suffixes = [*MESSAGE_SUFFIXES]
    if state in _QUEUE:
        return [name + suffix for suffix in suffixes]
    files = [name + suffix for suffix in suffixes]
    cut = [numbered_name(name, suffix, 0) for suffix in suffixes]  # a name too long to have a note
    return list(dict.fromkeys(files + cut))


def _stamped(
    directory: int, layout: Layout, state: State, names: list[tuple[int, bytes]]
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield the stamped entries that have one of the names, soonest due first."""
    suffixes = () if layout.raw else SUFFIXES
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
            if file in _stamped_names(schedule, name, layout):
                found.add(index)
        yield from ((index, files) for index in found)


def _stamped_names(schedule: Schedule, name: bytes, layout: Layout) -> list[bytes]:
    """Return the names that a deferred file of the entry `name` may have, also a cut one."""
    if layout.raw:
        return [stamped(schedule, *layout.split(name))]
    return [stamped(schedule, name, suffix) for suffix in SUFFIXES]


def _candidates(directory: int, wanted: Container[bytes], cut: Container[bytes]) -> Iterator[bytes]:
    """Yield the names that may be STAMP-OWN with OWN wanted; does not parse the stamp."""
    for file in names_in(directory):
        own = file.split(b"-", _DASHES)[-1]
        identity, dash, rest = own.partition(b"-")
        named = (own, rest) if dash and len(identity) == _IDENTITY else (own,)
        if any(name in wanted or name[:_CUT] in cut for name in named):
            yield file


def _has_message(directory: int, metadata: bytes) -> bool:
    return any(is_file(directory, message) for message in message_names(metadata))


def _readable(state: State, name: bytes, layout: Layout) -> bool:
    """Whether an operator may ask for a file by its own name."""
    if state in _QUEUE:
        kind = layout._replace(legacy=not layout.raw).kind(name)
        return name != OURS and KIND_INFO[kind].readable
    return not is_note(name, layout)


def open_files(spool: Spool, lying: EntryLocation, limit: int) -> OpenEntry:
    """Open an entry's files to read them; raise NoSuch or NotPermitted."""
    state, files = lying
    directory = _directory(spool, state)
    if directory is None:
        raise NoSuch(f"{display(files[0])}: no longer there")
    parts: list[Part] = []
    try:
        parts.extend(_part(file, directory) for file in files)
    except BaseException:
        for part in parts:
            os.close(part.fd)
        raise
    finally:
        os.close(directory)
    return OpenEntry(tuple(parts), _form(spool.layout, parts, limit))


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
    times = (status.st_ctime_ns, status.st_mtime_ns)
    return Part(file, fd, status.st_ino, status.st_size, *times)


def _form(layout: Layout, parts: list[Part], limit: int) -> Form:
    """Say how the files are to be read: a file being written, as what it is to become."""
    name = parts[0].name.removesuffix(b".tmp")
    if layout.raw:
        return Form.RAW
    if name.endswith(b".db"):
        return Form.HALF
    if name.endswith((b".bak", b".psv")):
        return Form.PCK
    if not name.endswith(b".pck"):
        return Form.PAIR if len(parts) > 1 else Form.RAW
    try:
        one = len(parts) > 1 and mailman.pickles(read_part(parts[0], limit)) == 1
    except Undecodable:
        one = False
    return Form.PCK_DB if one else Form.PCK


def metadata(found: OpenEntry, limit: int) -> dict[str, object]:
    """Decode an entry's metadata; raise Undecodable."""
    if found.form is Form.HALF:
        return mailman.read_db(read_part(found.parts[0], limit))
    return Entry(
        queue="",
        name=found.parts[0].name,
        directory=b"",
        parts=found.parts,
        form=found.form,
        limit=limit,
    ).metadata
