"""Writers, daemons and sweeps at work on one queue, killed and stopped at random times.

Guarantees: the times are drawn from the seed (the kernel's scheduling is not). Only the queue and
the event logs are changed. At the end the queue is drained: a daemon and a sweep that are neither
killed nor stopped handle the remaining entries.
Fails: Unavailable, with the last line of its log, when processes end by themselves `TOO_OFTEN`
times.
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
from watcher.torture.account import Observed
from watcher.torture.event_log import (
    FULL,
    HANDLED,
    PROCESS,
    WRITERS,
    EventLog,
    EventLogReader,
    Line,
)
from watcher.torture.processes import Child, Processes, undisturbed
from watcher.torture.workdir import (
    CONFIGURATION,
    LOGS_DIRECTORY,
    QUEUE,
    environment,
    on_disk,
    waiting,
)

WRITER, FUNCTION, COMMAND, SWEEP = "writer", "daemon", "daemon with a command", "sweep"
_ROLES = (WRITER, WRITER, WRITER, FUNCTION, COMMAND, SWEEP)
_RUNNERS = (FUNCTION, COMMAND, SWEEP)
BACKLOG = 150  # unhandled entries at which writers wait
TICK = 0.02  # seconds between two checks of the processes
TOO_OFTEN = 10  # ends by themselves of daemons and writers that end the torture
DRAIN_PATIENCE = 20.0  # seconds without progress after which draining is given up
ACCEPTED = "accepted"
SETTLED = ("done", "reject")


class Plan(NamedTuple):
    """How long to kill and stop processes, and the seed of the random times."""

    seed: int
    seconds: float
    rounds: int | None = None  # kills and stops, instead of seconds
    leases: bool = (
        True  # whether leases show writers here; if not, no writer may be slower than the grace age
    )

    @property
    def grace(self) -> float:
        """The grace age of the queue."""
        return max(1.0, min(2.0, self.seconds / 10)) if self.rounds is None else 1.0


class Count(NamedTuple):
    """Progress so far."""

    share: float  # of the time or the rounds that is over
    actions: int
    accepted: int
    handled: int


class Chaos:
    """One torture in one directory (see `workdir`)."""

    def __init__(self, directory: str, plan: Plan, tell: Callable[[Count], None]) -> None:
        self.plan = plan
        self.kills = self.stops = 0
        self.unexpected_ends: list[str] = []  # unexpected ends of processes
        self._directory = directory
        self._logs = os.path.join(directory, LOGS_DIRECTORY)
        self._tell = tell
        self._chance = random.Random(plan.seed)  # noqa: S311 - moments, no secrets
        self._writers = EventLogReader(self._logs, WRITERS)
        self._handled = EventLogReader(self._logs, HANDLED)
        self._accepted: set[str] = set()
        self._settled: set[str] = set()
        self._mean = 1.0  # seconds: the mean life of a process
        self.processes: Processes | None = None

    def run(self) -> Observed:
        """Run and disturb the processes, drain the queue; return what was observed."""
        self._prepare()
        processes = self.processes = Processes(self._directory, environment(self._directory))
        try:
            self._warm_up(processes)
            self._disturb(processes)
            self._drain(processes)
        finally:
            with undisturbed():
                processes.end_all()
        self._read()
        places, whys = on_disk(self._directory)
        return Observed(self._writers.lines, self._handled.lines, processes.killed, places, whys)

    def _prepare(self) -> None:
        with open(os.path.join(self._directory, CONFIGURATION), "w", encoding="utf-8") as file:
            file.write(
                f'[queues.torture]\npath = "{QUEUE}"\nlegacy = true\nsweep_every = "1s"\n'
                f'grace_age = "{round(self.plan.grace * 1000)}ms"\n'
                'retry = { initial = "300ms" }\n'
                'handler = { python = "watcher.torture.checking_handler:handle" }\n'
            )

    def _warm_up(self, processes: Processes) -> None:
        """Run one sweep: check that it works, and measure its time for `_mean`."""
        began = time.monotonic()
        child = self._start(processes, SWEEP)
        status = child.popen.wait()
        processes.take_ended()
        if status != 0:
            raise Unavailable(
                f"a sweep of an empty queue ended with {status}: {processes.last_line(child.role)}"
            )
        self._mean = max(0.3, min(1.5, 5 * (time.monotonic() - began)))

    def _start(self, processes: Processes, role: str) -> Child:
        """Start one process, and draw when to kill or stop it."""
        child = processes.start(role, _argv(role, self.plan.seed), PROCESS)
        child.next_action = time.monotonic() + min(
            self._chance.expovariate(1 / self._mean), 5 * self._mean
        )
        return child

    # -- kills and stops --------------------------------------------------------------------------

    def _disturb(self, processes: Processes) -> None:
        if self._share(0.0) >= 1.0:
            return  # no time at all: a writer that starts late must not commit an entry
        began = time.monotonic()
        for role in _ROLES:
            self._start(processes, role)
        while (share := self._share(time.monotonic() - began)) < 1.0:
            with undisturbed():
                self._look_at_processes(processes)
                self._tell(Count(share, *self._counts()))
            time.sleep(TICK)

    def _look_at_processes(self, processes: Processes) -> None:
        for child in processes.take_ended():
            self._record_end(processes, child)
            self._start(processes, child.role)
        for child in list(processes.running):
            if child.next_action <= time.monotonic():
                self._act_on(processes, child)
        self._read()
        self._hold_writers(len(self._accepted - self._settled) > BACKLOG)

    def _share(self, seconds: float) -> float:
        if self.plan.rounds is not None:
            return (self.kills + self.stops) / self.plan.rounds if self.plan.rounds else 1.0
        return seconds / self.plan.seconds if self.plan.seconds else 1.0

    def _act_on(self, processes: Processes, child: Child) -> None:
        """Kill a process, stop it for a while, or resume it."""
        slow = child.role == WRITER  # writers are stopped as often as killed, the others less often
        if child.stopped and self._chance.random() < (0.8 if slow else 0.5):
            processes.resume(child)
            child.next_action = time.monotonic() + self._chance.expovariate(1 / self._mean)
        elif not child.stopped and self._chance.random() < (0.5 if slow else 0.3):
            processes.stop(child)
            self.stops += 1
            child.next_action = time.monotonic() + self._pause(child.role)
        else:
            self._kill(processes, child)
            if self._chance.random() < 0.3:  # noqa: PLR2004 - in most cases the handler outlives its daemon
                self._kill_orphans(processes)
            self._start(processes, child.role)

    def _kill(self, processes: Processes, child: Child) -> None:
        processes.kill(child)
        self.kills += 1
        self._note("killed", str(child.number), child.role)

    def _pause(self, role: str) -> float:
        """Draw for how long to stop a process, in seconds; a writer sometimes beyond the grace age.

        The first file of its pair then goes to orphans/, and must come back with the second one.
        """
        if role == WRITER and self.plan.leases and self._chance.random() < 0.4:  # noqa: PLR2004 - often
            return self.plan.grace * (1 + self._chance.random())
        return self._chance.random() * min(0.5, self.plan.grace / 4)

    @staticmethod
    def _kill_orphans(processes: Processes) -> None:
        for pid in processes.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _record_end(self, processes: Processes, child: Child) -> None:
        """Record a process that ended by itself; a sweep is expected to."""
        status = child.popen.returncode
        if child.role == SWEEP and status in (os.EX_OK, os.EX_TEMPFAIL):
            return
        self._trouble(f"{child.role} {child.number} ended by itself with {status}")
        if len(self.unexpected_ends) >= TOO_OFTEN:
            raise Unavailable(f"{self.unexpected_ends[-1]}: {processes.last_line(child.role)}")

    def _trouble(self, what: str) -> None:
        """Record what should not have happened, also in the log of a kept directory."""
        self.unexpected_ends.append(what)
        self._note("trouble", "-", what)

    def _note(self, what: str, number: str, rest: str) -> None:
        log = EventLog(self._logs, "chaos", 0)
        try:
            log.write(what, number, rest)
        finally:
            log.close()

    def _hold_writers(self, hold: bool) -> None:
        full = os.path.join(self._logs, FULL)
        if hold:
            os.close(os.open(full, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(full)

    # -- draining ---------------------------------------------------------------------------------

    def _drain(self, processes: Processes) -> None:
        """Kill the writers, drain the daemons, and have one undisturbed daemon handle the rest."""
        for child in processes.with_role(WRITER):
            self._kill(processes, child)
        for child in processes.with_role(*_RUNNERS):
            if child.stopped:
                processes.resume(child)
            child.popen.terminate()
        self._wait(lambda: not processes.running and not processes.orphans(), processes)
        for child in list(processes.running):
            self._trouble(f"{child.role} {child.number} did not end at TERM")
            processes.kill(child)
        last = self._start(processes, FUNCTION)
        self._wait(lambda: not waiting(self._directory), processes)
        last.popen.terminate()
        self._wait(lambda: not processes.running, processes)
        sweep = self._start(processes, SWEEP)
        self._wait(lambda: not processes.running, processes)
        if sweep.popen.returncode not in (os.EX_OK, os.EX_TEMPFAIL):
            self._trouble(f"the last sweep ended with {sweep.popen.returncode}")

    def _wait(self, condition: Callable[[], bool], processes: Processes) -> None:
        """Wait until `condition` holds, or until nothing has happened for `patience` seconds.

        At most ten times as long in all: on a bad file system entries may be handled without end.
        """
        patience = DRAIN_PATIENCE + 3 * self.plan.grace
        began = moved = time.monotonic()
        while time.monotonic() - moved < patience > (time.monotonic() - began) / 10:
            with undisturbed():
                for child in processes.take_ended():
                    if child.popen.returncode not in (os.EX_OK, os.EX_TEMPFAIL, -signal.SIGTERM):
                        self._record_end(processes, child)
                if condition():
                    return
                if self._read():
                    moved = time.monotonic()
                self._tell(Count(1.0, *self._counts()))
            time.sleep(TICK)

    # -- the event logs ---------------------------------------------------------------------------

    def _read(self) -> list[Line]:
        """Read the new lines of the event logs; return those of the handlers."""
        self._accepted |= {line.number for line in self._writers.read() if line.what == ACCEPTED}
        news = self._handled.read()
        self._settled |= {line.number for line in news if line.what in SETTLED}
        return news

    def _counts(self) -> tuple[int, int, int]:
        return self.kills + self.stops, len(self._accepted), len(self._settled & self._accepted)


def _argv(role: str, seed: int) -> list[str]:
    program = [sys.executable, "-P", "-m", "watcher"]
    command = ["--", sys.executable, "-P", "-S", "-m", "watcher.torture.checking_handler"]
    quiet = ["--log-level", "warning"]
    match role:
        case "writer":
            module = "watcher.torture.writer"
            return [
                sys.executable,
                "-P",
                "-m",
                module,
                QUEUE,
                LOGS_DIRECTORY,
                "{process}",
                str(seed),
            ]
        case "daemon":
            return [*program, "run", "--config", CONFIGURATION, *quiet]
        case "sweep":
            return [*program, "sweep", QUEUE, "--config", CONFIGURATION, "--json"]
        case _:
            return [*program, "run", QUEUE, "--config", CONFIGURATION, *quiet, *command]
