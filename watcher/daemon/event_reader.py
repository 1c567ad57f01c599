"""Which thread waits for events: leader and followers.

To pass an event from one thread to another costs two switches of threads, some 100 microseconds in
Python. So a worker that is idle becomes the leader: it waits for events, and handles an entry that
it reads of itself. Before that it makes another idle worker the leader, if there is one. The states
of a worker:

    following --nudge--> leading --events--> working --no entry left--> leading, or following
        |                                       ^                       if another thread leads
        +------------- an entry to take --------+

While every worker works there is no leader. Then a worker reads the pending events between two
entries, at most every `OFTEN` seconds. If no worker began an entry for `SOON` seconds, the daemon's
thread leads, until a worker is idle. An event has to be read soon after the kernel made it: it says
that the file was complete at that moment, and not what was done to it since (`claim.take`).

Guarantees: one thread reads at a time, and passes on what it read before the next thread reads. So
a queue gets its events in the kernel's order. An event waits for a reader for little more than
`SOON`.
While nothing happens no thread wakes. After a lone entry the worker wakes once, for the event, and
the daemon's thread once, to see whether the worker is idle again and to publish its status.
Fails: never.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

from watcher.arrive.source import Event
from watcher.arrive.sources import Sources
from watcher.daemon.alarm import Alarm
from watcher.daemon.ready import Ready

OFTEN = 0.005  # seconds between two reads by workers that have one entry after the other
SOON = 0.02  # seconds after which the daemon's thread looks whether a worker waits for events

OnEvents = Callable[[Sequence[Event]], None]
Routes = Mapping[int | None, Sequence[OnEvents]]


class EventReader:
    """Reads the events of all queues of a process, in one of its threads at a time."""

    def __init__(self, sources: Sources, wake_daemon: Callable[[], None]) -> None:
        # The queue workers by tag. The daemon's thread replaces the whole mapping.
        self.routes: Routes = {}
        self._sources = sources
        self._wake_daemon = wake_daemon
        self._leader = threading.Lock()  # held by the thread that waits for events or reads them
        self._passing = threading.Lock()  # held from a read of events until all are passed on
        self._counting = threading.Lock()  # for the next six
        self._idle: dict[Ready, int] = {}  # how many workers of each queue have nothing to do
        self._begun = 0  # entries that workers began
        self._begun_before = 0  # the same at the last look of the daemon's thread, or the alarm
        self._alarm: Alarm | None = None
        self._daemon_sleeps = False  # the daemon's thread will not look by itself
        self._daemon_unaware = False  # the same, and has to tell people what is in hand
        self._daemon_leads = False  # its own: it holds `_leader`
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_read, select.POLLIN)
        # How to read what is registered in `_poll`, by descriptor.
        self._readers: dict[int, Callable[[], Sequence[Event]]] = {self._wake_read: self._read_wake}
        self._complete = False  # whether every source is registered
        self._read_at = 0.0  # when events were read last (monotonic)

    # -- the workers' side --------------------------------------------------------------------

    def wait(self, ready: Ready, seconds: float | None = None) -> None:
        """Wait until there may be an entry for this worker: as the leader, or as a follower.

        `seconds` is the longest wait; None: without end.
        """
        with self._counting:
            self._idle[ready] = self._idle.get(ready, 0) + 1
        try:
            if not self._leader.acquire(blocking=False):
                if self._daemon_leads:
                    self._wake_daemon()  # it lets a worker lead
                ready.wait(seconds)
                return
            try:
                if not ready.begin_leading(self.wake):
                    return
                if not self._complete:
                    self._register()
                readable = self._poll.poll(None if seconds is None else seconds * 1000)
                self._read_at = time.monotonic()
                ready.wake_leader = None
                for fd, _events in readable:
                    self._pass_on(self._readers[fd])
            finally:
                self._leader.release()
        finally:
            with self._counting:
                if self._idle[ready] > 1:
                    self._idle[ready] -= 1
                else:
                    del self._idle[ready]

    def begin_work(self) -> None:
        """See that a thread leads while this worker works; a worker calls it before each entry."""
        with self._counting:
            self._begun += 1
            follower = next(iter(self._idle), None)
            look = self._daemon_unaware or (follower is None and self._daemon_sleeps)
            if look:
                self._daemon_sleeps = self._daemon_unaware = False
                self._begun_before = self._begun
        if follower is not None:
            if not self._leader.locked():
                follower.nudge()
        elif time.monotonic() - self._read_at > OFTEN:
            self._read_now()
        if look and (self._alarm is None or self._alarm.set() != 0):
            self._wake_daemon()

    def _read_now(self) -> None:
        """Read the events that are pending, unless another thread leads."""
        if self._leader.acquire(blocking=False):
            try:
                for read in self._readers.values():
                    self._pass_on(read)
                self._read_at = time.monotonic()
            finally:
                self._leader.release()

    def _read_wake(self) -> Sequence[Event]:
        """Clear what `wake` wrote."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        return ()

    def _pass_on(self, read: Callable[[], Sequence[Event]]) -> None:
        """Read events, and give each queue its own, before another thread reads the next ones."""
        with self._passing:
            for tag, of_one_queue in itertools.groupby(read(), key=itemgetter(0)):
                batch = list(of_one_queue)
                for on_events in self.routes.get(tag, ()):
                    on_events(batch)

    def read_all(self) -> None:
        """Pass on every event that the kernel has queued by now, also while another thread leads.

        A worker calls this after it was granted a lease, with no lock of a queue held.
        """
        self._pass_on(self._sources.read_all)

    def pass_on(self, event: Event) -> None:
        """Pass on an event that no source reports; with no lock of a queue held."""
        self._pass_on(lambda: [event])

    def _register(self) -> None:
        """Have every source in the leader's poll(2); the caller leads."""
        self._complete = True  # first: a source that comes meanwhile sets it to False again
        for fd in self._sources.filenos():
            if fd not in self._readers:
                self._readers[fd] = self._sources.reader(fd)
                self._poll.register(fd, select.POLLIN)

    # -- the side of the daemon's thread ------------------------------------------------------

    def arrange(self, *, looks_soon: bool = True) -> tuple[list[int], float | None]:
        """See that a thread waits for events, or will soon; the daemon's thread calls this.

        `looks_soon`: it wakes within a second in any case. Else the next entry wakes it after
        `SOON`, so that the status of the daemon says what is in hand (`daemon.status_writer`).
        Returns the descriptors that the daemon's thread has to wait for besides its own, and the
        seconds until it must call again (None: when it wakes for another reason).
        """
        if self._alarm is None:
            self._alarm = Alarm(SOON)
        with self._counting:
            busy, begun = not self._idle, self._begun != self._begun_before
            stuck = busy and not begun
            self._begun_before = self._begun
            self._daemon_sleeps = not busy
            self._daemon_unaware = not looks_soon and (stuck or not busy)
            follower = next(iter(self._idle), None)
        if follower is not None and self._daemon_leads:
            self._daemon_leads = False
            self._leader.release()
            follower.nudge()
        elif stuck and not self._daemon_leads:
            self._daemon_leads = True  # first: a worker that finds no leader's place wakes us
            self._daemon_leads = self._leader.acquire(blocking=False)
        own = [] if self._alarm.fd is None else [self._alarm.fd]
        unseen = SOON if begun and not looks_soon else None  # an entry that began since the ticks
        if self._daemon_leads:
            return own + self._sources.filenos(), unseen
        return own, SOON if busy else unseen

    def pass_locks(self) -> None:
        """Take and release the locks that every worker needs (`service_manager`)."""
        with self._passing:
            pass
        with self._counting:
            pass

    def read(self, fd: int) -> None:
        """Read one of the descriptors that `arrange` gave, and pass its events on."""
        if self._alarm is not None and fd == self._alarm.fd:
            self._alarm.clear()
        else:
            self._pass_on(self._sources.reader(fd))

    def replace_routes(self, routes: Routes) -> None:
        """Replace the routes once the events that were read before are passed on.

        A thread that has just read events of a queue worker may not have looked up its route yet.
        """
        with self._passing:
            self.routes = routes

    def look_for_sources(self) -> None:
        """Wake the leader if there is a source that its poll(2) does not have."""
        if any(fd not in self._readers for fd in self._sources.filenos()):
            self._complete = False
            self.wake()

    def wake(self) -> None:
        """Have the leader return from its wait: there is an entry to take, or another source."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    def descriptors(self) -> list[int]:
        """Return the descriptors that are its own; the sources have others."""
        alarm = None if self._alarm is None else self._alarm.fd
        return [self._wake_read, self._wake_write, *([] if alarm is None else [alarm])]

    def close(self) -> None:
        """Close its descriptors; no other thread uses them any more."""
        for fd in self.descriptors():
            os.close(fd)
