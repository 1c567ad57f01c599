"""Run a command of watcher in a child process, under strace, from the command's first call on.

The child is forked from a process that has imported watcher. It stops itself before the command
begins (or, for the daemon's workers, before they begin). Then strace is attached to that thread, or
to all threads, and the child is resumed. So only calls of the command are counted, not those of the
start of Python, and the counts are the same in each run.

With all threads, `when=N` is the N-th call of a name in the thread that comes to it first: strace
counts in each thread. Processes that the child starts are not traced.

Guarantees: when `run` returns, the child and all processes that it started have ended, except those
that are recorded in the file `left` of the order.
Fails: NoTracing if strace is missing or may not attach.
"""

from __future__ import annotations

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, NoReturn

PATIENCE = 60.0  # seconds: a run that takes longer hangs; a daemon is given 20 s to get well
LOOK_EVERY = 0.002  # seconds
LOOK_LONGEST = 0.5  # seconds between the daemon's looks at an entry that it could not open; not 60
MAIN, WORKER, ALL = "main", "worker", "all"  # the threads that can be traced
FOLLOW = "follow"  # all threads, and those that these start
BESIDE: set[int] = set()  # children of this process that are no victims: servers
_CHILD_SUBREAPER = 36  # linux/prctl.h
_CALL = re.compile(rb"(?:([0-9]+) +)?(([a-z0-9_]+)\(.*)")
# With several threads strace shows a call in two lines if another thread's line comes between.
_UNFINISHED = b" <unfinished ...>"
_RESUMED = re.compile(rb"([0-9]+) +<\.\.\. ([a-z0-9_]+) resumed>(.*)")


class NoTracing(Exception):
    """strace is missing or may not attach; the text says which."""


class Order(NamedTuple):
    """What to run, where its output goes, and which of its threads is traced."""

    argv: Sequence[str]
    output: str  # prefix of the files .out, .err, .strace
    environment: Mapping[str, str]
    thread: str = MAIN
    workers: int = 1  # of the daemon, where all threads are
    left: str = ""  # the file in which handlers record the processes that they leave running
    patience: float = PATIENCE  # seconds until the run hangs


class Call(NamedTuple):
    """One system call: its name, and strace's line."""

    name: str
    line: str
    thread: str = ""  # of which, where all are traced


class Ended(NamedTuple):
    """How a run ended: exit status (negative: a signal; None: it hung and was killed)."""

    status: int | None
    calls: list[Call]  # in order; with an injection, only those of the one name
    seconds: float
    injected: bool

    @property
    def last(self) -> str:
        """The last call in strace's output."""
        return self.calls[-1].line if self.calls else ""


def be_reaper() -> None:
    """Become the parent of processes that a killed child leaves behind, to wait for them."""
    ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(order: Order, injection: str | None, watch: Callable[[int], None] | None = None) -> Ended:
    """Run to the end. `injection` is strace's `-e inject=`; `watch` is called at intervals.

    `watch` gets the child's process number and may signal it. If `order.thread` is "", nothing is
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
        status = _wait(child, watch, order.patience)
    finally:
        os.close(read_end)
        if tracer is not None:
            tracer.wait()
            assert tracer.stderr is not None  # noqa: S101 - a pipe was asked for
            tracer.stderr.close()  # not before: a warning would end strace, and its output with it
        _reap(order.left)
    seconds = time.monotonic() - began
    if tracer is None:
        return Ended(status, [], seconds, injected=False)
    with open(order.output + ".strace", "rb") as log:
        text = log.read()
    calls = list(calls_in(text))
    injected = b"(INJECTED)" in text or b"+++ killed by SIGKILL" in text
    injected = injected or status == -signal.SIGKILL
    return Ended(status, calls, seconds, injected)


def calls_in(text: bytes) -> Iterator[Call]:
    """Yield the calls in strace's output; one that is shown in two lines is one call."""
    lines = text.splitlines()
    begun: dict[tuple[bytes, bytes], int] = {}
    for number, line in enumerate(lines):
        if (found := _CALL.match(line)) and line.endswith(_UNFINISHED):
            begun[found[1] or b"", found[3]] = number
        elif (rest := _RESUMED.match(line)) and (rest[1], rest[2]) in begun:
            first = begun.pop((rest[1], rest[2]))
            lines[first] = lines[first].removesuffix(_UNFINISHED) + rest[3]
    for found in filter(None, map(_CALL.match, lines)):
        yield Call(found[3].decode(), found[2].decode(errors="replace"), (found[1] or b"").decode())


def _attach(
    child: int, announced: int, order: Order, injection: str | None
) -> subprocess.Popen[bytes] | None:
    """Attach strace to the thread that reports itself, and resume the child."""
    thread = os.read(announced, 32)
    if not thread:
        return None  # it has already ended
    os.waitpid(child, os.WUNTRACED)
    threads = [thread.decode()]
    argv = ["strace", "-q", "-y", "-o", order.output + ".strace"]
    if order.thread in (ALL, FOLLOW):
        threads = os.listdir(f"/proc/{child}/task")
    argv += ["-f"] * (order.thread == FOLLOW)
    argv += [word for one in threads for word in ("-p", one)]
    if injection is not None:
        calls = injection.partition(":")[0]
        argv += ["-e", f"trace={calls}", "-e", f"inject={injection}"]
    try:
        tracer = subprocess.Popen(argv, stderr=subprocess.PIPE)
    except OSError as error:
        _end(child)
        raise NoTracing(f"strace cannot be run: {error.strerror}") from None
    while not all(_traced(f"/proc/{child}/task/{one}/status") for one in threads):
        if tracer.poll() is not None:
            _end(child)
            assert tracer.stderr is not None  # noqa: S101 - a pipe was asked for
            raise NoTracing(tracer.stderr.read().decode(errors="replace").strip())
    os.kill(child, signal.SIGCONT)
    return tracer


def _traced(status: str) -> bool:
    with open(status, encoding="ascii", errors="replace") as lines:
        return any(line.startswith("TracerPid") and not line.endswith("\t0\n") for line in lines)


def _end(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _reap()


def _wait(child: int, watch: Callable[[int], None] | None, patience: float) -> int | None:
    deadline = time.monotonic() + patience
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


def _reap(left: str = "") -> None:
    """Wait for the handlers that a dead child left, except those that are recorded, and servers."""
    with contextlib.suppress(ChildProcessError):
        while not (left or BESIDE):
            os.waitpid(-1, 0)
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                if _children() <= BESIDE | {pid for pid, _entry in left_running(left)}:
                    return
                time.sleep(LOOK_EVERY)


def _children() -> set[int]:
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children", encoding="ascii") as line:
            found.update(map(int, line.read().split()))
    return found


def left_running(left: str) -> list[tuple[int, str]]:
    """Return the processes that handlers recorded, each with its entry."""
    with contextlib.suppress(FileNotFoundError), open(left, encoding="utf-8") as lines:
        found = (line.split() for line in lines if line.endswith("\n"))
        return [(int(pid), entry) for pid, entry in found]
    return []


def end_left_running(left: str) -> None:
    """Kill these processes, and wait for their end."""
    for pid, _entry in left_running(left):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _reap()


def _be_victim(order: Order, announce: int) -> NoReturn:
    """Run the command in this child, and end as the interpreter does."""
    code: object = os.EX_SOFTWARE
    try:
        weakref.finalize = Noted  # type: ignore[misc]
        _redirect(order.output)
        os.environ.update(order.environment)
        from watcher import cli
        from watcher.daemon import follow_up, worker_loop

        # Four threads that are refused four calls each may look at one entry 16 times. Without this
        # the daemon, which is as it should be, is not healthy again for minutes.
        follow_up.LOOK_LONGEST = LOOK_LONGEST
        if order.thread in (WORKER, ALL, FOLLOW):
            workers = 1 if order.thread == WORKER else order.workers
            turns = iter(range(workers))  # those that a reload brings find none
            all_there = threading.Barrier(workers)
            serve = worker_loop.WorkerLoop.serve  # where the worker's own work begins

            def stopped(self: worker_loop.WorkerLoop) -> None:
                if next(turns, None) is not None:
                    if all_there.wait() == 0:
                        _stop(announce)
                    all_there.wait()
                serve(self)

            worker_loop.WorkerLoop.serve = stopped  # type: ignore[method-assign]
        elif order.thread == MAIN:
            _stop(announce)
        try:
            cli.main(list(order.argv))
        except SystemExit as ended:
            code = ended.code
        _end_as_python_does()
    except BaseException:  # noqa: BLE001 - the child ends here, and reports why
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 0)


class Noted(weakref.finalize):  # type: ignore[type-arg]  # generic in the stubs alone
    """A finalizer that the command made, and not its parent."""

    __slots__ = ()
    all_of_them: ClassVar[list[Noted]] = []

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.all_of_them.append(self)


def _end_as_python_does() -> None:
    """Wait for the threads, and run the command's finalizers: the parent's are not ours to run."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    for finalizer in reversed(Noted.all_of_them):
        if finalizer.atexit:
            finalizer()
    sys.stdout.flush()


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
    """Report this thread, and stop until strace is attached."""
    os.write(announce, str(threading.get_native_id()).encode())
    os.close(announce)
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
