"""Balance the books: every entry ever seen is done, deleted by an operator, or still here.

    seen = done + removed by an operator + still here (by state) + missing

Guarantees: nothing is touched. On a live queue an entry that moves while we look is looked for
again before it is called missing.
Fails: NoSuch or NotPermitted where there is nothing to read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.inspect import books as journal
from watcher.inspect.books import Books
from watcher.inspect.lines import Line
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import (
    INFLIGHT,
    OURS,
    STATE_DIRECTORIES,
    Kind,
    Layout,
    is_metadata,
    is_stored,
)
from watcher.spool.spool import Spool, told

_WAITS = (Kind.ENTRY, Kind.MESSAGE_HALF)  # a message in the queue; its `.db` is counted with it
_STATES = {state.value.encode(): state for state in STATE_DIRECTORIES}
_LEADS_TO = {b"defer": b"deferred", b"hold": b"held", b"reject": b"dead", b"abandon": b"orphan"}
LOOKS = 3  # before an entry is called missing
_PLACES = {b"": "in the queue", INFLIGHT: "in flight"} | {
    name: state.value for state, name in STATE_DIRECTORIES.items()
}


class Missing(NamedTuple):
    """An entry that was seen and is nowhere: its NAME, and the last that is known of it."""

    name: bytes
    last: Line


@dataclass
class Balance:
    """The books, balanced."""

    books: Books
    here: Counter[str] = field(default_factory=Counter)  # lives by where they are
    missing: list[Missing] = field(default_factory=list)
    unknown: list[tuple[str, bytes]] = field(default_factory=list)  # in our directories, no line
    waiting: int = 0  # in the queue, not seen yet

    @property
    def seen(self) -> int:
        """How many entries were ever seen."""
        return self.books.seen + sum(1 for each in self.missing if each.last.move == b"vanish")

    @property
    def balanced(self) -> bool:
        """Whether every entry is accounted for."""
        ended = sum(self.books.ended.values())
        return not self.missing and self.seen == ended + sum(self.here.values())


class _Disk(NamedTuple):
    """What lies where: by inode, and by NAME."""

    by_inode: dict[int, tuple[bytes, bytes]]
    by_name: set[bytes]


def balance(spool: Spool) -> Balance:
    """Read the journal, look at the disk, and compare."""
    found = _compare(spool)
    for _ in range(LOOKS - 1):
        if not found.missing:
            break
        found = _compare(spool)
    return found


def _compare(spool: Spool) -> Balance:
    try:
        ours = os.open(OURS, DIRECTORY | os.O_NOFOLLOW, dir_fd=spool.fd)
    except PermissionError as error:
        raise told(error, os.path.join(spool.path, OURS), "the books") from None
    try:
        disk = _look(spool, ours)
        books = journal.read(ours, spool.layout)
        later = _look(spool, ours)  # what moved while we read is in one of the two
    finally:
        os.close(ours)
    found = Balance(books)
    moved: list[Line] = []  # lives whose inode is nowhere
    left = dict(later.by_inode)  # files that are nobody's yet
    for inode, line in books.open.items():
        place = _place(inode, line, books, later)
        if place is not None:
            del left[inode]
        else:
            place = _place(inode, line, books, disk)
        if place is not None:
            found.here[_PLACES[place]] += 1
        else:
            moved.append(line)
    _find_by_name(found, moved, left)
    for line in books.replaced:
        found.missing.append(Missing(books.stem(line.name), line))
    for stem, line in books.vanished.items():
        if stem not in later.by_name:
            found.missing.append(Missing(stem, line))
    _tell_unseen(found, left, spool.layout)
    return found


def _find_by_name(found: Balance, lives: list[Line], left: dict[int, tuple[bytes, bytes]]) -> None:
    """Find lives by NAME (all that a copy of the spool kept of them), each in a file of its own.

    Only where its last move took it: a namesake elsewhere, or one that has a life itself, stands
    for no other.
    """
    books, layout = found.books, found.books.layout
    named: dict[tuple[bytes, bytes, bool], dict[int, bytes]] = {}
    if lives:
        for inode, (place, name) in left.items():
            stem = books.stem(name)
            key = place, journal.in_common(stem), is_metadata(name, layout)
            named.setdefault(key, {})[inode] = stem
    for line in lives:
        stem = books.stem(line.name)
        common, half = journal.in_common(stem), is_metadata(line.name, layout)
        for place in _goes(line):
            stems = named.get((place, common, half), {})
            best = _best(stem, stems)
            if best is not None:
                del stems[best], left[best]
                found.here[_PLACES[place]] += 1
                break
        else:
            found.missing.append(Missing(stem, line))


def _goes(line: Line) -> tuple[bytes, ...]:
    """Return where an entry lies after a move."""
    state = _STATES.get(line.state if line.move == b"carried" else _LEADS_TO.get(line.move, b""))
    return (
        (b"", STATE_DIRECTORIES[State.DEFERRED]) if state is None else (STATE_DIRECTORIES[state],)
    )


def _best(stem: bytes, stems: dict[int, bytes]) -> int | None:
    """Return the inode of the file that is called so, or is numbered or cut."""
    alike = (inode for inode, other in stems.items() if journal.same_entry(stem, other))
    exactly = (inode for inode, other in stems.items() if stem == other)
    return next(exactly, None) or next(alike, None)


def _tell_unseen(found: Balance, left: dict[int, tuple[bytes, bytes]], layout: Layout) -> None:
    """Tell what lies there and is in no book."""
    for place, name in left.values():
        if is_metadata(name, layout) or place == INFLIGHT:
            continue
        if place:
            found.unknown.append((_PLACES[place], name))
        elif layout.kind(name) in _WAITS:
            found.waiting += 1


def _place(inode: int, line: Line, books: Books, disk: _Disk) -> bytes | None:
    """Return where an entry is now, by inode."""
    there = disk.by_inode.get(inode)
    if there is None or not journal.same_entry(books.stem(there[1]), books.stem(line.name)):
        return None
    return there[0]


def _look(spool: Spool, ours: int) -> _Disk:
    by_inode: dict[int, tuple[bytes, bytes]] = {}
    for place, name, inode in _files(spool.fd, ours):
        if is_stored(name, spool.layout) or not place:
            by_inode[inode] = (place, name)
    books = Books(spool.layout)
    return _Disk(by_inode, {books.stem(name) for _, name in by_inode.values()})


def _files(queue: int, ours: int) -> Iterator[tuple[bytes, bytes, int]]:
    yield from ((b"", name, inode) for name, inode in _names(queue, b"."))
    for state in STATE_DIRECTORIES.values():
        yield from ((state, name, inode) for name, inode in _names(ours, state))
    for process, _ in list(_names(ours, INFLIGHT, directories=True)):
        path = os.path.join(INFLIGHT, process)
        yield from ((INFLIGHT, name, inode) for name, inode in _names(ours, path))


def _names(
    directory: int, path: bytes, *, directories: bool = False
) -> Iterator[tuple[bytes, int]]:
    """Yield name and inode of the regular files of a directory, or of its directories."""
    try:
        fd = os.open(path, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with os.scandir(fd) as items:
            for item in items:
                kind = item.is_dir if directories else item.is_file
                if kind(follow_symlinks=False):
                    yield os.fsencode(item.name), item.inode()
    finally:
        os.close(fd)
