"""Who waits for hints: the first worker with nothing to do, so that it handles what it hears.

A hint that one thread hears and another handles costs two switches of threads, some 100
microseconds in Python. So an idle worker takes the turn to listen; when it has heard of something
to do, it hands the turn to another idle worker, if there is one, and goes to work. Where none is
idle, one between two entries hears what there is, now and then; and where that does not happen for
`SOON`, the daemon's own thread stands in: a hint is to be heard when it is given, because what it
proves, it proves of that moment (`claim.take`, `heard`).

Guarantees: one thread listens at a time; nobody has gone unheard for much longer than `SOON`. While
nothing happens nobody wakes.
Fails: never.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

from watcher.arrive.ready import Ready
from watcher.arrive.source import Hint
from watcher.arrive.sources import Sources

OFTEN = 0.005  # seconds that a worker with one entry after the other does not listen
SOON = 0.02  # seconds between the daemon's looks at whether a worker listens
QUIET = 25  # looks without work after which it sleeps until there is some


class Listener:
    """The turn to listen, for the threads of a process."""

    def __init__(
        self, sources: Sources, hear: Callable[[list[Hint]], None], rouse: Callable[[], None]
    ) -> None:
        self._sources = sources
        self._hear = hear
        self._rouse = rouse  # wakes the daemon's own thread
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._idle: dict[Ready, int] = {}  # queues that have workers waiting, and how many
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], list[Hint]]] = {}  # by descriptor, as registered
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_read, select.POLLIN)
        self._heard_at = 0.0  # when somebody last did (monotonic)
        self._works = 0  # how often a worker went to work
        self._seen = 0  # the same, at the daemon's last look
        self._quiet = 0  # looks since it changed
        self._asleep = False  # the daemon's thread looks no more
        self._stands_in = False  # it listens

    # -- the workers' side --------------------------------------------------------------------

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
                if self._stands_in:
                    self._rouse()  # we can take the turn
                ready.wait()
        finally:
            self._count(ready, -1)

    def go_to_work(self) -> None:
        """Have another idle worker listen, if there is one; else the daemon may have to."""
        self._works += 1
        if self._idle:
            self._hand_over()
        elif time.monotonic() - self._heard_at > OFTEN:
            self._glance()
        if self._asleep:
            self._asleep = False
            self._rouse()

    def _glance(self) -> None:
        """Hear what there is, without waiting for more, if nobody else listens."""
        if self._turn.acquire(blocking=False):
            try:
                for read in self._readers.values():
                    self._hear(read())
                self._heard_at = time.monotonic()
            finally:
                self._turn.release()

    def _hand_over(self) -> None:
        with self._counting:
            other = next(iter(self._idle), None)
        if other is not None and not self._turn.locked():
            other.nudge()

    def _listen(self, ready: Ready) -> None:
        if not ready.begin_listening(self.wake):
            return
        for fd in self._sources.filenos():
            if fd not in self._readers:
                self._readers[fd] = self._sources.reader(fd)
                self._poll.register(fd, select.POLLIN)
        readable = self._poll.poll()
        self._heard_at = time.monotonic()
        ready.listening = None
        for fd, _events in readable:
            if fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            else:
                self._hear(self._readers[fd]())

    def _count(self, ready: Ready, change: int) -> None:
        with self._counting:
            count = self._idle.get(ready, 0) + change
            if count:
                self._idle[ready] = count
            else:
                del self._idle[ready]

    # -- the daemon's side --------------------------------------------------------------------

    def stand_in(self) -> tuple[list[int], float | None]:
        """See to it that somebody listens.

        Returns the descriptors that the daemon's thread has to wait for as well, and the seconds
        until it must look again (None: when it is woken).
        """
        self._quiet = 0 if self._works != self._seen else self._quiet + 1
        self._seen = self._works
        if self._idle:
            if self._stands_in:
                self._stands_in = False
                self._turn.release()
                self._hand_over()
        elif not self._stands_in:
            self._stands_in = self._quiet > 0 and self._turn.acquire(blocking=False)
        if self._stands_in:
            return self._sources.filenos(), None
        self._asleep = self._quiet > QUIET and bool(self._idle)
        return [], None if self._asleep else SOON

    def hear(self, fd: int) -> None:
        """Read one of the descriptors that `stand_in` gave, and pass on what it says."""
        self._hear(self._sources.reader(fd)())

    def wake_if_new(self) -> None:
        """Have the one who listens look up if there is a source that it does not know of."""
        if any(fd not in self._readers for fd in self._sources.filenos()):
            self.wake()

    def wake(self) -> None:
        """Have the one who listens look up: there is something to do, or another source."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")
