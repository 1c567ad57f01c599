"""Steps the program's own file operations: each waits for permission, and is told of when done.

Installed in an actor's process, and only there. Every call by which an actor sees or changes what
others see (a look by name, a change of names, a read, a write, a lock, a lease, the closing of a
file that was open for writing or locked) is one *step*: before it the actor says what it is about
to do and waits; after it, it says what came of it. What only the actor itself can see (fsync, its
own directory descriptors) is no step. The calls themselves are the kernel's, on a real directory.

Two things are made narrower than the kernel makes them. A lease is asked for and given back in one
step, with the look at the file in between: a writer that opens it meanwhile is made to wait by the
kernel until the lease is given back, which is as if it came after. A name list is one step, sorted.
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
from explorer.steps import REAL, WAIT, Pending, Step

from watcher.spool.disk import _CACHE


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

    # -- installing -----------------------------------------------------------------------------

    def install(self) -> None:
        """Put the steps in the place of the calls, in this process."""
        for name in REAL:
            if hasattr(self, name):
                setattr(os, name, getattr(self, name))
        os.remove, os.replace = self.unlink, self.rename  # type: ignore[assignment]
        os.getpid = lambda: FIRST_PID + self.number
        fcntl.flock, fcntl.fcntl = self.flock, self.fcntl  # type: ignore[assignment]
        _CACHE[:] = [self.renameat2]
        time.time = lambda: float(self.now)
        time.time_ns = lambda: self.now * 1_000_000_000
        time.monotonic = lambda: float(self.now)
        time.monotonic_ns = lambda: self.now * 1_000_000_000
        time.clock_gettime_ns = lambda _clock: self.now * 1_000_000_000
        time.sleep = lambda _seconds: None

    def open_buffered(self, path: str, mode: str) -> Buffered:
        """Stand for the built-in open() of the writers."""
        assert mode == "wb"
        return Buffered(path)
