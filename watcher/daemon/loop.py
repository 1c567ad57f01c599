"""The loop of the daemon's thread: wait for signals and moments, and tick each queue.

Guarantees: a directory is watched before it is scanned. TERM and INT drain: entries in hand are
finished, and no other is begun. A second signal stops the process at once; the kernel ends its
claims.
Fails: never once it runs; see `Detector` for a queue whose directory fails.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import operator
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

from watcher.arrive.sources import Sources
from watcher.config.queue_settings import Queue
from watcher.daemon.canary import EventDelivery
from watcher.daemon.descriptors import make_room
from watcher.daemon.directories import Directories
from watcher.daemon.event_reader import EventReader, Routes
from watcher.daemon.queue_worker import QueueWorker
from watcher.daemon.rounds import Rounds
from watcher.daemon.service_manager import ServiceManager
from watcher.daemon.status_writer import EVERY
from watcher.daemon.web_process import WebProcess
from watcher.daemon.worker_loop import Context
from watcher.errors import BadConfiguration, WatcherError, counted
from watcher.handle.adopted_children import Orphans
from watcher.handle.handler import Handler
from watcher.inspect.counts import tally
from watcher.inspect.neighbours import warning_for
from watcher.observe import log
from watcher.rules.age import SystemClock
from watcher.rules.names import display
from watcher.rules.service_messages import status_line
from watcher.spool.lease import ignore_sigio
from watcher.spool.spool import Spool

Load = Callable[[Queue], Handler]
LEAVING_LOOK = 0.5  # seconds: the last thread of a dropped queue cannot tell that it has ended
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
STOPPED_AT_ONCE = os.EX_TEMPFAIL
LONGEST_UNAWARE = 1000 * EVERY  # milliseconds; after a longer wait the next entry wakes the thread
LONGEST_WAIT = 86_400_000  # milliseconds; poll(2) takes no more than an int's worth, 25 days


class Daemon:
    """A process that serves queues until it is told to stop."""

    def __init__(
        self, load: Load, service: ServiceManager | None = None, page: WebProcess | None = None
    ) -> None:
        self._load = load
        self._service = ServiceManager() if service is None else service
        self._page = page
        self._told_of_page = ""  # what is wrong with it, as the health of the queues says
        self._workers: dict[str, QueueWorker] = {}  # by queue name
        self._leaving: list[QueueWorker] = []  # they finish what they have in hand
        self._sources = Sources()
        self._reader = EventReader(self._sources, self._wake)
        self._delivery = EventDelivery(self._sources, self._reader)
        self._next_tag = 0
        self._clock = SystemClock()
        self._rounds = Rounds()
        self._directories = Directories(self._sources, self._clock)
        self._shared: dict[str, tuple[Queue, Handler]] = {}  # of the patterns, by their name
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_read, select.POLLIN)
        self._registered: set[int] = set()  # descriptors of the event reader in `_poll`
        self._pending: list[int] = []
        self._stop_asked = 0
        self._orphans = Orphans()

    # -- queues -------------------------------------------------------------------------------

    def serve(self, queues: Mapping[str, Queue]) -> None:
        """Serve these queues from now on; a queue whose settings are the same is not disturbed.

        A queue whose settings changed is handed over: its new worker takes the watch and the names
        that wait before the old one stops, and the old one finishes what it has in hand.
        Raises BadConfiguration if a handler cannot be loaded, or if a queue would have another
        state directory; then nothing has changed.
        """
        self._refuse_another_state_dir(queues)
        known = {name: worker.settings for name, worker in self._workers.items()}
        known |= {name: settings for name, (settings, _handler) in self._shared.items()}
        changed = {name: one for name, one in queues.items() if known.get(name) != one}
        handlers = {name: self._load_handler(settings) for name, settings in changed.items()}
        templates = {name: settings for name, settings in queues.items() if settings.many}
        self._shared = {
            name: (settings, handlers[name] if name in handlers else self._shared[name][1])
            for name, settings in templates.items()
        }
        _tell_endless(changed, known)
        self._directories.configure(queues)
        self._serve_directories(handlers)

    def _load_handler(self, settings: Queue) -> Handler:
        handler = self._load(settings)  # an import may take long
        self._service.step(self._now())
        return handler

    def _refuse_another_state_dir(self, queues: Mapping[str, Queue]) -> None:
        """Raise if a queue that is served would leave its entries in the directory before."""
        by_path = {settings.path: settings for settings in queues.values()}
        for worker in self._workers.values():
            old = worker.settings
            new = by_path.get(old.path) or queues.get(old.template)
            if worker.detector.spool is None or new is None or new.state_dir == old.state_dir:
                continue
            there = ".watcher/" if old.outside is None else display(old.outside.path)
            raise BadConfiguration(
                f"{new.origin}state_dir: a reload cannot change it, because entries may lie in"
                f" {there}: stop the daemon, move that directory, and start the daemon again"
            )

    def _serve_directories(self, handlers: Mapping[str, Handler]) -> None:
        """Serve one queue for each directory; `handlers` are those of plain paths that changed."""
        queues = self._directories.look()
        for name in [name for name in self._workers if name not in queues]:
            worker = self._workers.pop(name)
            if worker.settings.template in self._shared:
                entries = counted(len(worker.pending.working()), "entry", "entries")
                log.event(name, "gone", f"the directory is not there any more; {entries} in hand")
            self._part_with(worker)
        workers = self._workers
        batches = [getattr(each.handler, "batch", None) or 0 for each in queues.values()]
        concurrency = [each.concurrency for each in queues.values()]
        make_room(len(queues), sum(map(operator.mul, batches, concurrency)))
        for name, settings in queues.items():
            if name not in workers or workers[name].settings != settings:
                template = self._shared.get(settings.template)
                handler = handlers[name] if template is None else template[1]
                self._add(settings, handler, workers.get(name))
        self._route_events()
        if self._page is not None:
            self._page.serve_queues(queues.values())

    def _add(self, settings: Queue, handler: Handler, before: QueueWorker | None) -> None:
        self._next_tag += 1
        if words := warning_for(os.fsencode(settings.path), settings.layout):
            log.event(settings.name, "mind", words, logging.WARNING)
        context = Context(self._sources, self._reader, self._clock, self._wake_for, self._delivery)
        worker = _class_for(settings)(self._next_tag, settings, handler, context)
        # First: `take_over` gives the watch the new worker's tag.
        self._reader.routes = {**self._reader.routes, worker.tag: (worker.on_events,)}
        if before is not None:
            worker.take_over(before)
            self._part_with(before)
        else:
            worker.stand_beside(self._leaving)
        self._workers[settings.name] = worker
        worker.start()

    def _part_with(self, worker: QueueWorker) -> None:
        """Have a worker begin no entry any more; it stays until its threads have ended."""
        worker.leave()
        self._leaving.append(worker)

    def _look_at_leaving(self) -> float:
        """Return the moment of the next look whether the threads of a dropped queue have ended."""
        return self._now() + LEAVING_LOOK if self._leaving else math.inf

    def _forget_drained(self) -> None:
        drained = [worker for worker in self._leaving if worker.drained()]
        if drained:
            self._leaving = [worker for worker in self._leaving if worker not in drained]
            self._route_events()

    def _route_events(self) -> None:
        """Set which worker is given which events: those without a tag go to every queue served."""
        serving = list(self._workers.values())
        routes: Routes = {one.tag: (one.on_events,) for one in (*self._leaving, *serving)}
        self._reader.replace_routes({**routes, None: [one.on_events for one in serving]})

    # -- the loop -----------------------------------------------------------------------------

    def run(self, reload: Callable[[], Mapping[str, Queue]], asked: Sequence[int] = ()) -> int:
        """Serve until a signal ends it; return the exit code. SIGHUP calls `reload`.

        `asked` are signals that came before; one that is appended during this call counts too.
        """
        self._take_signals()
        for number in asked:
            self._on_signal(number, None)
        if self._pending:
            self._wake()  # as the kernel does for a signal that comes from now on
        gc.freeze()  # these objects stay: no collection has to look at them again
        while not self._stop_asked:
            if self._directories.due() <= self._now():
                self._serve_directories({})
            due = self._rounds.tick(self._workers.values(), self._now())
            due = min(due, self._service.tick(self._now(), self._pass_locks, self._status_line))
            missing = (one.settings.template for one in self._workers.values() if one.missing())
            self._directories.look_soon(filter(None, missing))
            due = min(due, self._directories.due(), self._reap(), self._look_at_leaving())
            self._wait(min(due, self._look_at_page()))
            self._forget_drained()
            log.tick()
            self._answer_signals(reload)
        return self._drain()

    def _now(self) -> float:
        return self._clock.mono() / 1e9

    def _reap(self) -> float:
        return self._orphans.reap(self._now())

    def _pass_locks(self) -> None:
        """Take and release the locks that workers need: no watchdog's message while one is kept."""
        self._reader.pass_locks()
        for worker in self._workers.values():
            worker.pass_locks()

    def _status_line(self) -> str:
        return status_line(worker.state() for worker in (*self._workers.values(), *self._leaving))

    def _look_at_page(self) -> float:
        """Look after the process of the page; return the moment of the next look."""
        if self._page is None or not self._page.active:
            return math.inf
        due = self._page.tick(self._now())
        if self._page.trouble or self._told_of_page:
            self._told_of_page = self._page.trouble
            for worker in self._workers.values():
                if worker.health.troubles.get("page", "") != self._page.trouble:
                    worker.health.quietly("page", self._page.trouble or None)
        return due

    def _wait(self, due: float) -> None:
        """Wait for a signal or for `_wake`, until the moment `due` at the latest."""
        wait = float(LONGEST_WAIT)
        if due < math.inf:
            wait = min(wait, max(0, round((due - self._now()) * 1000 + 0.5)))
        descriptors, seconds = self._reader.arrange(looks_soon=wait <= LONGEST_UNAWARE)
        if seconds is not None:
            wait = min(wait, seconds * 1000)
        if self._page is not None:
            descriptors = descriptors + self._page.filenos()
        self._register(descriptors + self._directories.filenos())
        for fd, _events in self._poll.poll(wait):
            if fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            elif fd in self._directories.filenos():
                self._directories.read()
            elif self._page is None or fd not in self._page.filenos():  # `tick` looks at that
                self._reader.read(fd)

    def _register(self, descriptors: list[int]) -> None:
        for fd in self._registered.difference(descriptors):
            self._poll.unregister(fd)
        for fd in set(descriptors) - self._registered:
            self._poll.register(fd, select.POLLIN)
        self._registered = set(descriptors)

    def _wake(self) -> None:
        """Make `_wait` return; any thread may call it."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    def _wake_for(self, tag: int) -> None:
        """Make `_wait` return, and have this queue ticked; any thread may call it."""
        self._rounds.ask(tag)
        self._wake()

    # -- signals ------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        ignore_sigio()
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        self._orphans.listen()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop_asked += 1
            if self._stop_asked > 1:
                self._stop_at_once()
        else:
            self._pending.append(number)

    def _answer_signals(self, reload: Callable[[], Mapping[str, Queue]]) -> None:
        """Answer the signals that came until now, each kind once.

        A signal that comes meanwhile is answered in the next round. A status takes time, and a
        process that asks for it all the time must not keep the daemon from its work or its end.
        """
        pending, self._pending = self._pending, []
        for number in dict.fromkeys(pending):
            if number == signal.SIGHUP:
                self._reload(reload)
            elif number == signal.SIGUSR1:
                self._directories.log_status()
            for worker in self._workers.values():
                if number == signal.SIGUSR1:
                    log.event(worker.settings.name, "status", _status(worker))
                elif number == signal.SIGUSR2:
                    worker.sweep_now()
                    self._rounds.ask(worker.tag)

    def _reload(self, reload: Callable[[], Mapping[str, Queue]]) -> None:
        self._service.reloading()
        page = contextlib.nullcontext() if self._page is None else self._page.reloading()
        try:
            with page:
                self.serve(reload())
        except WatcherError as error:
            log.event("", "not reloaded", f"{error}; going on as before", logging.ERROR)
            at = time.strftime("%Y-%m-%d %H:%M:%S")
            failed: str | None = f"the configuration was not reloaded at {at}: {error}"
        else:
            log.event("", "reloaded", counted(len(self._workers), "queue", "queues"))
            failed = None
        for worker in self._workers.values():
            worker.health.quietly("reload", failed)
            worker.try_now()

    def _drain(self) -> int:
        workers = [*self._workers.values(), *self._leaving]
        in_hand = sum(len(worker.pending.working()) for worker in workers)
        entries = counted(in_hand, "entry", "entries")
        self._service.stopping(f"draining: {entries} in hand")
        log.event("", "draining", f"{entries} in hand; a second signal stops at once")
        began = time.monotonic()
        for worker in workers:
            worker.end()
        for worker in workers:
            while not worker.wait_drained(0.5):  # in slices, so that a signal is handled
                self._reap()
                running = (one for other in workers for one in other.running())
                self._service.draining(self._now(), running)
        log.end()
        for worker in self._workers.values():
            log.event(worker.settings.name, "stopped", _status(worker))
        if self._page is not None:
            self._page.close()
        log.event("", "drained", f"in {time.monotonic() - began:.1f} s")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            # The interpreter's end would restore the default, which kills.
            signal.signal(number, signal.SIG_IGN)
        self._sources.close()
        self._directories.close()
        self._service.close()
        return os.EX_OK

    def _stop_at_once(self) -> None:
        """Exit now. The kernel ends the claims; running commands get a signal."""
        for worker in [*self._workers.values(), *self._leaving]:
            worker.forget_in_hand()
            worker.handler.terminate()
        log.last_event("stopped at once", "entries in hand will be handled again")
        os._exit(STOPPED_AT_ONCE)


def _tell_endless(queues: Mapping[str, Queue], before: Mapping[str, Queue]) -> None:
    """Log, once a queue, that an attempt may last without end; not again at a reload."""
    for name, settings in queues.items():
        words = _endless(settings)
        if words and (name not in before or not _endless(before[name])):
            log.event(name, "no timeout", words)


def _endless(settings: Queue) -> str:
    return "" if settings.handler is None else settings.handler.endless()


def _status(worker: QueueWorker) -> str:
    """Return the status of a queue; its numbers are those of the directory at its path now."""
    pending = worker.pending
    waits = pending.timers.__contains__ if len(pending.timers) else None
    try:
        path, outside = os.fsencode(worker.settings.path), worker.settings.outside
        spool = Spool(path, pending.layout, outside=outside)
        holds = str(tally(spool, pending.working(), waits))
    except (OSError, WatcherError) as error:
        holds = f"its entries cannot be counted: {error}"
    return worker.status(holds)


def _class_for(settings: Queue) -> type[QueueWorker]:
    """Return what serves a queue; the part for streams is imported where it is used."""
    if settings.messages is None:
        return QueueWorker
    from watcher.daemon.message_worker import MessageWorker

    return MessageWorker
