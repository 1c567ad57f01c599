"""One queue served within another program: the daemon's thread and workers, without its process.

The program's other parts stay as they are: no signal is taken, no child process is reaped, no limit
is raised, the garbage collector is left alone. `daemon.loop` does these for `watcher run`.
Guarantees: as the daemon: a directory is watched before it is scanned, an entry is in one worker's
hands, `.status` says what this process does. While nothing happens no thread wakes but for sweeps.
After `close` there is no thread, no descriptor and no process directory of this queue.
Fails: never once it runs; `trouble` says what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable

from watcher.arrive.sources import Sources
from watcher.config.queue_settings import Queue
from watcher.daemon.canary import EventDelivery
from watcher.daemon.event_reader import EventReader
from watcher.daemon.queue_worker import QueueWorker
from watcher.daemon.ready import Item, Ready
from watcher.daemon.rounds import Rounds
from watcher.daemon.worker_loop import Context, Made, WorkerLoop
from watcher.handle.hand_over import HandOver
from watcher.observe import log
from watcher.rules.age import SystemClock
from watcher.rules.behind import Mode
from watcher.rules.results import AttemptResult

_TAG = 1
LONGEST_WAIT = 86_400.0  # seconds; poll(2) takes no more than an int's worth of milliseconds


class HandingLoop(WorkerLoop):
    """Tells what became of an entry to the program that had it."""

    hand_over: HandOver  # set before a thread starts

    def attempt_safely(self, item: Item, make: Callable[..., Made]) -> Made | AttemptResult:
        """Make an attempt as every worker does."""
        report = super().attempt_safely(item, make)
        if isinstance(report, AttemptResult):
            self.hand_over.settled(report)
        return report


class HandingWorker(QueueWorker):
    """A queue worker whose entries are handed over to the program."""

    def __init__(self, settings: Queue, context: Context) -> None:
        self.hand_over = HandOver(self._limit)
        super().__init__(_TAG, settings, self.hand_over, context)
        assert isinstance(self.loop, HandingLoop)  # noqa: S101 - by `loop_class`
        self.loop.hand_over = self.hand_over
        self.pending.limit_in_hand(0)  # no taker waits yet

    def _limit(self, most: int) -> None:
        self.pending.limit_in_hand(most)

    def loop_class(self) -> type[WorkerLoop]:
        """Return what the worker threads run."""
        return HandingLoop


class _Reader(EventReader):
    """Calls `on_idle` when a worker has nothing to do, and `linger` if entries are ready then."""

    def __init__(self, sources: Sources, wake_daemon: Callable[[], None]) -> None:
        super().__init__(sources, wake_daemon)
        self.on_idle: Callable[[], None] = _nothing
        self.linger: Callable[[], None] = _nothing

    def wait(self, ready: Ready, seconds: float | None = None) -> None:
        """Wait as every worker does."""
        self.on_idle()
        if len(ready):
            self.linger()
        super().wait(ready, seconds)


def _nothing() -> None:
    """Do nothing."""


class EmbeddedQueue:
    """A queue at work in this process. `wait`: a taker waits for entries that are still to come."""

    def __init__(self, settings: Queue, *, wait: bool = True) -> None:
        self.settings = settings
        self.waits = wait
        self._ending = False
        self._failed = ""  # an error in this program ended the thread
        self._clock = SystemClock()
        self._sources = Sources()
        self._reader = _Reader(self._sources, self.wake)
        if not wait:
            self._reader.on_idle = self.look_for_takers
        self._rounds = Rounds()
        self._poll = select.poll()
        self._waking = threading.RLock()  # for `_wake_write`; reentrant for a signal handler
        self._wake_write: int | None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_read, select.POLLIN)
        self._registered: set[int] = set()
        delivery = EventDelivery(self._sources, self._reader)
        context = Context(self._sources, self._reader, self._clock, self._wake_for, delivery)
        self.worker = HandingWorker(settings, context)
        routes = (self.worker.on_events,)
        self._reader.replace_routes({_TAG: routes, None: routes})
        self.hand_over = self.worker.hand_over
        self._reader.linger = self.hand_over.linger
        self._thread = threading.Thread(
            target=self._run, name=f"watcher {settings.name}", daemon=True
        )

    @property
    def trouble(self) -> str:
        """What is wrong with the queue now, in one line; "" if nothing is."""
        if self._failed:
            return self._failed
        health = self.worker.health
        return "" if health else str(health)

    @property
    def scanned(self) -> bool:
        """Whether the directory was read as a whole, and every event since was kept."""
        return self.worker.pending.mode is Mode.CURRENT

    def cannot_scan(self) -> bool:
        """Whether the directory cannot be read now."""
        worker = self.worker
        lost = worker.detector.spool is None and bool(worker.health.troubles)
        return lost or (not self.scanned and worker.health.has("scan"))

    def start(self) -> None:
        """Start the queue's thread, which starts the workers; raises RuntimeError if refused."""
        self._thread.start()

    def wake(self) -> None:
        """Have the queue's thread look around; any thread and a signal handler may call it."""
        with self._waking, contextlib.suppress(BlockingIOError):
            if self._wake_write is not None:
                os.write(self._wake_write, b"w")

    def look_for_takers(self) -> None:
        """Have a taker that does not wait for entries to come told if there is none."""
        pending = self.worker.pending
        if not self.waits and self.hand_over.wanted and (pending.held or not len(pending)):
            self.wake()  # else a worker takes one of those that are ready, and calls this again

    def _wake_for(self, tag: int) -> None:
        self._rounds.ask(tag)
        self.wake()

    def stop(self) -> None:
        """Hand over no more entries; any thread and a signal handler may call it."""
        self.hand_over.end()
        self.wake()

    def close(self) -> None:
        """Stop, give back what has no word yet, and wait until every thread has ended."""
        self.stop()
        self._ending = True
        self.hand_over.terminate()
        self.wake()
        self._thread.join()

    def descriptors(self) -> list[int]:
        """Return the open descriptors that no path in the queue leads to."""
        own = [fd for fd in (self._wake_read, self._wake_write) if fd is not None]
        return own + self._reader.descriptors() + self._sources.filenos()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ending:
                due = self._rounds.tick([self.worker], self._now())
                self._look_for_takers()
                self._wait(due)
                log.tick()
        except Exception as error:  # noqa: BLE001 - a bug of ours: takers must not wait for ever
            log.log.exception("bug")
            self._failed = f"watcher stopped serving the queue: {type(error).__name__}: {error}"
            self.hand_over.end()
        self._drain()

    def _look_for_takers(self) -> None:
        """Give None to takers that do not wait for entries to come, if none is there."""
        if self.hand_over.ended or (self.hand_over.wanted and not self.waits and self._has_none()):
            self.hand_over.give_none()
            self.hand_over.set_limit()

    def _has_none(self) -> bool:
        pending = self.worker.pending
        if self.cannot_scan():
            return True
        if not self.scanned:
            return False
        if pending.held:
            return True
        claiming = len(pending.working()) > len(self.hand_over.without_word())
        return not (len(pending) or claiming)

    def _now(self) -> float:
        return self._clock.mono() / 1e9

    def _wait(self, due: float) -> None:
        seconds = max(0.0, min(LONGEST_WAIT, due - self._now()))
        descriptors, soon = self._reader.arrange(looks_soon=seconds <= 1.0)
        if soon is not None:
            seconds = min(seconds, soon)
        self._register(set(descriptors))
        for fd, _events in self._poll.poll(round(seconds * 1000 + 0.5)):
            if fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            else:
                self._reader.read(fd)

    def _register(self, descriptors: set[int]) -> None:
        for fd in self._registered - descriptors:
            self._poll.unregister(fd)
        for fd in descriptors - self._registered:
            self._poll.register(fd, select.POLLIN)
        self._registered = descriptors

    def _drain(self) -> None:
        self.worker.end()
        while not self.worker.wait_drained(0.5):
            if self._ending:
                self.hand_over.terminate()  # what was handed over meanwhile
        log.end()
        self._sources.close()
        self._reader.close()
        with self._waking:
            ends, self._wake_write = (self._wake_read, self._wake_write), None
        for fd in ends:
            if fd is not None:
                os.close(fd)
