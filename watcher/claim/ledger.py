r"""What this process has in hand, written down before a handler is called.

A process that dies leaves its ledger behind, in its directory in `inflight/`: who comes next counts
the death against the entry (`recovery`). One slot a worker thread, overwritten by its next entry:

    INODE CTIME_NS queue/NAME\n, then NULs up to 512 bytes

Guarantees: no system call an entry: the file is mapped into memory, and what was written there
outlives the process, though not the machine, which is all that is asked of it. A slot whose entry
went its way counts against nobody, because the file is no longer there with that inode and ctime:
every move of ours changes the ctime.
Fails: never; an entry that cannot be written down is handled all the same, and `trouble` says so.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import NamedTuple

from watcher.claim import fault
from watcher.entry import Part
from watcher.errors import WatcherError
from watcher.spool import inflight
from watcher.spool.layout import DEFERRED
from watcher.spool.spool import Spool

SLOT = 512  # bytes: two numbers, a place and a name
SLOTS = 256  # as many as a queue can have workers
QUEUE = b"queue/"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class InHand(NamedTuple):
    """One slot: which file a process had in hand."""

    inode: int
    ctime_ns: int
    place: bytes  # QUEUE or DEFERRED
    name: bytes


class Ledger:
    """The ledger of this process for one spool."""

    def __init__(self) -> None:
        self.trouble = ""
        self._directory = -1
        self._map: mmap.mmap | None = None
        self._slots: dict[int, int] = {}  # by thread

    def take(self, spool: Spool, part: Part) -> None:
        """Write down that this thread has an entry in hand."""
        place = QUEUE if part.directory < 0 else DEFERRED
        line = b"%d %d %s%s\n" % (part.ino, part.ctime_ns, place, part.name)
        slot = self._slots.setdefault(threading.get_ident(), len(self._slots))
        if self._ready(spool) and self._map is not None and slot < SLOTS:
            self._map[slot * SLOT : (slot + 1) * SLOT] = line.ljust(SLOT, b"\0")

    def let_go(self) -> None:
        """Write down that this thread has nothing in hand: a death from here on is none of its."""
        slot = self._slots.get(threading.get_ident(), SLOTS)
        if self._map is not None and slot < SLOTS:
            self._map[slot * SLOT : (slot + 1) * SLOT] = bytes(SLOT)

    def look(self, spool: Spool) -> str:
        """Return what is wrong; where something was, see whether it is over."""
        if self.trouble:
            self._ready(spool)
        return self.trouble

    def _ready(self, spool: Spool) -> bool:
        """Have a file to write to; say whether there is one."""
        try:
            directory = spool.own if spool.own >= 0 else inflight.own(spool)
            if directory != self._directory or self._map is None:
                self._open(directory)
            self.trouble = ""
        except (OSError, WatcherError) as error:
            self.trouble = f"what is in hand cannot be written down: {error}"
        return not self.trouble

    def clear(self) -> None:
        """Have nothing in hand: this process ends because it was told to, by no entry's fault."""
        if self._map is not None:
            self._map[:] = bytes(SLOTS * SLOT)

    def _open(self, directory: int) -> None:
        fd = os.open(inflight.LEDGER, _FLAGS, 0o600, dir_fd=directory)
        try:
            os.posix_fallocate(fd, 0, SLOTS * SLOT)  # a map of what the disk refuses is SIGBUS
            self._map, self._directory = mmap.mmap(fd, SLOTS * SLOT), directory
        finally:
            os.close(fd)
        fault.arm(directory)


def of(spool: Spool) -> Ledger:
    """Return this process's ledger for a spool."""
    kept = spool.ledger
    if isinstance(kept, Ledger):
        return kept
    with _LOCK:
        if not isinstance(spool.ledger, Ledger):
            spool.ledger = Ledger()
    return of(spool)


_LOCK = threading.Lock()


def read(directory: int) -> list[InHand]:
    """Read the ledger in a dead process's directory; what cannot be read is left out."""
    try:
        fd = os.open(inflight.LEDGER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return []
    try:
        data = os.pread(fd, SLOT * SLOTS, 0)
    except OSError:
        return []
    finally:
        os.close(fd)
    slots = (_parse(data[start : start + SLOT]) for start in range(0, len(data), SLOT))
    return [slot for slot in slots if slot is not None]


def _parse(slot: bytes) -> InHand | None:
    line = slot.rstrip(b"\0")
    if not line.endswith(b"\n"):
        return None
    inode, _, rest = line[:-1].partition(b" ")
    ctime_ns, _, where = rest.partition(b" ")
    for place in (QUEUE, DEFERRED):
        name = where.removeprefix(place)
        if name != where and name and b"/" not in name and name not in (b".", b".."):
            try:
                return InHand(int(inode), int(ctime_ns), place, name)
            except ValueError:
                return None
    return None
