"""The interface of a handler, and the two exceptions that a Python handler may raise.

Fails: `run` never raises; what went wrong is in the result that it returns.
"""

from __future__ import annotations

from typing import Protocol

from watcher.handle.entry import Entry
from watcher.rules.results import HandlerResult


class Retry(Exception):
    """Raised by a Python handler: try the entry again.

    `after` is the delay in seconds; None: the queue's retry policy decides.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """Raised by a Python handler: no attempt can succeed; the text says why."""


class Handler(Protocol):
    """Handles entries; one object a queue."""

    def run(self, entry: Entry) -> HandlerResult:
        """Handle one entry; never raises. Called from several threads at once."""

    def terminate(self) -> None:
        """End what is running, from another thread: the process is about to exit.

        An attempt that does not succeed after that is STOPPED; its entry stays where it is.
        """
