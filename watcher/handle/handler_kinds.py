"""The kinds of handlers: one table, and how a handler's configuration is read by it.

A new kind is one row of `KINDS` and one new file, which has its `HandlerSettings` and its handler.
Fails: BadConfiguration that names the place, what was expected, and what was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import msgspec

from watcher import durations
from watcher.errors import BadConfiguration, Usage
from watcher.handle.handler_settings import HandlerSettings
from watcher.rules.option import Option, duration, flag, period, read_by, shown, size

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


TIMEOUT = Option(
    period, durations.EXPECTED, "none", "time for one entry: then TERM, and KILL 5 s later"
)


class Exec(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ exec = [COMMAND, ARG...], timeout = "2m" }`."""

    exec: tuple[str, ...]
    timeout: float | None = None  # seconds

    OPTIONS: ClassVar[Mapping[str, Option]] = {"timeout": TIMEOUT}
    EXAMPLE: ClassVar[str] = '{ exec = ["COMMAND", "ARG"], timeout = "2m" }'

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not self.exec or "\0" in "".join(self.exec):
            return "exec", "a command and its arguments"
        return None

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if there is no such command."""
        import shutil

        from watcher.handle.command import Command

        if shutil.which(self.exec[0]) is None:
            raise BadConfiguration(
                f"handler.exec: expected a command that can be run; {self.exec[0]!r} is not to be"
                " found, or not executable"
            )
        return Command(self.exec, self.timeout)


class Python(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ python = "package.module:function", isolate = true, timeout = "2m" }`."""

    python: str
    isolate: bool = False
    timeout: float | None = None  # seconds
    memory: int | None = None  # bytes
    cpu: float | None = None  # seconds

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
    }
    EXAMPLE: ClassVar[str] = '{ python = "package.module:function" }'

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not self.isolate:
            for limit in ("timeout", "memory", "cpu"):
                if getattr(self, limit) is not None:
                    expected = (
                        "isolate = true beside it; a function in this process cannot be ended"
                    )
                    return limit, expected
        return None

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if it cannot be imported."""
        try:
            from watcher.handle.isolated import parent

            if self.isolate:
                from watcher.handle.isolated.process import Limits

                return parent.load(self.python, Limits(self.timeout, self.memory, self.cpu))
            from watcher.handle import function

            return function.load(self.python, parent.Isolated(self.python, keep=False))
        except BadConfiguration as error:
            raise BadConfiguration(f"handler.python: {error}") from None


KINDS: dict[str, type[HandlerSettings]] = {
    "exec": Exec,
    "python": Python,
}


def read_handler(value: object, place: str) -> HandlerSettings:
    """Read the settings of a handler, found at `place`; raise BadConfiguration."""
    try:
        table = msgspec.convert(value, dict[str, object])
        kind = KINDS[_kind_of(table, place)]
        read = {
            key: read_by(option, table[key], f"{place}.{key}")
            for key, option in kind.OPTIONS.items()
            if key in table
        }
        settings = msgspec.convert(table | read, kind)
    except msgspec.ValidationError as error:
        examples = " or ".join(row.EXAMPLE for row in KINDS.values())
        raise BadConfiguration(f"{place}: {error}; expected {examples}") from None
    if (wrong := settings.mistake()) is not None:
        key, expected = wrong
        raise BadConfiguration(f"{place}.{key}: expected {expected}")
    return settings


def with_timeout(handler: HandlerSettings, text: str) -> HandlerSettings:
    """Return the settings with the timeout that the flag --timeout says; raise Usage."""
    try:
        seconds = read_by(TIMEOUT, text, "--timeout")
        changed = msgspec.structs.replace(handler, timeout=seconds)
    except BadConfiguration as error:
        raise Usage(str(error)) from None
    except TypeError:
        raise Usage("--timeout: the handler is of a kind that has none") from None
    if (wrong := changed.mistake()) is not None:
        raise Usage(f"--timeout: expected {wrong[1]}")
    return changed


def endless(handler: HandlerSettings | None) -> str:
    """Return what to do if an attempt of this handler may last without end; "" if it cannot."""
    if handler is None or getattr(handler, "timeout", None) is not None:
        return ""
    alone = isinstance(handler, Python) and not handler.isolate
    remedy = "isolate = true and a timeout" if alone else "a timeout (--timeout)"
    return f"a handler that hangs holds its worker for ever: set {remedy}"


def _kind_of(table: Mapping[str, object], place: str) -> str:
    """Return which kind of handler a table is of: the one key that is in `KINDS`."""
    named = [kind for kind in KINDS if kind in table]
    if len(named) == 1:
        return named[0]
    every = f"one of: {', '.join(KINDS)}"
    if named:
        raise BadConfiguration(f"{place}: expected {every}; got {' and '.join(named)}")
    fields = {field for row in KINDS.values() for field in row.__struct_fields__}
    strange = [key for key in table if key not in fields]
    if not strange:
        raise BadConfiguration(f"{place}: no kind of handler; expected {every}")
    raise BadConfiguration(f"{place}: no such kind: {shown(strange[0])}; {every}")
