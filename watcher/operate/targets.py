"""Where an entry goes when an operator moves it: the names to try, one after the other.

    hold      held/NAME, NAME~1, ...       under its stamp if it has one
    release   its place in deferred/ if it has a stamp; else the queue
    requeue   the queue; deferred/ under a stamp that is due now where that would not do

It does not do where the queue has a file of that name: the newer one. `deferred/` keeps both, and
the older one's name and key. Nor for a numbered pair: should its move be cut in two, the halves
would not find each other.

A pair's order: to the queue and to held/ its message first, to deferred/ its .db first. So where a
daemon acts, a message without its .db is one whose .db it knows to find (`settle.halfway`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import NamedTuple

from watcher.inspect.notes import stem_of
from watcher.lifecycle import Move, State
from watcher.operate.claiming import Claimed
from watcher.settle.aside import inode
from watcher.spool.layout import Kind, note_of, stored
from watcher.spool.schedule import Schedule, parse, stamped
from watcher.spool.spool import Spool


class Target(NamedTuple):
    """A place for an entry's files: all its names were free when last looked at."""

    state: State
    directory: int
    names: tuple[bytes, ...]
    note: bytes  # "": in the queue there is none


class Targets:
    """The targets of one command; no two of its entries get the same moment."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._last_ms = 0

    def of(self, move: Move, taken: Claimed) -> Iterator[Target]:
        """Yield the targets to try: none if the entry has to stay where it is."""
        if move is Move.HOLD:
            yield from self._held(taken)
            return
        if move is Move.RELEASE and taken.schedule is not None:
            yield from self._stamped(State.DEFERRED, taken, taken.schedule)
            return
        if fits_queue(self._spool, taken):
            yield Target(State.READY, self._spool.fd, taken.own, b"")
        if not taken.half or taken.own[0].endswith(b".msg"):
            yield from self._stamped(State.DEFERRED, taken, Schedule(self._now()))

    def _now(self) -> int:
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        return self._last_ms

    def _held(self, taken: Claimed) -> Iterator[Target]:
        schedule = taken.schedule
        if schedule is None and parse(taken.own[0]) is not None:
            schedule = Schedule(self._now())  # its own name looks like a stamp: give it a real one
        if schedule is not None:
            yield from self._stamped(State.HELD, taken, schedule)
        stem = stem_of(taken.own[0], self._spool.layout)
        suffixes = [name[len(stem) :] for name in taken.own]
        for number in itertools.count():
            names = tuple(stored(stem, suffix, number) for suffix in suffixes)
            yield from self._if_free(State.HELD, taken, names)

    def _stamped(self, state: State, taken: Claimed, schedule: Schedule) -> Iterator[Target]:
        stem = stem_of(taken.own[0], self._spool.layout)
        suffixes = [name[len(stem) :] for name in taken.own]
        for more in itertools.count():
            later = schedule._replace(due_ms=schedule.due_ms + more)
            names = tuple(stamped(later, stem, suffix) for suffix in suffixes)
            yield from self._if_free(state, taken, names)

    def _if_free(self, state: State, taken: Claimed, names: tuple[bytes, ...]) -> Iterator[Target]:
        """Yield the target if no other entry has any of its names, or a note there.

        Half of a pair may go beside its other half, and its note: a move was cut in two.
        """
        directory, note = self._spool.place(state), note_of(names[0], self._spool.layout)
        wanted = _wanted(names, self._spool, half=taken.half)
        if not taken.half:
            wanted.append(note)
        if not any(inode(name, directory) for name in wanted):
            yield Target(state, directory, names, note)


def fits_queue(spool: Spool, taken: Claimed) -> bool:
    """Whether an entry can go back to the queue under its own name."""
    if taken.number and len(taken.own) > 1:
        return False
    wanted = _wanted(taken.own, spool, half=taken.half)
    return not any(inode(name, spool.fd) for name in wanted)


def _wanted(names: tuple[bytes, ...], spool: Spool, *, half: bool) -> list[bytes]:
    """Return the names that must be free, lest the files of two entries be taken for one's."""
    if spool.layout.raw or half:
        return list(names)  # half of a pair may meet its other half
    stem = stem_of(names[0], spool.layout)
    return [stem + suffix for suffix in (b".pck", b".msg", b".db")]


def is_entry(spool: Spool, taken: Claimed) -> bool:
    """Whether its files have an entry's names: an operator may have put anything anywhere."""
    layout = spool.layout.as_put_away()
    good = (Kind.ENTRY, Kind.MESSAGE_HALF, Kind.METADATA_HALF)
    return all(layout.kind(name) in good for name in taken.own)
