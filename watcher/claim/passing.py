"""Short claims: an operator's command holds an entry for some milliseconds; a worker waits for it.

A command that puts an entry back (requeue, release) holds its claim until its rename is done. A
worker reads the event of the rename before the claim is released. If it looked again much later, it
would handle the first entry of a batch last. A daemon or a sweep holds an entry for as long as its
handler runs; it has a ledger, and a command has none.

Guarantees: nothing is locked or opened for writing. A worker waits once for a process that holds an
entry longer than all `PAUSES`, however many entries that process holds.
Fails: never; if nothing can be found out, there is no wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

from watcher.claim.holders import described, holders
from watcher.errors import WatcherError
from watcher.rules.names import INFLIGHT
from watcher.spool.dirs import exists, names_in
from watcher.spool.process_dir import LEDGER
from watcher.spool.spool import Spool

# Seconds between looks, some 80 ms in all. A command's last steps take as long as the first.
PAUSES = (0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.024, 0.024)
UNHELD = 3  # looks at an entry that is busy though /proc/locks shows no holder
MOST = 1_000  # processes that are remembered


class Passing:
    """Knows which processes hold entries for long, and are not waited for."""

    def __init__(self) -> None:
        self._lasting: set[int] = set()  # processes that kept one for longer
        self._lock = threading.Lock()  # the workers', for the set

    def looks(self, spool: Spool, name: bytes, pause: Callable[[float], object]) -> Iterator[None]:
        """Yield each time that a busy entry is worth another try; end when it is not."""
        for count, seconds in enumerate(PAUSES):
            if not self._soon_free(spool, name, count):
                return
            pause(seconds)
            yield
        self._lasted(spool, name)

    def _soon_free(self, spool: Spool, name: bytes, looks: int) -> bool:
        """Whether an entry that was busy is free by now, or held by a command.

        If no process holds the lock, look after look, it is not a claim that makes it busy.
        """
        try:
            pid = _holder(spool, name)
            if pid is None:
                return looks < UNHELD
            with self._lock:
                lasting = pid <= 0 or pid == os.getpid() or pid in self._lasting
            return not lasting and not _handles(spool, pid)
        except (OSError, WatcherError):
            return False

    def _lasted(self, spool: Spool, name: bytes) -> None:
        """Remember that the holder of an entry did not release it during all `PAUSES`."""
        try:
            pid = _holder(spool, name)
        except (OSError, WatcherError):
            return
        with self._lock:
            if len(self._lasting) >= MOST:
                self._lasting.clear()
            if pid is not None:
                self._lasting.add(pid)


def stranger(spool: Spool, name: bytes) -> str:
    """Return which process, neither a daemon nor a sweep, holds an entry; "" if none is known.

    A daemon or a sweep has a ledger. Any other process that may read a file can lock it for any
    time.
    """
    try:
        pid = _holder(spool, name) or 0
        return "" if pid <= 0 or pid == os.getpid() or _handles(spool, pid) else described(pid)
    except (OSError, WatcherError):
        return ""


def holder(spool: Spool, name: bytes) -> str:
    """Return which process has an entry claimed, as far as /proc shows it."""
    try:
        return described(_holder(spool, name) or 0)
    except (OSError, WatcherError):
        return described(0)


def _holder(spool: Spool, name: bytes) -> int | None:
    """Return the process that has the file claimed; None if there is none."""
    status = spool.stat_at(name)
    return None if status is None else holders().get((status.st_dev, status.st_ino))


def _handles(spool: Spool, pid: int) -> bool:
    """Whether a process has a ledger in this spool, and so runs handlers."""
    try:
        fd = spool.home.open(INFLIGHT)
    except FileNotFoundError:
        return False
    try:
        of_it = [name for name in names_in(fd) if name.startswith(b"%d." % pid)]
        return any(exists(os.path.join(name, LEDGER), fd) for name in of_it)
    finally:
        os.close(fd)
