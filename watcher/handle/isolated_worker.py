"""The worker process's side of `isolated`: import a function, do errands.

Guarantees: an entry's descriptors are closed when its outcome is known, so that the claim is held
for as long as the function works, whatever becomes of the daemon; no child that the function execs
inherits them. When the daemon is gone, the entry in hand is finished and the worker ends. TERM ends
nothing unless the daemon asked for it: who stops a service tells all of its processes, and then
the daemon drains.
Fails: a function that cannot be imported is told to the daemon; anything else that goes wrong here
ends the process, and the daemon says so.
"""

from __future__ import annotations

import array
import contextlib
import faulthandler
import json
import math
import os
import resource
import signal
import socket
import sys
from types import FrameType

from watcher.entry import Entry
from watcher.errors import BadConfiguration
from watcher.handle import isolated_wire as wire
from watcher.handle.function import Function, load
from watcher.handle.outcome import Outcome, Verdict

MOST_PARTS = 8
ROOM = 8  # descriptors without which a function can hardly work


def main(daemon: socket.socket, hello: bytes) -> None:
    """Serve until the daemon hangs up."""
    orders = json.loads(hello)
    _limit(resource.RLIMIT_AS, orders["memory"])
    faulthandler.enable()
    faulthandler.register(signal.SIGXCPU, chain=True)  # says where the time went, then dies of it
    try:
        function = load(orders["spec"])
    except BadConfiguration as error:
        daemon.send(wire.ready(str(error)))
        return
    worker = Worker(daemon, function)
    signal.signal(signal.SIGTERM, worker.on_term)
    faulthandler.register(signal.SIGTERM, chain=True)  # says where it hangs, be it in C
    signal.signal(signal.SIGIO, lambda _number, _frame: None)  # as the daemon does
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        daemon.send(wire.ready())
        worker.serve()


class Worker:
    """One function at work for one daemon."""

    def __init__(self, daemon: socket.socket, function: Function) -> None:
        self._daemon = daemon
        self._function = function
        self._ended = False

    def serve(self) -> None:
        """Do one errand after another until the daemon hangs up or wants no more of them."""
        while received := self._receive():
            data, fds, whole = received
            if not whole:  # out of descriptors: the function has leaked them
                short = Outcome(Verdict.RETRY, "the worker process is out of file descriptors")
                self._daemon.send(wire.answer(wire.Answer(short, last=True)))
                return
            try:
                entry, cpu = wire.entry_of(data, fds)
                told = self._work(entry, cpu)
            finally:
                for fd in fds:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            if self._ended:
                return
            self._daemon.send(wire.answer(told))
            if told.last:
                return

    def _work(self, entry: Entry, cpu: float | None) -> wire.Answer:
        if cpu is not None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + cpu))
        outcome = self._function.here(entry)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # Where memory ran out once it may be gone for good, and so it is with descriptors that the
        # function has leaked: the next entry gets a new process.
        last = outcome.reason.startswith("MemoryError: ")
        last = last or (outcome.verdict is not Verdict.DONE and not self._has_room())
        return wire.Answer(outcome, entry.damage, last)

    def _has_room(self) -> bool:
        """Whether a function can still open a few files here."""
        with contextlib.ExitStack() as opened:
            try:
                for _ in range(ROOM):
                    opened.callback(os.close, os.dup(self._daemon.fileno()))
            except OSError:
                return False
        return True

    def _receive(self) -> tuple[bytes, list[int], bool] | None:
        """Wait for an errand; None when the daemon has hung up."""
        room = socket.CMSG_SPACE(MOST_PARTS * array.array("i").itemsize)
        with contextlib.suppress(ConnectionResetError):
            data, extra, flags, _ = self._daemon.recvmsg(
                wire.LARGEST, room, socket.MSG_CMSG_CLOEXEC
            )
            fds = array.array("i")
            for _level, _kind, some in extra:  # SCM_RIGHTS is all that a socket like ours passes
                fds.frombytes(some[: len(some) - len(some) % fds.itemsize])
            return (data, list(fds), not flags & socket.MSG_CTRUNC) if data else None
        return None

    def on_term(self, _number: int, _frame: FrameType | None) -> None:
        """End if the daemon says so too: it has told so, or has hung up."""
        said = b""
        with contextlib.suppress(ConnectionResetError):
            try:
                said = self._daemon.recv(len(wire.END), socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
        if said not in (b"", wire.END):
            return  # an entry, only just handed over
        self._ended = True
        raise SystemExit("told to end")


def _limit(what: int, most: float | None) -> None:
    """Set a soft limit; the hard one stays, for whoever sets the next."""
    if most is None:
        return
    _soft, hard = resource.getrlimit(what)
    most = int(most)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
