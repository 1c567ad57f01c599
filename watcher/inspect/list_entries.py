"""List the entries of a queue by state, in memory for one entry at a time.

Guarantees: nothing is opened for writing, locked or moved. `deferred/` is listed by due time; every
other directory in its own order, because sorting would need memory for all entries. The claimed
entries are those of /proc/locks when the list begins. An entry that goes meanwhile is not listed.
Fails: NotPermitted or Unavailable if the directories in .watcher/ cannot be read, after the entries
of the queue; OSError if the queue cannot be read.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from watcher import mailman
from watcher.claim.claim import STICKY
from watcher.claim.holders import described, holders
from watcher.errors import Undecodable
from watcher.inspect.notes_view import (
    entries_in,
    files_of,
    look,
    open_state_dir,
    stamp_of,
    stem_of,
)
from watcher.rules.evidence import Writer
from watcher.rules.kinds import KIND_INFO, Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import OURS, STATE_DIRECTORIES, Layout, other_names
from watcher.rules.pair_names import message_names, metadata_name
from watcher.rules.stamp import Schedule
from watcher.spool import lease, removable
from watcher.spool.disk import DISK
from watcher.spool.marker_files import waits_for
from watcher.spool.notes import read_note
from watcher.spool.part import Part, read_part
from watcher.spool.spool import Spool

LockHolders = Mapping[tuple[int, int], int]
IN_QUEUE = (State.ARRIVING, State.READY, State.CLAIMED)
EVERYTHING = (*IN_QUEUE, *STATE_DIRECTORIES)


class EntryInfo(NamedTuple):
    """One entry: its state, its files, and what is known about it."""

    state: State
    name: bytes  # NAME, without the stamp and the suffix of its file
    files: tuple[bytes, ...]
    size: int  # bytes, of all its files
    age: float  # seconds since the youngest of them changed
    why: str = ""
    note: Mapping[str, object] = {}  # the contents of its note
    schedule: Schedule | None = None  # from the stamp, if it was deferred
    changed: float = 0.0  # seconds since the epoch: the latest ctime of its files
    place: State | None = None  # of an entry claimed in a state's directory: that state
    day: bytes = b""  # of an archived entry: the folder that it is in, "" if in the archive itself

    @property
    def lies_in(self) -> State:
        """The state whose directory has its files."""
        return self.state if self.place is None else self.place


def list_entries(
    spool: Spool,
    wanted: Container[State] = EVERYTHING,
    limit: int = mailman.MAX_SIZE,
    *,
    explained: bool = True,
    queue: bool = True,
) -> Iterator[EntryInfo]:
    """Yield the entries of the states `wanted`; `limit` is `max_size` of the configuration.

    An entry of `deferred/` that a worker has claimed counts as claimed. `explained=False` reads no
    notes; `queue=False` does not read the queue itself.
    """
    held = holders()
    if queue and any(state in wanted for state in IN_QUEUE):
        for name, status in files_of(spool.fd):
            found = _in_queue(spool, name, status, held, limit)
            if found is not None and found.state in wanted:
                yield found
    for state in STATE_DIRECTORIES:
        claimed = state is State.DEFERRED and State.CLAIMED in wanted
        if state in wanted or claimed:
            for entry in _put_away(spool, state, held, explained=explained):
                if entry.state in wanted:
                    yield entry


def in_queue(spool: Spool, name: bytes, held: LockHolders, limit: int) -> EntryInfo | None:
    """Return what is known about one file in the queue; None if it is no entry."""
    status = look(spool.fd, name)
    return None if status is None else _in_queue(spool, name, status, held, limit)


def _in_queue(
    spool: Spool, name: bytes, status: os.stat_result, held: LockHolders, limit: int
) -> EntryInfo | None:
    layout = spool.layout
    kind = layout.kind(name)
    info = KIND_INFO[kind]
    if name == OURS or not info.listed or not stat.S_ISREG(status.st_mode):
        return None
    if not info.entry or not layout.may_be_entry(status):
        return _waits(layout, name, kind, status)
    files, statuses = [name], [status]
    if kind is Kind.METADATA_HALF:
        for message in message_names(name):
            there = look(spool.fd, message)
            if there is not None and layout.may_be_entry(there):
                return None  # listed with its message
    elif layout.legacy:
        other = look(spool.fd, metadata_name(name))
        if other is not None and layout.may_be_entry(other):
            files.append(metadata_name(name))
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
    return EntryInfo(
        *(found[0], layout.stem(name), tuple(files), size, _age(changed), found[1]),
        changed=changed,
    )


def _waits(layout: Layout, name: bytes, kind: Kind, status: os.stat_result) -> EntryInfo:
    """Return what is known about a file that no worker claims under its present name."""
    stem, why = name, KIND_INFO[kind].waiting
    if KIND_INFO[kind].entry:
        stem, why = layout.stem(name), other_names(status)
    age, changed = _age(status.st_ctime), status.st_ctime
    return EntryInfo(State.ARRIVING, stem, (name,), status.st_size, age, why, changed=changed)


def by_process(pid: int) -> str:
    """Say which process has claimed an entry, and which program that is."""
    return f"by {described(pid)}"


def _unclaimed(
    spool: Spool, kind: Kind, files: list[bytes], limit: int
) -> tuple[State, str] | None:
    """Return ARRIVING or READY, and why; None if the entry is gone."""
    half = kind is not Kind.ENTRY and len(files) == 1
    for name in files:
        try:
            fd = DISK.open(name, spool.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            return State.READY, f"cannot be opened: {error.strerror}"
        try:
            if spool.asks and lease.writer(fd) is Writer.SOME:
                return State.ARRIVING, "a process has it open for writing"
            if why := waits_for(spool.layout, spool.fd, name):
                return State.ARRIVING, why
            if why := _stays(spool, fd):
                return State.READY, why
            if kind is Kind.ENTRY and spool.layout.legacy and len(files) == 1:
                half = _one_pickle(fd, name, limit)
        finally:
            os.close(fd)
    return (State.ARRIVING, "half of a pair") if half else (State.READY, "")


def _stays(spool: Spool, fd: int) -> str:
    """Say why a file cannot be removed, and so is not handled; "" if it can."""
    if spool.sticky and os.fstat(fd).st_uid != spool.euid:
        return STICKY
    attribute = removable.pinned(fd)
    return f"cannot be removed: it is {attribute}" if attribute else ""


def _one_pickle(fd: int, name: bytes, limit: int) -> bool:
    """Whether a `.pck` awaits its `.db` (Mailman 2.1.0 to 2.1.4)."""
    status = os.fstat(fd)
    times = (status.st_ctime_ns, status.st_mtime_ns)
    part = Part(name, fd, status.st_ino, status.st_size, *times)
    try:
        return mailman.pickles(read_part(part, limit)) == 1
    except (Undecodable, OSError):
        return False


def _put_away(
    spool: Spool, state: State, held: LockHolders, *, explained: bool
) -> Iterator[EntryInfo]:
    directory = open_state_dir(spool, state)
    if directory is None:
        return
    try:
        for files, status in entries_in(directory, spool.layout, state):
            holder = held.get((status.st_dev, status.st_ino)) if state is State.DEFERRED else None
            found = listed(spool, state, directory, files, status, explained=explained)
            yield found if holder is None else as_claimed(found, holder)
    finally:
        os.close(directory)


def as_claimed(found: EntryInfo, holder: int) -> EntryInfo:
    """Return an entry of `deferred/` as claimed by the process `holder`."""
    why = f"{by_process(holder)}, a retry" + (f"; last: {found.why}" if found.why else "")
    return found._replace(state=State.CLAIMED, why=why, place=found.state)


def listed(
    spool: Spool,
    state: State,
    directory: int,
    files: tuple[bytes, ...],
    status: os.stat_result,
    *,
    explained: bool,
) -> EntryInfo:
    """Return what is known about an entry in a state's directory; `status`: its message's file."""
    size, changed = status.st_size, status.st_ctime
    for other in files[1:]:
        there = look(directory, other)
        if there is not None:
            size, changed = size + there.st_size, max(changed, there.st_ctime)
    note = read_note(directory, files[0], spool.layout) if explained else {}
    schedule, own = stamp_of(files[0], state)
    why = str(note.get("why", "no note says why")) if explained else ""
    name = stem_of(own, spool.layout)
    return EntryInfo(state, name, files, size, _age(changed), why, note, schedule, changed)


def _age(changed: float) -> float:
    return max(0.0, time.time() - changed)
