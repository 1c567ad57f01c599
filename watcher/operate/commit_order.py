"""The order of commit: when an entry came into the queue, even if it was moved since.

Every rename changes the ctime, and a writer can set the mtime. So the order uses the first that is
known: the time at the beginning of a name of Mailman or `enqueue`; the ctime that the file had in
the queue, which its note keeps; the mtime. What is archived is in the order in which it was
archived, because it has no note.
Guarantees: a note is read only if the name has no time; nothing is changed.
Fails: NotPermitted or Unavailable if a state directory cannot be opened.
"""

from __future__ import annotations

import math
import os

from watcher.inspect.list_entries import IN_QUEUE, EntryInfo
from watcher.inspect.notes_view import look, open_state_dir
from watcher.rules.lifecycle import State
from watcher.spool.notes import read_note
from watcher.spool.spool import Spool


class Order:
    """The order of one command; close it with `close`."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._places: dict[State, int | None] = {}

    def __call__(self, entry: EntryInfo) -> tuple[float, float, bytes]:
        """Return a key that sorts by the time of commit (seconds since the epoch).

        Files of one tick of the kernel's clock are sorted by the time of their first failure.
        """
        named = None if self._spool.layout.raw else moment_in(entry.name)
        if named is not None:
            return named, 0.0, entry.name
        noteless = entry.lies_in in (*IN_QUEUE, State.DONE)
        directory = None if noteless else self._place(entry.lies_in)
        if directory is None:
            return entry.changed, 0.0, entry.name
        note = entry.note or read_note(directory, entry.files[0], self._spool.layout)
        committed, failed = note.get("committed_ns"), note.get("first_failure")
        failed = failed if isinstance(failed, float) else entry.changed
        if isinstance(committed, int):
            return committed / 1e9, failed, entry.name
        status = look(directory, entry.files[0])
        return failed if status is None else status.st_mtime, failed, entry.name

    def _place(self, state: State) -> int | None:
        if state not in self._places:
            self._places[state] = open_state_dir(self._spool, state)
        return self._places[state]

    def close(self) -> None:
        """Close the directories that were opened."""
        for directory in self._places.values():
            if directory is not None:
                os.close(directory)
        self._places.clear()


def moment_in(name: bytes) -> float | None:
    """Return the time at the beginning of a name (SECONDS+REST), as Mailman reads it. PURE."""
    seconds, plus, _ = name.partition(b"+")
    try:
        moment = float(seconds) if plus else math.nan
    except ValueError:
        return None
    return moment if math.isfinite(moment) else None
