"""The processes of chaos, and what is done to them, at times drawn from the seed.

Daemons with up to 16 workers for each queue serve the queues of `workdir`: root's daemons all of
them, the other user's daemon its own. They are killed, drained, and reloaded with changed settings.
Sweeps and an operator's commands run beside them, and are killed too. At the end one daemon that is
not disturbed drains the queues. watcher/torture/chaos.py does the same for `watcher torture`, with
one queue and without reloads; both use the processes, the event logs and the handlings of
watcher/torture/.

Guarantees: when `run` returns or raises, no process of it is left (see `Processes.end_all`).
Fails: never; if the last daemon does not drain the queues, that is an oddity of the account.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from chaos.account import Account, balance
from chaos.handler import DRAIN
from chaos.workdir import OTHERS, ROOTS, Plan, Workdir
from watcher.torture.event_log import HANDLED, PROCESS, WRITERS, EventLogReader
from watcher.torture.processes import Child, Processes

DAEMON, WRITER, SWEEP, OPERATOR = "daemon", "writer", "sweep", "operator"
DRAIN_PATIENCE = 60.0  # seconds without progress
TICK = 0.02
_EXPECTED = {  # exit statuses; 1: a handler crashed its process
    DAEMON: {0, 1},
    WRITER: set[int](),
    SWEEP: {0, 1, os.EX_TEMPFAIL},
    OPERATOR: {0, os.EX_TEMPFAIL},
}
_BAD_WORDS = (b"Bad file descriptor", b"Exception ignored", b"internal error")


class Action(NamedTuple):
    """An action that is repeated, on average every `mean` seconds."""

    mean: float
    do: Callable[[], None]


class Chaos:
    """One run in one directory."""

    def __init__(self, directory: str, plan: Plan) -> None:
        self.counts: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()  # unexpected ends and log lines of processes
        self.audits: dict[str, str] = {}  # by queue: the output of an audit that does not balance
        self._gentle = plan.gentle
        self._chance = random.Random(plan.seed)
        self.workdir = Workdir(directory, plan, self._chance)
        self._processes = Processes(directory, self.workdir.environment)
        self._deaths: dict[int, int] = {}
        self._ending: set[int] = set()  # daemons that got a TERM
        self._pids: dict[int, int] = {}
        # By command: from when to when it ran, monotonic nanoseconds.
        self._operated: dict[int, tuple[int, int]] = {}
        self._wanted = [(f"{DAEMON} root {n}", ROOTS) for n in range(plan.daemons)]
        if self.workdir.two_users:
            self._wanted.append((f"{DAEMON} other", OTHERS))

    def run(self, seconds: float, tell: Callable[[float], None]) -> Account:
        """Disturb the processes for `seconds`, then drain the queues; return the account."""
        try:
            self._disturb(seconds, tell)
            self._drain()
        finally:
            self._processes.end_all()
        handled = EventLogReader(self.workdir.logs, HANDLED).read()
        for line in handled:
            if line.what == "crash" and self._pids.get(line.process) == line.pid:
                self._deaths[line.process] = min(line.ns, self._deaths.get(line.process, line.ns))
        accepted = EventLogReader(self.workdir.logs, WRITERS).read()
        requeues = list(self._operated.values())
        return balance(accepted, handled, self._deaths, requeues, self.workdir.left())

    # -- kills, reloads, commands -----------------------------------------------------------------

    def _disturb(self, seconds: float, tell: Callable[[float], None]) -> None:
        actions = [
            Action(0.5, self._reload),
            Action(6.0, self._end),
            Action(2.5, self._sweep),
            Action(2.0, self._operate),
            *([] if self._gentle else [Action(2.5, self._kill)]),
        ]
        moments = [self._chance.expovariate(1 / action.mean) for action in actions]
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self._look_at_processes()
            for index, action in enumerate(actions):
                if passed >= moments[index]:
                    action.do()
                    moments[index] = passed + self._chance.expovariate(1 / action.mean)
            tell(passed / seconds)
            time.sleep(TICK)

    def _look_at_processes(self) -> None:
        """Record the processes that ended by themselves, and start the missing ones."""
        self._note_ends()
        for role, user in self._wanted:
            if not self._processes.with_role(role):
                self._start(role, self.workdir.watcher(user, "run"))
        for queue in self.workdir.queues:
            if not self._processes.with_role(f"{WRITER} {queue}"):
                self._start(f"{WRITER} {queue}", self.workdir.writer(queue))

    def _note_ends(self) -> None:
        for child in self._processes.take_ended():
            self._ended(child)
            status = child.popen.returncode
            kind = child.role.partition(" ")[0]
            if status not in _EXPECTED[kind]:
                words = self._processes.last_line(child.role)
                self.oddities[f"{kind} ended with {status}: {words[-200:]}"] += 1

    def _start(self, role: str, argv: list[str]) -> Child:
        child = self._processes.start(role, argv, PROCESS)
        self._pids[child.number] = child.popen.pid
        self.counts[role.partition(" ")[0] + "s"] += 1
        if role.startswith(OPERATOR):
            self._operated[child.number] = (time.monotonic_ns(), 1 << 63)
        return child

    def _ended(self, child: Child) -> None:
        now = time.monotonic_ns()
        if child.number in self._operated:
            self._operated[child.number] = (self._operated[child.number][0], now)
        if child.popen.returncode == 1:
            # The time that the handler logged is more exact, if there is one.
            self._deaths.setdefault(child.number, now)

    def _daemons(self) -> list[Child]:
        """Return the daemons that catch signals; during its start a signal kills a daemon."""
        of_them = [child for child in self._processes.running if child.role.startswith(DAEMON)]
        return [child for child in of_them if _catches(child.popen.pid, signal.SIGHUP)]

    def _reload(self) -> None:
        """Write other settings, and have some of the daemons reload them."""
        self.workdir.configure()
        daemons = self._daemons()
        for child in self._chance.sample(daemons, self._chance.randint(0, len(daemons))):
            child.popen.send_signal(signal.SIGHUP)
            self.counts["reloads"] += 1

    def _kill(self) -> None:
        """Kill one process; daemons more often than the others."""
        children = self._processes.running + 2 * self._daemons()
        if children:
            child = self._chance.choice(children)
            self._deaths[child.number] = time.monotonic_ns()
            self._processes.kill(child)
            self._ended(child)
            self.counts["kills"] += 1

    def _end(self) -> None:
        """Have a daemon drain; a second signal would make it stop at once."""
        daemons = [child for child in self._daemons() if child.number not in self._ending]
        if daemons:
            child = self._chance.choice(daemons)
            self._ending.add(child.number)
            child.popen.send_signal(signal.SIGTERM)
            self.counts["ends"] += 1

    def _sweep(self) -> None:
        self._start(SWEEP, self.workdir.watcher(self._user(), "sweep"))

    def _operate(self) -> None:
        user = self._user()
        queue = "other" if user == OTHERS else self._chance.choice(self.workdir.queues)
        path, limit = self.workdir.path(queue), str(self._chance.randint(1, 8))
        command = self._chance.choice(["hold", "release", "requeue"])
        argv = [command, path, "ALL", "--limit", limit]
        self._start(f"{OPERATOR} {command}", self.workdir.watcher(user, *argv))

    def _user(self) -> str:
        return self._chance.choice([ROOTS, OTHERS]) if self.workdir.two_users else ROOTS

    # -- draining ---------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Kill all processes; then have one undisturbed daemon handle the rest."""
        if self._gentle:
            self._end_gently()
            self._note_ends()
        for child in list(self._processes.running):
            self._deaths[child.number] = time.monotonic_ns()
            self._processes.kill(child)
            self._ended(child)
        self._processes.end_all()
        self._note_words()
        processes = Processes(self.workdir.directory, {**self.workdir.environment, DRAIN: "1"})
        self._processes = processes
        processes.started = max(self._pids)
        began = time.monotonic_ns()
        daemon = self._start(f"{DAEMON} last", self.workdir.watcher(ROOTS, "run"))
        for command in ("release", "requeue"):
            for queue in self.workdir.queues:
                ended = self.workdir.call(command, self.workdir.path(queue), "ALL")
                if ended.returncode not in {0, os.EX_TEMPFAIL}:
                    self.oddities[
                        f"{command} while draining: {ended.returncode}: {ended.stderr}"
                    ] += 1
        self._operated[0] = (began, time.monotonic_ns())
        self._await_the_end(daemon)
        daemon.popen.send_signal(signal.SIGTERM)
        if daemon.popen.wait() != 0:
            self.oddities[f"the last daemon ended with {daemon.popen.returncode}"] += 1
        for queue in self.workdir.queues:
            audit = self.workdir.call("audit", self.workdir.path(queue))
            if audit.returncode != 0:
                self.audits[queue] = audit.stdout + audit.stderr

    def _end_gently(self) -> None:
        """Kill the writers, drain the daemons, and wait for the end of all others."""
        for child in list(self._processes.running):
            if child.role.startswith(WRITER):
                self._processes.kill(child)
        for child in self._daemons():
            if child.number not in self._ending:
                child.popen.send_signal(signal.SIGTERM)
        for child in list(self._processes.running):
            if _catches(child.popen.pid, signal.SIGTERM) or not child.role.startswith(DAEMON):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.popen.wait(DRAIN_PATIENCE)

    def _await_the_end(self, daemon: Child) -> None:
        best, deadline = self.workdir.waiting(), time.monotonic() + DRAIN_PATIENCE
        while left := self.workdir.waiting():
            if left < best:
                best, deadline = left, time.monotonic() + DRAIN_PATIENCE
            if time.monotonic() > deadline or daemon.popen.poll() is not None:
                words = self._processes.last_line(daemon.role)
                self.oddities[f"the last daemon left {left} files: {words}"] += 1
                return
            time.sleep(0.1)

    def _note_words(self) -> None:
        """Search the output of the processes for words that report a bug."""
        for name in os.listdir(self.workdir.directory):
            if name.startswith("log of "):
                with open(os.path.join(self.workdir.directory, name), "rb") as log:
                    for line in log:
                        for words in _BAD_WORDS:
                            if words in line:
                                self.oddities[f"said by {name[7:]}: {words.decode()}"] += 1


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process catches a signal."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught, 16) >> (number - 1) & 1)
