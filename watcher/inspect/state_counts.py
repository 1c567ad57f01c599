"""Count the entries in each state on the disk, and find the oldest of them, for `status`.

    ready      its age is the time since its files changed (ctime), as `list` shows it
    deferred   its age is the time since its first failure, which its stamp holds
    others     the time since the entry was put there

Guarantees: only directories are opened, and `_MANY` names at a time are in memory. The claimed
entries are those of /proc/locks when the count begins. A directory is read for at most `LONGEST`,
and its entries' ages are looked at for at most `LONGEST_AGES`: `StateCount.whole` and `all_ages`
are false if that is too short, and the numbers are at least so high.
Fails: OSError or WatcherError if a directory cannot be read.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.inspect.counts import entry_test, put_away_test
from watcher.inspect.notes_view import open_state_dir, stamp_of
from watcher.rules.backlog import SPANS
from watcher.rules.kinds import KIND_INFO
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout, display
from watcher.rules.pair_names import message_names, metadata_name
from watcher.rules.stamp import parse
from watcher.spool.dirs import exists, listing
from watcher.spool.marker_files import waits_for
from watcher.spool.spool import Spool

LONGEST = 20.0  # seconds for one directory: a million names even on a machine under load
LONGEST_AGES = 2.0  # seconds for its ages: a million, if the inodes are cached
HOUR = 3600.0
FIRST = 5  # oldest entries that are named
_MANY = 1_024  # names that are read at once, between two readings of the clock
_MOMENT = len("20261123T105313")  # the seconds in a stamp

SHOWN = (State.ARRIVING, State.READY, State.CLAIMED, *STATE_DIRECTORIES)
Items = list[os.DirEntry[str]]


class Oldest(NamedTuple):
    """One of the oldest entries of a state, as `display` shows it; its age in seconds."""

    entry: str
    age: float


@dataclasses.dataclass(slots=True)
class StateCount:
    """The entries of one state: how many, how old."""

    count: int = 0
    oldest: float | None = None  # seconds
    younger: dict[float, int] = dataclasses.field(
        default_factory=lambda: dict.fromkeys((*SPANS, HOUR), 0)
    )  # entries of less than so many seconds
    due: int = 0  # deferred entries that are due
    next_due: float | None = None  # seconds until the next of the others is due
    whole: bool = True
    all_ages: bool = True
    first: Sequence[Oldest] = ()  # the oldest, of those whose ages were looked at
    earliest: list[tuple[float, str]] = dataclasses.field(default_factory=list)  # their files

    def add(self, number: int, begins: Sequence[float] | None, now: float) -> None:
        """Count entries; `begins`: the moments from which their ages count, None: not known."""
        self.count += number
        if begins is None:
            self.all_ages = self.all_ages and not number
        elif begins:
            oldest = max(0.0, now - min(begins))
            self.oldest = oldest if self.oldest is None else max(self.oldest, oldest)
            late = [begin for begin in begins if begin > now - HOUR]
            for span in self.younger:
                self.younger[span] += sum(begin > now - span for begin in late)

    def keep_earliest(self, items: Items, begins: Sequence[float | None]) -> None:
        """Keep the files of the oldest entries; `begins` is beside `items`."""
        limit = self.earliest[-1][0] if len(self.earliest) == FIRST else float("inf")
        early = [
            (begin, item.name)
            for begin, item in zip(begins, items, strict=True)
            if begin is not None and begin < limit
        ]
        if early:
            self.earliest = heapq.nsmallest(FIRST, [*self.earliest, *early])

    def name_first(self, state: State, layout: Layout, now: float) -> None:
        """Give the oldest entries the names by which commands know them."""
        own = layout.in_state_dir()
        self.first = [
            Oldest(display(own.stem(stamp_of(os.fsencode(file), state)[1])), max(0.0, now - begin))
            for begin, file in self.earliest
        ]


class _Reading:
    """One reading of one directory, in batches: the clock, and the limits of time."""

    def __init__(self) -> None:
        self.now = time.time()
        self._begin = time.monotonic()
        self._ages = True  # there is time to look at ages

    def batches(
        self, directory: int, is_entry: Callable[[str], bool], count: StateCount
    ) -> Iterator[tuple[Items, Items]]:
        """Yield the entries and the other names of a directory, as long as there is time."""
        with listing(directory) as items:
            while some := list(itertools.islice(items, _MANY)):
                entries = [item for item in some if is_entry(item.name) and _is_file(item)]
                others = [] if len(entries) == len(some) else list(set(some).difference(entries))
                yield entries, others
                spent = time.monotonic() - self._begin
                self._ages = spent < LONGEST_AGES
                if spent > LONGEST:
                    if next(items, None) is not None:
                        count.whole = count.all_ages = False
                    return

    def add(
        self, count: StateCount, items: Items, begin: Callable[[os.DirEntry[str]], float | None]
    ) -> None:
        """Count entries; `begin` says from which moment the age of one counts."""
        if not self._ages:
            count.add(len(items), None, self.now)
            return
        moments = [begin(item) for item in items]
        count.add(len(items), [each for each in moments if each is not None], self.now)
        count.keep_earliest(items, moments)


def _is_file(item: os.DirEntry[str]) -> bool:
    return item.is_file(follow_symlinks=False)


def _changed(item: os.DirEntry[str]) -> float | None:
    """Return when a file changed; None if it has gone."""
    try:
        return item.stat(follow_symlinks=False).st_ctime
    except OSError:
        return None


def _first_failure(item: os.DirEntry[str]) -> float | None:
    """Return when an entry of `deferred/` failed first; None if its stamp does not say it."""
    found = parse(os.fsencode(item.name))
    if found is None:
        return None
    schedule = found[0]
    return schedule.due_ms / 1000 - schedule.delay - schedule.waited


def state_counts(
    spool: Spool, claims: Mapping[tuple[int, int], int] | None = None
) -> Mapping[State, StateCount]:
    """Count the entries of a queue, in the order in which they are shown.

    `claims` is what `holders` said just now; None: it is asked.
    """
    claims = holders() if claims is None else claims
    held = {inode for device, inode in claims if device == spool.identity[0]}
    found = {state: StateCount() for state in SHOWN}
    _count_queue(spool, held, found)
    for state in STATE_DIRECTORIES:
        directory = open_state_dir(spool, state)
        if directory is None:
            continue
        try:
            _count_put_away(spool.layout, directory, state, held, found)
        finally:
            os.close(directory)
    now = time.time()
    for state, count in found.items():
        count.name_first(state, spool.layout, now)
    return found


def _count_queue(spool: Spool, held: AbstractSet[int], found: Mapping[State, StateCount]) -> None:
    """Count the entries that lie in the queue itself."""
    layout, reading = spool.layout, _Reading()
    waits = _waits(spool)
    for entries, others in reading.batches(spool.fd, entry_test(layout), found[State.READY]):
        arriving = [item for item in others if _is_arriving(layout, item)]
        free = _without_claimed(entries, held, found)
        if waits is not None:
            states = [(waits(os.fsencode(item.name)), item) for item in free]
            arriving += [item for state, item in states if state is State.ARRIVING]
            free = [item for state, item in states if state is State.READY]
        reading.add(found[State.READY], free, _changed)
        reading.add(found[State.ARRIVING], arriving, _changed)


def _is_arriving(layout: Layout, item: os.DirEntry[str]) -> bool:
    """Whether a file has a name that an entry has while it is written."""
    name = os.fsencode(item.name)
    return KIND_INFO[layout.kind(name)].listed and _is_file(item)


def _without_claimed(
    items: Items, held: AbstractSet[int], found: Mapping[State, StateCount]
) -> Items:
    """Return the entries that no process has claimed; count the others."""
    free = [item for item in items if item.inode() not in held] if held else items
    found[State.CLAIMED].count += len(items) - len(free)
    return free


def _waits(spool: Spool) -> Callable[[bytes], State | None] | None:
    """Return a function that says whether an entry waits for a file beside it; None: none does.

    Its answer is READY, ARRIVING, or None for a `.db` that is counted with its message.
    """
    layout, queue = spool.layout, spool.fd
    if layout.marker or layout.companions:
        return lambda name: State.ARRIVING if waits_for(layout, queue, name) else State.READY
    if not layout.legacy:
        return None

    def of_pair(name: bytes) -> State | None:
        if name.endswith(b".db"):
            whole = any(exists(message, queue) for message in message_names(name))
            return None if whole else State.ARRIVING
        if name.endswith(b".msg") and not exists(metadata_name(name), queue):
            return State.ARRIVING
        return State.READY

    return of_pair


def _count_put_away(
    layout: Layout,
    directory: int,
    state: State,
    held: AbstractSet[int],
    found: Mapping[State, StateCount],
) -> None:
    """Count the entries in a state's directory; those of `deferred/` in hand are claimed."""
    reading, count = _Reading(), found[state]
    begin = _first_failure if state is State.DEFERRED else _changed
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(reading.now))
    soonest = ""
    for entries, _ in reading.batches(directory, put_away_test(layout), count):
        messages = (
            entries
            if layout.raw
            else [item for item in entries if not _has_message(item.name, directory)]
        )
        if state is State.DEFERRED:
            messages = _without_claimed(messages, held, found)
            later = [item.name for item in messages if item.name[:_MOMENT] > moment]
            count.due += len(messages) - len(later)
            soonest = min([*later, soonest] if soonest else later, default="")
        reading.add(count, messages, begin)
    schedule = parse(os.fsencode(soonest))
    if schedule is not None:
        count.next_due = max(0.0, schedule[0].due_ms / 1000 - reading.now)


def _has_message(name: str, directory: int) -> bool:
    """Whether `name` is the metadata of a message that is in the same directory."""
    if not name.endswith(".db"):
        return False
    return any(exists(message, directory) for message in message_names(os.fsencode(name)))
