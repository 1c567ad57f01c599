"""An exec handler: a command, its arguments as they are, no shell.

Guarantees: the whole message is on the command's standard input, as a file (the claimed one, or a
sealed memory file), never through a pipe: should we die, the command still reads all of it. The
command inherits the claim, so the entry stays claimed for as long as it lives. It is a process
group of its own, and a timeout ends the group: TERM, and KILL for what is left of it. Standard
error is a memory file, so that nobody waits for whoever still holds it; while the command runs it
is cut to its end when it grows large.
Fails: `run` never raises; a command that cannot be started is the operator's mistake; an entry
that cannot be read, or want of processes, memory, space or descriptors, is a retry.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import signal
import tempfile
import threading
from collections.abc import Sequence

from watcher import contents
from watcher.durations import show
from watcher.entry import Entry
from watcher.errors import Undecodable
from watcher.handle.child import end_of, signal_group, stderr_file
from watcher.handle.outcome import SHORT, Outcome, Verdict, from_exit_status, shortened
from watcher.handle.posix_spawn import Strings, strings
from watcher.handle.spawned import Spawned, start

INLINE = 64 << 10  # bytes of metadata that go into the environment (execve(2): 128 KiB a string)
KILL_AFTER = 5.0  # seconds between TERM and KILL
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_GIVEN = (  # to each command anew: we may ourselves be what a handler runs
    *(b"WATCHER_QUEUE", b"WATCHER_ENTRY", b"WATCHER_KEY", b"WATCHER_ATTEMPT", b"WATCHER_FILE"),
    *(b"WATCHER_METADATA", b"WATCHER_METADATA_FILE"),
)
_SHORTAGE = (*SHORT, errno.ENOMEM, errno.ETXTBSY)


class Command:
    """Runs one command for every entry. `timeout` in seconds, None for none."""

    def __init__(self, argv: Sequence[str], timeout: float | None = None) -> None:
        self.argv = tuple(argv)
        self.timeout = timeout
        self._running: set[int] = set()
        self._lock = threading.Lock()
        # To start a command takes dozens of short system calls; workers that made them at the same
        # time would hand the interpreter's lock to each other at every one.
        self._turn = threading.Lock()
        self._abandoned = False
        self._inherited = [b"%s=%s" % item for item in os.environb.items() if item[0] not in _GIVEN]

    @functools.cached_property
    def _encoded(self) -> Strings:
        """The arguments as the kernel wants them; raises ValueError, each time."""
        return strings(os.fsencode(argument) for argument in self.argv)

    def run(self, entry: Entry) -> Outcome:
        """Run the command and read its exit status; never raises."""
        try:
            with contextlib.ExitStack() as opened:
                return self._run(entry, opened)
        except Undecodable as error:
            return Outcome(Verdict.REJECT, str(error))
        except (OSError, MemoryError) as error:
            why = getattr(error, "strerror", None) or repr(error)
            reason = shortened(f"cannot be given to the command: {why}")
            return Outcome(Verdict.RETRY, reason, given=getattr(error, "errno", None) not in SHORT)

    def _run(self, entry: Entry, opened: contextlib.ExitStack) -> Outcome:
        process, stderr = self._begin(entry, opened)
        if isinstance(process, (OSError, ValueError)):
            return self._not_started(process)
        with self._lock:
            self._running.add(process.pid)
        if self._abandoned:
            signal_group(process.pid, signal.SIGTERM)
        try:
            late = not process.ended_within(self.timeout)
            if late:
                process.end(KILL_AFTER)
        finally:
            with self._lock:
                self._running.discard(process.pid)
        text = end_of(stderr).decode("utf-8", "backslashreplace")
        if late:
            reason = f"timeout: still running after {show(self.timeout or 0)}"
            return Outcome(Verdict.RETRY, reason, None, text, process.returncode)
        if self._abandoned and process.returncode != 0:
            return Outcome(Verdict.STOPPED, "stopped at once", None, text, process.returncode)
        return from_exit_status(process.returncode or 0, text)

    def _begin(
        self, entry: Entry, opened: contextlib.ExitStack
    ) -> tuple[Spawned | OSError | ValueError, int]:
        """Gather what the command is given, and start it, or return why not; and its stderr."""
        with self._turn:
            metadata = contents.to_json(entry.metadata).encode("utf-8", "replace")
            passed = [part.fd for part in entry.parts]
            environment = self._environment(entry)
            stdin = _message(entry, opened)
            stderr = stderr_file()
            opened.callback(os.close, stderr)
        process: Spawned | OSError | ValueError = OSError(errno.E2BIG, "")
        if len(metadata) <= INLINE:
            inline = [*environment, b"WATCHER_METADATA=" + metadata]
            process = self._start(stdin, stderr, inline, passed)
        if isinstance(process, OSError) and process.errno == errno.E2BIG:
            elsewhere = [*environment, b"WATCHER_METADATA_FILE=" + _file_of(metadata, opened)]
            process = self._start(stdin, stderr, elsewhere, passed)
        return process, stderr

    def _start(
        self, stdin: int, stderr: int, environment: list[bytes], passed: list[int]
    ) -> Spawned | OSError | ValueError:
        """Start the command, or return why not (ValueError: an argument that has no bytes)."""
        try:
            return start(self._encoded, strings(environment), stdin, stderr, passed)
        except (OSError, ValueError) as error:
            return error

    def _not_started(self, error: OSError | ValueError) -> Outcome:
        why = getattr(error, "strerror", None) or str(error)
        short = isinstance(error, OSError) and error.errno in _SHORTAGE
        verdict = Verdict.RETRY if short else Verdict.MISCONFIGURED
        reason = shortened(f"{self.argv[0]}: cannot be run: {why}")
        return Outcome(verdict, reason, given=getattr(error, "errno", None) not in SHORT)

    def _environment(self, entry: Entry) -> list[bytes]:
        return [
            *self._inherited,
            b"WATCHER_QUEUE=" + os.fsencode(entry.queue),
            b"WATCHER_ENTRY=" + os.fsencode(entry.name),
            b"WATCHER_KEY=" + entry.key.encode(),
            b"WATCHER_ATTEMPT=%d" % entry.attempt,
            b"WATCHER_FILE=" + os.fsencode(entry.path),
        ]

    def abandon(self) -> None:
        """Ask every running command, and what it started, to end."""
        self._abandoned = True  # first: its end must not be taken for a failure
        for pid in list(self._running):
            signal_group(pid, signal.SIGTERM)


def _message(entry: Entry, opened: contextlib.ExitStack) -> int:
    """Return a descriptor at the message's beginning."""
    if entry.plain:
        fd = entry.parts[0].fd
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    fd = os.memfd_create("message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    opened.callback(os.close, fd)
    message, written = memoryview(entry.message), 0
    while written < len(message):
        written += os.pwrite(fd, message[written:], written)  # its offset stays at the beginning
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _file_of(metadata: bytes, opened: contextlib.ExitStack) -> bytes:
    """Write metadata that no environment holds to a private file, removed afterwards."""
    file = opened.enter_context(
        tempfile.NamedTemporaryFile(prefix="watcher-")  # noqa: SIM115 - it is one
    )
    file.write(metadata)
    file.flush()
    return os.fsencode(file.name)
