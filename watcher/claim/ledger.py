r"""What this process has in hand, written down before a handler is called.

A process that dies leaves its ledger behind, in its directory in `inflight/`: who comes next counts
the death against the entry (`recovery`). One slot a worker thread, overwritten by its next entry:

    INODE CTIME_NS queue/NAME\n, then NULs up to 512 bytes

Guarantees: one write an entry; a slot whose entry went its way counts against nobody, because the
file is no longer there with that inode and ctime: every move of ours changes the ctime.
Fails: never; an entry that cannot be written down is handled all the same, and `trouble` says so.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import NamedTuple

from watcher.claim import fault
from watcher.entry import Part
from watcher.errors import WatcherError
from watcher.spool import inflight
from watcher.spool.layout import DEFERRED
from watcher.spool.spool import Spool

SLOT = 512  # bytes: two numbers, a place and a name
MOST = 4096  # slots that are read of another's ledger
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
        self._fd = -1
        self._slots: dict[int, int] = {}  # by thread

    def __del__(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def take(self, spool: Spool, part: Part) -> None:
        """Write down that this thread has an entry in hand."""
        place = QUEUE if part.directory < 0 else DEFERRED
        line = b"%d %d %s%s\n" % (part.ino, part.ctime_ns, place, part.name)
        slot = self._slots.setdefault(threading.get_ident(), len(self._slots))
        try:
            directory = inflight.own(spool)
            if directory != self._directory:
                self._open(directory)
            os.pwrite(self._fd, line.ljust(SLOT, b"\0"), slot * SLOT)
            self.trouble = ""
        except (OSError, WatcherError) as error:
            self.trouble = f"what is in hand cannot be written down: {error}"

    def clear(self) -> None:
        """Have nothing in hand: this process ends because it was told to, by no entry's fault."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)

    def _open(self, directory: int) -> None:
        fd = os.open(inflight.LEDGER, _FLAGS, 0o600, dir_fd=directory)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._directory = fd, directory
        fault.arm(directory)


def of(spool: Spool) -> Ledger:
    """Return this process's ledger for a spool."""
    with _LOCK:
        return _LEDGERS.setdefault(spool, Ledger())


_LEDGERS: weakref.WeakKeyDictionary[Spool, Ledger] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def read(directory: int) -> list[InHand]:
    """Read the ledger in a dead process's directory; what cannot be read is left out."""
    try:
        fd = os.open(inflight.LEDGER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return []
    try:
        data = os.pread(fd, SLOT * MOST, 0)
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
