"""`worker`: a command that stays, and gets one request line for each entry.

Fails: `load` raises BadConfiguration if there is no such command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from watcher.handle.handler_settings import TIMEOUT, HandlerSettings
from watcher.rules.option import Option, count_to

if TYPE_CHECKING:
    from watcher.handle.handler import Handler
    from watcher.rules.finding import Check

MOST_ENTRIES = 1_000_000_000


class Worker(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ worker = [COMMAND, ARG...], timeout = "2m", max_entries = 1000 }`."""

    worker: tuple[str, ...]
    timeout: float | None = None  # seconds
    max_entries: int | None = None

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "timeout": TIMEOUT,
        "max_entries": Option(
            count_to(MOST_ENTRIES),
            f"a whole number from 1 to {MOST_ENTRIES}",
            "none",
            "a process is replaced after so many entries",
        ),
    }
    EXAMPLE: ClassVar[str] = '{ worker = ["COMMAND", "ARG"], timeout = "2m" }'
    COST: ClassVar[str] = "A line to a process that stays, and a line back."

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not self.worker or "\0" in "".join(self.worker):
            return "worker", "a command and its arguments"
        return None

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if there is no such command."""
        from watcher.handle.program_file import must_be_there
        from watcher.handle.worker_command import WorkerCommand

        must_be_there(self.worker[0], "handler.worker")
        return WorkerCommand(self.worker, self.timeout, self.max_entries)

    def try_target(self) -> Iterator[Check]:
        """Say whether the interpreter in a script's first line can be run; start nothing."""
        from watcher.handle.program_file import look_at

        yield from look_at(self.worker[0])
