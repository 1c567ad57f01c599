"""Reaps adopted children: those that the kernel gives to PID 1 of a container, or to a subreaper.

A process that a handler left running becomes a child of this process when its parent ends. When it
ends itself, it stays a zombie until this process waits for it; unreaped zombies fill the process
table.
Guarantees: `reap` waits for no process that another part of the program waits for. The kernel
gives orphans to the main thread (`find_new_reaper`), and lists the children of each thread
separately. The workers' threads start commands and wait for them; `own_children` has the worker
processes of python functions. Any other child is reaped after it was a zombie for `GRACE` seconds:
code that waits for a child of its own has done so by then.
Fails: never; if the kernel cannot list children, none is an orphan.
"""

from __future__ import annotations

import math
import os
import signal
import threading

GRACE = 1.0  # seconds
_GET_CHILD_SUBREAPER = 37  # prctl(2), linux/prctl.h
_NO_OTHER_THREADS = 0x20000000  # __WNOTHREAD, linux/wait.h
_ENDED = os.WEXITED | os.WNOHANG | _NO_OTHER_THREADS


class OwnChildren:
    """The processes that a part of this program waits for, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()

    def add(self, pid: int) -> None:
        """Add a process that was started."""
        with self._lock:
            self._pids.add(pid)

    def discard(self, pid: int) -> None:
        """Remove a process that was waited for."""
        with self._lock:
            self._pids.discard(pid)

    def __contains__(self, pid: int) -> bool:
        with self._lock:
            return pid in self._pids


own_children = OwnChildren()


def usual_signals() -> None:
    """Reset the signals that the parent process changed; the main thread calls this first.

    If SIGCHLD is ignored, the kernel keeps no exit status of a child. A blocked signal reaches
    neither this process nor the processes that it starts. Other ignored signals stay ignored:
    `nohup` ignores SIGHUP on purpose.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def adopts() -> bool:
    """Whether the kernel gives this process the children of processes that ended."""
    if os.getpid() == 1:
        return True
    import ctypes

    answer = ctypes.c_int(0)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None or prctl(_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0):
        return False
    return answer.value != 0


class Orphans:
    """The orphans of one process; used by its main thread alone."""

    def __init__(self) -> None:
        self._active = adopts()
        self._zombies: dict[int, float] = {}  # pid: when it was first seen, seconds
        self._children = f"/proc/self/task/{os.getpid()}/children"

    def listen(self) -> None:
        """Have SIGCHLD wake the main thread, if this process adopts children."""
        if self._active:
            signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
            signal.siginterrupt(signal.SIGCHLD, False)

    def reap(self, now: float) -> float:
        """Reap orphans that have ended; return when to look again, in seconds, or infinity."""
        if not self._active:
            return math.inf
        found = {pid: self._zombies.get(pid, now) for pid in self._ended()}
        self._zombies = {pid: since for pid, since in found.items() if now - since < GRACE}
        for pid in found.keys() - self._zombies.keys():
            _wait_for(pid, 0)
        return min(self._zombies.values(), default=math.inf) + GRACE

    def _ended(self) -> list[int]:
        try:
            with open(self._children, "rb") as file:
                children = list(map(int, file.read().split()))
        except (OSError, ValueError):  # the kernel has no such list
            first = _wait(os.P_ALL, 0, os.WNOWAIT)
            return [first] if first and first not in own_children else []
        return [pid for pid in children if pid not in own_children and _wait_for(pid, os.WNOWAIT)]


def _wait_for(pid: int, more: int) -> int:
    return _wait(os.P_PID, pid, more)


def _wait(kind: int, pid: int, more: int) -> int:
    """Return the process that has ended, or 0."""
    try:
        result = os.waitid(kind, pid, _ENDED | more)
    except (ChildProcessError, OSError):
        return 0
    return 0 if result is None else result.si_pid
