"""Detect what other programs take away: the queue's `.watcher/`, and entries that were announced.

Another program may move or remove `.watcher/` while the daemon runs (`rsync --delete`, any user who
may write in the queue); the entries in it are then out of reach. Or it may remove an entry between
its event and its claim.
Guarantees: the first is logged at once, the second after `EXPLAINED`, with names: a process of
watcher that took the entry has written so by then. At most one line in `EACH` names entries; those
of the time between are in the next one. A queue whose put-away entries are missing is unhealthy
until they are there again, or until a restart; one whose entries are taken, until no other was for
`QUIET`.
Fails: never.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Sequence

from watcher.errors import WatcherError, counted
from watcher.inspect.mirrors import mirrors_of
from watcher.observe import log
from watcher.observe.health import Health
from watcher.rules.names import STATE_DIRECTORIES, display
from watcher.spool import process_dir
from watcher.spool.birth import birth_of
from watcher.spool.dirs import scan_dir
from watcher.spool.journal import Gone, count_by_state
from watcher.spool.journal_files import names_mentioned
from watcher.spool.journal_line import Line
from watcher.spool.journal_past import state_after
from watcher.spool.spool import Spool

SHOWN = 5  # names
ABOUT = "state directory"
TAKEN = "taken entries"  # what the queue's health calls them
EXPLAINED = 2.0  # seconds: another process writes its lines to the journal sooner (FLUSH_AFTER)
EACH = 60.0  # seconds between two lines about taken entries
QUIET = 3600.0  # seconds without a taken entry, after which the queue is healthy again


class Custody:
    """Checks whether what one queue keeps is still there."""

    def __init__(self, queue: str, health: Health) -> None:
        self.vanished = 0  # entries that another program took after their event
        self.last_taken = ""  # one of the last of them, as it is shown
        self.last_taken_at = 0.0  # when they were found to be gone (seconds since 1970)
        self._report_at = math.inf  # when those that are not reported yet are (monotonic)
        self._looked_at = -math.inf  # when it was last looked whether entries were taken
        self._taken_at = -math.inf  # when entries were last found to be
        self._queue = queue
        self._health = health
        self._gone: Gone | None = None  # the last one that was reported
        self._suspect = False

    def take_over(self, before: Custody) -> None:
        """Take over what the settings before a reload knew of taken entries."""
        self.vanished, self._taken_at = before.vanished, before._taken_at
        self.last_taken, self.last_taken_at = before.last_taken, before.last_taken_at
        self._report_at, self._looked_at = before._report_at, before._looked_at
        self._health.take_over(before._health, TAKEN)

    def suspect(self, name: bytes) -> bool:
        """Note that `.watcher/` was moved, or `name` in it; return whether to look at once."""
        if name in STATE_DIRECTORIES.values():
            self._suspect = True
        return not name or self._suspect

    def look(self, spool: Spool, *, thoroughly: bool = False) -> bool:
        """Check whether `.watcher/` is still the same directory; return True if not.

        `thoroughly`: also check whether what was missing is there again.
        """
        spool.journal.check_place()
        if self._suspect and spool.journal.gone is None:
            spool.journal.gone = _taken_out(spool)
        self._suspect = False
        gone = spool.journal.gone
        if gone is None:
            return False
        if gone.when != (self._gone.when if self._gone else 0):
            self._gone = gone
            with contextlib.suppress(OSError, WatcherError):  # reported elsewhere
                process_dir.process_dir_for(spool, sure=True)
            self._report(spool, gone)
            self._advise(spool)
            return True
        if thoroughly:
            self._report(spool, gone)
        return False

    def _advise(self, spool: Spool) -> None:
        """Say which program may have done it, and how to keep the next run from doing it again."""
        if spool.home.outside is None:
            mirror = next(mirrors_of(spool.path), None)
            by = "if a program mirrors this folder" if mirror is None else str(mirror)
            why = f"{by}: set state_dir to a directory outside, or .watcher/ is lost again"
            log.event(self._queue, "mirrored", why, logging.WARNING)

    def _report(self, spool: Spool, gone: Gone) -> None:
        missing = gone._replace(entries=_missing(spool, gone.entries))
        ours = display(spool.home.path)
        where = f"it is {gone.where} now: move back what is in it" if gone.where else "it is gone"
        if missing.entries:
            what = f"{count_by_state(missing)}: {_shown(missing)}"
            text = f"{ours}: {gone.why}, with entries in it ({what}); {where}; `watcher audit`"
            self._health.trouble(ABOUT, f"{text} names each")
        elif not gone.known:
            text = f"{ours}: {gone.why}; what was in it is not known: no journal is kept"
            self._health.trouble(ABOUT, f"{text}; {where}")
        else:
            if not gone.entries and not self._health.has(ABOUT):
                self._health.trouble(ABOUT, f"{ours}: {gone.why}; nothing was put away in it")
            self._health.trouble(ABOUT, None)
            spool.journal.gone = None

    def report_due(self, spool: Spool, now: float) -> float:
        """Report taken entries if it is time; return the moment at which it is, or infinity."""
        if self._report_at == math.inf and spool.journal.vanished.pending:
            self._report_at = max(now + EXPLAINED, self._looked_at + EACH)
        if now >= self._report_at:
            self.report_vanished(spool, now)
        return self._report_at

    @property
    def reports_soon(self) -> bool:
        """Whether a moment is set at which taken entries are reported."""
        return self._report_at < math.inf

    def sweep(self, now: float) -> None:
        """Note that the queue is swept: it may be long since an entry was taken."""
        if self._health.has(TAKEN) and now >= self._taken_at + QUIET:
            self._health.trouble(TAKEN, None)

    def report_vanished(self, spool: Spool, now: float) -> None:
        """Log the entries that were gone before their claim, and that no journal line explains."""
        self._report_at, self._looked_at = math.inf, now
        names = spool.journal.vanished.take_names()
        if not names:
            return
        with contextlib.suppress(OSError, WatcherError):
            spool.journal.flush()
            here = {name for name in names if spool.stat(name) is not None}
            taken = sorted(names - here - names_mentioned(spool.journal_files().directory, names))
            if not taken:
                return
            self.vanished += len(taken)
            self.last_taken, self.last_taken_at = display(taken[-1]), time.time()
            self._taken_at = now
            shown = ", ".join(map(display, taken[:SHOWN])) + (", ..." if taken[SHOWN:] else "")
            entries = counted(len(taken), "entry was", "entries were")
            why = f"{entries} announced, and gone before the claim: {shown}: another program took"
            log.event(self._queue, "vanished", f"{why} them; `watcher audit`", logging.WARNING)
            self._tell(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.last_taken_at)))

    def _tell(self, when: str) -> None:
        """Say in the queue's health that entries are taken, how many, and when the last one."""
        entries = counted(self.vanished, "entry", "entries")
        text = f"another program takes entries of this queue: {entries}, last {self.last_taken}"
        if not self._health.has(TAKEN):
            self._health.trouble(TAKEN, f"{text}; `watcher audit` names each")
        self._health.show(TAKEN, f"{text} at {when}; `watcher audit` names each")


def _taken_out(spool: Spool) -> Gone | None:
    """Return what was in a state directory that was moved away or removed."""
    lives = [line for line in spool.journal.known() if state_after(line) in STATE_DIRECTORIES]
    lost = _missing(spool, lives)
    if not lost:
        return None
    return Gone("a directory in it was moved away or removed", time.monotonic(), "", lost)


def _shown(gone: Gone) -> str:
    names = [display(line.name) for line in gone.entries[:SHOWN]]
    return ", ".join(names) + (", ..." if gone.entries[SHOWN:] else "")


def _missing(spool: Spool, lives: Sequence[Line]) -> tuple[Line, ...]:
    """Return the lines whose file is neither in the queue nor in a state directory.

    The kernel reuses inode numbers, so the birth time is compared too if the journal has it.
    """
    here: dict[int, tuple[bytes, int]] = {}  # inode -> name and directory
    for state in (None, *STATE_DIRECTORIES) if lives else ():
        with contextlib.suppress(OSError, WatcherError):
            directory = spool.fd if state is None else spool.state_dir(state)
            if directory is not None:
                here.update((ino, (name, directory)) for name, ino in _files_in(directory))
    return tuple(line for line in lives if not _is_of(line, here.get(line.inode)))


def _is_of(line: Line, found: tuple[bytes, int] | None) -> bool:
    """Whether the file that has a line's inode number is the file of that line."""
    return found is not None and (not line.birth or birth_of(*found) in (None, line.birth))


def _files_in(directory: int) -> list[tuple[bytes, int]]:
    files = (item for item in scan_dir(directory) if item.is_file(follow_symlinks=False))
    return [(os.fsencode(item.name), item.inode()) for item in files]
