"""Events by polling, with watchdog's polling observer, where inotify sees no or not all events.

For network and user-space file systems, or on request.
Guarantees: RENAMED is reported only if a name has gone and the same inode, with the same size and
mtime, has another name: the kernel may give a freed inode number to a file that is being written,
which is no rename. Any other change is LOOK. In a directory of more than `MODERATE` entries it is
too expensive to look at every file: there a change of the directory's mtime is EVERYTHING.
Fails: `arm` raises WatchFailed. GONE if the directory is removed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import threading
from collections import deque
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.polling import PollingObserverVFS

from watcher.arrive.source import Event, EventKind
from watcher.errors import WatchFailed
from watcher.rules.names import display
from watcher.spool.spool import Spool

INTERVAL = 1.0  # seconds
MODERATE = 4_096  # entries


class Polling:
    """The polled queues of the process; the threads of each queue add their events here."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._polls: dict[int, _Files | _Directory] = {}
        self.of_removals: frozenset[int] = frozenset()  # tags of queues with companions

    def fileno(self) -> int:
        """Return the reading end of a pipe that the threads write to."""
        return self._read

    def arm(self, tag: int, spool: Spool) -> None:
        """Start to poll a queue; raise WatchFailed."""
        self.disarm(tag)
        if spool.layout.companions:
            self.of_removals |= {tag}
        try:
            with os.scandir(spool.path) as names:
                large = next(itertools.islice(names, MODERATE, None), None) is not None
            poll: _Files | _Directory = (_Directory if large else _Files)(self, tag, spool.path)
            poll.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            raise WatchFailed(f"{display(spool.path)}: cannot be polled: {error}") from None
        self._polls[tag] = poll

    def disarm(self, tag: int) -> None:
        """Stop polling a queue."""
        self.of_removals -= {tag}
        poll = self._polls.pop(tag, None)
        if poll is not None:
            poll.stop()

    def polls(self, tag: int) -> bool:
        """Whether the queue with this tag is polled."""
        return tag in self._polls

    def emit(self, event: Event) -> None:
        """Add an event; called by the threads."""
        self._events.append(event)
        with contextlib.suppress(OSError):  # the pipe is full, so it is readable; or it is closed
            os.write(self._write, b"h")

    def read(self) -> list[Event]:
        """Return the events that were added."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 1 << 16)
        return [self._events.popleft() for _ in range(len(self._events))]

    def close(self) -> None:
        """Stop every thread."""
        for tag in list(self._polls):
            self.disarm(tag)
        os.close(self._read)  # the writing end stays open: a thread may not have ended yet


class _Files(FileSystemEventHandler):
    """Polls every file of a directory of moderate size."""

    def __init__(self, polling: Polling, tag: int, path: bytes) -> None:
        self._polling, self._tag, self._path = polling, tag, os.fsdecode(path)
        self._observer = PollingObserverVFS(_stat, os.scandir, polling_interval=INTERVAL)

    def start(self) -> None:
        self._observer.schedule(self, self._path, recursive=False)
        self._observer.daemon = True
        self._observer.start()

    def stop(self) -> None:
        self._observer.stop()

    def dispatch(self, event: FileSystemEvent) -> None:
        """Emit an event of watchdog; an exception here would end watchdog's thread."""
        if event.event_type == "deleted":
            if os.fsdecode(event.src_path) == self._path:
                self._polling.emit(Event(self._tag, EventKind.GONE))
            elif not event.is_directory and self._tag in self._polling.of_removals:
                gone = os.fsencode(os.path.basename(event.src_path))
                self._polling.emit(Event(self._tag, EventKind.REMOVED, gone))
        elif not event.is_directory:
            moved = event.event_type == "moved"
            name = os.fsencode(os.path.basename(event.dest_path if moved else event.src_path))
            self._polling.emit(
                Event(self._tag, EventKind.RENAMED if moved else EventKind.LOOK, name)
            )


class _Directory(threading.Thread):
    """Polls the mtime of a large directory."""

    def __init__(self, polling: Polling, tag: int, path: bytes) -> None:
        super().__init__(name="poll " + display(path), daemon=True)
        self._polling, self._tag, self._path = polling, tag, path
        self._stopping = threading.Event()
        self._before = os.stat(path).st_mtime_ns

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Look at the directory once in each interval."""
        while not self._stopping.wait(INTERVAL):
            try:
                now = os.stat(self._path).st_mtime_ns
            except OSError:
                self._polling.emit(Event(self._tag, EventKind.GONE))
                return
            if now != self._before:
                self._before = now
                self._polling.emit(Event(self._tag, EventKind.EVERYTHING))


class _Identity:
    """A stat result whose inode number also changes with the mtime and the size."""

    def __init__(self, status: os.stat_result) -> None:
        self._status = status
        self.st_ino = hash((status.st_ino, status.st_mtime_ns, status.st_size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._status, name)


def _stat(path: str) -> Any:
    status = os.stat(path, follow_symlinks=False)
    # A directory keeps its number: if not, each change in it would look like its removal.
    return status if stat.S_ISDIR(status.st_mode) else _Identity(status)
