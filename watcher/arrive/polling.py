"""Hints by looking again and again: watchdog's polling observer, where inotify sees nothing.

For network and user-space file systems, or on request. Guarantees: a rename is reported as one
only when a name that was there is gone and the same inode, with the same size and time of
modification, stands under another: an inode that was freed and used again for a file that is just
being written is not a rename. Anything else is a hint to look. Beyond `MODERATE` entries a look at
every file costs too much: there the directory's own time of modification says when to scan it.
Fails: `arm` raises WatchFailed. A directory that goes is GONE.
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

from watcher.arrive.source import Hint, Seen
from watcher.errors import WatchFailed
from watcher.spool.layout import display
from watcher.spool.spool import Spool

INTERVAL = 1.0  # seconds
MODERATE = 4_096  # entries


class Polling:
    """The polled queues of the process; each has its threads, all put their hints here."""

    def __init__(self) -> None:
        self._hints: deque[Hint] = deque()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._polls: dict[int, _Files | _Directory] = {}

    def fileno(self) -> int:
        """Return the reading end of a pipe that the threads write to."""
        return self._read

    def arm(self, tag: int, spool: Spool) -> None:
        """Look at the queue from now on."""
        self.disarm(tag)
        try:
            with os.scandir(spool.path) as names:
                large = next(itertools.islice(names, MODERATE, None), None) is not None
            poll: _Files | _Directory = (_Directory if large else _Files)(self, tag, spool.path)
            poll.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            raise WatchFailed(f"{display(spool.path)}: cannot be polled: {error}") from None
        self._polls[tag] = poll

    def disarm(self, tag: int) -> None:
        """Look no more."""
        poll = self._polls.pop(tag, None)
        if poll is not None:
            poll.stop()

    def tell(self, hint: Hint) -> None:
        """Take a hint from one of the threads."""
        self._hints.append(hint)
        with contextlib.suppress(OSError):  # a full pipe is readable enough; or we are closed
            os.write(self._write, b"h")

    def read(self) -> list[Hint]:
        """Return the hints there are."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 1 << 16)
        return [self._hints.popleft() for _ in range(len(self._hints))]

    def close(self) -> None:
        """Stop every thread."""
        for tag in list(self._polls):
            self.disarm(tag)
        os.close(self._read)  # the writing end stays for a thread that has not ended yet


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
        """Turn an event into a hint; nothing raised here may end watchdog's thread."""
        if event.event_type == "deleted":
            if os.fsdecode(event.src_path) == self._path:
                self._polling.tell(Hint(self._tag, Seen.GONE))
        elif not event.is_directory:
            moved = event.event_type == "moved"
            name = os.fsencode(os.path.basename(event.dest_path if moved else event.src_path))
            self._polling.tell(Hint(self._tag, Seen.RENAMED if moved else Seen.LOOK, name))


class _Directory(threading.Thread):
    """Polls the times of a large directory only."""

    def __init__(self, polling: Polling, tag: int, path: bytes) -> None:
        super().__init__(name="poll " + display(path), daemon=True)
        self._polling, self._tag, self._path = polling, tag, path
        self._stopping = threading.Event()
        self._before = os.stat(path).st_mtime_ns

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Look once an interval."""
        while not self._stopping.wait(INTERVAL):
            try:
                now = os.stat(self._path).st_mtime_ns
            except OSError:
                self._polling.tell(Hint(self._tag, Seen.GONE))
                return
            if now != self._before:
                self._before = now
                self._polling.tell(Hint(self._tag, Seen.EVERYTHING))


class _Identity:
    """A stat result whose inode number also tells whether the file was written to."""

    def __init__(self, status: os.stat_result) -> None:
        self._status = status
        self.st_ino = hash((status.st_ino, status.st_mtime_ns, status.st_size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._status, name)


def _stat(path: str) -> Any:
    status = os.stat(path, follow_symlinks=False)
    # A directory is the same after each change in it: else it would be GONE and there again.
    return status if stat.S_ISDIR(status.st_mode) else _Identity(status)
