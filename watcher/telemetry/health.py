"""What is wrong with a queue right now, and when it is over: each change is logged once."""

from __future__ import annotations

import logging

from watcher.telemetry import log


class Health:
    """The troubles of one queue, by what they are about (watch, directory, disk, handler)."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._troubles: dict[str, str] = {}

    def trouble(self, about: str, text: str | None) -> None:
        """Note what is wrong about something, or with None that it is over."""
        if text is None:
            if self._troubles.pop(about, None) is not None:
                log.event(self.queue, "recovered", f"{about}: works again")
        elif self._troubles.get(about) != text:
            self._troubles[about] = text
            log.event(self.queue, "unhealthy", text, logging.ERROR)

    def has(self, about: str) -> bool:
        """Whether something is wrong about this."""
        return about in self._troubles

    def __bool__(self) -> bool:
        """Whether nothing is wrong."""
        return not self._troubles

    def __str__(self) -> str:
        return "; ".join(self._troubles.values()) or "healthy"
