"""An actor's side of a step: it asks before each, and reports."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from typing import Any

from explorer.steps import REAL, Blocked, Pending, Step, receive, send, shown

FIRST_MOMENT = 2_000_000_000  # of the first actor, seconds: every file of a test is of age by far
FIRST_PID = 1000


class Asking:
    """Asks before each step, and reports."""

    def __init__(self, root: bytes, number: int, asks: int, grants: int) -> None:
        self.root = root
        self.number = number
        self.quiet: frozenset[str] = frozenset()  # paths that no actor makes or removes
        self.has_noreplace = True
        self.pinned: frozenset[str] = frozenset()  # paths that may be neither removed nor renamed
        self.pieces = 2  # in which a writer's file is written
        self.now = FIRST_MOMENT + number
        self._asks, self._grants = asks, grants
        self._granted = 0
        self._events: frozenset[str] = frozenset()  # of the queue's directory, until now
        self._made: list[tuple[Any, ...]] = []
        self._blocked = False
        self._random = 0
        self._paths: dict[int, str] = {}
        self._writing: set[int] = set()
        self._locked: set[int] = set()
        self._leased: dict[int, os.stat_result] = {}  # what a lease keeps as it was seen
        self._short: set[int] = set()  # descriptors whose next write is cut in two

    # -- asking and telling -------------------------------------------------------------------

    def step(self, pending: Pending, do: Callable[[], tuple[Any, Step]]) -> Any:
        """Ask, make the call, report. `do` returns the caller's result and the report."""
        while True:
            self._ask(pending)
            try:
                result, made = do()
            except Blocked:
                self._blocked = True
                continue
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "?")
                self._made.append(tuple(Step(pending.call, name)))
                raise
            self._made.append(tuple(made))
            return result

    def _ask(self, pending: Pending) -> None:
        if self._granted == 0:
            send(self._asks, (self._made, tuple(pending), self._blocked, ""))
            self._made, self._blocked = [], False
            self._granted, events = receive(self._grants)
            self._events = frozenset(events)
        self._granted -= 1

    def end(self, result: str) -> None:
        """Report the last steps, and that there are no more."""
        send(self._asks, (self._made, None, False, result))

    # -- names ----------------------------------------------------------------------------------

    def where(self, name: Any, directory: int | None = None) -> str | None:
        """Return the path below the queue; None for any other path."""
        path = os.fsencode(name)
        if not path.startswith(b"/"):
            if directory is None or directory not in self._paths:
                return None
            base = self._paths[directory]
            return shown(path) if base == "." else f"{base}/{shown(path)}"
        if path == self.root:
            return "."
        return shown(path[len(self.root) + 1 :]) if path.startswith(self.root + b"/") else None

    def path(self, fd: int) -> str | None:
        """Return the path a descriptor was opened by."""
        return self._paths.get(fd)

    def is_quiet(self, *paths: str) -> bool:
        """Whether no other actor can observe the call, and the call cannot observe theirs."""
        return all(path in self.quiet or path.startswith(".watcher/journal") for path in paths)

    @staticmethod
    def on(fd: int, call: str, where: str, *, looks: bool = False) -> Pending:
        return Pending(call, (where,), looks, (REAL["fstat"](fd).st_ino,))


def random_bytes(actor: int, turn: int, size: int) -> bytes:
    """Return the random bytes of an actor, which are the same in every run."""
    return hashlib.sha256(b"%d.%d" % (actor, turn)).digest()[:size]
