"""Looks at each queue again and again, and keeps what it saw for the requests.

A queue is looked at every `IDLE` seconds, and every `WATCHED` ones while a client asks. Looking at
a queue of a million entries takes seconds, so the next look comes not before `REST` times as long
as the last one took. Between two looks this thread rests `SHARE` times as long as it computed: many
queues take a tenth of a core at most, and a twentieth while no client asks. After the first look at
a queue it rests `FIRST_SHARE` times as long only. /proc/locks has a line for each claim and daemon
of the machine: it is read once for all looks within a second.

Guarantees: a request waits for no look. Nothing in a queue is made or changed.
Fails: never; a queue that cannot be read has a snapshot that says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from watcher.claim.holders import holders
from watcher.config.open_queue import open_spool
from watcher.config.queue_settings import Queue
from watcher.errors import WatcherError, one_line
from watcher.inspect.queue_status import queue_status
from watcher.rules.condition import Limits
from watcher.rules.names import display
from watcher.web.snapshot import POINTS, Past, QueueSnapshot

WATCHED = 1.0  # seconds between two looks at a queue while a client asks
IDLE = 10.0  # seconds, while none does
ASKED_LATELY = 5.0  # seconds after a request in which a client counts as watching
REST = 50  # times as long as a look took, until the next one at the same queue
SHARE, IDLE_SHARE = 9, 19  # times as long as a look computed, until the next one at any queue
FIRST_SHARE = 1
LONGEST_SLEEP = 3600.0
MOST_POINTS = 400_000  # of all queues, 32 bytes each
FEWEST_POINTS = 60


class WatchedQueue:
    """One queue: its settings, what was seen last, and before; `next_look` is monotonic."""

    def __init__(self, settings: Queue, points: int) -> None:
        self.settings = settings
        self.past = Past(points)
        self.snapshot = QueueSnapshot(one_line(settings.name), _shown(settings))
        self.looked = float("-inf")
        self.took = 0.0

    def due(self, every: float) -> float:
        """Return the moment of the next look."""
        return self.looked + max(every, REST * self.took)


class Sampler:
    """The queues of a daemon. One thread calls `run`; any thread reads."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._computed = computed
        self._queues: dict[str, WatchedQueue] = {}  # replaced as a whole: readers need no lock
        self._asked = float("-inf")
        self._claims: Mapping[tuple[int, int], int] = {}
        self._claims_read = float("-inf")
        self._news = threading.Event()  # queues or a client: look again

    def configure(self, queues: Sequence[Queue]) -> None:
        """Look at these queues from now on; what is known of those that stay is kept."""
        points = max(FEWEST_POINTS, min(POINTS, MOST_POINTS // max(1, len(queues))))
        before, now = self._queues, {}
        for settings in queues:
            known = before.get(one_line(settings.name))
            if known is None or known.settings.path != settings.path:
                known = WatchedQueue(settings, points)
            elif known.settings != settings:
                known.settings, known.looked = settings, float("-inf")
            now[known.snapshot.name] = known
        self._queues = now
        self._news.set()

    def ask(self) -> None:
        """Note that a client asks: the next looks come soon."""
        now = self._clock()
        was_idle = self._every(now) == IDLE
        self._asked = now
        if was_idle:
            self._news.set()

    def snapshots(self) -> list[QueueSnapshot]:
        """Return what was seen last of each queue."""
        return [each.snapshot for each in self._queues.values()]

    def queue(self, name: str) -> WatchedQueue | None:
        """Return the queue of this name."""
        return self._queues.get(name)

    def run(self) -> None:
        """Look at the queues until the process ends."""
        while True:
            self._news.clear()
            due = self.look()
            self._news.wait(max(0.0, min(due - self._clock(), LONGEST_SLEEP)))

    def look(self) -> float:
        """Look at each queue that is due; return the moment at which the next one is."""
        for queue in list(self._queues.values()):
            began = self._clock()
            if queue.due(self._every(began)) <= began:
                computed, is_first = self._computed(), queue.snapshot.sampled is None
                queue.snapshot = _sample(queue, self._holders(began))
                if queue.snapshot.status is not None:
                    queue.past.add(queue.snapshot.status)
                queue.looked = self._clock()
                queue.took = queue.looked - began
                share = SHARE if self._every(queue.looked) == WATCHED else IDLE_SHARE
                share = FIRST_SHARE if is_first else share
                time.sleep((self._computed() - computed) * share)
        every = self._every(self._clock())
        return min((each.due(every) for each in self._queues.values()), default=float("inf"))

    def _holders(self, now: float) -> Mapping[tuple[int, int], int]:
        if now - self._claims_read >= WATCHED:
            self._claims, self._claims_read = holders(), now
        return self._claims

    def _every(self, now: float) -> float:
        return WATCHED if now - self._asked <= ASKED_LATELY else IDLE


def _shown(settings: Queue) -> str:
    return display(settings.path.encode("utf-8", "surrogateescape"))


def _sample(queue: WatchedQueue, claims: Mapping[tuple[int, int], int]) -> QueueSnapshot:
    settings = queue.settings
    name, path = one_line(settings.name), _shown(settings)
    now = time.time()
    try:
        status = queue_status(open_spool(settings), name, Limits(), claims, settings.stream)
    except WatcherError as error:
        return QueueSnapshot(name, path, now, error=str(error))
    except OSError as error:
        return QueueSnapshot(name, path, now, error=f"{path}: cannot be read: {error.strerror}")
    return QueueSnapshot(name, path, now, status)
