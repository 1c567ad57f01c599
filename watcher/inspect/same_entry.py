"""Whether two lines of the journal are about the same entry. PURE.

An entry is identified by the inode number of its message's file, which no move changes, and by that
file's time of birth, because the kernel gives a free inode number to the next file. If the file
system has no time of birth, the line's state must fit the place of the entry: an entry in a state
directory leaves it by a line of that state, unless a process died before its move.
A copy of a queue keeps neither. There an entry is identified by its NAME and by its place.
Fails: never.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout
from watcher.rules.stamp import parse, without_stamps
from watcher.spool.journal_line import NO_MOVE, PUTS_AWAY, Line

QUEUE = b""  # as a place, beside the directories of the states
_NUMBERS = re.compile(rb"(?:~[0-9]+)+\Z")  # the first may be a part of the name itself
_CUT_ABOVE = 100  # bytes: no shorter name is ever cut
_DEFERRED = STATE_DIRECTORIES[State.DEFERRED]
_IN_QUEUE = frozenset({QUEUE})
_ANYWHERE = frozenset(STATE_DIRECTORIES.values())
_EITHER = frozenset({QUEUE, _DEFERRED})
_OF_STATE = {state.value.encode(): frozenset({name}) for state, name in STATE_DIRECTORIES.items()}
_OF_STATE[State.DONE.value.encode()] = (
    frozenset()
)  # the archive, which is no place of an open entry
_LEADS_TO = {word: frozenset({STATE_DIRECTORIES[state]}) for word, state in PUTS_AWAY.items()} | {
    b"reunite": _IN_QUEUE,
    b"requeue": _EITHER,
    b"release": _EITHER,
}


@dataclass(slots=True)
class TrackedEntry:
    """What the lines so far say of an entry that has not ended."""

    line: Line  # the last
    stem: bytes
    birth: int | None  # as in a line
    epoch: int  # how often the queue had been copied or moved at that line
    counted: bool = True  # in `seen`
    matched: bool = False  # a later line continued or ended it


def stem_of(name: bytes, layout: Layout) -> bytes:
    """Return NAME of a file's name in a line, with or without a stamp; a number is at its end.

    All stamps are removed: one may be a part of the entry's own name; `deferred/` adds a second.
    """
    stem, ending = layout.in_state_dir().split(without_stamps(name))
    return stem if layout.match is None else ending + b"/" + stem


def same_entry(one: bytes, other: bytes) -> bool:
    """Whether two NAMEs of one inode are the same entry's.

    A name in a state directory may have a number, or be cut (`rules.names.numbered_name`).
    """
    one, other = _NUMBERS.sub(b"", one), _NUMBERS.sub(b"", other)
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) > _CUT_ABOVE and long.startswith(short))


def common_part(name: bytes) -> bytes:
    """Return a part that is equal in all NAMEs of the `same_entry`."""
    return _NUMBERS.sub(b"", name)[:_CUT_ABOVE]


def places_before(line: Line) -> frozenset[bytes]:
    """Return where an entry may have been before the move of a line."""
    if line.move == b"reunite":
        return _ANYWHERE
    if line.move == b"before" and line.state == b"ready":
        return _EITHER
    if line.state == b"claimed" and parse(line.name):
        return _EITHER  # the queue, if its own name looks like a stamp
    return _OF_STATE.get(line.state, _IN_QUEUE)


def places_after(line: Line) -> frozenset[bytes]:
    """Return where an entry may be after the move of a line."""
    if line.state == b"claimed" and line.move == b"release":
        return places_before(line)
    return _LEADS_TO.get(line.move) or places_before(line)


def place_count(line: Line) -> int:
    """Return how many places an entry may be in; those with the fewest are matched first."""
    return len(places_after(line) | places_before(line))


def continues(entry: TrackedEntry, line: Line, layout: Layout) -> bool:
    """Whether a line with the entry's inode number is about that entry."""
    if entry.birth and line.birth:
        return entry.birth == line.birth
    if not same_entry(entry.stem, stem_of(line.name, layout)):
        return False
    if entry.line.move in NO_MOVE or line.move in NO_MOVE:
        return True  # such a line says where the entry was then, not before or after
    if entry.birth is None or (line.birth is None and layout.is_unique_name(line.name)):
        return True  # an old version's line; or a unique name
    came = places_before(line)
    if came & places_after(entry.line):
        return True
    return line.pid != entry.line.pid and bool(came & places_before(entry.line))
