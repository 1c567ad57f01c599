"""Log a message about a name once.

Guarantees: memory for `MAX_MENTIONED` names; for more names nothing is logged. One lock.
Fails: never.
"""

from __future__ import annotations

import threading

from watcher.observe import log
from watcher.rules.names import Layout, display

MAX_MENTIONED = 10_000  # names


class Mentions:
    """The names of one queue about which a message was logged."""

    def __init__(self, queue: str, layout: Layout) -> None:
        self._queue = queue
        self._layout = layout
        self._mentioned: set[bytes] = set()
        self._lock = threading.Lock()  # workers and the daemon's thread use the set

    def take_over(self, before: Mentions) -> None:
        """Take over the names from before a reload."""
        with before._lock:
            self._mentioned = set(before._mentioned)

    def expect(self, name: bytes) -> None:
        """Log nothing about a name: this program put the file there."""
        with self._lock:
            self._mentioned.add(self._layout.stem(name))

    def once(self, name: bytes, what: str, why: str) -> None:
        """Log a message about a name, once; for a pair, about one of its files."""
        stem = self._layout.stem(name)
        with self._lock:
            if stem in self._mentioned or len(self._mentioned) >= MAX_MENTIONED:
                return
            self._mentioned.add(stem)
        log.event(self._queue, what, f"{display(name)}: {why}")
