"""Count the entries in each state by their names, quickly enough for a status line.

Guarantees: only directories are opened; memory for `MANY` names at a time. The claimed entries are
those of /proc/locks when the count begins, and those that the caller names. A directory takes at
most `LONGEST`; if that is too short, `Tally.all_of_it` is false.
Fails: OSError or WatcherError if a directory cannot be read.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.inspect.notes_view import open_state_dir
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout, Location, is_note
from watcher.rules.pair_names import message_names
from watcher.spool.dirs import exists, listing
from watcher.spool.marker_files import waits_for
from watcher.spool.spool import Spool

LONGEST = 2.0  # seconds: some millions of names
MANY = 4_096  # names between two readings of the clock


class Tally(NamedTuple):
    """How many entries are in each state; `ready` excludes those that are still too young."""

    ready: int = 0
    claimed: int = 0
    deferred: int = 0
    held: int = 0
    dead: int = 0
    orphans: int = 0
    waiting: int = 0  # not complete or not old enough yet
    all_of_it: bool = True

    def __str__(self) -> str:
        """Return the counts as one line."""
        least = "" if self.all_of_it else "at least "
        return (
            f"{least}{self.ready} ready, {self.claimed} claimed, {self.deferred} deferred,"
            f" {self.held} held, {self.dead} dead,"
            f" {self.orphans} orphan{'' if self.orphans == 1 else 's'},"
            f" {self.waiting} not complete or not old enough yet"
        )


def tally(
    spool: Spool,
    claimed: Collection[bytes] = (),
    waits: Callable[[bytes], bool] | None = None,
) -> Tally:
    """Count the entries of a queue.

    `claimed` are the locations of the entries that this process has claimed; `waits` tells whether
    the entry of a name in the queue is not complete or not old enough yet.
    """
    held = {inode for device, inode in holders() if device == spool.identity[0]}
    counts = dict.fromkeys((State.READY, *STATE_DIRECTORIES), 0)
    locations = [Location.parse(name) for name in claimed]
    in_hand = waiting = 0
    whole = True
    for state in counts:
        queue = state is State.READY
        directory = os.dup(spool.fd) if queue else open_state_dir(spool, state)
        if directory is None:
            continue
        mine = {name for where, name in locations if where is state}
        asks = _waiting(spool, waits) if queue else None
        try:
            for found in _entries(directory, spool.layout, queue=queue):
                if found is None:
                    whole = False
                    break
                counts[state] += len(found)
                if not held and not mine and asks is None:
                    continue
                for item in found:
                    name = os.fsencode(item.name)
                    if item.inode() in held or name in mine:
                        in_hand += 1
                    elif asks is not None and asks(name):
                        waiting += 1
                    else:
                        continue
                    counts[state] -= 1
        finally:
            os.close(directory)
    return Tally(
        ready=counts[State.READY],
        claimed=in_hand,
        deferred=counts[State.DEFERRED],
        held=counts[State.HELD],
        dead=counts[State.DEAD],
        orphans=counts[State.ORPHAN],
        waiting=waiting,
        all_of_it=whole,
    )


def _waiting(spool: Spool, waits: Callable[[bytes], bool] | None) -> Callable[[bytes], bool] | None:
    """Return `waits`, that also tells of an entry which waits for a file beside it."""
    layout = spool.layout
    if not (layout.marker or layout.companions):
        return waits
    return lambda name: (
        (waits is not None and waits(name)) or waits_for(layout, spool.fd, name) != ""
    )


def _entries(
    directory: int, layout: Layout, *, queue: bool
) -> Iterator[list[os.DirEntry[str]] | None]:
    """Yield the messages' files of a directory in batches; None if it takes too long."""
    wanted = entry_test(layout) if queue else put_away_test(layout)
    pairs = not layout.raw and (layout.legacy or not queue)
    deadline = time.monotonic() + LONGEST
    with listing(directory) as items:
        while some := list(itertools.islice(items, MANY)):
            if time.monotonic() > deadline:
                yield None
                return
            found = [
                item for item in some if wanted(item.name) and item.is_file(follow_symlinks=False)
            ]
            if pairs:
                found = [item for item in found if not _has_message(item.name, directory)]
            yield found


def entry_test(layout: Layout) -> Callable[[str], bool]:
    """Return a test for entries' names: as `Layout.kind`, but fast enough for a million names."""
    patterns = layout.match is not None or layout.ignore is not None
    if patterns or layout.marker or layout.companions:
        return lambda name: layout.kind(os.fsencode(name)) is Kind.ENTRY
    halves = (".msg", ".db") if layout.legacy else ()
    endings = (os.fsdecode(layout.suffix), *halves)
    return lambda name: name.endswith(endings) and name[0] != "." and not name.endswith(".tmp")


def put_away_test(layout: Layout) -> Callable[[str], bool]:
    """Return a test for the names of entries' files in a state directory, which no note has."""
    return lambda name: name[0] != "." and not is_note(os.fsencode(name), layout)


def _has_message(name: str, directory: int) -> bool:
    """Whether `name` is the metadata of a message in the same directory, which counts for both."""
    if not name.endswith(".db"):
        return False
    return any(exists(half, directory) for half in message_names(os.fsencode(name)))
