"""What a path inside `.watcher/` is: an entry put away, its note, or something at work.

Guarantees: nothing is read but the note.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from watcher.durations import show
from watcher.inspect.notes import read_note, stamp_of
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import INFLIGHT, OURS, STATE_DIRECTORIES, Layout, display, is_note
from watcher.spool.schedule import Schedule

_STATES = {directory: state for state, directory in STATE_DIRECTORIES.items()}
_BACK = {
    State.DEFERRED: "it is tried again by itself; to have it tried now: watcher requeue",
    State.HELD: "to let it go on: watcher release",
    State.DEAD: "to have it handled again: watcher requeue; to be rid of it: watcher delete",
    State.ORPHAN: (
        "it comes back by itself should its other half turn up; to have it looked at again:"
        " watcher requeue; to be rid of it: watcher delete"
    ),
}


class Place(NamedTuple):
    """What a path of ours is, in a line, and what the note beside it says."""

    verdict: str
    advice: str
    note: dict[str, object]


def queue_of(path: bytes) -> bytes | None:
    """Return the queue whose `.watcher` a path lies in or is; None outside of any."""
    words = path.split(b"/")
    return b"/".join(words[: words.index(OURS)]) or b"/" if OURS in words else None


def place(path: bytes, layout: Layout) -> Place:
    """Say what a path for which `queue_of` knows a queue is."""
    words = path.split(b"/")
    inside = words[words.index(OURS) + 1 :]
    if not inside:
        return Place("ours: entries put away, and what is at work; never handled from here", "", {})
    if inside[0] == INFLIGHT:
        return Place("ours: at work now, or put back into the queue by the next sweep", "", {})
    state = _STATES.get(inside[0])
    if state is None or len(inside) > 2:  # noqa: PLR2004 - DIRECTORY/FILE
        return Place("left alone: in our directory, but not known to us", "", {})
    if len(inside) == 1:
        return Place(f"ours: where {state.value} entries lie", f"list --state {state.value}", {})
    return _put_away(path, layout, state)


def _put_away(path: bytes, layout: Layout, state: State) -> Place:
    parent, name = os.path.split(path)
    shown = display(os.path.basename(parent))
    fd = os.open(parent, DIRECTORY)
    try:
        if is_note(name, layout):
            return Place(f"the note beside an entry in {shown}/: it explains, no more", "", {})
        note = read_note(fd, name, layout)
    finally:
        os.close(fd)
    why = " ".join(str(note.get("why", "no note beside it says why")).split())
    verdict = f"put away in {shown}/: {why}"
    schedule, _ = stamp_of(name, state)
    if schedule is not None:
        verdict = f"put away in {shown}/, {told(schedule, state)}: {why}"
    return Place(verdict, _BACK[state], note)


def told(schedule: Schedule, state: State) -> str:
    """Say what a stamp says: what the entry has been through, and when it is due."""
    words = []
    if state is State.DEFERRED:
        left = schedule.due_ms / 1000 - time.time()
        words.append(f"due in {show(left)}" if left > 0 else "due now")
    words.append(f"{schedule.attempts} attempt{'' if schedule.attempts == 1 else 's'}")
    if schedule.crashes:
        words.append(f"{schedule.crashes} crash{'' if schedule.crashes == 1 else 'es'}")
    return ", ".join(words)
