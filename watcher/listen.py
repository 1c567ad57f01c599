"""Who waits for hints: the first worker with nothing to do, so that it handles what it hears.

A hint that one thread hears and another handles costs two switches of threads, some 100
microseconds in Python. So an idle worker takes the turn to listen; when it has heard of something
to do, it hands the turn to another idle worker, if there is one, and goes to work.

Guarantees: one thread listens at a time, and while a worker is idle one does. While all are at work
nobody does: the kernel keeps the hints, and those it cannot keep are found by scanning.
Fails: never.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable

from watcher.arrive.ready import Ready
from watcher.arrive.source import Hint
from watcher.arrive.sources import Sources


class Listener:
    """The turn to listen, for all the workers of a process."""

    def __init__(self, sources: Sources, hear: Callable[[list[Hint]], None]) -> None:
        self._sources = sources
        self._hear = hear
        self._turn = threading.Lock()
        self._idle: dict[Ready, int] = {}  # queues that have workers waiting, and how many
        self._counting = threading.Lock()
        self._poll = select.poll()
        self._registered: set[int] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_read, select.POLLIN)

    def wait(self, ready: Ready) -> None:
        """Wait until there may be something to do: by listening, or for the one who listens."""
        self._count(ready, 1)
        try:
            if self._turn.acquire(blocking=False):
                try:
                    self._listen(ready)
                finally:
                    self._turn.release()
            else:
                ready.wait()
        finally:
            self._count(ready, -1)

    def hand_over(self) -> None:
        """Have another idle worker listen, if there is one and nobody does."""
        if self._idle and not self._turn.locked():
            with self._counting:
                other = next(iter(self._idle), None)
            if other is not None:
                other.nudge()

    def wake_if_new(self) -> None:
        """Have the one who listens look up if there is a source that it does not know of."""
        if any(fd not in self._registered for fd in self._sources.filenos()):
            self.wake()

    def wake(self) -> None:
        """Have the one who listens look up: there is something to do, or another source."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    def _listen(self, ready: Ready) -> None:
        if not ready.begin_listening(self.wake):
            return
        for fd in self._sources.filenos():
            if fd not in self._registered:
                self._registered.add(fd)
                self._poll.register(fd, select.POLLIN)
        readable = self._poll.poll()
        ready.end_listening()
        for fd, _events in readable:
            if fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            else:
                self._hear(self._sources.read(fd))

    def _count(self, ready: Ready, change: int) -> None:
        with self._counting:
            count = self._idle.get(ready, 0) + change
            if count:
                self._idle[ready] = count
            else:
                del self._idle[ready]
