"""The processes of a torture: started, killed, stopped, and none that outlives us.

Guarantees: this process is the reaper of all its descendants (prctl(2), PR_SET_CHILD_SUBREAPER), so
`end_all` finds every one of them, also the handler of a daemon that was killed, and leaves when
none is left; should we be killed ourselves, the kernel kills what we started (PR_SET_PDEATHSIG).
Each is a process group of its own, out of reach of the terminal's ctrl-C. Where prctl is missing,
what was started directly is ended all the same.
Fails: OSError when no process can be started.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_PDEATHSIG, _SUBREAPER = 1, 36  # linux/prctl.h
_LIBRARY = ctypes.CDLL(None, use_errno=True)  # before any fork: a child must not import


@dataclass(slots=True)
class Member:
    """One process of the crew."""

    number: int
    role: str
    process: subprocess.Popen[bytes]
    began: float  # seconds, monotonic
    stopped: bool = False
    next_deed: float = 0.0  # when something is done to it


class Crew:
    """All processes that a torture has started."""

    def __init__(self, directory: str, environment: Mapping[str, str]) -> None:
        self.members: list[Member] = []
        self.killed: dict[int, int] = {}  # by number: when its SIGKILL was sent, nanoseconds
        self.started = 0
        self._directory = directory
        self._environment = environment
        self._logs: dict[str, int] = {}  # by role: what they say on standard output and error
        self._before = set(children(os.getpid()))
        _prctl(_SUBREAPER, 1)

    def start(self, role: str, argv: Sequence[str], variable: str) -> Member:
        """Start a process; `variable` of its environment, and `{who}` in argv, is its number."""
        self.started += 1
        number = self.started
        if role not in self._logs:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._logs[role] = os.open(self._log(role), flags, 0o600)
        log = self._logs[role]
        process = subprocess.Popen(
            [word.replace("{who}", str(number)) for word in argv],
            cwd=self._directory,
            env={**self._environment, variable: str(number)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            preexec_fn=functools.partial(_begin, os.getpid()),  # noqa: PLW1509 - one thread, and the call takes no lock
        )
        member = Member(number, role, process, time.monotonic())
        self.members.append(member)
        return member

    def last_words(self, role: str) -> str:
        """Return the last line that a process of this role has said."""
        with open(self._log(role), "rb") as file:
            lines = file.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _log(self, role: str) -> str:
        return os.path.join(self._directory, f"log of {role}")

    def of(self, *roles: str) -> list[Member]:
        """Return the members with one of these roles."""
        return [member for member in self.members if member.role in roles]

    def kill(self, member: Member) -> None:
        """Kill a member, stopped or not, and wait until the kernel has cleaned up after it."""
        self.killed[member.number] = time.monotonic_ns()
        member.process.kill()
        member.process.wait()
        self.members.remove(member)

    def stop(self, member: Member) -> None:
        """Stop a member where it is."""
        member.process.send_signal(signal.SIGSTOP)
        member.stopped = True

    def go_on(self, member: Member) -> None:
        """Let a stopped member go on."""
        member.process.send_signal(signal.SIGCONT)
        member.stopped = False

    def ended(self) -> list[Member]:
        """Take out and return the members that ended by themselves."""
        gone = [member for member in self.members if member.process.poll() is not None]
        self.members = [member for member in self.members if member not in gone]
        return gone

    def orphans(self) -> list[int]:
        """Return the processes that members left behind when they were killed."""
        self._reap_strangers()
        known = {member.process.pid for member in self.members} | self._before
        return [pid for pid in children(os.getpid()) if pid not in known]

    def end_all(self) -> None:
        """Kill every descendant, and the descendants that this leaves to us, until none is left."""
        for member in list(self.members):
            with contextlib.suppress(OSError):
                self.kill(member)
        while left := self.orphans():
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        while self._logs:
            os.close(self._logs.popitem()[1])
        _prctl(_SUBREAPER, 0)

    def _reap_strangers(self) -> None:
        """Reap what members left behind; those of Popen are its own to reap."""
        known = {member.process.pid for member in self.members} | self._before
        for pid in children(os.getpid()):
            if pid not in known:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal interrupt what takes but a moment and leaves nothing behind.

    An exception from a signal may come between any two steps: also in the standard library, between
    its taking a lock and its promise to give it back.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin(parent: int) -> None:
    """Be a process of the crew: gone with its parent, and open to signals again."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(parent)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the one that started it dies, or has died by now."""
    _prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError):
        _LIBRARY.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def children(pid: int) -> Iterator[int]:
    """Return the processes whose parent is `pid`; nothing where /proc cannot be read."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                yield int(name)
