"""Find one entry, in any state, by the name that an operator gives.

The name is a file name, NAME without stamp and suffix, or a beginning that only one entry's name
has (rules/beginnings.py). A state may precede it: `dead/NAME`.
Guarantees: a file of exactly that name comes before an entry whose NAME it is, and that before an
entry that begins so. Only regular files are opened, for reading, without waiting.
Fails: NoSuch; NotPermitted; Unavailable; Usage if several entries have the name, with the names to
use instead.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from watcher import mailman
from watcher.errors import NoSuch, NotPermitted, Undecodable, Usage
from watcher.handle.entry import Entry
from watcher.inspect.names_beginning import entries_beginning
from watcher.inspect.notes_view import (
    STAMPED,
    is_file,
    open_state_dir,
    stamp_of,
    with_metadata,
)
from watcher.inspect.stamped_names import entries_stamped
from watcher.rules.beginnings import lacks_ending
from watcher.rules.form import Form
from watcher.rules.kinds import KIND_INFO
from watcher.rules.lifecycle import State
from watcher.rules.names import OURS, STATE_DIRECTORIES, Layout, display, is_note, numbered_name
from watcher.rules.pair_names import MESSAGE_SUFFIXES
from watcher.spool.disk import DISK
from watcher.spool.part import Part, read_part
from watcher.spool.spool import Spool

_QUEUE = (State.READY, State.ARRIVING, State.CLAIMED)  # these lie in the queue itself
_PLACES: dict[bytes, State] = {
    **{state.value.encode(): state for state in (*_QUEUE, *STATE_DIRECTORIES)},
    **{directory: state for state, directory in STATE_DIRECTORIES.items()},
}
_EVERY = (State.READY, *STATE_DIRECTORIES)
TYPED = 8  # names with which a person may mean others; a script gives more, and whole ones
_SHOWN = 10  # names in an error
_MOST = 1_000  # entries that begin alike and are kept


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
    begins: bool = False  # only the beginning of its name was given


def find(spool: Spool, wanted: bytes, limit: int = mailman.MAX_SIZE) -> OpenEntry:
    """Return the entry called `wanted`: NAME, a file name, or STATE/NAME."""
    (found,) = resolve(spool, [wanted], _EVERY)
    if not found:
        raise no_such(spool, wanted)
    if len(found) > 1:
        raise several(wanted, found)
    return open_files(spool, found[0], limit)


def no_such(spool: Spool, wanted: bytes, *, looks: bool = True) -> NoSuch:
    """Return the error for a name that no entry has, and how to write the name that was meant.

    `looks`: read the directories for a name that begins so.
    """
    shown = display(wanted)
    hint = f"; if it was shown so, say it as $'{shown}' (bash)" if b"\\" in wanted else ""
    with contextlib.suppress(NotPermitted, Usage):
        found = _beginning(spool, wanted, _EVERY) if looks else []
        if len(found) == 1:
            place, slash, _ = wanted.rpartition(b"/")
            hint = f"; did you mean {display(place + slash + own_name(found[0]))}"
    return NoSuch(f"{shown}: no such entry in {display(spool.path)}{hint}")


def several(wanted: bytes, found: Sequence[EntryLocation]) -> Usage:
    """Return the error for a name that several entries have, with a name for each of them."""
    if any(each.begins for each in found):
        names = ", ".join(
            f"{each.state.value}/{display(own_name(each))}" for each in found[:_SHOWN]
        )
        more = ", ..." if len(found) > _SHOWN else ""
        return Usage(f"{display(wanted)}: several entries begin so: say more of {names}{more}")
    names = ", ".join(f"{each.state.value}/{display(each.files[0])}" for each in found)
    return Usage(f"{display(wanted)}: several entries go by this name: say {names}")


def own_name(lying: EntryLocation) -> bytes:
    """Return the name of an entry's first file without its stamp."""
    return stamp_of(lying.files[0], lying.state)[1]


def resolve(
    spool: Spool, wanted: Sequence[bytes], states: Sequence[State]
) -> list[list[EntryLocation]]:
    """Return what `look_up` does; for a name that no entry has, the entries that begin so.

    That reads the directories for each such name, so it is done for `TYPED` names at most.
    """
    found = look_up(spool, wanted, states)
    for index in [index for index, each in enumerate(found) if not each][:TYPED]:
        found[index] = _beginning(spool, wanted[index], states)
    return found


def _beginning(spool: Spool, wanted: bytes, states: Sequence[State]) -> list[EntryLocation]:
    """Return the entries whose names begin so, some more than `several` shows at most."""
    place, slash, name = wanted.rpartition(b"/")
    found: list[EntryLocation] = []
    layout = spool.layout.in_state_dir()
    for state in [_PLACES[place]] if slash else states:
        directory = _directory(spool, state)
        if directory is None:
            continue
        try:
            for files in entries_beginning(directory, spool.layout, state, name):
                found.append(EntryLocation(state, files, begins=True))
                if len(found) > _MOST:
                    return found
        finally:
            os.close(directory)
    whole = [each for each in found if lacks_ending(name, own_name(each), layout)]
    return [each._replace(begins=False) for each in whole] if len(whole) == 1 else found


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
            yield from entries_stamped(directory, spool.layout, state, others)
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


def _readable(state: State, name: bytes, layout: Layout) -> bool:
    """Whether an operator may ask for a file by its own name."""
    if state in _QUEUE:
        kind = layout._replace(legacy=not layout.raw).kind(name)
        return name != OURS and KIND_INFO[kind].readable
    return not is_note(name, layout)


def open_files(spool: Spool, lying: EntryLocation, limit: int) -> OpenEntry:
    """Open an entry's files to read them; raise NoSuch or NotPermitted."""
    return open_files_in(_directory(spool, lying.state), spool.layout, lying.files, limit)


def open_files_in(
    directory: int | None, layout: Layout, files: tuple[bytes, ...], limit: int
) -> OpenEntry:
    """Do as `open_files`, with the directory that the files are in; closes it."""
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
    return OpenEntry(tuple(parts), _form(layout, parts, limit))


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
