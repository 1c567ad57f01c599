"""The troubles of a queue: each one is logged once when it begins, and once when it ends.

The line of the end repeats the line of the beginning, with how long the trouble lasted.
The trouble of an entry ends only when that entry is well again; that another entry is well does not
end it.

Guarantees: each change is logged once, whichever thread reports it. Readers need no lock.
Fails: never.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from watcher.durations import show
from watcher.observe import log

MAX_ENTRIES = 65_536  # entries with a trouble that are remembered


class _Logged(NamedTuple):
    """What was logged of a trouble, and since when it lasts (monotonic, seconds)."""

    text: str
    since: float


class Health:
    """The troubles of one queue, by subject (watch, directory, disk, handler)."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.troubles: dict[str, str] = {}  # replaced as a whole: readers need no lock
        self._logged: dict[str, _Logged] = {}
        self.on_change: Callable[[], None] = _nothing  # called after each change, in any thread
        self._entries: dict[bytes, str] = {}
        self._lock = threading.RLock()  # for workers and the daemon's thread

    def trouble(self, about: str, text: str | None) -> None:
        """Set the trouble of a subject; None: it has ended."""
        if self.troubles.get(about) == text:
            return
        with self._lock:
            before = self.troubles.get(about)
            others = {key: what for key, what in self.troubles.items() if key != about}
            if text is not None and text != before:
                self.troubles = others | {about: text}
                logged = self._logged.get(about)
                since = time.monotonic() if logged is None else logged.since
                self._logged[about] = _Logged(text, since)
                log.event(self.queue, "unhealthy", text, logging.ERROR)
            elif text is None and before is not None:
                self.troubles = others
                logged = self._logged.pop(about)
                lasted = show(time.monotonic() - logged.since)
                log.event(self.queue, "recovered", f"over after {lasted}: {logged.text}")
            else:
                return
            self.on_change()

    def show(self, about: str, text: str) -> None:
        """Show another text for a trouble that lasts; it is not logged: the same is wrong."""
        with self._lock:
            if about in self.troubles:
                self.troubles = self.troubles | {about: text}

    def quietly(self, about: str, text: str | None) -> None:
        """Set the trouble of a subject, or end it, where a line for all queues tells of it."""
        with self._lock:
            others = {key: what for key, what in self.troubles.items() if key != about}
            self.troubles = others if text is None else others | {about: text}

    def take_over(self, before: Health, about: str) -> None:
        """Go on with a trouble of the settings before a reload; it is logged already."""
        text, logged = before.troubles.get(about), before._logged.get(about)
        if text is not None and logged is not None:
            with self._lock:
                self.troubles = self.troubles | {about: text}
                self._logged[about] = logged

    def entry(self, name: bytes, text: str | None) -> None:
        """Set the trouble of an entry; None: it has ended. The oldest one is shown."""
        if text is None and name not in self._entries:
            return
        with self._lock:
            if text is None:
                self._entries.pop(name, None)
            elif name in self._entries or len(self._entries) < MAX_ENTRIES:
                self._entries[name] = text
            self.trouble("entry", next(iter(self._entries.values()), None))

    def has(self, about: str) -> bool:
        """Whether this subject has a trouble."""
        return about in self.troubles

    def __bool__(self) -> bool:
        """Whether the queue has no trouble."""
        return not self.troubles

    def __str__(self) -> str:
        return "; ".join(self.troubles.values()) or "healthy"


def _nothing() -> None:
    """Do nothing."""
