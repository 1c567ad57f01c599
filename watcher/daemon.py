"""The loop: wait for hints, signals and moments; pass each on to the queue it is for.

Guarantees: everything is armed before it is scanned; TERM and INT drain (what is in hand is
finished, nothing new is begun), a second one stops at once and leaves claims to the kernel.
Fails: never once running; see `Notice` for a queue whose directory does.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from operator import itemgetter
from types import FrameType

from watcher.age import SystemClock
from watcher.arrive.source import Hint
from watcher.arrive.sources import Sources
from watcher.claim.lease import ignore_sigio
from watcher.config import Queue
from watcher.errors import WatcherError, counted
from watcher.handle.outcome import Handler
from watcher.listen import Listener
from watcher.runner import Around, Runner
from watcher.telemetry import log

Load = Callable[[Queue], Handler]
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
STOPPED_AT_ONCE = os.EX_TEMPFAIL
LONGEST_WAIT = 86_400_000  # milliseconds; poll(2) takes no more than an int's worth, 25 days


class Daemon:
    """A process that serves queues until it is told to stop."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._runners: dict[str, Runner] = {}
        self._by_tag: dict[int, Runner] = {}
        self._leaving: list[Runner] = []
        self._sources = Sources()
        self._listener = Listener(self._sources, self._hear, self._wake)
        self._next_tag = 0
        self._clock = SystemClock()
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_read, select.POLLIN)
        self._registered: set[int] = set()  # sources that we wait for ourselves
        self._pending: list[int] = []
        self._stop_asked = 0

    # -- queues -------------------------------------------------------------------------------

    def serve(self, queues: Mapping[str, Queue]) -> None:
        """Make these the queues that are served; one that stays as it was is not disturbed.

        Raises BadConfiguration when a handler cannot be had; nothing has changed then.
        """
        changed = {
            name: settings
            for name, settings in queues.items()
            if name not in self._runners or self._runners[name].settings != settings
        }
        handlers = {name: self._load(settings) for name, settings in changed.items()}
        for name in [name for name in self._runners if name in changed or name not in queues]:
            runner = self._runners.pop(name)
            runner.drain()
            del self._by_tag[runner.notice.tag]
            self._leaving.append(runner)
        for name, settings in changed.items():
            self._add(settings, handlers[name])

    def _add(self, settings: Queue, handler: Handler) -> None:
        self._next_tag += 1
        around = Around(self._sources, self._listener, self._clock, self._wake)
        runner = Runner(self._next_tag, settings, handler, around)
        self._runners[settings.name] = runner
        self._by_tag[self._next_tag] = runner
        runner.start()

    # -- the loop -----------------------------------------------------------------------------

    def run(self, reload: Callable[[], Mapping[str, Queue]]) -> int:
        """Serve until told to stop; return the exit code. `reload` answers SIGHUP."""
        self._take_signals()
        gc.freeze()  # what is there now stays: no collection need look at it again
        while not self._stop_asked:
            due = min((runner.tick() for runner in self._runners.values()), default=None)
            self._wait(due)
            self._leaving = [runner for runner in self._leaving if not runner.drained()]
            self._answer_signals(reload)
        return self._drain()

    def _wait(self, due: float | None) -> None:
        """Wait for a signal or a worker's call, until the moment `due` at the latest."""
        wait = float(LONGEST_WAIT)
        if due is not None:
            wait = min(wait, max(0, round((due - self._clock.mono() / 1e9) * 1000 + 0.5)))
        sources, soon = self._listener.stand_in()
        if soon is not None:
            wait = min(wait, soon * 1000)
        self._register(sources)
        for fd, _events in self._poll.poll(wait):
            if fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            else:
                self._listener.hear(fd)

    def _register(self, sources: list[int]) -> None:
        for fd in self._registered.difference(sources):
            self._poll.unregister(fd)
        for fd in set(sources) - self._registered:
            self._poll.register(fd, select.POLLIN)
        self._registered = set(sources)

    def _hear(self, hints: list[Hint]) -> None:
        """Pass hints on to the queues they are for; called by the worker that listens."""
        for tag, of_one in itertools.groupby(hints, key=itemgetter(0)):
            some = list(of_one)
            if tag is None:
                for runner in list(self._runners.values()):
                    runner.hear(some)
            elif (one := self._by_tag.get(tag)) is not None:
                one.hear(some)

    def _wake(self) -> None:
        """Make `_wait` return; called by the workers' threads."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    # -- signals ------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        ignore_sigio()
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop_asked += 1
            if self._stop_asked > 1:
                self._stop_at_once()
        else:
            self._pending.append(number)

    def _answer_signals(self, reload: Callable[[], Mapping[str, Queue]]) -> None:
        while self._pending:
            number = self._pending.pop(0)
            if number == signal.SIGHUP:
                self._reload(reload)
            for runner in self._runners.values():
                if number == signal.SIGUSR1:
                    log.event(runner.settings.name, "status", runner.status())
                elif number == signal.SIGUSR2:
                    runner.notice.sweep_now()

    def _reload(self, reload: Callable[[], Mapping[str, Queue]]) -> None:
        try:
            self.serve(reload())
        except WatcherError as error:
            log.event("", "not reloaded", f"{error}; going on as before")
        else:
            log.event("", "reloaded", counted(len(self._runners), "queue", "queues"))

    def _drain(self) -> int:
        runners = [*self._runners.values(), *self._leaving]
        in_hand = sum(len(runner.intake.ready.working()) for runner in runners)
        entries = counted(in_hand, "entry", "entries")
        log.event("", "draining", f"{entries} in hand; a second signal stops at once")
        began = time.monotonic()
        for runner in runners:
            runner.drain()
        for runner in runners:
            while not runner.wait_drained(0.5):  # in slices, so that a signal is heard
                pass
        for runner in self._runners.values():
            log.event(runner.settings.name, "stopped", runner.status())
        log.event("", "drained", f"in {time.monotonic() - began:.1f} s")
        self._sources.close()
        return os.EX_OK

    def _stop_at_once(self) -> None:
        """Leave now. The kernel frees the claims; running commands are told to end."""
        for runner in [*self._runners.values(), *self._leaving]:
            runner.forget_in_hand()
            runner.handler.abandon()
        log.last_words(b"watcher: stopped at once; entries in hand will be handled again\n")
        os._exit(STOPPED_AT_ONCE)
