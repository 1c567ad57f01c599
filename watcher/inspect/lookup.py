"""Find one entry by the name an operator gives, in whatever state it is."""

from __future__ import annotations

import os
from typing import NamedTuple

from watcher.entry import Part
from watcher.errors import NoSuch, NotPermitted, Undecodable, Usage
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY, DISK
from watcher.spool.layout import OURS, STATE_DIRECTORIES, display
from watcher.spool.spool import Spool


class Found(NamedTuple):
    """An entry's files, open for reading, message first, and what kind of entry they make."""

    place: str  # "" for the queue itself, else the state's directory
    parts: tuple[Part, ...]
    kind: str


def find(spool: Spool, wanted: bytes) -> Found:
    """Return the entry called `wanted`: NAME, a file name, or STATE/NAME; raise NoSuch or Usage."""
    place, slash, name = wanted.rpartition(b"/")
    places = [b"", *STATE_DIRECTORIES.values()]
    if slash:
        if place not in places:
            known = ", ".join(os.fsdecode(known) for known in places if known)
            raise Usage(f"{display(wanted)}: {display(place)} is no state's directory ({known})")
        places = [place]
    found = [(where, files) for where in places for files in _files(spool, where, name)]
    if not found:
        raise NoSuch(f"{display(wanted)}: no such entry in {display(spool.path)}")
    if len(found) > 1:
        names = ", ".join(display(os.path.join(where, files[0])) for where, files in found)
        raise Usage(f"{display(wanted)}: which one? {names}")
    where, files = found[0]
    return _open(spool, where, files)


def _files(spool: Spool, place: bytes, name: bytes) -> list[list[bytes]]:
    """Return the files of each entry that goes by this name in one place."""
    directory = os.path.join(OURS, place) if place else b"."
    layout = spool.layout

    def there(file: bytes) -> bool:
        try:
            os.stat(os.path.join(directory, file), dir_fd=spool.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    if name.endswith((b".db", b".json")) and not layout.raw:
        return [[name]] if there(name) else []
    stems = {name, layout.stem(name), name.removesuffix(b".msg")}
    messages = [stem + suffix for stem in stems for suffix in (layout.suffix, b".msg")]
    messages = [
        file for file in dict.fromkeys(messages) if file in (name, *_ends(name, layout.suffix))
    ]
    found = []
    for message in messages:
        if there(message):
            metadata = message.rpartition(b".")[0] + b".db"
            found.append([message, metadata] if not layout.raw and there(metadata) else [message])
    if not found and not layout.raw and there(name + b".db"):
        found.append([name + b".db"])
    return found


def _ends(name: bytes, suffix: bytes) -> tuple[bytes, bytes]:
    return name + suffix, name + b".msg"


def _open(spool: Spool, place: bytes, files: list[bytes]) -> Found:
    directory = spool.fd
    if place:
        directory = os.open(os.path.join(OURS, place), DIRECTORY, dir_fd=spool.fd)
    parts = []
    for file in files:
        try:
            fd = DISK.open(file, directory)
        except PermissionError as error:
            raise NotPermitted(f"{display(file)}: cannot be read: {error.strerror}") from None
        except OSError as error:
            raise NoSuch(f"{display(file)}: cannot be opened: {error.strerror}") from None
        status = os.fstat(fd)
        parts.append(Part(file, fd, status.st_ino, status.st_size, status.st_ctime_ns))
    if place:
        os.close(directory)
    return Found(os.fsdecode(place), tuple(parts), _kind(spool, parts))


def _kind(spool: Spool, parts: list[Part]) -> str:
    from watcher import contents
    from watcher.entry import read_part

    name = parts[0].name
    if spool.layout.raw:
        return "raw"
    if name.endswith(b".msg"):
        return "pair" if len(parts) > 1 else "raw"
    if name.endswith(b".db"):
        return "half"
    try:
        one = len(parts) > 1 and contents.pickles(read_part(parts[0], contents.MAX_SIZE)) == 1
    except Undecodable:
        one = False
    return "pck+db" if one else "pck"


def state_of(place: str) -> State | None:
    """Return the state whose directory is called `place`."""
    for state, directory in STATE_DIRECTORIES.items():
        if os.fsdecode(directory) == place:
            return state
    return None
