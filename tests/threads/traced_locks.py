"""Run `watcher ARG...` and write down which lock is taken while which other one is held.

    python -P tests/threads/traced_locks.py OUTPUT ARG...

Replaces the locks that modules of watcher/ make by ones that keep, for each thread, the list of
those that it holds. OUTPUT gets a line `outer inner` for each pair that was seen; a lock is called
FILE:ATTRIBUTE. Other modules' locks stay as they are.
"""

from __future__ import annotations

import inspect
import linecache
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

PACKAGE = str(Path(__file__).resolve().parents[2] / "watcher") + os.sep
REAL = {"Lock": threading.Lock, "RLock": threading.RLock}
pairs: set[tuple[str, str]] = set()
held = threading.local()


def name_of_new() -> str | None:
    """Return the name of the lock that is being made, None where it is not one of watcher/."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename in (__file__, threading.__file__):
        frame = frame.f_back  # a Condition makes its lock itself
    assert frame is not None
    file = frame.f_code.co_filename
    if not file.startswith(PACKAGE):
        return None
    target = re.match(r"\s*(?:self\.)?(\w+)", linecache.getline(file, frame.f_lineno))
    assert target is not None
    return f"{file.removeprefix(PACKAGE)}:{target[1]}"


class Traced:
    """A lock that says what was held when it was taken."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner, self._name = inner, name

    def _mine(self) -> list[str]:
        if not hasattr(held, "names"):
            held.names = []
        return held.names

    def _take(self) -> None:
        names = self._mine()
        pairs.update((outer, self._name) for outer in names if outer != self._name)
        names.append(self._name)

    def acquire(self, *options: Any, **more: Any) -> bool:
        taken = self._inner.acquire(*options, **more)
        if taken:
            self._take()
        return taken

    def release(self) -> None:
        self._mine().remove(self._name)
        self._inner.release()

    def locked(self) -> bool:
        return self._inner.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_error: object) -> None:
        self.release()


class TracedAgain(Traced):
    """The same for a lock that its thread may take again, as a Condition uses it."""

    def _release_save(self) -> Any:
        names = self._mine()
        names[:] = [name for name in names if name != self._name]
        return self._inner._release_save()

    def _acquire_restore(self, state: Any) -> None:
        self._inner._acquire_restore(state)
        self._take()

    def _is_owned(self) -> bool:
        return self._inner._is_owned()


def new_lock() -> Any:
    name = name_of_new()
    return REAL["Lock"]() if name is None else Traced(REAL["Lock"](), name)


def new_rlock() -> Any:
    name = name_of_new()
    return REAL["RLock"]() if name is None else TracedAgain(REAL["RLock"](), name)


def run(output: str, arguments: list[str]) -> None:
    threading.Lock, threading.RLock = new_lock, new_rlock  # type: ignore[assignment, misc]
    from watcher.cli import main

    try:
        main(arguments)
    finally:
        seen = sorted(pairs.copy())
        Path(output).write_text("".join(f"{outer} {inner}\n" for outer, inner in seen))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(PACKAGE).parent))
    run(sys.argv[1], sys.argv[2:])
