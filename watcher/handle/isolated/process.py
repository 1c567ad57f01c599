"""One worker process, on the daemon's side: start it, send it an entry, end it.

Guarantees: each wait has a limit. A worker that ends is reaped, and what is left of its process
group is killed. When no reference to a `Process` is left, its socket is closed and the worker ends.
Fails: OSError if it cannot be started or sent an entry; BadConfiguration if it cannot import its
function. If it dies, is late or sends a wrong packet, `ask` returns a result that says so.
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
from collections.abc import Sequence
from typing import NamedTuple

from watcher.durations import show
from watcher.errors import BadConfiguration, one_line
from watcher.handle.child_process import (
    KEPT,
    Trimmer,
    end_of,
    last_of,
    signal_group,
    stderr_file,
)
from watcher.handle.entry import Entry
from watcher.handle.isolated import protocol
from watcher.handle.kept_process import KeptProcess
from watcher.rules.results import HandlerResult, Verdict, crashed

START = 60.0  # seconds for Python to start and the function to be imported
KILL_AFTER = 5.0  # seconds between TERM and KILL
FOLLOW = 1.0  # seconds for the worker to end after it closed its socket
LEAVE = 5.0  # seconds for the worker to end after the daemon closed its socket; then KILL

# Not `-m`: the worker needs the daemon's sys.path before it imports anything of this package.
_BOOT = """\
import json, socket, sys
daemon = socket.socket(fileno=int(sys.argv[1]))
daemon.set_inheritable(False)
init = daemon.recv(1 << 20)
sys.path[:] = json.loads(init)["path"]
from watcher.handle.isolated.worker import main
main(daemon, init)
"""


class Limits(NamedTuple):
    """What one entry may use; None: no limit."""

    timeout: float | None = None  # seconds
    memory: int | None = None  # bytes of address space of the worker process
    cpu: float | None = None  # seconds of processor time


class Process:
    """A worker process; `running` has its process group until it ends."""

    def __init__(
        self, spec: str, limits: Limits, running: set[int], *, in_list: bool = False
    ) -> None:
        self._limits = limits
        with contextlib.ExitStack() as undo:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(mine.close)
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
        self._process = KeptProcess(popen.pid, popen.wait, running)
        self._socket, self._stderr = mine, stderr
        self._errors: int | None = None  # standard error of the entry in hand
        self._trimmer = Trimmer(stderr)  # of that, or of the worker until its first entry
        self.copy_stderr_to: int | None = None  # as `Command`
        self._held = _Held(self._process, mine, stderr)
        self._release = weakref.finalize(self, _let_go, self._held, LEAVE)
        self._poll = select.poll()
        self._poll.register(mine, select.POLLIN)
        if self._process.pidfd is not None:
            self._poll.register(self._process.pidfd, select.POLLIN)
        try:
            self._initialize(spec, in_list=in_list)
        except BaseException:
            self.end(0.0)
            raise

    def _initialize(self, spec: str, *, in_list: bool) -> None:
        """Say what to import; raise BadConfiguration if the worker cannot import it."""
        folders: Sequence[object] = sys.path  # a program may put anything there
        path = [folder for folder in folders if isinstance(folder, str)]
        init = protocol.Init(path, spec, self._limits.memory, in_list)
        where = f"handler {one_line(spec[:200])!r}: its worker process"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.send(protocol.pack(init))
        try:
            data = self._listen(START)
            why_not = protocol.read(data, protocol.Started).broken if data else None
        except TimeoutError:
            raise BadConfiguration(f"{where} was not ready within {show(START)}") from None
        except ValueError:
            raise BadConfiguration(f"{where} sent a packet that makes no sense") from None
        if why_not is not None:
            raise BadConfiguration(why_not)
        if not data:
            died = self._died()
            last = died.stderr.strip().splitlines()[-1:] or ["nothing on standard error"]
            raise BadConfiguration(f"{where} was {died.reason} before it was ready ({last[0]})")

    def idle(self) -> bool:
        """Whether it waits for an entry: it lives, and no packet of its is unread."""
        return bool(self._release.alive and not self._poll.poll(0) and not self._process.dead())

    def ask(self, entry: Entry) -> protocol.Response:
        """Send an entry, and wait for the response."""
        os.ftruncate(self._stderr, 0)
        self._errors = errors = stderr_file()
        self._trimmer = Trimmer(errors, self.copy_stderr_to)
        entry.process = self._process.pid
        try:
            return self._ask(entry, errors)
        finally:
            self._trimmer.copy()
            last_of(errors)
            os.close(errors)
            self._errors = None

    def _ask(self, entry: Entry, errors: int) -> protocol.Response:
        packet = protocol.request(entry, self._limits.cpu)
        fds = [*(part.fd for part in entry.parts), errors]
        socket.send_fds(self._socket, [packet], fds)
        try:
            data = self._listen(self._limits.timeout)
        except TimeoutError:
            return protocol.Response(self._late(), last=True)
        if not data:
            return protocol.Response(self._died(), last=True)
        try:
            return protocol.read_response(data)
        except ValueError as error:
            self._process.kill()
            said = f"its response makes no sense: {error}"
            outcome = crashed(None, self._said(), said)
            self.end(0.0)
            return protocol.Response(outcome, last=True)

    def end(self, seconds: float = LEAVE) -> None:
        """Close the socket; after `seconds`, kill what is left of its group."""
        if self._release.detach():
            _let_go(self._held, seconds)

    # -- waiting ------------------------------------------------------------------------------

    def _listen(self, seconds: float | None) -> bytes:
        """Wait for a packet; return b"" if it closed its socket or died; raise TimeoutError."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        trimmer = self._trimmer
        while True:
            left = max(0.0, deadline - time.monotonic())
            if self._poll.poll(min(left, trimmer.wait) * 1000) or self._process.dead():
                try:
                    return self._socket.recv(protocol.LARGEST, socket.MSG_DONTWAIT)
                except (BlockingIOError, ConnectionResetError):
                    return b""
            if left == 0:
                raise TimeoutError
            trimmer.look()

    # -- ending -------------------------------------------------------------------------------

    def _late(self) -> HandlerResult:
        """End the worker, which takes too long; return the result."""
        with contextlib.suppress(OSError):
            self._socket.send(protocol.END, socket.MSG_DONTWAIT)
        signal_group(self._process.pid, signal.SIGTERM)
        self._process.ends_within(KILL_AFTER)
        status, said = self._process.kill(), self._said()
        self.end(0.0)
        reason = f"timeout: still running after {show(self._limits.timeout or 0)}"
        return HandlerResult(Verdict.RETRY, reason, None, said, status)

    def _died(self) -> HandlerResult:
        """Return the result that says how it died."""
        ended = self._process.ends_within(FOLLOW)
        status, text = self._process.kill(), self._said()
        self.end(0.0)
        more = ""
        if status == -signal.SIGXCPU and self._limits.cpu is not None:
            more = f"more than {show(self._limits.cpu)} of processor time"
        return crashed(status if ended else None, text, more)

    def _said(self) -> str:
        """Return the end of what the function, and then the worker, wrote to standard error."""
        said = (b"" if self._errors is None else end_of(self._errors)) + end_of(self._stderr)
        return said[-KEPT:].decode("utf-8", "backslashreplace")


class _Held(NamedTuple):
    """What to close when a worker is no longer needed."""

    process: KeptProcess
    socket: socket.socket
    stderr: int


def _let_go(held: _Held, seconds: float) -> None:
    held.socket.close()
    if seconds > 0 and held.process.returncode is None:
        held.process.ends_within(seconds)
    held.process.kill()
    last_of(held.stderr)
    os.close(held.stderr)
    held.process.close()
