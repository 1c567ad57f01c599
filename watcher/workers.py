"""The worker threads of one queue: as many as are wanted, as soon as the kernel gives them.

Guarantees: a thread that is refused (the limit on processes, no memory) costs a delay, not the
daemon: the queue says that it is unhealthy, does with the workers that it has, and asks again.
Fails: never.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from watcher.settle.backoff import delay
from watcher.telemetry.health import Health


class Workers:
    """The threads that run `serve`, named after their queue."""

    def __init__(self, queue: str, count: int, serve: Callable[[], None], health: Health) -> None:
        self._wanted = [
            threading.Thread(target=serve, name=f"{queue}/{number}", daemon=True)
            for number in range(count, 0, -1)
        ]
        self._started: list[threading.Thread] = []
        self._health = health
        self._failures = 0
        self._next_try = 0.0

    def start(self, now: float) -> float:
        """Start those that are missing; return the moment of the next try, infinity if none is."""
        if not self._wanted:
            return math.inf
        if now < self._next_try:
            return self._next_try
        try:
            while self._wanted:
                self._wanted[-1].start()
                self._started.append(self._wanted.pop())
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
        """Whether every worker has."""
        return not any(worker.is_alive() for worker in self._started)

    def wait(self, seconds: float) -> None:
        """Wait so many seconds at most for each to end."""
        for worker in self._started:
            worker.join(seconds)
