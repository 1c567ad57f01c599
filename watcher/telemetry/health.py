"""What is wrong with a queue right now, and when it is over: each change is logged once.

What is wrong with an entry is over when it is over for that entry: another that is well says
nothing of it.
"""

from __future__ import annotations

import logging
import threading

from watcher.telemetry import log

MAX_ENTRIES = 65_536  # of which it is known that something is wrong


class Health:
    """The troubles of one queue, by what they are about (watch, directory, disk, handler)."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.troubles: dict[str, str] = {}
        self._entries: dict[bytes, str] = {}
        self._lock = threading.Lock()  # the workers'

    def trouble(self, about: str, text: str | None) -> None:
        """Note what is wrong about something, or with None that it is over."""
        if text is None:
            if self.troubles.pop(about, None) is not None:
                log.event(self.queue, "recovered", f"{about}: works again")
        elif self.troubles.get(about) != text:
            self.troubles[about] = text
            log.event(self.queue, "unhealthy", text, logging.ERROR)

    def entry(self, name: bytes, text: str | None) -> None:
        """Note what is wrong with an entry, or with None that it is over; the first is told of."""
        if text is None and name not in self._entries:
            return
        with self._lock:
            if text is None:
                self._entries.pop(name, None)
            elif name in self._entries or len(self._entries) < MAX_ENTRIES:
                self._entries[name] = text
            self.trouble("entry", next(iter(self._entries.values()), None))

    def has(self, about: str) -> bool:
        """Whether something is wrong about this."""
        return about in self.troubles

    def __bool__(self) -> bool:
        """Whether nothing is wrong."""
        return not self.troubles

    def __str__(self) -> str:
        return "; ".join(self.troubles.values()) or "healthy"
