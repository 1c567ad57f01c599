"""`python`: one call of a function for each entry, in this process or in a worker process.

Fails: `load` raises BadConfiguration if the function cannot be imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from watcher import durations
from watcher.errors import BadConfiguration
from watcher.handle.handler_settings import (
    BATCH,
    BATCH_WAIT,
    HANGS,
    TIMEOUT,
    HandlerSettings,
    lone_wait,
)
from watcher.rules.option import Option, duration, flag, size

if TYPE_CHECKING:
    from watcher.handle.handler import Handler

LEAST_MEMORY = 64 << 20  # bytes of address space in which Python can start at all
LEAST_CPU = 1.0  # seconds: the kernel counts whole ones


def _memory(value: object) -> int:
    found = size(value)
    if found < LEAST_MEMORY:
        raise ValueError
    return found


def _cpu(value: object) -> float:
    seconds = duration(value)
    if seconds < LEAST_CPU:
        raise ValueError
    return seconds


class Python(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ python = "package.module:function", isolate = true, timeout = "2m" }`."""

    python: str
    isolate: bool = False
    timeout: float | None = None  # seconds
    memory: int | None = None  # bytes
    cpu: float | None = None  # seconds
    batch: int | None = None  # entries in one call
    batch_wait: float = 0.0  # seconds

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "isolate": Option(flag, "true or false", "false", "run the function in a worker process"),
        "timeout": TIMEOUT,
        "memory": Option(
            _memory,
            'bytes, or a size like "512M", at least "64M"',
            "none",
            "address space of the worker process",
        ),
        "cpu": Option(
            _cpu, f"{durations.EXPECTED}, at least 1s", "none", "processor time for one entry"
        ),
        "batch": BATCH,
        "batch_wait": BATCH_WAIT,
    }
    EXAMPLE: ClassVar[str] = '{ python = "package.module:function" }'
    COST: ClassVar[str] = (
        "A call in the daemon's process; with `isolate`, a message to a process that stays."
    )

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not self.isolate:
            for limit in ("timeout", "memory", "cpu"):
                if getattr(self, limit) is not None:
                    expected = (
                        "isolate = true beside it; a function in this process cannot be ended"
                    )
                    return limit, expected
        elif self.batch is not None:
            return (
                "batch",
                "isolate = false beside it; a worker process is given one entry at a time",
            )
        return lone_wait(self.batch, self.batch_wait)

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if it cannot be imported."""
        try:
            from watcher.handle.isolated import parent

            if self.isolate:
                from watcher.handle.isolated.process import Limits

                return parent.load(self.python, Limits(self.timeout, self.memory, self.cpu))
            from watcher.handle import function

            if self.batch is not None:
                alone = parent.Isolated(self.python, keep=False, in_list=True)
                found = function.function_of(self.python)
                return function.FunctionBatch(found, alone, self.batch, self.batch_wait)
            return function.load(self.python, parent.Isolated(self.python, keep=False))
        except BadConfiguration as error:
            raise BadConfiguration(f"handler.python: {error}") from None

    def endless(self) -> str:
        """Return what to do if an attempt may last without end; "" if it cannot."""
        if self.isolate or self.timeout is not None:
            return super().endless()
        return f"{HANGS}: set isolate = true and a timeout"
