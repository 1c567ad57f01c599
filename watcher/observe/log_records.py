"""The lines of the log as records of `logging`, for a program that embeds a queue.

Guarantees: a line is that of the text log, without its time, at the level that it has there. What
a handler or filter of the program raises does not come back: no stage of an entry fails for it.
Fails: never.
"""

from __future__ import annotations

import contextlib
import logging

from watcher.observe.log_lines import Text
from watcher.rules.lifecycle import Transition


class Records(Text):
    """Makes a record of each line; the line itself is returned empty, as nothing writes it."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(journal=True)  # a line without a time
        self._logger = logger

    def event(self, now: float, level: int, queue: str, name: str, detail: str) -> bytes:
        """Pass on the line of an event of a queue."""
        return self._pass_on(level, super().event(now, level, queue, name, detail))

    def transition(self, now: float, level: int, record: Transition) -> bytes:
        """Pass on the line of a transition."""
        return self._pass_on(level, super().transition(now, level, record))

    def printed(self, now: float, level: int, record: Transition, what: tuple[str, str]) -> bytes:
        """Pass on the line of what a handler printed."""
        return self._pass_on(level, super().printed(now, level, record, what))

    def _pass_on(self, level: int, line: bytes) -> bytes:
        text = line.partition(b">")[2].decode("utf-8", "backslashreplace").rstrip("\n")
        with contextlib.suppress(Exception):
            self._logger.log(level, "%s", text)
        return b""
