"""The storm: writers, daemons and sweeps at work on one queue, killed and stopped at random.

Guarantees: the moments are drawn from the seed (what the kernel makes of them is not); nothing but
the queue and the books is touched; at the end, in calm, a daemon and a sweep that nobody disturbs
take what is left, and the books are closed.
Fails: Unavailable, with the last line of its log, when a process ends by itself again and again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from watcher.errors import Unavailable
from watcher.torture.account import Books
from watcher.torture.books import FULL, HANDLED, WRITERS, Book, Line, Reader
from watcher.torture.crew import Crew, Member, undisturbed
from watcher.torture.ground import (
    BOOKS_DIRECTORY,
    CONFIGURATION,
    QUEUE,
    environment,
    on_disk,
    waiting,
)
from watcher.torture.handler import WHO

WRITER, FUNCTION, COMMAND, SWEEP = "writer", "daemon", "daemon with a command", "sweep"
_CREW = (WRITER, WRITER, WRITER, FUNCTION, COMMAND, SWEEP)
_RUNNERS = (FUNCTION, COMMAND, SWEEP)
BACKLOG = 150  # entries not handled yet at which writers wait
TICK = 0.02  # seconds between two looks at the crew
TOO_OFTEN = 10  # times a daemon or a writer may end by itself
CALM = 20.0  # seconds without any progress after which the calm ending is ended
ACCEPTED = "accepted"
SETTLED = ("done", "reject")


class Plan(NamedTuple):
    """How long, and from which seed."""

    seed: int
    seconds: float
    rounds: int | None = None  # deeds, instead of seconds
    leases: bool = True  # whether they tell of writers here; else none may be slower than the grace

    @property
    def grace(self) -> float:
        """The grace age of the queue."""
        return max(1.0, min(2.0, self.seconds / 10)) if self.rounds is None else 1.0


class Count(NamedTuple):
    """Where the storm is."""

    share: float  # of it that is over
    deeds: int
    accepted: int
    handled: int


class Storm:
    """One torture of one directory, which holds `queue/` and `books/` of its own."""

    def __init__(self, directory: str, plan: Plan, tell: Callable[[Count], None]) -> None:
        self.plan = plan
        self.kills = self.stops = 0
        self.fell: list[str] = []  # what ended by itself and should not have
        self._directory = directory
        self._books = os.path.join(directory, BOOKS_DIRECTORY)
        self._tell = tell
        self._chance = random.Random(plan.seed)  # noqa: S311 - moments, no secrets
        self._writers = Reader(self._books, WRITERS)
        self._handled = Reader(self._books, HANDLED)
        self._accepted: set[str] = set()
        self._settled: set[str] = set()
        self._mean = 1.0  # seconds that a process lives, about
        self.crew: Crew | None = None

    def run(self) -> Books:
        """Let the storm pass over the queue; return the books."""
        self._prepare()
        crew = self.crew = Crew(self._directory, environment(self._directory))
        try:
            self._warm_up(crew)
            self._rage(crew)
            self._calm(crew)
        finally:
            with undisturbed():
                crew.end_all()
        self._read()
        places, whys = on_disk(self._directory)
        return Books(self._writers.lines, self._handled.lines, crew.killed, places, whys)

    def _prepare(self) -> None:
        with open(os.path.join(self._directory, CONFIGURATION), "w", encoding="utf-8") as file:
            file.write(
                f'[queues.torture]\npath = "{QUEUE}"\nlegacy = true\nsweep_every = "1s"\n'
                f'grace_age = "{round(self.plan.grace * 1000)}ms"\n'
                'retry = { initial = "300ms" }\n'
                'handler = { python = "watcher.torture.handler:handle" }\n'
            )

    def _warm_up(self, crew: Crew) -> None:
        """See that a sweep runs at all, and how long this machine takes for it."""
        began = time.monotonic()
        member = self._start(crew, SWEEP)
        status = member.process.wait()
        crew.ended()
        if status != 0:
            raise Unavailable(
                f"a sweep of an empty queue ended with {status}: {crew.last_words(member.role)}"
            )
        self._mean = max(0.3, min(1.5, 5 * (time.monotonic() - began)))

    def _start(self, crew: Crew, role: str) -> Member:
        """Start one process of the crew and draw when something is done to it."""
        member = crew.start(role, _argv(role, self.plan.seed), WHO)
        member.next_deed = time.monotonic() + min(
            self._chance.expovariate(1 / self._mean), 5 * self._mean
        )
        return member

    # -- the storm --------------------------------------------------------------------------------

    def _rage(self, crew: Crew) -> None:
        began = time.monotonic()
        for role in _CREW:
            self._start(crew, role)
        while (share := self._share(time.monotonic() - began)) < 1.0:
            with undisturbed():
                self._look_round(crew)
                self._tell(Count(share, *self._counts()))
            time.sleep(TICK)

    def _look_round(self, crew: Crew) -> None:
        for member in crew.ended():
            self._fell(crew, member)
            self._start(crew, member.role)
        for member in list(crew.members):
            if member.next_deed <= time.monotonic():
                self._deed(crew, member)
        self._read()
        self._hold_writers(len(self._accepted - self._settled) > BACKLOG)

    def _share(self, seconds: float) -> float:
        if self.plan.rounds is not None:
            return (self.kills + self.stops) / self.plan.rounds if self.plan.rounds else 1.0
        return seconds / self.plan.seconds if self.plan.seconds else 1.0

    def _deed(self, crew: Crew, member: Member) -> None:
        """Kill a process, stop it for a while, or let a stopped one go on."""
        slow = member.role == WRITER  # these are stopped as often as killed, the others less
        if member.stopped and self._chance.random() < (0.8 if slow else 0.5):
            crew.go_on(member)
            member.next_deed = time.monotonic() + self._chance.expovariate(1 / self._mean)
        elif not member.stopped and self._chance.random() < (0.5 if slow else 0.3):
            crew.stop(member)
            self.stops += 1
            member.next_deed = time.monotonic() + self._pause(member.role)
        else:
            self._kill(crew, member)
            if self._chance.random() < 0.3:  # noqa: PLR2004 - a handler mostly outlives its daemon
                self._kill_orphans(crew)
            self._start(crew, member.role)

    def _kill(self, crew: Crew, member: Member) -> None:
        crew.kill(member)
        self.kills += 1
        self._note("killed", str(member.number), member.role)

    def _pause(self, role: str) -> float:
        """Draw for how long a process is stopped; a writer now and then for too long.

        Half a pair is then taken for an orphan, and must come back with its other half.
        """
        if role == WRITER and self.plan.leases and self._chance.random() < 0.4:  # noqa: PLR2004 - often
            return self.plan.grace * (1 + self._chance.random())
        return self._chance.random() * min(0.5, self.plan.grace / 4)

    @staticmethod
    def _kill_orphans(crew: Crew) -> None:
        for pid in crew.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _fell(self, crew: Crew, member: Member) -> None:
        """Take note of a process that ended by itself; a sweep may."""
        status = member.process.returncode
        if member.role == SWEEP and status in (os.EX_OK, os.EX_TEMPFAIL):
            return
        self._trouble(f"{member.role} {member.number} ended by itself with {status}")
        if len(self.fell) >= TOO_OFTEN:
            raise Unavailable(f"{self.fell[-1]}: {crew.last_words(member.role)}")

    def _trouble(self, what: str) -> None:
        """Take note of what should not have happened, also for who looks at a kept directory."""
        self.fell.append(what)
        self._note("trouble", "-", what)

    def _note(self, what: str, number: str, rest: str) -> None:
        book = Book(self._books, "storm", 0)
        try:
            book.write(what, number, rest)
        finally:
            book.close()

    def _hold_writers(self, hold: bool) -> None:
        full = os.path.join(self._books, FULL)
        if hold:
            os.close(os.open(full, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(full)

    # -- the calm ---------------------------------------------------------------------------------

    def _calm(self, crew: Crew) -> None:
        """End the writers, drain the daemons, and let one that nobody disturbs take the rest."""
        for member in crew.of(WRITER):
            self._kill(crew, member)
        for member in crew.of(*_RUNNERS):
            if member.stopped:
                crew.go_on(member)
            member.process.terminate()
        self._wait(lambda: not crew.members and not crew.orphans(), crew)
        for member in list(crew.members):
            self._trouble(f"{member.role} {member.number} would not end at TERM")
            crew.kill(member)
        last = self._start(crew, FUNCTION)
        self._wait(lambda: not waiting(self._directory), crew)
        last.process.terminate()
        self._wait(lambda: not crew.members, crew)
        sweep = self._start(crew, SWEEP)
        self._wait(lambda: not crew.members, crew)
        if sweep.process.returncode not in (os.EX_OK, os.EX_TEMPFAIL):
            self._trouble(f"the last sweep ended with {sweep.process.returncode}")

    def _wait(self, condition: Callable[[], bool], crew: Crew) -> None:
        """Wait until it holds, or until nothing has happened for a long time."""
        patience = CALM + 3 * self.plan.grace
        moved = time.monotonic()
        while time.monotonic() - moved < patience:
            with undisturbed():
                for member in crew.ended():
                    if member.process.returncode not in (os.EX_OK, os.EX_TEMPFAIL, -signal.SIGTERM):
                        self._fell(crew, member)
                if condition():
                    return
                if self._read():
                    moved = time.monotonic()
                self._tell(Count(1.0, *self._counts()))
            time.sleep(TICK)

    # -- the books --------------------------------------------------------------------------------

    def _read(self) -> list[Line]:
        """Read what is new in the books; return the handlers' lines."""
        self._accepted |= {line.number for line in self._writers.read() if line.what == ACCEPTED}
        news = self._handled.read()
        self._settled |= {line.number for line in news if line.what in SETTLED}
        return news

    def _counts(self) -> tuple[int, int, int]:
        return self.kills + self.stops, len(self._accepted), len(self._settled & self._accepted)


def _argv(role: str, seed: int) -> list[str]:
    program = [sys.executable, "-m", "watcher"]
    command = ["--", sys.executable, "-S", "-m", "watcher.torture.handler"]
    quiet = ["--log-level", "warning"]
    match role:
        case "writer":
            module = "watcher.torture.writer"
            return [sys.executable, "-m", module, QUEUE, BOOKS_DIRECTORY, "{who}", str(seed)]
        case "daemon":
            return [*program, "run", "--config", CONFIGURATION, *quiet]
        case "sweep":
            return [*program, "sweep", QUEUE, "--config", CONFIGURATION, "--json"]
        case _:
            return [*program, "run", QUEUE, "--config", CONFIGURATION, *quiet, *command]
