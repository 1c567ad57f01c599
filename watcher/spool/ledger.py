r"""The ledger: which entries this process has in hand, written before a handler is called.

A process that dies leaves its ledger in its directory in `inflight/`. The next process counts the
death against the entry (`recovery`). Each worker thread has one slot, which its next entry
overwrites; a thread that has a batch in hand has one for each entry:

    INODE CTIME_NS queue/NAME\n, then NULs up to 512 bytes

Guarantees: an entry costs no system call: the file is mapped into memory. What was written there
survives the process; a power failure may lose it, which is harmless. Each thread has its own slots.
The file grows to the number of entries that were in hand at the same time, and never shrinks.
A slot of an entry that was removed or moved counts against no entry: no file has that inode number
and ctime any more, because each move changes the ctime.
Fails: never. An entry that cannot be written down is handled all the same, and `trouble` says so.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
from typing import NamedTuple

from watcher.errors import WatcherError
from watcher.rules.names import DEFERRED
from watcher.spool import last_words, process_dir, state_files
from watcher.spool.part import Part
from watcher.spool.process_dir import OpenSpool

SLOT = 512  # bytes: two numbers, a place and a name
SLOTS = 256  # at first: as many as a queue can have workers
MOST_SLOTS = 65_536
QUEUE = b"queue/"
_ODD = re.compile(rb"[/\0]")  # no name has one


class InHand(NamedTuple):
    """One slot: which file a process had in hand."""

    inode: int
    ctime_ns: int
    place: bytes  # QUEUE or DEFERRED
    name: bytes


class Ledger:
    """The ledger of this process for one spool; its lock is held for each change.

    The lock is reentrant: a signal handler in the daemon thread calls `clear`, and the same thread
    may hold the lock then.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._lock = threading.RLock()  # for all that follows
        self._directory: process_dir.ProcessDirectory | None = None
        self._map: mmap.mmap | None = None
        self._slots: dict[tuple[int, int], int] = {}  # by thread, and place in its batch
        self._free: list[int] = []  # slots of threads that ended

    def take(self, spool: OpenSpool, part: Part, number: int = 0) -> None:
        """Write down which entry this thread has in hand, by its number in a batch."""
        place = QUEUE if part.directory is None else DEFERRED
        line = b"%d %d %s%s\n" % (part.ino, part.ctime_ns, place, part.name)
        with self._lock:
            key = threading.get_ident(), number
            slot = self._slots.get(key)
            if slot is None:
                slot = self._new_slot(key)
            directory = self._directory
            if directory is None or directory is not spool.process_dir or self.trouble:
                self._ready(spool)
            if self._map is not None and not self.trouble:
                if slot * SLOT >= len(self._map):
                    self._grow(slot)
                if slot * SLOT < len(self._map):
                    self._map[slot * SLOT : (slot + 1) * SLOT] = line.ljust(SLOT, b"\0")

    def _new_slot(self, key: tuple[int, int]) -> int:
        slot = self._free.pop() if self._free else len(self._slots)
        self._slots[key] = slot
        return slot

    def let_go(self, number: int = 0) -> None:
        """Write down that this thread has let go of an entry: no later death is that entry's."""
        with self._lock:
            self._erase(self._slots.get((threading.get_ident(), number), MOST_SLOTS))

    def leave(self) -> None:
        """Let another thread have this one's slots: a worker calls it when it ends."""
        thread = threading.get_ident()
        with self._lock:
            for key in [key for key in self._slots if key[0] == thread]:
                slot = self._slots.pop(key)
                self._erase(slot)
                self._free.append(slot)

    def _erase(self, slot: int) -> None:
        if self._map is not None and slot * SLOT < len(self._map):
            self._map[slot * SLOT : (slot + 1) * SLOT] = bytes(SLOT)

    def look(self, spool: OpenSpool) -> str:
        """Return what is wrong, after another try if something was."""
        with self._lock:
            if self.trouble:
                self._ready(spool)
            return self.trouble

    def _ready(self, spool: OpenSpool) -> bool:
        """Open and map the file if need be; return whether there is one."""
        try:
            directory = process_dir.process_dir_for(spool)
            if directory is not self._directory or self._map is None:
                self._open(directory)
            self.trouble = ""
        except (OSError, WatcherError) as error:
            self.trouble = f"what is in hand cannot be written down: {error}"
        return not self.trouble

    def clear(self) -> None:
        """Empty every slot: this process is being stopped, and no entry is the cause."""
        with self._lock:
            if self._map is not None:
                self._map[:] = bytes(len(self._map))

    def _open(self, directory: process_dir.ProcessDirectory) -> None:
        """Map the ledger of a new process directory; the slots are copied into it."""
        in_hand = bytes(SLOTS * SLOT) if self._map is None else self._map[:]
        fd = state_files.create_anew(process_dir.LEDGER, directory.fd)
        try:
            os.posix_fallocate(fd, 0, len(in_hand))  # else a full disk would mean SIGBUS
            self._map, self._directory = mmap.mmap(fd, len(in_hand)), directory
        finally:
            os.close(fd)
        self._map[:] = in_hand
        last_words.arm(directory.fd)

    def _grow(self, slot: int) -> None:
        """Map the file anew, longer, so that it has this slot."""
        if self._map is None or self._directory is None:
            return
        if slot >= MOST_SLOTS:
            self.trouble = f"more than {MOST_SLOTS} entries are in hand"
            return
        size = 2 * len(self._map)
        while slot * SLOT >= size:  # the disk had no room before
            size *= 2
        try:
            fd = state_files.open_file(process_dir.LEDGER, self._directory.fd, os.O_RDWR)
            try:
                os.posix_fallocate(fd, 0, size)
                self._map = mmap.mmap(fd, size)
            finally:
                os.close(fd)
        except OSError as error:
            self.trouble = f"what is in hand cannot be written down: {error}"


def read(directory: int) -> list[InHand]:
    """Return the slots in a dead process's directory, without those that cannot be read."""
    try:
        data = state_files.read(process_dir.LEDGER, directory, SLOT * MOST_SLOTS)
    except OSError:
        return []
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
        if name != where and name and not _ODD.search(name) and name not in (b".", b".."):
            try:
                return InHand(int(inode), int(ctime_ns), place, name)
            except ValueError:
                return None
    return None
