"""What a path inside `.watcher/` is: a file of an entry, its note, or a process directory.

Guarantees: only the note and /proc/locks are read.
Fails: OSError if the directory cannot be opened.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.durations import show
from watcher.inspect.list_entries import by_process
from watcher.inspect.notes_view import look, stamp_of
from watcher.rules.lifecycle import State
from watcher.rules.names import (
    INFLIGHT,
    OURS,
    STATE_DIRECTORIES,
    Layout,
    display,
    is_note,
)
from watcher.rules.stamp import Schedule
from watcher.spool import paused, queue_file
from watcher.spool.dirs import DIRECTORY
from watcher.spool.notes import read_note
from watcher.spool.state_home import queue_of_outside

_STATES = {directory: state for state, directory in STATE_DIRECTORIES.items()}
_BACK = {
    State.DEFERRED: "it is tried again when it is due; to have it tried now: watcher requeue",
    State.HELD: "to let it go on: watcher release",
    State.DEAD: "to have it handled again: watcher requeue; to remove it: watcher delete",
    State.ORPHAN: (
        "it comes back by itself if its other half comes; to have it tried again:"
        " watcher requeue; to make a whole entry of its message: watcher cat QUEUE ENTRY | watcher"
        " enqueue QUEUE --meta KEY=VALUE; to remove it: watcher delete"
    ),
}


_DEPTH = 3  # words of a path in a state directory, and itself


class Place(NamedTuple):
    """What a path is, in a line; what can be done about it; and its note."""

    verdict: str
    advice: str
    note: dict[str, object]


def queue_of(path: bytes) -> bytes | None:
    """Return the queue to whose `.watcher` a path belongs; None if there is none."""
    found = _home_of(path)
    return None if found is None else found[0]


def _home_of(path: bytes) -> tuple[bytes, int] | None:
    """Return the queue of a path, and how many words of the path are its state directory."""
    words = path.split(b"/")
    if OURS in words:
        count = words.index(OURS)
        return b"/".join(words[:count]) or b"/", count + 1
    for count in range(len(words), max(1, len(words) - _DEPTH), -1):
        if (queue := queue_of_outside(b"/".join(words[:count]))) is not None:
            return queue, count
    return None


def place(path: bytes, layout: Layout) -> Place:
    """Say what a path inside a queue's `.watcher` is."""
    words = path.split(b"/")
    found = _home_of(path)
    inside = words[len(words) if found is None else found[1] :]
    if not inside:
        return Place(
            "watcher's own: state directories, process directories and the journal", "", {}
        )
    if inside[0] == INFLIGHT:
        return Place(
            "watcher's own: a process is at work with it, or the next sweep puts it back", "", {}
        )
    if inside == [queue_file.NAME]:
        return Place(
            "watcher's own: what the queue is, for commands without flags", "watcher check", {}
        )
    if inside == [paused.NAME]:
        return Place("watcher's own: the queue is paused while it is here", "watcher resume", {})
    state = _STATES.get(inside[0])
    if state is None or len(inside) > 2:  # noqa: PLR2004 - DIRECTORY/FILE
        return Place("left alone: in watcher's directory, but of unknown use", "", {})
    if len(inside) == 1:
        return Place(
            f"watcher's own: the directory of {state.value} entries",
            f"list --state {state.value}",
            {},
        )
    return _put_away(path, layout, state)


def _put_away(path: bytes, layout: Layout, state: State) -> Place:
    parent, name = os.path.split(path)
    shown = display(os.path.basename(parent))
    fd = os.open(parent, DIRECTORY)
    try:
        if is_note(name, layout):
            return Place(f"the note of an entry in {shown}/: it only explains", "", {})
        note = read_note(fd, name, layout)
        status = look(fd, name)
    finally:
        os.close(fd)
    pid = None if status is None else holders().get((status.st_dev, status.st_ino))
    if pid is not None:
        return Place(f"claimed: {by_process(pid)}, where it lies in {shown}/", "", note)
    why = " ".join(str(note.get("why", "no note says why")).split())
    verdict = f"put away in {shown}/: {why}"
    schedule, _ = stamp_of(name, state)
    if schedule is not None:
        verdict = f"put away in {shown}/, {schedule_text(schedule, state)}: {why}"
    return Place(verdict, _BACK[state], note)


def schedule_text(schedule: Schedule, state: State) -> str:
    """Return the contents of a stamp as words: when the entry is due, and its attempts."""
    words = []
    if state is State.DEFERRED:
        left = schedule.due_ms / 1000 - time.time()
        words.append(f"due in {show(left)}" if left > 0 else "due now")
    words.append(f"{schedule.attempts} attempt{'' if schedule.attempts == 1 else 's'}")
    if schedule.crashes:
        words.append(f"{schedule.crashes} crash{'' if schedule.crashes == 1 else 'es'}")
    return ", ".join(words)
