"""`exec`: one run of a command for each entry.

Fails: `load` raises BadConfiguration if there is no such command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from watcher.errors import BadConfiguration
from watcher.handle.handler_settings import TIMEOUT, HandlerSettings
from watcher.rules.finding import BAD, OK, Check
from watcher.rules.option import Option

if TYPE_CHECKING:
    from watcher.handle.handler import Handler


class Exec(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ exec = [COMMAND, ARG...], timeout = "2m" }`."""

    exec: tuple[str, ...]
    timeout: float | None = None  # seconds

    OPTIONS: ClassVar[Mapping[str, Option]] = {"timeout": TIMEOUT}
    EXAMPLE: ClassVar[str] = '{ exec = ["COMMAND", "ARG"], timeout = "2m" }'
    COST: ClassVar[str] = "One process is started for each entry."

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

    def try_target(self) -> Iterator[Check]:
        """Say whether the interpreter in a script's first line can be run."""
        if missing := _interpreter_missing(self.exec[0]):
            yield Check(BAD, "handler", missing, os.EX_CONFIG)
        else:
            yield Check(OK, "handler", "is there")


def _interpreter_missing(command: str) -> str:
    """Return what is wrong with the interpreter in a script's first line; "" if nothing is."""
    import shutil

    script = shutil.which(command)
    if script is None:
        return ""
    try:
        with open(script, "rb") as file:
            first = file.readline(256)
    except OSError:  # a script may be executable and not readable
        return ""
    words = first[2:].split(maxsplit=1)
    if not first.startswith(b"#!") or not words or os.access(words[0], os.X_OK):
        return ""
    return f"{script}: its first line names {os.fsdecode(words[0])}, which cannot be run"
