"""The lives of the entries that had one name: each from its first line to its end. PURE.

A writer may use a name again, so one name may have had several entries. A line belongs to the life
whose file has its inode number and time of birth (`same_entry`); after the queue was copied or
moved, to the one of its NAME whose last move led to the place that the line says.
Guarantees: each line about an entry is in exactly one life; lines that only say that the entry
exists (`carried`, `before`) are in none.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from watcher.inspect.entry_lines import Written
from watcher.inspect.same_entry import (
    TrackedEntry,
    continues,
    places_after,
    places_before,
    same_entry,
    stem_of,
)
from watcher.rules.names import Layout, is_metadata
from watcher.spool.attempt_detail import AttemptDetail, parse_detail
from watcher.spool.journal_files import Place, parse_begin
from watcher.spool.journal_line import ACCEPT, ENDS, JOINS, NO_MOVE, Line, accepted_time

_ACCEPT = ACCEPT.encode()
ATTEMPTS = (b"finish", b"defer", b"reject")
_IN_LOST_QUEUE = (b"ready", b"before")
_RECENT = 8  # lives of one inode number: lines may be a little out of order


@dataclass(eq=False)
class Life:
    """One entry, from its first line to its end."""

    tracked: TrackedEntry
    steps: list[Written] = field(default_factory=list)
    known_before: bool = False  # a line says that it was put away before its first step
    accepted: bool = False  # an operator accepted its loss

    @property
    def last(self) -> Line:
        """Its last line."""
        return self.tracked.line

    @property
    def joined(self) -> bool:
        """Whether it was half of a pair, and joined its message."""
        return self.last.move in JOINS and self.last.name.endswith(b".db")

    @property
    def ended(self) -> bool:
        """Whether it was handled or deleted, or joined its message."""
        return bool(self.steps) and (self.last.move in ENDS or self.joined)

    @property
    def committed(self) -> float | None:
        """When it was committed, in seconds since the epoch; None if the lines do not say."""
        if not self.steps or self.known_before:
            return None
        line = self.steps[0].line
        said = parse_detail(line.detail)
        if not is_attempt(line) or said.attempt != 1 or said.took is None or said.wait is None:
            return None
        return line.time - said.took - said.wait

    @property
    def attempts(self) -> int | None:
        """How many attempts were made at it; None if the lines do not say."""
        details = [parse_detail(each.line.detail) for each in self.steps if is_attempt(each.line)]
        if not details:
            return None if self.known_before else 0
        first, last = details[0].attempt, details[-1].attempt
        if first is None or last is None:
            return None
        requeued = any(each.line.move == b"requeue" for each in self.steps)
        return first + len(details) - 1 if requeued or first == 1 else last

    @property
    def last_attempt(self) -> AttemptDetail | None:
        """What its last line says, if that is about an attempt."""
        return parse_detail(self.last.detail) if is_attempt(self.last) else None


def is_attempt(line: Line) -> bool:
    """Whether a line is about the end of an attempt."""
    return line.state == b"claimed" and line.move in ATTEMPTS


def lives_of(lines: Iterable[Written], layout: Layout) -> list[Life]:
    """Return the lives, in the order of their first lines; `lines` are those of one name."""
    lives = _Lives(layout)
    for each in lines:
        if each.line.move == b"begin":
            lives.begin(each.line)
        elif each.line.move == _ACCEPT:
            _add_accept(lives.all, each)
        elif each.line.inode:
            lives.add(each)
    return lives.all


class _Lives:
    """The lives so far, and those that a later line may belong to."""

    def __init__(self, layout: Layout) -> None:
        self.all: list[Life] = []
        self._layout = layout
        self._by_inode: dict[int, list[Life]] = {}
        self._earlier: list[Life] = []  # that may go on by their name alone
        self._epoch = 0  # how often the queue had been copied or moved
        self._place: Place | None = None

    def begin(self, line: Line) -> None:
        """Add a line `begin`: if it is of another directory, the queue was copied or moved."""
        begin = parse_begin(line)
        if begin is None:
            return
        if self._place is not None and not self._place.is_same(begin.state_root):
            self._epoch += 1
            self._earlier = [life for life in self.all if not life.ended]
        self._place = begin.state_root

    def add(self, written: Written) -> None:
        """Add a line about an entry."""
        line = written.line
        alike = self._by_inode.setdefault(line.inode, [])
        by_name = self.all if _is_lost(line) else self._earlier
        life = _life_of_file(line, alike[-_RECENT:], self._layout)
        life = life or _life_of_name(line, by_name, self._layout)
        if life is None:
            first = TrackedEntry(line, stem_of(line.name, self._layout), line.birth, self._epoch)
            life = Life(first, known_before=line.move in NO_MOVE)
            self.all.append(life)
        if life not in alike[-_RECENT:]:
            alike.append(life)
        if life in self._earlier:
            self._earlier.remove(life)
        if _is_lost(line):
            self._earlier.append(life)
        _add(life, written, self._epoch)


def _is_lost(line: Line) -> bool:
    """Whether a line is about an entry of a `.watcher` that another program took away."""
    return line.move == b"before"


def _add_accept(lives: list[Life], written: Written) -> None:
    """Add the line by which an operator accepted a loss: the life is the one of the last line."""
    line = written.line
    moment = accepted_time(line.detail)
    for life in lives:
        last = life.last
        if (last.inode, last.name, last.time) == (line.inode, line.name, moment):
            life.steps.append(written)
            life.accepted = True


def _add(life: Life, written: Written, epoch: int) -> None:
    line, tracked = written.line, life.tracked
    if line.move not in NO_MOVE:
        life.steps.append(written)
        tracked.line = line
    elif line.move == b"before":
        tracked.line = line
    tracked.birth = line.birth or tracked.birth
    tracked.epoch = epoch


def _life_of_file(line: Line, lives: Sequence[Life], layout: Layout) -> Life | None:
    """Return the newest of the lives with the line's inode number that is about the same file."""
    for life in reversed(lives):
        if life.last.inode == line.inode and _same_file(life, line, layout):
            return life
    return None


def _life_of_name(line: Line, lives: Sequence[Life], layout: Layout) -> Life | None:
    """Return the newest of the lives that goes on with a line by NAME and place; None if none does.

    `lives` are those from before the queue was copied or moved.
    """
    if line.move == b"carried":
        return None
    came, stem = places_before(line), stem_of(line.name, layout)
    half = is_metadata(line.name, layout)
    for life in reversed(lives):
        last = life.last
        if life.ended or not same_entry(life.tracked.stem, stem):
            continue
        if is_metadata(last.name, layout) != half or (last.state, last.move) == _IN_LOST_QUEUE:
            continue
        undone = came & places_before(last) and line.pid != last.pid
        if came & places_after(last) or undone:
            return life
    return None


def _same_file(life: Life, line: Line, layout: Layout) -> bool:
    """Whether a line is about the file of a life's last line.

    A life goes on after `finish` if its process died before it removed the file, or the file was
    written to meanwhile. Without a time of birth only a unique name tells that from another entry.
    """
    if not life.ended:
        return continues(life.tracked, line, layout)
    if life.tracked.birth and line.birth:
        return life.tracked.birth == line.birth
    return line.name == life.last.name and layout.is_unique_name(line.name)
