"""An exec handler: a command, its arguments as they are, no shell.

Guarantees: the command's standard input is a file with the whole message (the claimed file, or a
sealed memory file), never a pipe: if this process dies, the command still reads all of it. The
command inherits the claim, so the entry stays claimed until the command ends. It has its own
process group, and a timeout ends the group: TERM, then KILL for the processes that are left.
Standard error, and standard output if `keeps_stdout`, are bounded memory files (`child_process`).
Fails: `run` never raises. A command that cannot be started is MISCONFIGURED. An entry that cannot
be read is a RETRY; so is a shortage of processes, memory, space or descriptors.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import tempfile
import threading
from collections.abc import Sequence

from watcher import mailman
from watcher.durations import show
from watcher.errors import Undecodable
from watcher.handle.child_process import (
    inherited_environment,
    last_of,
    signal_group,
    stderr_file,
)
from watcher.handle.command_process import (
    Spawned,
    Streams,
    above_standard,
    not_given,
    not_started,
    start,
)
from watcher.handle.entry import Entry
from watcher.handle.message_file import message_file
from watcher.handle.posix_spawn import Strings, strings
from watcher.rules.results import HandlerResult, Verdict, from_exit_status

INLINE = 64 << 10  # bytes of metadata in the environment (execve(2): 128 KiB a string)
KILL_AFTER = 5.0  # seconds between TERM and KILL


class Command:
    """Runs one command for every entry. `timeout` in seconds, None for none."""

    def __init__(self, argv: Sequence[str], timeout: float | None = None) -> None:
        self.argv = tuple(argv)
        self.timeout = timeout
        self.copy_stderr_to: int | None = None  # a descriptor, for an operator at a terminal
        self.keeps_stdout = False  # for the result; False: it has this process's
        self._running: set[int] = set()
        self._lock = threading.Lock()
        # Held for a few short system calls, whatever the entry's size. Without it, workers that
        # start commands at the same time would exchange the interpreter's lock at every call.
        self._turn = threading.Lock()
        self._terminated = False
        self._inherited = inherited_environment()

    @functools.cached_property
    def _encoded(self) -> Strings:
        """The arguments as an array for the kernel; raises ValueError, at each access."""
        return strings(os.fsencode(argument) for argument in self.argv)

    def run(self, entry: Entry) -> HandlerResult:
        """Run the command and read its exit status; never raises."""
        try:
            with contextlib.ExitStack() as opened:
                return self._run(entry, opened)
        except Undecodable as error:
            return HandlerResult(Verdict.REJECT, str(error), ran=False)
        except (OSError, MemoryError) as error:
            return not_given(error)

    def _run(self, entry: Entry, opened: contextlib.ExitStack) -> HandlerResult:
        process, streams = self._begin(entry, opened)
        if isinstance(process, (OSError, ValueError)):
            return not_started(self.argv[0], process)
        entry.process = process.pid
        return self._result(process, streams)

    def _result(self, process: Spawned, streams: Streams) -> HandlerResult:
        """Wait for a running command, end it if it is late, and return its result."""
        with self._lock:
            self._running.add(process.pid)
        if self._terminated:
            signal_group(process.pid, signal.SIGTERM)
        process.trimmer.copy_to = self.copy_stderr_to
        try:
            late = not process.ended_within(self.timeout)
            if late:
                process.end(KILL_AFTER)
        finally:
            with self._lock:
                self._running.discard(process.pid)
        process.trimmer.copy()
        text = _text(streams.stderr)
        printed = "" if streams.stdout is None else _text(streams.stdout)
        if late:
            reason = f"timeout: still running after {show(self.timeout or 0)}"
            status = process.returncode
            return HandlerResult(Verdict.RETRY, reason, None, text, status, stdout=printed)
        if self._terminated and process.returncode != 0:
            code = process.returncode
            return HandlerResult(Verdict.STOPPED, "stopped at once", None, text, code, ran=False)
        return from_exit_status(process.returncode or 0, text, printed)

    def _begin(
        self, entry: Entry, opened: contextlib.ExitStack
    ) -> tuple[Spawned | OSError | ValueError, Streams]:
        """Start the command; return its process or the error, and its streams."""
        # Work whose time grows with the entry comes before the lock.
        metadata = mailman.to_json(entry.metadata).encode("utf-8", "replace")
        key = entry.key.encode()
        large = not entry.plain and len(entry.message) > INLINE
        early = message_file(entry, opened) if large else None
        with self._turn:
            entry.lent = True
            passed = [above_standard(part.fd, opened) for part in entry.parts]
            environment = [b"WATCHER_KEY=" + key, *self._environment(entry, passed[0])]
            stdin = message_file(entry, opened) if early is None else early
            streams = self._streams(stdin, opened)
        process: Spawned | OSError | ValueError = OSError(errno.E2BIG, "")
        if len(metadata) <= INLINE:
            inline = [*environment, b"WATCHER_METADATA=" + metadata]
            process = self._start(streams, inline, passed)
        if isinstance(process, OSError) and process.errno == errno.E2BIG:
            elsewhere = [*environment, b"WATCHER_METADATA_FILE=" + _file_of(metadata, opened)]
            process = self._start(streams, elsewhere, passed)
        return process, streams

    def _streams(self, stdin: int, opened: contextlib.ExitStack) -> Streams:
        """Return the streams of a command with this standard input."""
        stderr = stderr_file()
        opened.callback(os.close, stderr)
        stdout = stderr_file("stdout") if self.keeps_stdout else None
        if stdout is not None:
            opened.callback(os.close, stdout)
        return Streams(stdin, stderr, stdout)

    def _start(
        self, streams: Streams, environment: list[bytes], passed: list[int]
    ) -> Spawned | OSError | ValueError:
        """Start the command, or return the error (ValueError: an argument cannot be encoded)."""
        try:
            return start(self._encoded, strings(environment), streams, passed)
        except (OSError, ValueError) as error:
            return error

    def _environment(self, entry: Entry, fd: int) -> list[bytes]:
        """Return the environment; `fd` is the message's file in the command."""
        return [
            *self._inherited,
            b"WATCHER_QUEUE=" + os.fsencode(entry.queue),
            b"WATCHER_ENTRY=" + os.fsencode(entry.name),
            b"WATCHER_ATTEMPT=%d" % entry.attempt,
            b"WATCHER_FILE=/dev/fd/%d" % fd,
            b"WATCHER_PATH=" + os.fsencode(entry.path),
        ]

    def terminate(self) -> None:
        """Send TERM to the process group of every running command."""
        self._terminated = True  # before the signal: the end is no failure of the command
        for pid in list(self._running):
            signal_group(pid, signal.SIGTERM)


def _text(fd: int) -> str:
    """Return the end of what was written to a file of a stream, which takes no more."""
    return last_of(fd).decode("utf-8", "backslashreplace")


def _file_of(metadata: bytes, opened: contextlib.ExitStack) -> bytes:
    """Write metadata to a private file, for one too large for the environment."""
    file = opened.enter_context(
        tempfile.NamedTemporaryFile(prefix="watcher-")  # noqa: SIM115 - it is one
    )
    file.write(metadata)
    file.flush()
    return os.fsencode(file.name)
