"""Count the entries in each state on the disk, and find the age of the oldest, for `status`.

    ready      its age is the time since its files changed (ctime), as `list` shows it
    deferred   its age is the time since its first failure, which its stamp holds
    others     the time since the entry was put there

Guarantees: only directories are opened, and one name at a time is in memory. The claimed entries
are those of /proc/locks when the count begins. A directory is read for at most `LONGEST`, and its
entries' ages are looked at for at most `LONGEST_AGES`: `StateCount.whole` and `all_ages` are false
if that is too short, and the numbers are at least so high.
Fails: OSError or WatcherError if a directory cannot be read.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Container, Iterator, Mapping

from watcher.claim.holders import holders
from watcher.inspect.counts import entry_test, put_away_test
from watcher.inspect.notes_view import open_state_dir
from watcher.rules.backlog import SPANS
from watcher.rules.kinds import KIND_INFO
from watcher.rules.lifecycle import State
from watcher.rules.names import OURS, STATE_DIRECTORIES, Layout
from watcher.rules.pair_names import message_names, metadata_name
from watcher.rules.stamp import parse
from watcher.spool.dirs import exists, scan_dir
from watcher.spool.marker_files import waits_for
from watcher.spool.spool import Spool

LONGEST = 10.0  # seconds for one directory: some ten millions of names
LONGEST_AGES = 5.0  # seconds for its ages: two millions or more, if the inodes are cached
HOUR = 3600.0
_MANY = 1_024  # names between two readings of the clock
_MOMENT = len("20261123T105313")  # the seconds in a stamp

SHOWN = (State.ARRIVING, State.READY, State.CLAIMED, *STATE_DIRECTORIES)


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

    def add(self, age: float | None) -> None:
        """Count one entry; None: its age is not known."""
        self.count += 1
        if age is None:
            return
        if self.oldest is None or age > self.oldest:
            self.oldest = age
        if age < HOUR:
            for span in self.younger:
                self.younger[span] += age < span


class _Reading:
    """One reading of one directory: the clock, and the limits of time."""

    def __init__(self) -> None:
        self.now = time.time()
        self._begin = time.monotonic()
        self.ages = True  # there is time to look at ages

    def names(self, directory: int, whole: StateCount) -> Iterator[os.DirEntry[str]]:
        """Yield the regular files of a directory, as long as there is time."""
        for number, item in enumerate(scan_dir(directory)):
            if number % _MANY == 0 and number:
                spent = time.monotonic() - self._begin
                self.ages = spent < LONGEST_AGES
                if spent > LONGEST:
                    whole.whole = whole.all_ages = False
                    return
            if item.is_file(follow_symlinks=False):
                yield item

    def age(self, item: os.DirEntry[str], count: StateCount) -> float | None:
        """Return the seconds since a file changed; None if there is no time to look."""
        if not self.ages:
            count.all_ages = False
            return None
        try:
            return max(0.0, self.now - item.stat(follow_symlinks=False).st_ctime)
        except OSError:  # it has gone
            return None


def state_counts(spool: Spool) -> Mapping[State, StateCount]:
    """Count the entries of a queue, in the order in which they are shown."""
    held = {inode for device, inode in holders() if device == spool.identity[0]}
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
    return found


def _count_queue(spool: Spool, held: Container[int], found: Mapping[State, StateCount]) -> None:
    """Count the entries that lie in the queue itself."""
    layout, reading = spool.layout, _Reading()
    ready, claimed = found[State.READY], found[State.CLAIMED]
    arriving = found[State.ARRIVING]
    is_entry, waits = entry_test(layout), _waits(spool)
    own = os.fsdecode(OURS)
    for item in reading.names(spool.fd, ready):
        name = item.name
        if not is_entry(name):
            if name != own and _is_arriving(layout, name):
                arriving.add(reading.age(item, arriving))
            continue
        if item.inode() in held:
            claimed.add(None)
        elif waits is None:
            ready.add(reading.age(item, ready))
        elif (state := waits(os.fsencode(name))) is not None:
            found[state].add(reading.age(item, found[state]))


def _is_arriving(layout: Layout, name: str) -> bool:
    """Whether a name that no entry has is one that an entry has while it is written."""
    return KIND_INFO[layout.kind(os.fsencode(name))].listed


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
    held: Container[int],
    found: Mapping[State, StateCount],
) -> None:
    """Count the entries in a state's directory; those of `deferred/` in hand are claimed."""
    reading, count = _Reading(), found[state]
    deferred = state is State.DEFERRED
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(reading.now))
    soonest = ""
    is_entry = put_away_test(layout)
    for item in reading.names(directory, count):
        name = item.name
        if not is_entry(name):
            continue
        if name.endswith(".db") and not layout.raw and _has_message(name, directory):
            continue
        if not deferred:
            count.add(reading.age(item, count))
            continue
        if item.inode() in held:
            found[State.CLAIMED].add(None)
            continue
        if name[:_MOMENT] <= moment:
            count.due += 1
        elif not soonest or name < soonest:
            soonest = name
        count.add(_since_first_failure(name, reading, count))
    schedule = parse(os.fsencode(soonest))
    if schedule is not None:
        count.next_due = max(0.0, schedule[0].due_ms / 1000 - reading.now)


def _has_message(name: str, directory: int) -> bool:
    return any(exists(message, directory) for message in message_names(os.fsencode(name)))


def _since_first_failure(name: str, reading: _Reading, count: StateCount) -> float | None:
    if not reading.ages:
        count.all_ages = False
        return None
    found = parse(os.fsencode(name))
    if found is None:
        return None
    schedule = found[0]
    stamped = schedule.due_ms / 1000 - schedule.delay
    return max(0.0, reading.now - stamped + schedule.waited)
