"""Why entries failed, summed up: the notes of deferred and dead entries, by kind and by age.

Guarantees: at most `MOST` kinds are kept. The notes of a state are read for at most `LONGEST`; if
there are more, `Failures.whole` is false, and the counts are those of the notes that were read, in
the order of the directory.
Fails: OSError or WatcherError if a directory cannot be read. A missing or damaged note counts as
one without a reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from watcher.inspect.counts import put_away_test
from watcher.inspect.notes_view import open_state_dir
from watcher.rules.lifecycle import State
from watcher.rules.reasons import kind_of
from watcher.spool.dirs import scan_dir
from watcher.spool.notes import read_note
from watcher.spool.spool import Spool

LONGEST = 1.0  # seconds for the notes of one state
MOST = 1_000  # kinds
AGES = (60.0, 600.0, 3600.0, 86400.0)  # seconds: the upper limits of the columns but the last
STATES = (State.DEFERRED, State.DEAD)
OTHERS = "other reasons"  # the kind of what comes after `MOST` kinds


class FailureKind(NamedTuple):
    """The entries of one state that failed for one kind of reason."""

    state: State
    reason: str
    number: int
    by_age: tuple[int, ...]  # one number for each limit of `AGES`, and one for older ones


class Failures(NamedTuple):
    """The kinds of failures, the most frequent first; `read`: how many notes were read."""

    kinds: Sequence[FailureKind]
    read: int
    whole: bool


def failure_reasons(spool: Spool) -> Failures:
    """Sum up the reasons for which entries of a queue are deferred or dead."""
    kinds: list[FailureKind] = []
    whole, total = True, 0
    for state in STATES:
        directory = open_state_dir(spool, state)
        if directory is None:
            continue
        try:
            found, all_read = _of_state(spool, directory)
        finally:
            os.close(directory)
        whole = whole and all_read
        for reason, by_age in found.items():
            total += sum(by_age)
            kinds.append(FailureKind(state, reason, sum(by_age), tuple(by_age)))
    kinds.sort(key=lambda kind: (-kind.number, kind.state.value, kind.reason))
    return Failures(kinds, total, whole)


def _of_state(spool: Spool, directory: int) -> tuple[dict[str, list[int]], bool]:
    """Return the numbers by age for each kind of reason, and whether all notes were read."""
    found: dict[str, list[int]] = {}
    is_entry, now = put_away_test(spool.layout), time.time()
    deadline = time.monotonic() + LONGEST
    for item in scan_dir(directory):
        if time.monotonic() > deadline:
            return found, False
        if not is_entry(item.name) or not item.is_file(follow_symlinks=False):
            continue
        try:
            age = now - item.stat(follow_symlinks=False).st_ctime
        except OSError:  # it has gone
            continue
        note = read_note(directory, os.fsencode(item.name), spool.layout)
        if not note and item.name.endswith(".db"):  # its message has the note
            continue
        kind = kind_of(str(note.get("why", "")))
        if kind not in found and len(found) >= MOST:
            kind = OTHERS
        by_age = found.setdefault(kind, [0] * (len(AGES) + 1))
        by_age[sum(age >= limit for limit in AGES)] += 1
    return found, True
