"""Steps the program's own file operations: each waits for permission, and is told of when done.

Installed in an actor's process, and only there. Every call by which an actor sees or changes what
others see (a look by name, a change of names, a read, a write, a lock, a lease, the closing of a
file that was open for writing or locked) is one *step*: before it the actor says what it is about
to do and waits; after it, it says what came of it. What only the actor itself can see (fsync, its
own directory descriptors) is no step. The calls themselves are the kernel's, on a real directory.

Two things are made narrower than the kernel makes them. A lease is asked for and given back in one
step, with the look at the file in between: a writer that opens it meanwhile is made to wait by the
kernel until the lease is given back, which is as if it came after. (The lease that is kept until a
file is removed is of one that no writer's name leads to.) A name list is one step, sorted.

Every file is made at the same moment, as statx(2) tells it: stamps and keys have that moment in
them, and a run is to come to the same states as the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time

from explorer.asking import FIRST_PID
from explorer.data_calls import DataCalls
from explorer.name_calls import NameCalls
from explorer.stand_ins import Buffered
from explorer.steps import ENDED, REAL, WAIT, Pending, Step, shown

from watcher.rules.age import SystemClock
from watcher.spool import libc

THE_TIME = time.time_ns  # of the machine, by which the kernel stamps files
BORN = 1_500_000_000_000_000_000  # nanoseconds since the epoch: every file


class Stepper(NameCalls, DataCalls):
    """An actor's calls, all of them; put in the place of the kernel's by `install`."""

    def handle(self, what: str, message: bytes, metadata: str, inodes: tuple[int, ...]) -> None:
        """Tell that the handler begins (`what` is "begins"), or its word."""
        told = hashlib.sha1(message + metadata.encode()).hexdigest()[:6]
        word = (what, message.decode("latin-1"), metadata)
        call = f"handler {what}"
        self.step(Pending(call, ("*",)), lambda: (None, Step(call, told, True, inodes, word=word)))

    def wait_for(self, *events: str) -> None:
        """Wait until all of these happened (as `Step.event` tells them)."""
        call = WAIT + " + ".join(events)
        self.step(Pending(call, ("*",)), lambda: (None, Step(call, "ok")))

    def was_closed(self, name: bytes) -> bool:
        """Read the events, as a daemon does: whether a writer closed the file of this name."""
        call = f"read events of {shown(name)}"

        def do() -> tuple[bool, Step]:
            closed = f"closed {shown(name)}" in self._events
            return closed, Step(call, "closed" if closed else "not closed")

        closed: bool = self.step(Pending(call, ("*",)), do)
        return closed

    def read_clock(self, writer: str) -> int:
        """Return nanoseconds since the epoch: a moment after every change, or long after it.

        A writer pauses for less than `settle`, so the time of `settle` is over only when it ended.
        """

        def do() -> tuple[int, Step]:
            over = ENDED + writer in self._events
            told = Step("read the clock", "long after" if over else "a moment after")
            return (self.now * 1_000_000_000 if over else THE_TIME()), told

        moment: int = self.step(Pending("read the clock", ("*",)), do)
        return moment

    def born(self, directory: int, name: bytes, _flags: int) -> int | None:
        """Stand for statx(2); to look at a name is a step."""
        if name:
            try:
                self.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                return None
        return BORN

    # -- installing -----------------------------------------------------------------------------

    def install(self) -> None:
        """Put the steps in the place of the calls, in this process."""
        for name in REAL:
            if hasattr(self, name):
                setattr(os, name, getattr(self, name))
        os.remove, os.replace = self.unlink, self.rename  # type: ignore[assignment]
        os.getpid = lambda: FIRST_PID + self.number
        fcntl.flock, fcntl.fcntl = self.flock, self.fcntl  # type: ignore[assignment]
        libc.renameat2 = self.renameat2
        libc.birth_time_ns = self.born
        time.time = lambda: float(self.now)
        time.time_ns = lambda: self.now * 1_000_000_000
        SystemClock.real = staticmethod(time.time_ns)
        time.monotonic = lambda: float(self.now)
        time.monotonic_ns = lambda: self.now * 1_000_000_000
        time.clock_gettime_ns = lambda _clock: self.now * 1_000_000_000
        time.sleep = lambda _seconds: None

    def open_buffered(self, path: str, mode: str) -> Buffered:
        """Stand for the built-in open() of the writers."""
        how = {"wb": os.O_TRUNC, "ab": os.O_APPEND}[mode]
        return Buffered(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o666))
