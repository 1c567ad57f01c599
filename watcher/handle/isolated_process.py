"""One worker process, seen from the daemon: start it, hand it an entry, end it.

Guarantees: nothing waits longer than it was told to; who dies is reaped, and what is left of its
process group is killed. A process that nobody refers to any more hears a hang-up, and ends.
Fails: OSError when it cannot be started or given an entry, BadConfiguration when it cannot import
its function. Death, lateness and nonsense are answers.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from typing import NamedTuple

from watcher.durations import show
from watcher.entry import Entry
from watcher.errors import BadConfiguration, one_line
from watcher.handle import isolated_wire as wire
from watcher.handle.child import Trimmer, end_of, signal_group, stderr_file
from watcher.handle.outcome import Outcome, Verdict, crashed

START = 60.0  # seconds for Python to start and the function to be imported
KILL_AFTER = 5.0  # seconds between TERM and KILL
FOLLOW = 1.0  # seconds in which the end of a worker follows its hang-up
LEAVE = 5.0  # seconds between the hang-up and KILL

# Not `-m`: what the daemon can import, from wherever, the worker must be able to import too.
_BOOT = """\
import json, socket, sys
daemon = socket.socket(fileno=int(sys.argv[1]))
daemon.set_inheritable(False)
hello = daemon.recv(1 << 20)
sys.path[:] = json.loads(hello)["path"]
from watcher.handle.isolated_worker import main
main(daemon, hello)
"""


class Limits(NamedTuple):
    """What one entry may take; None for no limit."""

    timeout: float | None = None  # seconds
    memory: int | None = None  # bytes of address space, of the worker as a whole
    cpu: float | None = None  # seconds of processor time


class Process:
    """A worker process; `running` is where its group is noted for as long as it lives."""

    def __init__(self, spec: str, limits: Limits, running: set[int]) -> None:
        self._limits = limits
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            with theirs:
                stderr = stderr_file()
                undo.callback(os.close, stderr)
                popen = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), one_line(spec[:200])],
                    stdin=subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            undo.pop_all()
        running.add(popen.pid)
        self._socket, self._stderr, self._pid = ours, stderr, popen.pid
        self._pidfd = _pidfd(popen.pid)
        held = _Held(popen, ours, stderr, self._pidfd, running)
        self._popen = popen
        self._release = weakref.finalize(self, _let_go, held, LEAVE)
        self._held = held
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        if self._pidfd >= 0:
            self._poll.register(self._pidfd, select.POLLIN)
        try:
            self._greet(spec)
        except BaseException:
            self.end(0.0)
            raise

    def _greet(self, spec: str) -> None:
        """Tell it what to import; raises BadConfiguration if it cannot."""
        where = f"handler {one_line(spec[:200])!r}: its worker process"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.send(wire.hello(sys.path, spec, self._limits.memory))
        try:
            data = self._listen(START)
            why_not = wire.broken(data) if data else None
        except TimeoutError:
            raise BadConfiguration(f"{where} was not ready within {show(START)}") from None
        except ValueError:
            raise BadConfiguration(f"{where} said what makes no sense") from None
        if why_not is not None:
            raise BadConfiguration(why_not)
        if not data:
            died = self._died()
            last = died.stderr.strip().splitlines()[-1:] or ["nothing on standard error"]
            raise BadConfiguration(f"{where} was {died.reason} before it was ready ({last[0]})")

    def idle(self) -> bool:
        """Whether it waits for an entry: it lives, and has nothing to say."""
        return bool(self._release.alive and not self._poll.poll(0) and not self._dead())

    def ask(self, entry: Entry) -> wire.Answer:
        """Hand over an entry and wait for what becomes of it."""
        os.ftruncate(self._stderr, 0)
        packet = wire.errand(entry, self._limits.cpu)
        socket.send_fds(self._socket, [packet], [part.fd for part in entry.parts])
        try:
            data = self._listen(self._limits.timeout)
        except TimeoutError:
            return wire.Answer(self._late(), last=True)
        if not data:
            return wire.Answer(self._died(), last=True)
        try:
            return wire.answer_of(data)
        except ValueError as error:
            self._kill()
            said = f"it told of the entry what makes no sense: {error}"
            outcome = crashed(None, self._said(), said)
            self.end(0.0)
            return wire.Answer(outcome, last=True)

    def end(self, seconds: float = LEAVE) -> None:
        """Hang up; it has so long to end before its group is killed."""
        if self._release.detach():
            _let_go(self._held, seconds)

    # -- waiting ------------------------------------------------------------------------------

    def _listen(self, seconds: float | None) -> bytes:
        """Wait for a packet; b"" when it hung up or died; raises TimeoutError."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        trimmer = Trimmer(self._stderr)
        while True:
            left = max(0.0, deadline - time.monotonic())
            if self._poll.poll(min(left, trimmer.wait) * 1000) or self._dead():
                try:
                    return self._socket.recv(wire.LARGEST, socket.MSG_DONTWAIT)
                except (BlockingIOError, ConnectionResetError):
                    return b""
            if left == 0:
                raise TimeoutError
            trimmer.look()

    def _dead(self) -> bool:
        """Whether it has ended; it is not reaped by this, so that its group stays its own."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self._pid, flags) is not None
        except ChildProcessError:  # we were started with SIGCHLD ignored: the kernel reaps
            return True

    def _ends_within(self, seconds: float) -> bool:
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
            return self._dead()
        deadline = time.monotonic() + seconds
        while not self._dead() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self._dead()

    # -- ending -------------------------------------------------------------------------------

    def _late(self) -> Outcome:
        """End what takes too long."""
        with contextlib.suppress(OSError):
            self._socket.send(wire.END, socket.MSG_DONTWAIT)
        signal_group(self._pid, signal.SIGTERM)
        self._ends_within(KILL_AFTER)
        status, said = self._kill(), self._said()
        self.end(0.0)
        reason = f"timeout: still running after {show(self._limits.timeout or 0)}"
        return Outcome(Verdict.RETRY, reason, None, said, status)

    def _died(self) -> Outcome:
        """Say how it died."""
        ended = self._ends_within(FOLLOW)
        status, text = self._kill(), self._said()
        self.end(0.0)
        more = ""
        if status == -signal.SIGXCPU and self._limits.cpu is not None:
            more = f"more than {show(self._limits.cpu)} of processor time"
        return crashed(status if ended else None, text, more)

    def _kill(self) -> int:
        """Kill what is left of the group, reap the worker, return its status."""
        return _reap(self._held)

    def _said(self) -> str:
        return end_of(self._stderr).decode("utf-8", "backslashreplace")


class _Held(NamedTuple):
    """What must be let go of when a worker is no longer needed."""

    popen: subprocess.Popen[bytes]
    socket: socket.socket
    stderr: int
    pidfd: int
    running: set[int]


def _reap(held: _Held) -> int:
    if held.popen.returncode is None:
        signal_group(held.popen.pid, signal.SIGKILL)
        held.running.discard(held.popen.pid)  # from here on the number may be another's
        held.popen.wait()
    return int(held.popen.returncode)


def _let_go(held: _Held, seconds: float) -> None:
    held.socket.close()
    if seconds > 0 and held.popen.returncode is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            held.popen.wait(seconds)
            held.running.discard(held.popen.pid)
    _reap(held)
    os.close(held.stderr)
    if held.pidfd >= 0:
        os.close(held.pidfd)


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # before Linux 5.3, or out of descriptors: then we look now and then
        return -1
