"""The processes of a torture: start, kill, stop and resume them, and end them all.

Guarantees: this process reaps all of its descendants (prctl(2), PR_SET_CHILD_SUBREAPER), so
`end_all` finds every one, also the handler of a killed daemon, and returns when none is left. If
this process is killed, the kernel kills the processes that it started (PR_SET_PDEATHSIG). Each
process has its own process group, so that the terminal's ctrl-C does not reach it. Without prctl,
`end_all` ends the processes that were started directly.
Fails: OSError when a process cannot be started.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from watcher.spool import libc

_SUBREAPER = 36  # linux/prctl.h
libc.library()  # loaded before any fork: a child must not import


@dataclass(slots=True)
class Child:
    """One process that was started."""

    number: int
    role: str
    popen: subprocess.Popen[bytes]
    began: float  # seconds, monotonic
    stopped: bool = False
    next_action: float = 0.0  # monotonic: when to kill, stop or resume it


class Processes:
    """All processes that one torture started."""

    def __init__(self, directory: str, environment: Mapping[str, str]) -> None:
        self.running: list[Child] = []
        self.killed: dict[int, int] = {}  # by number: when SIGKILL was sent, monotonic nanoseconds
        self.started = 0
        self._directory = directory
        self._environment = environment
        self._logs: dict[str, int] = {}  # by role: descriptor for standard output and error
        self._before = set(children(os.getpid()))
        libc.prctl(_SUBREAPER, 1)

    def start(self, role: str, argv: Sequence[str], variable: str) -> Child:
        """Start a process; its number is put into `variable`, and for `{process}` in argv."""
        self.started += 1
        number = self.started
        if role not in self._logs:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._logs[role] = os.open(self._log(role), flags, 0o600)
        log = self._logs[role]
        popen = subprocess.Popen(
            [word.replace("{process}", str(number)) for word in argv],
            cwd=self._directory,
            env={**self._environment, variable: str(number)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            preexec_fn=functools.partial(_begin, os.getpid()),  # noqa: PLW1509 - one thread, and the call takes no lock
        )
        child = Child(number, role, popen, time.monotonic())
        self.running.append(child)
        return child

    def last_line(self, role: str) -> str:
        """Return the last line that a process of this role wrote."""
        with open(self._log(role), "rb") as file:
            lines = file.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def _log(self, role: str) -> str:
        return os.path.join(self._directory, f"log of {role}")

    def with_role(self, *roles: str) -> list[Child]:
        """Return the running processes with one of these roles."""
        return [child for child in self.running if child.role in roles]

    def kill(self, child: Child) -> None:
        """Kill a process, stopped or not, and reap it."""
        self.killed[child.number] = time.monotonic_ns()
        child.popen.kill()
        child.popen.wait()
        self.running.remove(child)

    def stop(self, child: Child) -> None:
        """Stop a process with SIGSTOP."""
        child.popen.send_signal(signal.SIGSTOP)
        child.stopped = True

    def resume(self, child: Child) -> None:
        """Resume a stopped process."""
        child.popen.send_signal(signal.SIGCONT)
        child.stopped = False

    def take_ended(self) -> list[Child]:
        """Remove the processes that ended by themselves; return them."""
        gone = [child for child in self.running if child.popen.poll() is not None]
        self.running = [child for child in self.running if child not in gone]
        return gone

    def orphans(self) -> list[int]:
        """Return the numbers of the processes that killed processes left behind."""
        self._reap_strangers()
        known = {child.popen.pid for child in self.running} | self._before
        return [pid for pid in children(os.getpid()) if pid not in known]

    def end_all(self) -> None:
        """Kill every descendant, and the processes that these leave behind, until none is left."""
        for child in list(self.running):
            with contextlib.suppress(OSError):
                self.kill(child)
        while left := self.orphans():
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        while self._logs:
            os.close(self._logs.popitem()[1])
        libc.prctl(_SUBREAPER, 0)

    def _reap_strangers(self) -> None:
        """Reap the processes that children left behind; Popen reaps its own."""
        known = {child.popen.pid for child in self.running} | self._before
        for pid in children(os.getpid()):
            if pid not in known:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Block signals in a short section that must run to its end.

    A signal handler may raise between any two steps, also in the standard library, between taking a
    lock and the `try` that releases it.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin(parent: int) -> None:
    """Unblock signals, and have the kernel kill this process when its parent dies."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(parent)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, also if it died before this call."""
    libc.kill_with_parent()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def children(pid: int) -> Iterator[int]:
    """Yield the processes whose parent is `pid`, as far as /proc can be read."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                yield int(name)
