"""Where an entry goes when an operator moves it: the names to try, one after the other.

    hold      held/NAME, NAME~1, ...       under its stamp if it has one
    release   its place in deferred/ if it has a stamp; else the queue
    requeue   the queue; deferred/ under a stamp that is due now where that would not do

A requeue goes to deferred/ in four cases. The queue has a newer file of that name: deferred/ keeps
both, and the older one keeps its name and key. A pair is numbered: after a crash between its two
renames, its halves would not find each other. The file was copied (`cp -a` of the spool) after it
was deferred: it is a new inode, and without its stamp it would get another key. Its note has what
the handler remembers of earlier attempts: in the queue it would have no note.

A pair's message moves first to the queue and to held/; its .db moves first to deferred/. So if a
daemon finds a message without its .db, `settle.interrupted` knows where that is.

Guarantees: nothing is moved. All names of a target were free when they were checked.
Fails: CannotCreate if no number is free; WatcherError or OSError if a state directory cannot be
used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from watcher.inspect.notes_view import split, stem_of
from watcher.operate.claiming import OperatorClaim
from watcher.rules.kinds import ENTRY_KINDS
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import STATE_DIRECTORIES, TRIES, free_number, note_of, numbered_name
from watcher.rules.pair_names import names_of_entry
from watcher.rules.stamp import Schedule, beside, parse, stamped
from watcher.spool.dirs import inode_of
from watcher.spool.notes import read_note, remembered_in
from watcher.spool.part import identity_of
from watcher.spool.spool import Spool


class Target(NamedTuple):
    """A directory and names for an entry's files; all names were free when they were checked."""

    state: State
    directory: int
    names: tuple[bytes, ...]
    note: bytes  # empty in the queue, which has no notes


class Targets:
    """The targets of one command; no two of its entries get the same due time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._last_ms = 0

    def targets_for(self, move: Move, taken: OperatorClaim) -> Iterator[Target]:
        """Yield the targets to try; none if the entry has to stay."""
        if move is Move.HOLD:
            yield from self._held(taken)
            return
        if move is Move.RELEASE and taken.schedule is not None:
            yield from self._stamped(State.DEFERRED, taken, taken.schedule)
            return
        if fits_queue(self._spool, taken):
            yield Target(State.READY, self._spool.fd, taken.own, b"")
        if not taken.half or taken.own[0].endswith(b".msg"):
            yield from self._stamped(State.DEFERRED, taken, self._due_now(taken))

    def _now(self) -> int:
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        return self._last_ms

    def _due_now(self, taken: OperatorClaim) -> Schedule:
        """Return a schedule that is due now and keeps the entry's key."""
        identity = 0
        if not self._spool.layout.is_unique_name(taken.own[0]):
            known = 0 if taken.schedule is None else taken.schedule.identity
            identity = known or identity_of(taken.claim.parts[0])
        return Schedule(self._now(), identity=identity)

    def _held(self, taken: OperatorClaim) -> Iterator[Target]:
        schedule = taken.schedule
        if schedule is None and parse(taken.own[0]) is not None:
            schedule = self._due_now(taken)  # its own name looks stamped: add a real stamp
        if schedule is not None:
            yield from self._stamped(State.HELD, taken, schedule)
        stem, _ = split(taken.own[0], self._spool.layout)
        suffixes = [name[len(stem) :] for name in taken.own]

        def names_of(number: int) -> tuple[bytes, ...]:
            return tuple(numbered_name(stem, suffix, number) for suffix in suffixes)

        first = 0
        for _ in range(TRIES):
            number = free_number(
                lambda n: not any(True for _ in self._if_free(State.HELD, taken, names_of(n))),
                first,
            )
            first = number + 1
            yield from self._if_free(State.HELD, taken, names_of(number))

    def _stamped(self, state: State, taken: OperatorClaim, schedule: Schedule) -> Iterator[Target]:
        stem, _ = split(taken.own[0], self._spool.layout)
        suffixes = [name[len(stem) :] for name in taken.own]
        for number in range(TRIES):
            names = tuple(stamped(beside(schedule, number), stem, suffix) for suffix in suffixes)
            yield from self._if_free(state, taken, names)

    def _if_free(
        self, state: State, taken: OperatorClaim, names: tuple[bytes, ...]
    ) -> Iterator[Target]:
        """Yield the target if no other entry has any of its names or its note there.

        Half of a pair may go beside its other half and their note: a crash cut the move in two.
        """
        directory, note = self._spool.make_state_dir(state), note_of(names[0], self._spool.layout)
        wanted = _wanted(names, self._spool, half=taken.half)
        if not taken.half:
            wanted.append(note)
        if not any(inode_of(name, directory) for name in wanted):
            yield Target(state, directory, names, note)


def fits_queue(spool: Spool, taken: OperatorClaim) -> bool:
    """Whether an entry can go back to the queue under its own name.

    In a queue with markers it would wait there for a marker; in deferred/ it needs none.
    """
    if spool.layout.marker or (taken.number and len(taken.own) > 1) or not keeps_key(taken):
        return False
    if remembers(spool, taken):  # an entry in the queue has no note
        return False
    wanted = _wanted(taken.own, spool, half=taken.half)
    return not any(inode_of(name, spool.fd) for name in wanted)


def keeps_key(taken: OperatorClaim) -> bool:
    """Whether an entry has the same key without its stamp; a copied file has another."""
    if taken.half or taken.schedule is None or not taken.schedule.identity:
        return True
    return taken.schedule.identity == identity_of(taken.claim.parts[0])


def known_note(spool: Spool, taken: OperatorClaim) -> Mapping[str, object]:
    """Return the note beside an entry in a state directory; {} if there is none."""
    if taken.note or taken.state not in STATE_DIRECTORIES:
        return taken.note
    return read_note(taken.directory, taken.file, spool.layout)


def remembers(spool: Spool, taken: OperatorClaim) -> bool:
    """Whether the note says what the handler remembers of earlier attempts."""
    return bool(remembered_in(known_note(spool, taken)))


def _wanted(names: tuple[bytes, ...], spool: Spool, *, half: bool) -> list[bytes]:
    """Return the names that must be free, so that no two entries look like one pair."""
    if spool.layout.raw or half:
        return list(names)  # half of a pair may meet its other half
    stem = stem_of(names[0], spool.layout)
    return names_of_entry(stem)


def is_entry(spool: Spool, taken: OperatorClaim) -> bool:
    """Whether its files have entries' names; an operator may have put other files there."""
    layout = spool.layout.in_state_dir()
    return all(layout.kind(name) in ENTRY_KINDS for name in taken.own)
