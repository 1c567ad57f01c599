"""Follow each entry through the lines of the journal: seen, ended, or still open. PURE.

An entry ends when a handler called it done or an operator deleted it. When the queue was copied or
moved, another *epoch* begins: its inode numbers are new, and the open entries continue by their
NAMEs. Lines come in the order of their time, each once (`journal_replay`).
Memory for the open entries, and for the names that vanished.
Fails: never; a line that is not valid is counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from watcher.inspect.journal_reader import number_in
from watcher.inspect.periods import OF_MOVE, SEEN, Periods
from watcher.inspect.same_entry import (
    QUEUE,
    TrackedEntry,
    common_part,
    continues,
    place_count,
    places_after,
    places_before,
    same_entry,
    stem_of,
)
from watcher.rules.names import Layout, is_metadata
from watcher.rules.stamp import parse
from watcher.spool.journal_files import COPIED, FIRST, GOES_ON, Place, parse_begin
from watcher.spool.journal_line import ACCEPT, JOINS, Line, accepted_time, event_time_in

WINDOW = 30.0  # seconds that lines of two processes may be out of order
EVENT_DELAY = 600.0  # seconds: how late one of several daemons may read the event of a rename
_ACCEPT = ACCEPT.encode()
_ENDS = {b"finish": "done", b"delete": "removed by an operator"}


@dataclass
class Audit:
    """The sums of the lines so far, and the entries that are open."""

    layout: Layout
    periods: Periods = field(default_factory=Periods)
    seen: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    open: dict[int, TrackedEntry] = field(default_factory=dict)  # by inode
    # Those whose inode number is another entry's now:
    replaced: list[TrackedEntry] = field(default_factory=list)
    # Those that have no other line yet, by inode:
    carried: dict[int, list[TrackedEntry]] = field(default_factory=dict)
    gone_names: set[bytes] = field(default_factory=set)  # all NAMEs that have a line `vanish`
    vanished: dict[bytes, Line] = field(default_factory=dict)  # not explained by a line
    last_moved: dict[bytes, float] = field(default_factory=dict)  # last other line of `gone_names`
    lost: int = 0  # lines that could not be written
    unnamed: int = 0  # vanished names that have no line
    unreadable: int = 0
    lines: int = 0  # valid ones
    # The losses that an operator accepted: the line `accept`, by inode, name and time of the last
    # line; and of names that vanished, the line of the loss and the line `accept`.
    accepted: dict[tuple[int, bytes, float], Line] = field(default_factory=dict)
    accepted_vanished: list[tuple[Line, Line]] = field(default_factory=list)
    # In a copy: the names that are here, and the last line by which an entry of each ended.
    names_here: Collection[bytes] = ()
    ended_here: dict[bytes, Line] = field(default_factory=dict)
    begins: float | None = None
    from_first_start: bool = False  # no journal was here before
    restarts: list[tuple[float, str]] = field(default_factory=list)  # when, and why
    place: Place | None = None  # the `.watcher` of the newest lines
    epoch: int = 0
    # Those of earlier epochs and of lines `before`, by `common_part`:
    _earlier: dict[bytes, list[TrackedEntry]] = field(default_factory=dict)
    _epochs: dict[Line, int] = field(default_factory=dict)  # the epoch that a line `begin` begins
    _copied: dict[Line, float] = field(default_factory=dict)  # when the copy of a `begin` was made

    def stem(self, name: bytes) -> bytes:
        """Return NAME of a file's name in a line, with or without a stamp."""
        return stem_of(name, self.layout)

    def earlier_entries(self) -> Iterator[TrackedEntry]:
        """Yield the open entries of earlier epochs."""
        for entries in self._earlier.values():
            yield from (entry for entry in entries if entry.counted and not entry.matched)

    def add(self, line: Line) -> None:
        """Add one line."""
        self.lines += 1
        if self.begins is None:
            self.begins = line.time
        if line.move == b"lost":
            self.lost += number_in(line.detail, 1)
        elif line.move == b"unnamed":
            self.unnamed += number_in(line.detail, 1)
        elif line.move == b"vanish":
            self._add_vanish(line)
        elif line.move == b"begin":
            self._add_begin(line)
        elif line.move == _ACCEPT:
            self._add_accept(line)
        elif line.inode == 0:
            self.unreadable += line.move != b"host"
        else:
            self._add_move(line)

    def _add_move(self, line: Line) -> None:
        self._explain(line)
        known = self.open.pop(line.inode, None)
        if known is not None and not continues(known, line, self.layout):
            self.replaced.append(known)
            known = None
        if known is None:
            known = self._carried_entry(line)
            older = self._continued(line, self.epoch)
            if known is None and older is None and line.move == b"reunite":
                return  # another process reunited it first, and may have ended it since
            if older is None or not older.counted:
                before = known or older
                self._see(line.time if before is None else min(line.time, before.line.time))
        if (word := OF_MOVE.get(line.move)) is not None:
            self.periods.add(word, line.time)
        if line.move in JOINS and is_metadata(line.name, self.layout):
            # It is half of an entry that is counted by its message.
            self._see(line.time if known is None else known.line.time, -1)
        elif line.move in _ENDS:
            how = _ENDS[line.move]
            self.ended[how] = self.ended.get(how, 0) + 1
            if self.names_here and (stem := self.stem(line.name)) in self.names_here:
                self.ended_here[stem] = line
        else:
            birth = line.birth or (line.birth if known is None else known.birth)
            self.open[line.inode] = TrackedEntry(line, self.stem(line.name), birth, self.epoch)

    def _see(self, seconds: float, count: int = 1) -> None:
        self.seen += count
        self.periods.add(SEEN, seconds, count)

    def _add_accept(self, line: Line) -> None:
        time = accepted_time(line.detail)
        if time is None:
            self.unreadable += 1
        elif line.inode:
            self.accepted[line.inode, line.name, time] = line
        else:
            gone = self.vanished.get(self.stem(line.name))
            if gone is not None and gone.time == time:
                del self.vanished[self.stem(line.name)]
                self.accepted_vanished.append((gone, line))

    def _add_vanish(self, line: Line) -> None:
        """Add a name that vanished, unless another line since its event explains it."""
        stem, event_time = self.stem(line.name), event_time_in(line.detail)
        since = 0.0 if event_time is None else event_time - EVENT_DELAY
        if self.last_moved.get(stem, -1.0) < since:
            self.vanished.setdefault(stem, line)

    def _explain(self, line: Line) -> None:
        """If the line's NAME has vanished: another process had it, so it is not missing."""
        if self.gone_names and (stem := self.stem(line.name)) in self.gone_names:
            self.last_moved[stem] = line.time
            gone = self.vanished.get(stem)
            if gone is not None and line.time < gone.time + WINDOW:
                del self.vanished[stem]

    # -- lines `begin` ------------------------------------------------------------------------

    def note_begin(self, line: Line) -> None:
        """First pass: note a line `begin`, in the order of the files."""
        begin = parse_begin(line)
        if begin is None:
            return
        if self.place is None:
            # An old version's lines, which do not say where they are of.
            self.epoch += self.lines > 0
        elif not self.place.is_same(begin.state_root):
            self.epoch += 1
            born = begin.state_root.birth
            self._copied[line] = born / 1e9 if born else line.time
        self.place = begin.state_root
        self._epochs[line] = self.epoch

    def sort_time(self, line: Line) -> float:
        """Return the time that a line is sorted by: for a copy's `begin`, when the copy was made.

        Every later line is about the copy, even one that a process recorded before another process
        wrote the line `begin`.
        """
        return min(line.time, self._copied.get(line, line.time)) if self._copied else line.time

    def _add_begin(self, line: Line) -> None:
        begin = parse_begin(line)
        if begin is None:
            self.unreadable += 1
            return
        if self.lines == 1:
            self.from_first_start = begin.why == FIRST
        if begin.why not in (FIRST, GOES_ON):
            self.restarts.append((line.time, begin.why))
        if self._epochs.get(line, 0) > self.epoch:
            if begin.why == GOES_ON and self.place is not None:
                self.restarts.append((line.time, COPIED))
            self.close()
            self.epoch = self._epochs[line]
            for entry in self.open.values():
                self._earlier.setdefault(common_part(entry.stem), []).append(entry)
            self.open.clear()
        self.place = begin.state_root

    def start_second_pass(self, names_here: Collection[bytes], place: Place) -> None:
        """Reset what the first pass counted; keep the epochs of the lines `begin`.

        `names_here` are the names in the queue, whose `.watcher` is at `place`.
        """
        if self.epoch or (self.place is not None and not self.place.is_same(place)):
            self.names_here = names_here
        self.epoch, self.place, self.lines = 0, None, 0

    # -- entries that were carried over -------------------------------------------------------

    def add_carried(self, line: Line) -> None:
        """First pass: note an entry that has a line `carried` or `before`.

        `carried` proves that the entry existed, not when: the writer lists a directory while it
        changes, and an entry may end between the listing and the line. `before` is about a
        `.watcher` that is gone, so the entry counts as one of an earlier epoch.
        """
        epoch = self.epoch - (line.move == b"before")
        alike = self.carried.setdefault(line.inode, [])
        if any(entry.epoch == epoch and continues(entry, line, self.layout) for entry in alike):
            return
        stem = self.stem(line.name)
        entry = TrackedEntry(line, stem, line.birth, epoch, counted=False)
        alike.append(entry)
        if line.move == b"before":
            self._earlier.setdefault(common_part(stem), []).append(entry)

    @staticmethod
    def _may_continue_by_name(entry: TrackedEntry) -> bool:
        """Whether an entry of an earlier epoch may continue under its NAME alone.

        Not if it was in a queue directory that is gone: the name may be another entry's now.
        """
        return (entry.line.state, entry.line.move) != (b"ready", b"before")

    def _carried_entry(self, line: Line) -> TrackedEntry | None:
        """Return the carried entry that this line is the first other line about."""
        found = None
        for entry in self.carried.get(line.inode, ()):
            here = entry.epoch == self.epoch or entry.line.move == b"before"
            if not entry.matched and here and continues(entry, line, self.layout):
                entry.matched = True
                found = found or entry
        return found

    def _continued(self, line: Line, epoch: int) -> TrackedEntry | None:
        """Return the entry of an epoch before this one that continues with a line, by its NAME."""
        if not self._earlier:
            return None
        stem, half = self.stem(line.name), is_metadata(line.name, self.layout)
        came, best = places_before(line), None
        for entry in self._earlier.get(common_part(stem), ()):
            if entry.matched or entry.epoch >= epoch or not same_entry(entry.stem, stem):
                continue
            if is_metadata(entry.line.name, self.layout) != half:
                continue
            same = entry.line.inode == line.inode and continues(entry, line, self.layout)
            after = bool(came & places_after(entry.line))
            undone = bool(came & places_before(entry.line)) and line.pid != entry.line.pid
            # A restored backup brings an entry back to where it was before. In the queue the name
            # may be another entry's; in a state directory nothing else puts a file.
            back = entry.stem == stem and (QUEUE not in came or parse(line.name) is not None)
            fits = after or undone or back
            if not same and not (fits and self._may_continue_by_name(entry)):
                continue
            rank = (same, after, after or undone, entry.stem == stem, -place_count(entry.line))
            if best is None or rank > best[0]:
                best = rank, entry
        if best is None:
            return None
        best[1].matched = True
        return best[1]

    def close(self) -> None:
        """Add the entries that have no lines but `carried` and `before`."""
        left = [each for each in itertools.chain(*self.carried.values()) if not each.matched]
        for entry in sorted(left, key=lambda entry: entry.line.move == b"before"):
            if entry.matched or entry.epoch > self.epoch:
                continue
            self._explain(entry.line)
            older = self._continued(entry.line, entry.epoch)
            if older is None or not older.counted:
                self._see(entry.line.time if older is None else older.line.time)
            entry.counted = True
            if entry.line.move == b"before":
                continue  # from here on it is one of `earlier_entries`
            entry.matched = True
            other = self.open.get(entry.line.inode)
            if other is None or other.line.time < entry.line.time:
                self.open[entry.line.inode] = TrackedEntry(
                    entry.line, entry.stem, entry.birth, self.epoch
                )
            if other is not None:
                self.replaced.append(min(other, entry, key=lambda each: each.line.time))
