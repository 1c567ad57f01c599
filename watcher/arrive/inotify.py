"""Events from the kernel: inotify(7), with pyinotify's watch manager and constants.

Guarantees: the watch of a queue asks for IN_MOVED_TO and for the end of the watch; in legacy mode
for IN_CLOSE_WRITE too; in the raw format for IN_CREATE and IN_CLOSE_WRITE, unless every writer
renames; with companions for IN_DELETE and IN_MOVED_FROM. So in a Mailman queue only renames fill
the kernel's queue. An overflow is reported as EVERYTHING for every queue. The watched directory is
the one that the spool has open. One thread at a time arms, disarms or reads, so that the tag of a
watch is known before its first event is read. `renew` replaces an instance whose events
do not arrive.
Fails: `arm` raises WatchFailed; its text names the limit that was reached.

pyinotify's own reader and Notifier are not used: they need ten times as long for an event, and
after a name that is not UTF-8 they drop the rest of the batch.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import warnings

from watcher.arrive.kernel_watches import KernelWatches
from watcher.arrive.source import Event, EventKind
from watcher.errors import WatchFailed
from watcher.rules.names import display, in_deferred
from watcher.spool.spool import Spool

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pyinotify imports asyncore, deprecated since Python 3.11
    import pyinotify

READ = 1 << 18  # bytes: some thousands of events in one read
READS = 1_000  # far more than the kernel's queue needs with its default length
HEADER = struct.Struct("iIII")
_SELF = pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_ONLYDIR
_ENDED = (
    pyinotify.IN_IGNORED | pyinotify.IN_UNMOUNT | pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF
)
# Of `.watcher/`: it, or a directory in it, is taken away; `paused` comes (by a rename) or goes.
_OURS = _SELF | pyinotify.IN_DELETE | pyinotify.IN_MOVED_FROM | pyinotify.IN_MOVED_TO
COMES_AND_GOES = (
    _SELF
    | pyinotify.IN_CREATE
    | pyinotify.IN_MOVED_TO
    | pyinotify.IN_DELETE
    | pyinotify.IN_MOVED_FROM
)
_JOURNAL = b"journal"
OVERFLOW = pyinotify.IN_Q_OVERFLOW
_MOVED_TO = pyinotify.IN_MOVED_TO
_CLOSE_WRITE = pyinotify.IN_CLOSE_WRITE
_CREATE = pyinotify.IN_CREATE
ISDIR = pyinotify.IN_ISDIR
IGNORED = pyinotify.IN_IGNORED
_REMOVED = pyinotify.IN_DELETE | pyinotify.IN_MOVED_FROM
_OF_A_FILE = {  # and of no directory
    _CLOSE_WRITE: EventKind.CLOSED,
    _CREATE: EventKind.CREATED,
    pyinotify.IN_DELETE: EventKind.REMOVED,
    pyinotify.IN_MOVED_FROM: EventKind.REMOVED,
}


def new_instance() -> tuple[pyinotify.WatchManager, int]:
    """Return a new inotify instance and its descriptor; raise WatchFailed."""
    try:
        manager = pyinotify.WatchManager()
    except OSError as error:
        raise WatchFailed(
            f"no inotify instance available ({_reason(error)}): raise fs.inotify.max_user_instances"
        ) from None
    fd: int = manager.get_fd()
    os.set_blocking(fd, False)
    os.set_inheritable(fd, False)
    return manager, fd


def add_watch(manager: pyinotify.WatchManager, path: str, shown: bytes, mask: int) -> int:
    """Add a watch; raise WatchFailed, which names the limit if one was reached."""
    try:
        watch: int = manager.add_watch(path, mask, quiet=False)[path]
    except pyinotify.WatchManagerError as error:
        limit = "; raise fs.inotify.max_user_watches" if "ENOSPC" in str(error) else ""
        raise WatchFailed(
            f"{display(shown)}: cannot be watched ({_reason(error)}){limit}"
        ) from None
    return watch


def remove_watch(manager: pyinotify.WatchManager, watch: int) -> None:
    """Remove a watch, unless the kernel removed it."""
    with contextlib.suppress(pyinotify.WatchManagerError):
        manager.rm_watch(watch, quiet=False)


def _reason(error: Exception) -> str:
    """Return the kernel's error text from pyinotify's error."""
    return str(error).rpartition("Errno=")[2]


class Inotify:
    """One inotify instance for all queues of the process (the usual limit is 128 for each user).

    Attributes
    ----------
    reads:      reads that found events, so far
    overflows:  overflows of the kernel's queue, so far
    canaries:   events of the canary's file, so far
    """

    def __init__(self) -> None:
        self._manager, self._fd = new_instance()
        self._buffer = bytearray(READ)
        self._empty = True  # whether the last read found nothing
        self._lock = threading.Lock()  # for the three tables, and for pyinotify's manager
        self._tags: dict[int, int] = {}  # watch descriptor -> tag
        self._deferred: dict[int, int] = {}  # the same for watches on deferred/
        self._ours: dict[int, int] = {}  # the same for watches on .watcher/
        # Watches on canary files. One ends with its file, or with the instance.
        self._canaries: set[int] = set()
        self.reads = self.overflows = self.canaries = 0
        self._kernel = KernelWatches()
        self._refused = -1  # number of the last watch that a new instance refused

    def fileno(self) -> int:
        """Return the inotify descriptor."""
        return self._fd

    def arm(self, tag: int, spool: Spool, *, renames: bool = False) -> None:
        """Watch the directory that the spool has open; raise WatchFailed.

        `renames`: every writer renames its files in, so that no other event is of use.
        """
        mask = _MOVED_TO | _SELF
        if spool.layout.legacy:
            mask |= _CLOSE_WRITE
        elif spool.layout.raw and (not renames or spool.layout.marker):
            mask |= _CREATE | _CLOSE_WRITE  # a marker may come in any way
        if spool.layout.companions:
            mask |= _REMOVED
        with self._lock:
            self._tags[self._add(spool.fd, spool.path, mask)] = tag

    def watches(self, tag: int) -> bool:
        """Whether the queue with this tag is watched."""
        with self._lock:
            return tag in self._tags.values()

    def arm_deferred(self, tag: int, spool: Spool, directory: int) -> None:
        """Watch the queue's `deferred/` too; a second call changes nothing."""
        path = spool.home.path + b"/deferred"
        mask = _MOVED_TO | pyinotify.IN_ONLYDIR
        with self._lock:
            self._deferred[self._add(directory, path, mask)] = tag

    def arm_ours(self, tag: int, spool: Spool, directory: int) -> None:
        """Watch for the move or removal of `.watcher/`, or of a name in it, and for `paused`."""
        with self._lock:
            self._ours[self._add(directory, spool.home.path, _OURS)] = tag

    def arm_canary(self, fd: int) -> None:
        """Watch for renames of a canary file itself; a second call changes nothing."""
        with self._lock:
            self._canaries.add(self._add(fd, b"the canary's file", pyinotify.IN_MOVE_SELF))

    def is_listed(self, tag: int) -> bool | None:
        """Whether the kernel lists the watch of a queue (`KernelWatches`)."""
        with self._lock:
            return self._kernel.has(tag, self._fd, self._tags)

    def renew(self) -> None:
        """Put a new instance in the place of this one, with its watches; raise WatchFailed.

        It gets the same descriptor number, so that poll(2) is given the same number by each thread.
        A thread that waits on the old instance waits there until it is woken. A queue that cannot
        be watched now is not listed by the kernel then (`is_listed`). The watches on `.watcher/`
        and `deferred/` are left to `arm_ours` and `arm_deferred`: their directories may be others.
        """
        manager, fd = new_instance()
        with self._lock:
            self._tags = {self._again(manager, watch): tag for watch, tag in self._tags.items()}
            for others in (self._deferred, self._ours, self._canaries):
                others.clear()
            self._kernel.forget()
            os.dup2(fd, self._fd, inheritable=False)
            if self._manager.get_fd() != self._fd:
                self._manager.close()
            self._manager = manager

    def _again(self, manager: pyinotify.WatchManager, watch: int) -> int:
        """Return the number of a watch in a new instance; one that is in no instance if refused."""
        known = self._manager.get_watch(watch)
        try:
            return add_watch(manager, known.path, os.fsencode(known.path), known.mask)
        except (WatchFailed, AttributeError):
            self._refused -= 1
            return self._refused

    def _add(self, fd: int, shown: bytes, mask: int) -> int:
        self._kernel.forget()
        path = f"/proc/self/fd/{fd}"  # by descriptor: the name needs no encoding, and may change
        if not os.path.exists(path):
            path = os.fsdecode(shown)
        return add_watch(self._manager, path, shown, mask)

    def disarm(self, tag: int) -> None:
        """Stop watching the queue with this tag."""
        with self._lock:
            for tags in (self._tags, self._deferred, self._ours):
                for watch in [watch for watch, held in tags.items() if held == tag]:
                    del tags[watch]
                    remove_watch(self._manager, watch)

    def read_all(self) -> list[Event]:
        """Return every event that is queued now, in at most `READS` system calls.

        If there may be more, the last one is EVERYTHING: a writer makes them faster than they can
        be read.
        """
        events: list[Event] = []
        for _ in range(READS):
            events += self.read()
            if self._empty:
                return events
        return [*events, Event(None, EventKind.EVERYTHING)]

    def read(self) -> list[Event]:
        """Return the queued events without waiting; one system call."""
        with self._lock:
            try:
                end = os.readv(self._fd, [self._buffer])  # always the same buffer: no allocation
            except BlockingIOError:
                self._empty = True
                return []
            self._empty = False
            self.reads += 1
            data = bytes(memoryview(self._buffer)[:end])
            events: list[Event] = []
            offset, end = 0, len(data)
            tags, unpack, header, renamed = (
                self._tags,
                HEADER.unpack_from,
                HEADER.size,
                EventKind.RENAMED,
            )
            while offset < end:
                watch, mask, _cookie, length = unpack(data, offset)
                offset += header
                name = data[offset : offset + length].rstrip(b"\0")
                offset += length
                tag = tags.get(watch)
                if mask == _MOVED_TO and tag is not None:
                    events.append(Event(tag, renamed, name))
                elif mask & OVERFLOW:
                    self.overflows += 1
                    events.append(Event(None, EventKind.EVERYTHING))
                elif tag is None:
                    events += self._parse_deferred(watch, mask, name)
                elif mask & _MOVED_TO:
                    if not mask & ISDIR:
                        events.append(Event(tag, renamed, name))
                elif (kind := _OF_A_FILE.get(mask)) is not None:
                    events.append(Event(tag, kind, name))
                elif mask & _ENDED:
                    events.append(self._end(watch, mask, tag))
            return events

    def _end(self, watch: int, mask: int, tag: int) -> Event:
        """Read that the watch on a queue ended, or that its directory was moved away."""
        if mask & IGNORED:
            del self._tags[watch]
            self._manager.del_watch(watch)
        return Event(tag, EventKind.GONE)

    def _parse_deferred(self, watch: int, mask: int, name: bytes) -> list[Event]:
        """Return the events of a watch on deferred/; none for a watch that was removed."""
        tag = self._deferred.get(watch)
        if tag is None:
            return self._parse_ours(watch, mask, name)
        if mask & IGNORED:
            del self._deferred[watch]
            self._manager.del_watch(watch)
        elif mask & _MOVED_TO and not mask & ISDIR:
            return [Event(tag, EventKind.RENAMED, in_deferred(name))]
        return []

    def _parse_ours(self, watch: int, mask: int, name: bytes) -> list[Event]:
        """Return the events of a watch on .watcher/, without those of the journal's files."""
        tag = self._ours.get(watch)
        if tag is None:
            self._take_canary(watch, mask)
        if tag is None or name.startswith(_JOURNAL):
            return []
        if mask & IGNORED:
            del self._ours[watch]
            self._manager.del_watch(watch)
        return [Event(tag, EventKind.OURS, name)]

    def _take_canary(self, watch: int, mask: int) -> None:
        if watch in self._canaries:
            if mask & IGNORED:
                self._canaries.remove(watch)
                self._manager.del_watch(watch)
            else:
                self.canaries += 1

    def close(self) -> None:
        """Close the descriptors, and the watches with them."""
        self._manager.close()
        if self._manager.get_fd() != self._fd:
            os.close(self._fd)
