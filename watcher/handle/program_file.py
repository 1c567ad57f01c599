"""Whether a configured command is there and can be run, without running it.

Fails: `must_be_there` raises BadConfiguration.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from watcher.errors import BadConfiguration
from watcher.rules.finding import BAD, OK, Check


def must_be_there(command: str, place: str) -> None:
    """Raise BadConfiguration if there is no such command; `place` has it in the configuration."""
    if shutil.which(command) is None:
        raise BadConfiguration(
            f"{place}: expected a command that can be run; {command!r} is not to be"
            " found, or not executable"
        )


def look_at(command: str) -> Iterator[Check]:
    """Say whether the interpreter in a script's first line can be run."""
    if missing := _interpreter_missing(command):
        yield Check(BAD, "handler", missing, os.EX_CONFIG)
    else:
        yield Check(OK, "handler", "is there")


def _interpreter_missing(command: str) -> str:
    """Return what is wrong with the interpreter in a script's first line; "" if nothing is."""
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
