"""The lives of the entries that had one name: each from its first line to its end. PURE.

A writer may use a name again, so one name may have had several entries. A line belongs to the life
whose file has its inode number and time of birth (`same_entry`); after the queue was copied or
moved, to the one of its NAME whose last move led to the place that the line says.
Guarantees: each line about an entry is in exactly one life; lines that only say that the entry
exists (`carried`, `before`) are in none.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable
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


@dataclass
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
    lives: list[Life] = []
    epoch, place = 0, None
    for each in lines:
        line = each.line
        if line.move == b"begin":
            epoch, place = _epoch_after(line, epoch, place)
        elif line.move == _ACCEPT:
            _add_accept(lives, each)
        elif line.inode:
            life = _life_of(line, lives, epoch, layout)
            if life is None:
                first = TrackedEntry(line, stem_of(line.name, layout), line.birth, epoch)
                life = Life(first, known_before=line.move in NO_MOVE)
                lives.append(life)
            _add(life, each, epoch)
    return lives


def _epoch_after(line: Line, epoch: int, place: Place | None) -> tuple[int, Place | None]:
    """Return the number of times that the queue was copied or moved, after a line `begin`."""
    begin = parse_begin(line)
    if begin is None:
        return epoch, place
    moved = place is not None and not place.is_same(begin.state_root)
    return epoch + moved, begin.state_root


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


def _life_of(line: Line, lives: list[Life], epoch: int, layout: Layout) -> Life | None:
    """Return the life that a line belongs to, the newest that fits; None if it begins another."""
    for life in reversed(lives):
        if life.last.inode == line.inode and _same_file(life, line, layout):
            return life
    if line.move in NO_MOVE and line.move != b"before":
        return None
    came, stem = places_before(line), stem_of(line.name, layout)
    half = is_metadata(line.name, layout)
    for life in reversed(lives):
        last = life.last
        earlier = life.tracked.epoch < epoch or last.move == b"before" or line.move == b"before"
        if life.ended or not earlier or not same_entry(life.tracked.stem, stem):
            continue
        if is_metadata(last.name, layout) != half or (last.state, last.move) == _IN_LOST_QUEUE:
            continue
        undone = came & places_before(last) and line.pid != last.pid
        if came & places_after(last) or undone:
            return life
    return None


_IN_LOST_QUEUE = (b"ready", b"before")


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
