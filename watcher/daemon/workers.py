"""The worker threads of one queue.

Guarantees: if the kernel refuses a thread (the limit on processes, no memory), the queue is
unhealthy, works with the threads that it has, and tries again at growing intervals.
Fails: never.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from watcher.observe.health import Health
from watcher.rules.backoff import delay


class Workers:
    """The threads that run `serve`, named after their queue."""

    def __init__(self, queue: str, count: int, serve: Callable[[], None], health: Health) -> None:
        self._serve = serve
        self._wanted = [f"{queue}/{number}" for number in range(count, 0, -1)]
        self._started: list[threading.Thread] = []
        self._health = health
        self._failures = 0
        self._next_try = 0.0

    def start(self, now: float) -> float:
        """Start the missing threads; return the moment of the next try, or infinity."""
        if not self._wanted:
            return math.inf
        if now < self._next_try:
            return self._next_try
        try:
            while self._wanted:
                # A new object for each try: Python 3.13 starts no thread object twice.
                name = self._wanted[-1]
                worker = threading.Thread(target=self._serve, name=name, daemon=True)
                worker.start()
                self._started.append(worker)
                self._wanted.pop()
        except (RuntimeError, MemoryError) as error:
            have, all_of_them = len(self._started), len(self._started) + len(self._wanted)
            why = f"{have} of {all_of_them} workers: {error}; see ulimit -u, pids.max and TasksMax"
            self._health.trouble("workers", why)
            self._failures += 1
            self._next_try = now + delay(self._failures)
            return self._next_try
        self._health.trouble("workers", None)
        return math.inf

    def stop(self) -> None:
        """Start no more."""
        self._wanted.clear()

    def ended(self) -> bool:
        """Whether every thread has ended."""
        return not any(worker.is_alive() for worker in self._started)

    def wait(self, seconds: float) -> None:
        """Wait at most so many seconds for each thread to end."""
        for worker in self._started:
            worker.join(seconds)
