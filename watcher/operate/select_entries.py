"""Select the entries for a command: by name, by state, by age, by last error, by metadata.

What is archived is selected only if it is asked for, by its state or as archived/NAME
(`select_archived`).
Guarantees: nothing is locked, moved or written. All entries are selected before the first is moved,
so no entry comes twice. They are sorted in the order of commit (commit_order.py), so that they are
handled in the order in which they came.
Fails: Usage if several entries have a name; names that no entry has are in `Selection.missing`.
NotPermitted or Unavailable if a state directory cannot be read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.errors import NoSuch, Undecodable, Usage, WatcherError
from watcher.inspect.find_entry import (
    TYPED,
    EntryLocation,
    look_up,
    metadata,
    no_such,
    open_files,
    resolve,
    several,
)
from watcher.inspect.list_entries import IN_QUEUE, EntryInfo, in_queue, list_entries, listed
from watcher.inspect.notes_view import look, open_state_dir
from watcher.operate.commit_order import Order
from watcher.operate.select_archived import PLACE, all_archived, metadata_of, named_archived
from watcher.rules.kinds import HALVES
from watcher.rules.lifecycle import TABLE, Move, State
from watcher.rules.names import STATE_DIRECTORIES, display
from watcher.spool.marker_files import waits_for
from watcher.spool.spool import Spool

EVERY = (State.READY, *STATE_DIRECTORIES)


class Filter(NamedTuple):
    """Conditions that an entry must all meet; None and empty values are no condition."""

    older: float | None = None  # seconds in its state, at least
    newer: float | None = None  # seconds in its state, at most
    error: str = ""  # a part of its last error
    where: tuple[tuple[str, str], ...] = ()  # metadata: KEY, VALUE

    def __bool__(self) -> bool:
        return self != Filter()


class Selection(NamedTuple):
    """The entries found, oldest first, and an error for each name that was not found."""

    entries: list[EntryInfo]
    missing: list[WatcherError]


def states_for(move: Move) -> tuple[State, ...]:
    """Return the states from which the life cycle's table allows this move.

    Without the archive: what is done is moved only if it is asked for.
    """
    return tuple(state for state in EVERY if (state, move) in TABLE)


def select(
    spool: Spool,
    names: Sequence[bytes] | None,
    move: Move,
    states: Sequence[State],
    wanted: Filter,
    limit: int,
) -> Selection:
    """Return the entries in `states` that meet `wanted`: those named, or all if `names` is None."""
    missing: list[WatcherError] = []
    places = tuple(state for state in states if state is not State.DONE)
    if names is None:
        found = _all(spool, places, wanted, limit) if places else []
        found += all_archived(spool) if State.DONE in states else []
    else:
        archived = [name.removeprefix(PLACE) for name in names if _is_archived(name, move, states)]
        others = [name for name in names if not _is_archived(name, move, states)]
        found, missing = _named(spool, others, move, places, limit) if others else ([], [])
        more, absent = named_archived(spool, archived) if archived else ([], [])
        found, missing = [*found, *more], [*missing, *absent]
    entries = [entry for entry in found if matches(spool, entry, wanted, limit)]
    order = Order(spool)
    try:
        entries.sort(key=order)
    finally:
        order.close()
    return Selection(entries, missing)


def _is_archived(name: bytes, move: Move, states: Sequence[State]) -> bool:
    """Whether a name is looked for in the archive: by its own word, or by the state asked for."""
    by_name = name.startswith(PLACE) and (State.DONE, move) in TABLE
    return by_name or State.DONE in states


def _all(spool: Spool, states: Sequence[State], wanted: Filter, limit: int) -> list[EntryInfo]:
    """Return the entries in the directories of `states`, claimed ones included."""
    seen, queue = (*states, State.CLAIMED), State.READY in states
    found = list_entries(spool, seen, limit, explained=bool(wanted.error), queue=queue)
    return [entry for entry in found if entry.lies_in in IN_QUEUE or entry.lies_in in states]


def _named(
    spool: Spool, names: Sequence[bytes], move: Move, states: Sequence[State], limit: int
) -> tuple[list[EntryInfo], list[WatcherError]]:
    entries: dict[EntryLocation, EntryInfo] = {}
    missing: list[WatcherError] = []
    held = holders()
    # What is deleted is gone: a name has to be whole.
    find = look_up if move is Move.DELETE else resolve
    for name, lying in zip(names, find(spool, names, EVERY), strict=True):
        right = [each for each in lying if each.state in states]
        if len(right) > 1:
            raise several(name, right)
        entry = _listed(spool, right[0], held, limit) if right else None
        if entry is None:
            looks = len(missing) < TYPED
            missing.append(_not_there(spool, name, lying, (move, states), looks=looks))
        else:
            entries[right[0]] = entry
    return list(entries.values()), missing


def _listed(
    spool: Spool, lying: EntryLocation, held: Mapping[tuple[int, int], int], limit: int
) -> EntryInfo | None:
    if lying.state in IN_QUEUE:
        return in_queue(spool, lying.files[0], held, limit)
    directory = open_state_dir(spool, lying.state)
    if directory is None:
        return None
    try:
        status = look(directory, lying.files[0])
        if status is None:
            return None
        return listed(spool, lying.state, directory, lying.files, status, explained=True)
    finally:
        os.close(directory)


def _not_there(
    spool: Spool,
    name: bytes,
    lying: Sequence[EntryLocation],
    wanted: tuple[Move, Sequence[State]],
    *,
    looks: bool,
) -> WatcherError:
    move, states = wanted
    if not lying:
        return no_such(spool, name, looks=looks)
    if any(each.state in states for each in lying):
        return NoSuch(f"{display(name)}: is no entry, as this queue is read (a pair? --legacy)")
    there = " and ".join(each.state.value for each in lying)
    if move is Move.DELETE and lying[0].state is State.READY:
        return Usage(f"{display(name)}: {_how_to_delete(spool, lying[0])}")
    asked = ", ".join(state.value for state in states)
    return NoSuch(f"{display(name)}: is {there}; {move.value} is for what is {asked}")


def _how_to_delete(spool: Spool, lying: EntryLocation) -> str:
    """Say how to get rid of an entry in the queue; one that no worker takes cannot be held."""
    file = lying.files[0]
    why = waits_for(spool.layout, spool.fd, file)
    if not why and len(lying.files) == 1 and spool.layout.kind(file) in HALVES:
        why = "is half of a pair"
    if why:
        return f"{why}, so no worker takes it and it cannot be held: remove the file itself: rm"
    return "is ready, and may be in a handler's hands: hold it first"


def matches(spool: Spool, entry: EntryInfo, wanted: Filter, limit: int) -> bool:
    """Whether an entry meets the conditions; reads its files only for metadata."""
    if wanted.older is not None and entry.age < wanted.older:
        return False
    if wanted.newer is not None and entry.age > wanted.newer:
        return False
    if wanted.error:
        known = (entry.note.get("why", ""), entry.note.get("stderr", ""))
        if not any(wanted.error in str(text) for text in known):
            return False
    return not wanted.where or _has_metadata(spool, entry, wanted.where, limit)


def _has_metadata(
    spool: Spool, entry: EntryInfo, where: Sequence[tuple[str, str]], limit: int
) -> bool:
    try:
        values = _metadata(spool, entry, limit)
    except (WatcherError, OSError):
        return False
    return all(key in values and value in texts_of(values[key]) for key, value in where)


def _metadata(spool: Spool, entry: EntryInfo, limit: int) -> dict[str, object]:
    if entry.lies_in is State.DONE:
        return metadata_of(spool, entry, limit)
    found = open_files(spool, EntryLocation(entry.lies_in, entry.files), limit)
    try:
        return metadata(found, limit)
    finally:
        found.close()


def texts_of(value: object) -> set[str]:
    """Return the ways to write a metadata value on the command line."""
    from watcher import mailman

    if isinstance(value, str):
        texts = {value}
    else:
        texts = {os.fsdecode(value)} if isinstance(value, bytes) else set()
    with contextlib.suppress(Undecodable):  # a value that it refuses is too large to write
        texts.add(mailman.to_json({"": value}).removeprefix('{"": ').removesuffix("}"))
        texts.add(str(value))
    return texts
