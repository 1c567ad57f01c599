"""The entries of a queue by state, as they are found. Memory for one at a time.

Guarantees: nothing is opened for writing, locked or moved. The order is the directory's, but for
`deferred/`: a census of a million entries must not hold them all to sort them. What is claimed is
known from /proc/locks as it was at the beginning; an entry that goes meanwhile is not listed.
Fails: NotPermitted where the directories of ours may not be looked into, after what lies in the
queue itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from watcher import contents
from watcher.claim import lease
from watcher.claim.holders import holders
from watcher.entry import Part, read_part
from watcher.errors import Undecodable
from watcher.evidence import Writer
from watcher.inspect.notes import (
    files_of,
    look,
    open_place,
    put_away,
    read_note,
    stamp_of,
    stem_of,
)
from watcher.lifecycle import State
from watcher.spool.disk import DISK
from watcher.spool.layout import OURS, STATE_DIRECTORIES, Kind
from watcher.spool.schedule import Schedule
from watcher.spool.spool import Spool, is_regular

Held = Mapping[tuple[int, int], int]
IN_QUEUE = (State.ARRIVING, State.READY, State.CLAIMED)
EVERYTHING = (*IN_QUEUE, *STATE_DIRECTORIES)


class Listed(NamedTuple):
    """One entry: its state, its files, and what is known of it."""

    state: State
    name: bytes  # NAME, without the stamp and the suffix of its file
    files: tuple[bytes, ...]
    size: int  # bytes, of all its files
    age: float  # seconds since the youngest of them changed
    why: str = ""
    note: Mapping[str, object] = {}  # all that its note says
    schedule: Schedule | None = None  # of one that was deferred: what its stamp says
    changed: float = 0.0  # seconds since the epoch: when the youngest of its files did


def census(
    spool: Spool,
    wanted: Container[State] = EVERYTHING,
    limit: int = contents.MAX_SIZE,
    *,
    explained: bool = True,
) -> Iterator[Listed]:
    """Yield the entries of the states wanted; `limit` as `max_size` in the configuration.

    Those in `deferred/` come in the order of falling due. Without `explained` no note is read.
    """
    if any(state in wanted for state in IN_QUEUE):
        held = holders()
        for name, status in files_of(spool.fd):
            found = _in_queue(spool, name, status, held, limit)
            if found is not None and found.state in wanted:
                yield found
    for state in STATE_DIRECTORIES:
        if state in wanted:
            yield from _put_away(spool, state, explained=explained)


def in_queue(spool: Spool, name: bytes, held: Held, limit: int) -> Listed | None:
    """Return what is known of one file in the queue, None when it is no entry."""
    status = look(spool.fd, name)
    return None if status is None else _in_queue(spool, name, status, held, limit)


def _in_queue(
    spool: Spool, name: bytes, status: os.stat_result, held: Held, limit: int
) -> Listed | None:
    layout = spool.layout
    kind = layout.kind(name)
    if name == OURS or kind in (Kind.LEFTOVER, Kind.FOREIGN) or not is_regular(status):
        return None
    if kind is Kind.TEMPORARY:
        why, age = "being written, under a name of its writer's", _age(status.st_ctime)
        return Listed(State.ARRIVING, name, (name,), status.st_size, age, why)
    files, statuses = [name], [status]
    if kind is Kind.METADATA_HALF:
        for message in layout.message_halves(name):
            there = look(spool.fd, message)
            if there is not None and is_regular(there):
                return None  # listed under its message
    elif layout.legacy:
        other = look(spool.fd, layout.metadata_half(name))
        if other is not None and is_regular(other):
            files.append(layout.metadata_half(name))
            statuses.append(other)
    holder = held.get((status.st_dev, status.st_ino))
    if holder is not None:
        found: tuple[State, str] | None = (State.CLAIMED, by_process(holder))
    else:
        found = _unclaimed(spool, kind, files, limit)
    if found is None:
        return None
    size = sum(each.st_size for each in statuses)
    changed = max(each.st_ctime for each in statuses)
    return Listed(
        *(found[0], layout.stem(name), tuple(files), size, _age(changed), found[1]),
        changed=changed,
    )


def by_process(pid: int) -> str:
    """Say who has an entry claimed; in another pid namespace the number is no use (0)."""
    return f"by process {pid}" if pid > 0 else "by a process of another container"


def _unclaimed(
    spool: Spool, kind: Kind, files: list[bytes], limit: int
) -> tuple[State, str] | None:
    """Tell arriving from ready; None when the entry is gone."""
    half = kind is not Kind.ENTRY and len(files) == 1
    for name in files:
        try:
            fd = DISK.open(name, spool.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            return State.READY, f"cannot be opened: {error.strerror}"
        try:
            if spool.leases and lease.writer(fd) is Writer.SOME:
                return State.ARRIVING, "a process has it open for writing"
            if kind is Kind.ENTRY and spool.layout.legacy and len(files) == 1:
                half = _one_pickle(fd, name, limit)
        finally:
            os.close(fd)
    return (State.ARRIVING, "half of a pair") if half else (State.READY, "")


def _one_pickle(fd: int, name: bytes, limit: int) -> bool:
    """Whether a `.pck` awaits its `.db` (Mailman 2.1.0 to 2.1.4)."""
    status = os.fstat(fd)
    part = Part(name, fd, status.st_ino, status.st_size, status.st_ctime_ns)
    try:
        return contents.pickles(read_part(part, limit)) == 1
    except (Undecodable, OSError):
        return False


def _put_away(spool: Spool, state: State, *, explained: bool) -> Iterator[Listed]:
    directory = open_place(spool, state)
    if directory is None:
        return
    try:
        for files, status in put_away(directory, spool.layout, state):
            yield listed(spool, state, directory, files, status, explained=explained)
    finally:
        os.close(directory)


def listed(
    spool: Spool,
    state: State,
    directory: int,
    files: tuple[bytes, ...],
    status: os.stat_result,
    *,
    explained: bool,
) -> Listed:
    """Return what is known of one entry put away; `status` is that of its message's file."""
    size, changed = status.st_size, status.st_ctime
    for other in files[1:]:
        there = look(directory, other)
        if there is not None:
            size, changed = size + there.st_size, max(changed, there.st_ctime)
    note = read_note(directory, files[0], spool.layout) if explained else {}
    schedule, own = stamp_of(files[0], state)
    why = str(note.get("why", "no note beside it says why")) if explained else ""
    name = stem_of(own, spool.layout)
    return Listed(state, name, files, size, _age(changed), why, note, schedule, changed)


def _age(changed: float) -> float:
    return max(0.0, time.time() - changed)
