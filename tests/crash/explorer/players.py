"""The actors of one run as processes: started, told to make steps, killed.

A process is forked from this one, which must have no other thread. A kill is SIGKILL: the kernel
frees what the process held, as it would.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from explorer.actors import Work
from explorer.stepping import Stepper
from explorer.steps import WAIT, Pending, Step, receive, send


class Role(NamedTuple):
    """One actor of a scenario."""

    name: str
    work: Work
    writes: bool = False  # a writer: it knows nothing of .watcher/
    dies: bool = True  # whether it may be killed
    deletes: str = ""  # an operator's: the token of what it may delete


class Player:
    """One actor in one run."""

    def __init__(self, role: Role, number: int) -> None:
        self.role = role
        self.number = number
        self.pending: Pending | None = None
        self.steps = 0
        self.calls: Counter[str] = Counter()
        self.state = "alive"  # then "ended" or "killed"
        self.result = ""
        self.history = b""
        self.changed = False  # whether its last step was one that others can tell
        self._pid = self._asks = self._grants = -1

    def start(self, root: str, others: Iterable[Player], settings: Settings) -> None:
        """Fork it, and receive its first pending step."""
        asks, told = os.pipe()
        granted, grants = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            for fd in (asks, grants):
                os.close(fd)
            for other in others:
                other.let_go()
            _act(Stepper(os.fsencode(root), self.number, told, granted), self.role, root, settings)
        os.close(told)
        os.close(granted)
        self._asks, self._grants = asks, grants
        self._hear()

    def go(self, steps: int, events: Iterable[str]) -> list[Step] | None:
        """Let it make so many steps; return them, or None if the first one has to wait.

        `events` are those of the queue's directory so far.
        """
        send(self._grants, (steps, sorted(events)))
        return self._hear()

    def _hear(self) -> list[Step] | None:
        made, pending, blocked, result = receive(self._asks)
        if blocked:
            return None
        self.pending = None if pending is None else Pending(*pending)
        if pending is None:
            self.state, self.result = "ended", result
            self._reap()
        return [Step(*step) for step in made]

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        os.kill(self._pid, signal.SIGKILL)
        self.state = "killed"
        self._reap()

    def _reap(self) -> None:
        os.waitpid(self._pid, 0)
        self._pid = -1
        self.let_go()

    def let_go(self) -> None:
        """Close our ends of its pipes."""
        if self._asks >= 0:
            os.close(self._asks)
            os.close(self._grants)
        self._asks = self._grants = -1

    def stop(self) -> None:
        """End it, if it has not ended: the run is over."""
        if self.state == "alive" and self._pid > 0:
            self.kill()

    def awaits(self) -> list[str]:
        """Return the events that it waits for."""
        call = "" if self.pending is None else self.pending.call
        return call.removeprefix(WAIT).split(" + ") if call.startswith(WAIT) else []


class Settings(NamedTuple):
    """How calls behave in a scenario."""

    quiet: frozenset[str] = frozenset()
    noreplace: bool = True


def _act(stepper: Stepper, role: Role, root: str, settings: Settings) -> None:
    """Run as the actor; does not return."""
    status = 1
    try:
        gc.disable()  # or finalizers would run at another step in each run
        stepper.quiet, stepper.has_noreplace = settings.quiet, settings.noreplace
        stepper.install()
        try:
            result = role.work(stepper, root)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is reported
            result = "raised " + "".join(traceback.format_exception(error))
        stepper.end(result)
        status = 0
    finally:
        os._exit(status)
