"""Which entries a command is for: by name, by state, by age, by last error, by metadata.

Guarantees: nothing is locked, moved or written. All entries are selected before the first is moved,
so that none comes up twice; oldest first, so that they go on in the order in which they came.
Fails: Usage when several entries go by a name; what is not there is in `Selection.missing`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.errors import NoSuch, Undecodable, Usage, WatcherError
from watcher.inspect.census import IN_QUEUE, Listed, census, in_queue, listed
from watcher.inspect.lookup import Lying, look_up, metadata, no_such, open_files, several
from watcher.inspect.notes import look, open_place
from watcher.lifecycle import TABLE, Move, State
from watcher.spool.layout import STATE_DIRECTORIES, display
from watcher.spool.spool import Spool

EVERY = (State.READY, *STATE_DIRECTORIES)


class Filter(NamedTuple):
    """What an entry must be like: all of it. None and empty: anything."""

    older: float | None = None  # seconds in its state, at least
    newer: float | None = None  # seconds in its state, at most
    error: str = ""  # a part of its last error
    where: tuple[tuple[str, str], ...] = ()  # metadata: KEY, VALUE

    def __bool__(self) -> bool:
        return self != Filter()


class Selection(NamedTuple):
    """What was found, oldest first, and what to tell of names that were not."""

    entries: list[Listed]
    missing: list[WatcherError]


def states_for(move: Move) -> tuple[State, ...]:
    """Return the states out of which an operator may make this move, by the life cycle's table."""
    return tuple(state for state in EVERY if (state, move) in TABLE)


def select(
    spool: Spool,
    names: Sequence[bytes] | None,
    move: Move,
    states: Sequence[State],
    wanted: Filter,
    limit: int,
) -> Selection:
    """Return the entries of `states` for a move: those named, or with None all; less the others."""
    missing: list[WatcherError] = []
    if names is None:
        found = _all(spool, states, wanted, limit)
    else:
        found, missing = _named(spool, names, move, states, limit)
    entries = [entry for entry in found if matches(spool, entry, wanted, limit)]
    entries.sort(key=lambda entry: entry.changed)
    return Selection(entries, missing)


def _all(spool: Spool, states: Sequence[State], wanted: Filter, limit: int) -> list[Listed]:
    seen = (*states, State.CLAIMED) if State.READY in states else tuple(states)
    return list(census(spool, seen, limit, explained=bool(wanted.error)))


def _named(
    spool: Spool, names: Sequence[bytes], move: Move, states: Sequence[State], limit: int
) -> tuple[list[Listed], list[WatcherError]]:
    entries: dict[Lying, Listed] = {}
    missing: list[WatcherError] = []
    held = holders()
    for name, lying in zip(names, look_up(spool, names, EVERY), strict=True):
        right = [each for each in lying if each.state in states]
        if len(right) > 1:
            raise several(name, right)
        entry = _listed(spool, right[0], held, limit) if right else None
        if entry is None:
            missing.append(_not_there(spool, name, lying, move, states))
        else:
            entries[right[0]] = entry
    return list(entries.values()), missing


def _listed(
    spool: Spool, lying: Lying, held: Mapping[tuple[int, int], int], limit: int
) -> Listed | None:
    if lying.state in IN_QUEUE:
        return in_queue(spool, lying.files[0], held, limit)
    directory = open_place(spool, lying.state)
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
    spool: Spool, name: bytes, lying: Sequence[Lying], move: Move, states: Sequence[State]
) -> WatcherError:
    if not lying:
        return no_such(spool, name)
    if any(each.state in states for each in lying):
        return NoSuch(f"{display(name)}: is no entry, as this queue is read (a pair? --legacy)")
    there = " and ".join(each.state.value for each in lying)
    if move is Move.DELETE and lying[0].state is State.READY:
        return Usage(f"{display(name)}: is ready, and may be in a handler's hands: hold it first")
    asked = ", ".join(state.value for state in states)
    return NoSuch(f"{display(name)}: is {there}; {move.value} is for what is {asked}")


def matches(spool: Spool, entry: Listed, wanted: Filter, limit: int) -> bool:
    """Whether an entry is as wanted; its files are read only if metadata are asked for."""
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
    spool: Spool, entry: Listed, where: Sequence[tuple[str, str]], limit: int
) -> bool:
    try:
        found = open_files(spool, Lying(entry.state, entry.files), limit)
    except WatcherError:
        return False
    try:
        values = metadata(found, limit)
    except (Undecodable, OSError):
        return False
    finally:
        found.close()
    return all(key in values and value in _texts(values[key]) for key, value in where)


def _texts(value: object) -> set[str]:
    """Return how a value of metadata may be written on the command line."""
    from watcher import contents

    texts = {str(value)}
    if isinstance(value, bytes):
        texts.add(os.fsdecode(value))
    with contextlib.suppress(Undecodable):
        texts.add(contents.to_json({"": value}).removeprefix('{"": ').removesuffix("}"))
    return texts
