"""Why entries failed, summed up: the notes of deferred and dead entries, by kind and by age.

Guarantees: memory for `summary.MOST` kinds a state. The notes of a state are read for at most
`LONGEST`; if there are more, `Failures.whole` is false, and the counts are those of the notes that
were read, in the order of the directory.
Fails: OSError or WatcherError if a directory cannot be read. An entry without a readable note
counts as one without a reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from watcher.inspect.counts import put_away_test
from watcher.inspect.list_entries import listed
from watcher.inspect.notes_view import look, open_state_dir
from watcher.inspect.summary import Row, Summary
from watcher.rules.lifecycle import State
from watcher.rules.pair_names import message_names
from watcher.spool.dirs import exists, names_in
from watcher.spool.spool import Spool

LONGEST = 1.0  # seconds for the notes of one state
STATES = (State.DEFERRED, State.DEAD)


class Failures(NamedTuple):
    """The kinds of failures, the most frequent first; `read`: how many entries' notes were read."""

    kinds: Sequence[tuple[State, Row]]
    read: int
    whole: bool


def failure_reasons(spool: Spool) -> Failures:
    """Sum up the reasons for which entries of a queue are deferred or dead."""
    summary, whole = Summary(), True
    for state in STATES:
        directory = open_state_dir(spool, state)
        if directory is not None:
            try:
                whole = _read(spool, state, directory, summary) and whole
            finally:
                os.close(directory)
    kinds = [(state, row) for state, _, rows in summary.states() for row in rows]
    kinds.sort(key=lambda kind: -kind[1].total)
    return Failures(kinds, sum(row.total for _, row in kinds), whole)


def _read(spool: Spool, state: State, directory: int, summary: Summary) -> bool:
    """Add the entries of one state; return whether there was time for all of them."""
    is_entry, now = put_away_test(spool.layout), time.time()
    deadline = time.monotonic() + LONGEST
    for name in names_in(directory):
        if time.monotonic() > deadline:
            return False
        if not is_entry(os.fsdecode(name)):
            continue
        if name.endswith(b".db") and any(exists(each, directory) for each in message_names(name)):
            continue  # counted with its message
        status = look(directory, name)
        if status is not None:
            found = listed(spool, state, directory, (name,), status, explained=True)
            summary.add(found, now)
    return True
