"""Run a command of watcher in a child of ours, under strace, from its first own call on.

The child is forked from a process that has watcher imported, and stops itself before the command
begins (or, for the daemon's worker thread, before the worker does); strace is attached to just that
thread, and the child goes on. So every call that is counted is one of the command's, none of the
interpreter's start, and the counts of a run are those of the next.

Guarantees: when `run` returns, neither the child nor anything that it started is left.
Fails: NoTracing where strace cannot be had or may not attach.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

PATIENCE = 30.0  # seconds: what runs longer hangs
LOOK_EVERY = 0.002  # seconds
MAIN, WORKER = "main", "worker"  # the threads that can be traced
_CHILD_SUBREAPER = 36  # linux/prctl.h
_CALL = re.compile(rb"([a-z0-9_]+)\(")


class NoTracing(Exception):
    """strace is not here, or may not attach; the text says which."""


class Order(NamedTuple):
    """What to run, where its output goes, and which of its threads is traced."""

    argv: Sequence[str]
    output: str  # prefix of the files .out, .err, .strace
    environment: Mapping[str, str]
    thread: str = MAIN


class Call(NamedTuple):
    """One system call: its name, and the line that strace has of it."""

    name: str
    line: str


class Ended(NamedTuple):
    """How a run ended: exit status (negative: by a signal; None: it had to be ended, it hung)."""

    status: int | None
    calls: list[Call]  # in order; of a run that is struck, only those of the one name
    seconds: float
    injected: bool

    @property
    def last(self) -> str:
        """The last call that strace saw."""
        return self.calls[-1].line if self.calls else ""


def be_reaper() -> None:
    """Have what a killed child leaves behind become our child, so that it can be waited for."""
    ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(order: Order, injection: str | None, watch: Callable[[int], None] | None = None) -> Ended:
    """Run to the end. `injection` is strace's `-e inject=`; `watch` is called now and then.

    `watch` gets the child's process id and may signal it. With an `order.thread` of "" nothing is
    traced.
    """
    began = time.monotonic()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _be_victim(order, write_end)
    os.close(write_end)
    tracer = None
    try:
        if order.thread:
            tracer = _attach(child, read_end, order, injection)
        status = _wait(child, watch)
    finally:
        os.close(read_end)
        if tracer is not None:
            tracer.wait()
        _reap()
    seconds = time.monotonic() - began
    if tracer is None:
        return Ended(status, [], seconds, injected=False)
    with open(order.output + ".strace", "rb") as log:
        text = log.read()
    lines = ((_CALL.match(line), line) for line in text.splitlines())
    calls = [
        Call(found[1].decode(), line.decode(errors="replace")) for found, line in lines if found
    ]
    injected = b"(INJECTED)" in text or status == -signal.SIGKILL
    return Ended(status, calls, seconds, injected)


def _attach(
    child: int, announced: int, order: Order, injection: str | None
) -> subprocess.Popen[bytes] | None:
    """Attach strace to the thread that announces itself, and let the child go on."""
    thread = os.read(announced, 32)
    if not thread:
        return None  # it ended before
    os.waitpid(child, os.WUNTRACED)
    argv = ["strace", "-q", "-y", "-o", order.output + ".strace", "-p", thread.decode()]
    if injection is not None:
        calls = injection.partition(":")[0]
        argv += ["-e", f"trace={calls}", "-e", f"inject={injection}"]
    try:
        tracer = subprocess.Popen(argv, stderr=subprocess.PIPE)
    except OSError as error:
        _end(child)
        raise NoTracing(f"strace cannot be run: {error.strerror}") from None
    status = f"/proc/{child}/task/{thread.decode()}/status"
    while not _traced(status):
        if tracer.poll() is not None:
            _end(child)
            assert tracer.stderr is not None  # noqa: S101 - a pipe was asked for
            raise NoTracing(tracer.stderr.read().decode(errors="replace").strip())
    assert tracer.stderr is not None  # noqa: S101 - a pipe was asked for
    tracer.stderr.close()
    os.kill(child, signal.SIGCONT)
    return tracer


def _traced(status: str) -> bool:
    with open(status, encoding="ascii", errors="replace") as lines:
        return any(line.startswith("TracerPid") and not line.endswith("\t0\n") for line in lines)


def _end(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _reap()


def _wait(child: int, watch: Callable[[int], None] | None) -> int | None:
    deadline = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        if watch is not None:
            watch(child)
        time.sleep(LOOK_EVERY)


def _reap() -> None:
    """Wait for the handlers that a dead child left at work."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _be_victim(order: Order, announce: int) -> NoReturn:
    """Run the command in this child, and end as the interpreter would."""
    code: object = os.EX_SOFTWARE
    try:
        _forget_parent()
        _redirect(order.output)
        os.environ.update(order.environment)
        from watcher import cli, runner

        if order.thread == WORKER:
            serve = runner.Runner._serve  # noqa: SLF001 - where the worker's own work begins

            def stopped(self: runner.Runner) -> None:
                _stop(announce)
                serve(self)

            runner.Runner._serve = stopped  # type: ignore[method-assign]  # noqa: SLF001
        elif order.thread == MAIN:
            _stop(announce)
        try:
            cli.main(list(order.argv))
        except SystemExit as ended:
            code = ended.code
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as at the end of Python
        atexit._run_exitfuncs()  # noqa: SLF001 - the same
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - it ends here, and says why
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 0)


def _forget_parent() -> None:
    """Have nothing to do at the end that is our parent's to do: remove its directories, say."""
    atexit._clear()  # noqa: SLF001 - there is no other way
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # noqa: SLF001 - the same
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]  # noqa: SLF001


def _redirect(output: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for fd, suffix in ((1, ".out"), (2, ".err")):
        opened = os.open(output + suffix, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _stop(announce: int) -> None:
    """Say who we are, and stop until strace is there."""
    os.write(announce, str(threading.get_native_id()).encode())
    os.close(announce)
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
