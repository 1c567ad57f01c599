"""Which queues are ticked when the daemon's thread wakes.

A tick costs some 30 microseconds. With a thousand queues a tick of each at every wake would keep
the daemon's thread busy while one of them has entries. So a wake ticks the queues that asked for it
and those with something due; and all of them, at most once in `EACH` for each queue.
Guarantees: a queue that asks is ticked in the same wake or the next one. After a wake every queue
is ticked within a millisecond for each queue, also one that did not ask.
Fails: never.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from watcher.daemon.queue_worker import QueueWorker

EACH = 0.001  # seconds


class Rounds:
    """The moments at which each queue's next thing is due. The daemon's thread uses it."""

    def __init__(self) -> None:
        self._asked: deque[int] = deque()  # tags; any thread appends
        self._due: dict[int, float] = {}  # by tag
        self._next_round = 0.0

    def ask(self, tag: int) -> None:
        """Have this queue ticked at the next wake; any thread may call it."""
        self._asked.append(tag)

    def tick(self, workers: Iterable[QueueWorker], now: float) -> float:
        """Tick what has to be ticked; return the moment of the next wake."""
        asked = {self._asked.popleft() for _ in range(len(self._asked))}
        all_of_them, before, due = now >= self._next_round, self._due, {}
        for worker in workers:
            tag = worker.tag
            if all_of_them or tag in asked or before.get(tag, 0.0) <= now:
                due[tag] = worker.tick()
            else:
                due[tag] = before[tag]
        self._due = due
        if all_of_them:
            self._next_round = now + EACH * len(due)
            return min(due.values(), default=math.inf)
        return min(self._next_round, min(due.values(), default=math.inf))
