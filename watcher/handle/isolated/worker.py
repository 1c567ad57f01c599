"""One worker process, on its own side: import a function, call it for each request.

Guarantees: the worker closes an entry's descriptors when it has the result, so the claim is held
while the function works, even if the daemon is gone; no program that the function starts inherits
them. If the daemon is gone, the worker finishes the entry in hand and ends. TERM ends the worker
only if the daemon asked for it: a service manager sends TERM to all processes of a service, and the
daemon drains then.
Fails: if the function cannot be imported, the worker says so to the daemon. Any other error ends
the process, and the daemon reports that.
"""

from __future__ import annotations

import array
import contextlib
import faulthandler
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType

from watcher.errors import BadConfiguration
from watcher.handle.adopted_children import usual_signals
from watcher.handle.entry import Entry
from watcher.handle.function import Function, FunctionBatch, function_of
from watcher.handle.isolated import protocol
from watcher.handle.isolated.processor_time import ProcessorTime
from watcher.rules.results import HandlerResult, Verdict

MOST_PARTS = 8
ROOM = 8  # descriptors without which a function can hardly work


def main(daemon: socket.socket, packet: bytes) -> None:
    """Serve until the daemon closes the socket."""
    usual_signals()
    init = protocol.read(packet, protocol.Init)
    _limit(resource.RLIMIT_AS, init.memory)
    faulthandler.enable()
    faulthandler.register(signal.SIGXCPU, chain=True)  # a traceback, before the signal ends it
    try:
        found = function_of(init.spec)
        function = FunctionBatch(found) if init.in_list else Function(found)
    except BadConfiguration as error:
        daemon.send(protocol.pack(protocol.Started(str(error)[: protocol.LONGEST_TEXT])))
        return
    worker = Worker(daemon, function)
    signal.signal(signal.SIGTERM, worker.on_term)
    faulthandler.register(signal.SIGTERM, chain=True)  # a traceback, also of a hang in C code
    signal.signal(signal.SIGIO, lambda _number, _frame: None)  # as the daemon does
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        daemon.send(protocol.pack(protocol.Started(None)))
        worker.serve()


class Worker:
    """Calls one function for one daemon."""

    def __init__(self, daemon: socket.socket, function: Function) -> None:
        self._daemon = daemon
        self._function = function
        self._ended = False
        self._own_errors = os.dup(2)
        self._processor_time: ProcessorTime | None = None  # counted where it is limited

    def serve(self) -> None:
        """Handle requests until the daemon closes the socket or this worker has to end."""
        while received := self._receive():
            data, fds, whole = received
            if not whole:  # out of descriptors: the function leaked them
                short = HandlerResult(
                    Verdict.RETRY, "the worker process is out of file descriptors"
                )
                self._daemon.send(protocol.response(protocol.Response(short, last=True)))
                return
            try:
                request = protocol.read(data, protocol.Request)
                entry = request.entry(fds[:-1])
                with self._errors_to(fds[-1]):
                    reply = self._work(entry, request.cpu)
                entry.end()
            finally:
                for fd in fds:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            if self._ended:
                return
            self._daemon.send(protocol.response(reply))
            if reply.last:
                return

    def _work(self, entry: Entry, cpu: float | None) -> protocol.Response:
        if cpu is not None:
            self._processor_time = self._processor_time or ProcessorTime()
            _limit(resource.RLIMIT_CPU, math.ceil(self._processor_time.used() + cpu))
        outcome = self._function.run(entry)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # A process that ran out of memory, or of descriptors by a leak, may stay short of them: the
        # next entry gets a new process.
        last = outcome.reason.startswith("MemoryError: ")
        last = last or (outcome.verdict is not Verdict.DONE and not self._has_room())
        return protocol.Response(outcome, entry.damage, last)

    @contextlib.contextmanager
    def _errors_to(self, fd: int) -> Iterator[None]:
        """Send standard error to the entry's own file.

        The daemon bounds that file, which processes left running by the function still have.
        """
        os.dup2(fd, 2)
        try:
            yield
        finally:
            os.dup2(self._own_errors, 2)

    def _has_room(self) -> bool:
        """Whether a function could open a few files here."""
        with contextlib.ExitStack() as opened:
            try:
                for _ in range(ROOM):
                    opened.callback(os.close, os.dup(self._daemon.fileno()))
            except OSError:
                return False
        return True

    def _receive(self) -> tuple[bytes, list[int], bool] | None:
        """Wait for a request; return None if the daemon has closed the socket."""
        room = socket.CMSG_SPACE(MOST_PARTS * array.array("i").itemsize)
        with contextlib.suppress(ConnectionResetError):
            data, extra, flags, _ = self._daemon.recvmsg(
                protocol.LARGEST, room, socket.MSG_CMSG_CLOEXEC
            )
            fds = array.array("i")
            for _level, _kind, some in extra:  # always SCM_RIGHTS on such a socket
                fds.frombytes(some[: len(some) - len(some) % fds.itemsize])
            return (data, list(fds), not flags & socket.MSG_CTRUNC) if data else None
        return None

    def on_term(self, _number: int, _frame: FrameType | None) -> None:
        """End if the daemon has sent `END` or closed the socket."""
        said = b""
        with contextlib.suppress(ConnectionResetError):
            try:
                said = self._daemon.recv(len(protocol.END), socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
        if said not in (b"", protocol.END):
            return  # a request that is not read yet
        self._ended = True
        raise SystemExit("ended by the daemon")


def _limit(what: int, most: float | None) -> None:
    """Set a soft limit; the hard limit stays, so that the next call can raise it again."""
    if most is None:
        return
    _soft, hard = resource.getrlimit(what)
    most = int(most)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
