"""Compare the journal with the disk: each entry is done, deleted, still here, or missing.

    seen = done + removed by an operator + still here (by state) + missing + accepted as lost

Guarantees: nothing is changed. An entry that moves meanwhile is looked for again before it is
called missing. A file counts as an entry's only if it has the same inode number and time of birth;
in a copy of the queue, if it has the same NAME in the same place.
Fails: FileNotFoundError if there is no `.watcher`, NotPermitted if it may not be read, OSError if
the journal cannot be read.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.errors import Unavailable
from watcher.inspect import journal_replay
from watcher.inspect.audit_rules import Audit
from watcher.inspect.files_there import Disk, File, look
from watcher.inspect.periods import ACCEPTED, ALWAYS, MISSING, SEEN, Window
from watcher.inspect.restored import Restored, restored
from watcher.inspect.same_entry import (
    QUEUE,
    TrackedEntry,
    common_part,
    place_count,
    places_after,
    places_before,
    same_entry,
)
from watcher.rules.kinds import Kind
from watcher.rules.names import INFLIGHT, STATE_DIRECTORIES, Layout, is_metadata
from watcher.rules.stamp import without_stamps
from watcher.spool.journal_files import place_of
from watcher.spool.journal_home import JournalUnreachable
from watcher.spool.journal_line import Line
from watcher.spool.spool import Spool, as_watcher_error

_WAITS = (Kind.ENTRY, Kind.MESSAGE_HALF)  # a message in the queue; its `.db` is counted with it
LOOKS = 3  # before an entry is called missing
_PLACES = {QUEUE: "in the queue", INFLIGHT: "in flight"} | {
    name: state.value for state, name in STATE_DIRECTORIES.items()
}


class Missing(NamedTuple):
    """An entry that was seen and has no file: its NAME, and its last line."""

    name: bytes
    last: Line
    accepted: Line | None = None  # the line by which an operator accepted its loss


@dataclass
class Balance:
    """The result of the comparison."""

    audit: Audit
    here: Counter[str] = field(default_factory=Counter)  # entries by place
    by_name: int = 0  # those of `here` that were found by place and NAME only
    moved: bool = False  # the journal has no line since the queue was copied or moved
    missing: list[Missing] = field(default_factory=list)
    accepted: list[Missing] = field(default_factory=list)
    unknown: list[tuple[str, bytes]] = field(default_factory=list)  # in a state directory, no line
    waiting: int = 0  # in the queue, no line yet
    restored: list[Restored] = field(default_factory=list)  # of a backup: they had ended

    @property
    def seen(self) -> int:
        """How many entries were ever seen."""
        lost = (*self.missing, *self.accepted)
        return self.audit.seen + sum(1 for each in lost if each.last.move == b"vanish")

    @property
    def has_journal(self) -> bool:
        """Whether there is a journal at all."""
        return bool(self.audit.lines or self.audit.unreadable)

    @property
    def balanced(self) -> bool:
        """Whether every entry is accounted for."""
        ended = sum(self.audit.ended.values()) + len(self.accepted)
        return not self.missing and self.seen == ended + sum(self.here.values())

    @property
    def asked_window(self) -> bool:
        """Whether a part of the journal's time was asked for."""
        return self.audit.periods.window != ALWAYS

    @property
    def asked(self) -> list[Missing]:
        """The missing entries whose last line is in the window that was asked for."""
        window = self.audit.periods.window
        return [each for each in self.missing if window.has(each.last.time)]

    @property
    def unknown_before(self) -> float | None:
        """When the journal begins, if the question reaches to before that; else None."""
        begins, since = self.audit.begins, self.audit.periods.window.since
        if since is None or begins is None or self.audit.from_first_start or since >= begins:
            return None
        return begins

    @property
    def proved(self) -> bool:
        """Whether every entry of the window is accounted for."""
        if not self.asked_window:
            return self.balanced
        return not self.asked and self.unknown_before is None

    def lose(self, line: Line, accepted: Line | None = None) -> None:
        """Note an entry that has no file, by its last line."""
        audit = self.audit
        name = audit.layout.in_state_dir().stem(without_stamps(line.name))
        accepted = accepted or audit.accepted.get((line.inode, line.name, line.time))
        if line.move == b"vanish":
            audit.periods.add(SEEN, line.time)
        if accepted is None:
            self.missing.append(Missing(name, line))
            audit.periods.add(MISSING, line.time)
        else:
            self.accepted.append(Missing(name, line, accepted))
            audit.periods.add(ACCEPTED, line.time)


def balance(spool: Spool, window: Window = ALWAYS) -> Balance:
    """Read the journal and the disk, and compare; again while an entry is missing."""
    found = _compare(spool, window)
    for _ in range(LOOKS - 1):
        if not found.missing:
            break
        found = _compare(spool, window)
    return found


def _compare(spool: Spool, window: Window) -> Balance:
    try:
        state_root = spool.home.open()
    except PermissionError as error:
        raise as_watcher_error(error, spool.home.path, "the journal") from None
    try:
        disk = look(spool, state_root)
        directory = spool.journal_home.files(state_root).directory
        audit = journal_replay.replay(state_root, spool.layout, window, directory, disk.by_name)
        later = look(spool, state_root)  # an entry that moved meanwhile is in one of the two
        moved = audit.place is not None and not audit.place.is_same(place_of(state_root))
        back = restored(audit, later)
        return match_files(Balance(audit, moved=moved, restored=back), disk, later)
    except JournalUnreachable as error:
        raise Unavailable(str(error)) from None
    finally:
        os.close(state_root)


def match_files(found: Balance, disk: Disk, later: Disk) -> Balance:
    """Find the file of each open entry: by inode and birth, then by NAME where that is enough."""
    audit = found.audit
    lost: list[TrackedEntry] = list(audit.replaced)  # their file was not found yet
    left = dict(later.by_inode)  # files that belong to no entry yet
    for entry in (*audit.open.values(), *audit.earlier_entries()):
        inode = entry.line.inode
        there = _file_of(entry, left.get(inode), audit)
        if there is not None:
            del left[inode]
        elif inode not in later.by_inode:
            there = _file_of(entry, disk.by_inode.get(inode), audit)
        if there is not None:
            found.here[_PLACES[there.place]] += 1
        else:
            lost.append(entry)
    _find_by_name(found, lost, left)
    for stem, line in audit.vanished.items():
        if stem not in later.by_name:
            found.lose(line)
    for line, accepted in audit.accepted_vanished:
        found.lose(line, accepted)
    _note_unseen(found, left, audit.layout)
    return found


def _file_of(entry: TrackedEntry, file: File | None, audit: Audit) -> File | None:
    """Return the file, which has the entry's inode number, if it is that entry's."""
    if file is None:
        return None
    if entry.birth and (born := file.birth()) is not None:
        return file if born == entry.birth else None
    if not same_entry(audit.stem(file.name), entry.stem):
        return None
    if entry.birth is None or file.place == INFLIGHT or entry.line.move == b"before":
        return file
    return file if file.place in places_after(entry.line) | places_before(entry.line) else None


def _find_by_name(found: Balance, entries: Iterable[TrackedEntry], left: dict[int, File]) -> None:
    """Find entries by NAME, which is all that a copy of the queue keeps, each in another file.

    Only in the place that the last line leads to. A file that belongs to another entry does not
    count, and where nothing was copied, a file with another time of birth does not.
    """
    audit = found.audit
    entries = sorted(entries, key=lambda entry: (place_count(entry.line), entry.line.time))
    named = _by_place_and_name(left, audit) if entries else {}
    lost = [entry for entry in entries if not _is_named(entry, found, named, left)]
    for entry in lost:
        copied = found.moved or entry.epoch < audit.epoch
        if not (copied and _is_named(entry, found, named, left, anywhere=True)):
            found.lose(entry.line)


_Named = dict[tuple[bytes, bytes, bool], dict[int, bytes]]


def _is_named(
    entry: TrackedEntry,
    found: Balance,
    named: _Named,
    left: dict[int, File],
    *,
    anywhere: bool = False,
) -> bool:
    """Whether there is a file for an entry by its NAME; take it out of `named` and `left`.

    `anywhere`: a restored backup brought it back to where it was then.
    """
    common, half = common_part(entry.stem), is_metadata(entry.line.name, found.audit.layout)
    for place in _PLACES if anywhere else _places(entry, found):
        stems = named.get((place, common, half), {})
        fitting = {
            inode: stem
            for inode, stem in stems.items()
            if _may_stand_for(entry, left[inode], found)
            and (not anywhere or (stem == entry.stem and _is_older(left[inode], entry.line)))
        }
        best = _best(entry, fitting)
        if best is not None:
            del stems[best], left[best]
            found.here[_PLACES[place]] += 1
            found.by_name += 1
            return True
    return False


def _is_older(file: File, line: Line) -> bool:
    """Whether a file may be the entry's: in the queue a new one of its name is not."""
    if file.place != QUEUE:
        return True
    written = file.written()
    return written is not None and written <= line.time


def _by_place_and_name(files: dict[int, File], audit: Audit) -> _Named:
    """Return the NAME of each file by its inode, grouped so that no search reads all of them."""
    named: defaultdict[tuple[bytes, bytes, bool], dict[int, bytes]] = defaultdict(dict)
    for inode, (place, name, *_) in files.items():
        stem = audit.stem(name)
        named[place, common_part(stem), is_metadata(name, audit.layout)][inode] = stem
    return named


def _places(entry: TrackedEntry, found: Balance) -> list[bytes]:
    """Return where an entry's file may be: where its last move leads.

    In a copy also where that move began, because the process may have died before it.
    """
    goes, came = places_after(entry.line), places_before(entry.line)
    copied = found.moved or entry.epoch < found.audit.epoch
    return [*sorted(goes), *(sorted(came - goes) if copied else ())]


def _may_stand_for(entry: TrackedEntry, file: File, found: Balance) -> bool:
    """Whether a file with another inode number may be the entry's."""
    if entry.line.move == b"before" and entry.line.state == b"ready":
        return False
    if entry.birth is None or found.moved or entry.epoch < found.audit.epoch:
        return True
    return entry.birth != 0 and file.birth() == entry.birth  # the file system changes inode numbers


def _best(entry: TrackedEntry, stems: dict[int, bytes]) -> int | None:
    """Return the inode of the file with this NAME, or with this NAME numbered or cut."""
    alike = (inode for inode, other in stems.items() if same_entry(entry.stem, other))
    exactly = (inode for inode, other in stems.items() if entry.stem == other)
    return next(exactly, None) or next(alike, None)


def _note_unseen(found: Balance, left: dict[int, File], layout: Layout) -> None:
    """Note the files that have no line in the journal."""
    for file in left.values():
        if is_metadata(file.name, layout) or file.place == INFLIGHT:
            continue
        if file.place:
            found.unknown.append((_PLACES[file.place], file.name))
        elif layout.kind(file.name) in _WAITS:
            found.waiting += 1
