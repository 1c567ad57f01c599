"""`exec`: one run of a command for each entry.

Fails: `load` raises BadConfiguration if there is no such command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from watcher.handle.handler_settings import (
    BATCH,
    BATCH_WAIT,
    TIMEOUT,
    HandlerSettings,
    lone_wait,
)
from watcher.rules.option import Option

if TYPE_CHECKING:
    from watcher.handle.handler import Handler
    from watcher.rules.finding import Check


class Exec(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ exec = [COMMAND, ARG...], timeout = "2m" }`."""

    exec: tuple[str, ...]
    timeout: float | None = None  # seconds
    batch: int | None = None  # entries in one call
    batch_wait: float = 0.0  # seconds

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "timeout": TIMEOUT,
        "batch": BATCH,
        "batch_wait": BATCH_WAIT,
    }
    EXAMPLE: ClassVar[str] = '{ exec = ["COMMAND", "ARG"], timeout = "2m" }'
    COST: ClassVar[str] = "One process is started for each entry, or for each `batch` of them."

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not self.exec or "\0" in "".join(self.exec):
            return "exec", "a command and its arguments"
        return lone_wait(self.batch, self.batch_wait)

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if there is no such command."""
        from watcher.handle.command import Command
        from watcher.handle.command_batch import CommandBatch
        from watcher.handle.program_file import must_be_there

        must_be_there(self.exec[0], "handler.exec")
        if self.batch is not None:
            return CommandBatch(self.exec, self.timeout, self.batch, self.batch_wait)
        return Command(self.exec, self.timeout)

    def try_target(self) -> Iterator[Check]:
        """Say whether the interpreter in a script's first line can be run."""
        from watcher.handle.program_file import look_at

        yield from look_at(self.exec[0])
