"""The journal of one queue directory: one line for each transition (docs/spool-format.md).

`record` puts the line into this process's spill file, which is mapped into memory
(`spool.journal_spill`). `flush` appends the spill to `.watcher/journal` with one write(2). After a
kill, the process that finds the dead process's directory appends what is left in the spill.
Guarantees: a line is recorded before the step that it describes. No method raises, and none waits
for a disk that is full. A reader never takes a part of a line for a line. Lines that had to be
dropped are counted, and the count is written. If another program replaced `.watcher`, the journal
in the new one begins with a line for each entry that was known in the old one. Nothing is synced: a
power failure may cost the last lines.
Fails: never; `trouble` says why lines cannot be written now.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from watcher.errors import WatcherError, counted
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.spool import state_files
from watcher.spool.journal_files import Place, append, place_of
from watcher.spool.journal_line import ENDS, Line, line_of, parse_line
from watcher.spool.journal_past import Past, before_lines, state_after
from watcher.spool.journal_rotation import JournalFiles
from watcher.spool.journal_spill import HEADER, LATE, SIZE, SPILL, late_mark
from watcher.spool.vanished import Vanished

FLUSH_AFTER = 0.2  # seconds that a line may wait
MOVED = "the state directory was moved away or removed"
MAX_NAMED = 10_000  # entries of a lost `.watcher` that get a line each; the others are counted


class Gone(NamedTuple):
    """A `.watcher` that another program moved away or removed, and what was known in it."""

    why: str
    when: float  # on the monotonic clock
    where: str  # the path of that directory now; "" if it was removed or is not known
    entries: tuple[Line, ...]  # the last line of each
    known: bool = True  # False: no journal is kept


class Journal:
    """The journal of one queue directory, as this process writes it.

    `state_root` returns the descriptor of `.watcher`, `process_dir` that of this process's own
    directory in it; `files` says where the journal lies, None: in `.watcher`. Workers and the
    daemon thread call it; one lock.
    """

    def __init__(
        self,
        state_root: Callable[[], int],
        process_dir: Callable[[], int],
        layout: Layout,
        files: Callable[[int], JournalFiles] | None = None,
    ) -> None:
        self.enabled = True
        self.trouble = ""
        self.gone: Gone | None = None  # the last `.watcher` that was taken away
        self.vanished = Vanished()
        self._state_root = state_root
        self._process_dir = process_dir
        self._files = files or (lambda root: JournalFiles.inside(root, layout))
        self._map: mmap.mmap | bytearray | None = None  # bytearray: there was no room for a file
        self._used = HEADER
        self._dropped = 0  # lines for which the spill had no room, since the last write
        self._oldest = 0.0  # monotonic time of the first line in the spill
        self._place: Place | None = None  # the `.watcher` that was written to last
        self._why = MOVED  # the reason to give if `.watcher` is another one at the next write
        self._past = Past()
        self._lock = threading.Lock()

    def record(
        self,
        state: State,
        move: Move | str,
        inode: int,
        name: bytes,
        detail: str | bytes = "",
        birth: int | None = None,
    ) -> None:
        """Record that an entry is about to leave `state` by `move`.

        A `detail` in bytes is written as it is (`line_of`).

        `birth` is when its file was made, in nanoseconds, 0 if the file system does not say: the
        kernel gives a free inode number to the next file.
        """
        if not self.enabled:
            return
        line = line_of(time.time_ns(), state, move, inode, name, detail, birth)
        with self._lock:
            end = self._used + len(line)
            if end > SIZE and self._write():
                end = self._used + len(line)
            if end > SIZE:
                self._dropped += 1
                return
            spill = self._map
            if spill is None:
                spill = self._map = self._open_spill()
            if self._used == HEADER:
                self._oldest = time.monotonic()
            spill[self._used : end] = line
            spill[:HEADER] = b"%08d" % end  # after the line: a killed process leaves whole lines
            self._used = end
            if isinstance(spill, bytearray):  # a kill would lose the line
                self._write()

    def vanish(self, name: bytes, event_time_ns: int) -> None:
        """Record that an event named a file, and that the file was gone when a worker came to it.

        The audit then looks for a line that explains it: another worker or daemon had the file. The
        event's time (ns since the epoch, 0 if not known) tells the file from earlier ones of that
        name. Any user who may rename files in the queue can cause such lines, so `Vanished` limits
        their number.
        """
        if not self.enabled:
            return
        with self._lock:
            allowed = self.vanished.allows(name, time.monotonic())
        if allowed:
            when = f"heard of at {event_time_ns / 1e9:.6f}" if event_time_ns else ""
            self.record(State.READY, "vanish", 0, name, when)

    def flush(self, older: float = 0.0) -> None:
        """Append the spill to the journal if its oldest line is older than so many seconds."""
        if self.vanished.unnamed:
            self._record_unnamed()
        if self._used > HEADER and time.monotonic() - self._oldest >= older:
            with self._lock:
                self._write()

    def _record_unnamed(self) -> None:
        with self._lock:
            count = self.vanished.take_unnamed(time.monotonic())
        if count:
            self.record(State.READY, "unnamed", 0, b"-", f"{count} names")

    def check_place(self) -> None:
        """Begin a journal in `.watcher` if it is another directory than at the last write.

        `gone` then says what was known in the other one.
        """
        with self._lock:
            if self.enabled:
                self._write()
            else:
                self._compare()

    def _compare(self) -> None:
        """Set `gone` if `.watcher` is another one, when no journal is kept."""
        with contextlib.suppress(OSError, WatcherError):
            place = place_of(self._state_root())
            if self._place is not None and not self._place.is_same(place):
                self.gone = Gone(self._why, time.monotonic(), "", (), known=False)
            self._place, self._why = place, MOVED

    def inherit(self, other: Journal, why: str) -> None:
        """Continue the journal of the queue directory that had this one's path before.

        Entries that were known there, and are not here, get a line in the journal here.
        """
        with other._lock:
            self._past = other._past.copy(other._unflushed())
            self._place, self._why = other._place, why

    def known(self) -> list[Line]:
        """Return the last line of each entry that has not ended, as far as this process knows."""
        with self._lock:
            self._write()
            return self._past.open_entries()

    def _unflushed(self) -> bytes:
        return b"" if self._map is None else bytes(self._map[HEADER : self._used])

    def _open_spill(self) -> mmap.mmap | bytearray:
        if self._place is None:
            self._write()  # the file's first line must be older than the first step
        try:
            fd = state_files.create_anew(SPILL, self._process_dir())
            try:
                os.posix_fallocate(fd, 0, SIZE)  # without blocks, a write to the map is a SIGBUS
                return mmap.mmap(fd, SIZE)
            finally:
                os.close(fd)
        except (OSError, WatcherError):
            return bytearray(SIZE)

    def _write(self) -> bool:
        """Append the spill to the journal. The caller holds the lock."""
        data = self._unflushed()
        if self._dropped:
            what = f"{self._dropped} lines"
            data += line_of(time.time_ns(), State.READY, "lost", 0, b"-", what)
        if data and time.monotonic() - self._oldest > LATE:
            data = late_mark(data) + data
        try:
            state_root = self._state_root()
            place = place_of(state_root)
            files = self._files(state_root)
            gone = self._taken_away(place, data, files)
            if gone is not None:
                # A journal outside has the lines about these entries itself.
                known = () if files.is_outside else gone.entries[:MAX_NAMED]
                before = before_lines(known, time.time_ns())
                append(files, before + data, _begin_reason(gone), place)
            elif data or self._place is None:
                append(files, data, "", place)
        except (OSError, WatcherError) as error:
            self.trouble = f"the journal cannot be written: {error}"
            return False
        self._used = HEADER
        if gone is not None:
            self.gone, self._past = gone, Past()
            self._map = None  # this spill is in the directory that was taken away
        if self.gone is not None and data:
            self.gone = _without_ended(self.gone, data)
        self._place, self._why, self._dropped, self.trouble = place, MOVED, 0, ""
        self._past.hold(files.directory)
        if self._map is not None:
            self._map[:HEADER] = b"%08d" % HEADER
        if isinstance(self._map, bytearray):
            self._map = None  # the next line tries again to make a file
        return True

    def _taken_away(self, place: Place, data: bytes, files: JournalFiles) -> Gone | None:
        """Return what was known before, if this `.watcher` is another one.

        `data` are the lines that were not written there.
        """
        if self._place is None or self._place.is_same(place):
            return None
        entries = tuple(self._past.open_entries(data))
        where = "" if files.is_outside else self._past.where()
        return Gone(self._why, time.monotonic(), where, entries)


def _begin_reason(gone: Gone) -> str:
    """Return why the journal begins again, with the number of entries that were known before."""
    known = f"{gone.why}; {counted(len(gone.entries), 'entry was', 'entries were')} known before"
    unnamed = len(gone.entries) - MAX_NAMED
    return known + (f", {unnamed} of them are not named" if unnamed > 0 else "")


def _without_ended(gone: Gone, data: bytes) -> Gone:
    """Leave out the entries that ended by these lines: workers had claimed them before."""
    lines = filter(None, map(parse_line, data.splitlines(keepends=True)))
    ended = {line.inode for line in lines if line.move in ENDS}
    return gone._replace(entries=tuple(line for line in gone.entries if line.inode not in ended))


def count_by_state(gone: Gone) -> str:
    """Say how many entries were in which state: "5 deferred, 2 held"."""
    count = Counter(state_after(line).value for line in gone.entries)
    return ", ".join(f"{number} {state}" for state, number in sorted(count.items()))
