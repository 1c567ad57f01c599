"""An exec handler: a command, its arguments as they are, no shell.

Guarantees: the whole message is on the command's standard input, as a file (the claimed one, or a
sealed memory file), never through a pipe: should we die, the command still reads all of it. The
command inherits the claim, so the entry stays claimed for as long as it lives. It is a process
group of its own, and a timeout ends the group: TERM, and KILL for what is left of it. Standard
error is a file, so that nobody waits for whoever still holds it; while the command runs it is cut
to its end when it grows large.
Fails: `run` never raises; a command that cannot be started is the operator's mistake; an entry
that cannot be read, or want of processes, memory, space or descriptors, is a retry.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence

from watcher import contents
from watcher.durations import show
from watcher.entry import Entry
from watcher.errors import Undecodable
from watcher.handle.child import cut, end_of, signal_group, stderr_file
from watcher.handle.outcome import Outcome, Verdict, from_exit_status, shortened

INLINE = 64 << 10  # bytes of metadata that go into the environment (execve(2): 128 KiB a string)
KILL_AFTER = 5.0  # seconds between TERM and KILL
STDERR_ON_DISK = 16 << 20  # bytes; beyond them all but the end is dropped
LOOK_EVERY = 0.5  # seconds between two looks at how large that is
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_SHORTAGE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY)


class Command:
    """Runs one command for every entry. `timeout` in seconds, None for none."""

    def __init__(self, argv: Sequence[str], timeout: float | None = None) -> None:
        self.argv = tuple(argv)
        self.timeout = timeout
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._abandoned = False

    def run(self, entry: Entry) -> Outcome:
        """Run the command and read its exit status; never raises."""
        try:
            with contextlib.ExitStack() as opened:
                return self._run(entry, opened)
        except Undecodable as error:
            return Outcome(Verdict.REJECT, str(error))
        except (OSError, MemoryError) as error:
            why = getattr(error, "strerror", None) or repr(error)
            return Outcome(Verdict.RETRY, shortened(f"cannot be given to the command: {why}"))

    def _run(self, entry: Entry, opened: contextlib.ExitStack) -> Outcome:
        metadata = contents.to_json(entry.metadata).encode("utf-8", "replace")
        passed = [part.fd for part in entry.parts]
        environment = self._environment(entry)
        stdin = _message(entry, opened)
        stderr = opened.enter_context(stderr_file()).fileno()
        process: subprocess.Popen[bytes] | OSError | ValueError = OSError(errno.E2BIG, "")
        if len(metadata) <= INLINE:
            inline = environment | {b"WATCHER_METADATA": metadata}
            process = self._start(stdin, stderr, inline, passed)
        if isinstance(process, OSError) and process.errno == errno.E2BIG:
            environment[b"WATCHER_METADATA_FILE"] = _file_of(metadata, opened)
            process = self._start(stdin, stderr, environment, passed)
        if isinstance(process, (OSError, ValueError)):
            return self._not_started(process)
        with self._lock:
            self._running.add(process.pid)
        try:
            late = self._wait(process, stderr)
        finally:
            with self._lock:
                self._running.discard(process.pid)
        text = end_of(stderr).decode("utf-8", "backslashreplace")
        if late:
            reason = f"timeout: still running after {show(self.timeout or 0)}"
            return Outcome(Verdict.RETRY, reason, None, text, process.returncode)
        if self._abandoned and process.returncode != 0:
            return Outcome(Verdict.STOPPED, "stopped at once", None, text, process.returncode)
        return from_exit_status(process.returncode, text)

    def _start(
        self, stdin: int, stderr: int, environment: dict[bytes, bytes], passed: list[int]
    ) -> subprocess.Popen[bytes] | OSError | ValueError:
        """Start the command, or return why not (ValueError: an argument that has no bytes)."""
        try:
            return subprocess.Popen(
                self.argv,
                stdin=stdin,
                stderr=stderr,
                env=environment,
                pass_fds=passed,
                process_group=0,
            )
        except (OSError, ValueError) as error:
            return error

    def _not_started(self, error: OSError | ValueError) -> Outcome:
        why = getattr(error, "strerror", None) or str(error)
        short = isinstance(error, OSError) and error.errno in _SHORTAGE
        verdict = Verdict.RETRY if short else Verdict.MISCONFIGURED
        return Outcome(verdict, shortened(f"{self.argv[0]}: cannot be run: {why}"))

    def _wait(self, process: subprocess.Popen[bytes], stderr: int) -> bool:
        """Wait for the command; True if it had to be ended for lateness."""
        if _ended(process, self.timeout, stderr):
            return False
        deadline = time.monotonic() + KILL_AFTER
        signal_group(process.pid, signal.SIGTERM)
        if _ended(process, KILL_AFTER, stderr):
            # What it started has the same time to end; nothing announces that, so we look.
            while signal_group(process.pid, 0) and time.monotonic() < deadline:
                time.sleep(0.02)
        signal_group(process.pid, signal.SIGKILL)
        process.wait()
        return True

    def _environment(self, entry: Entry) -> dict[bytes, bytes]:
        environment = dict(os.environb)
        for ours in (b"WATCHER_METADATA", b"WATCHER_METADATA_FILE"):
            environment.pop(ours, None)  # we may ourselves be what a handler runs
        environment[b"WATCHER_QUEUE"] = os.fsencode(entry.queue)
        environment[b"WATCHER_ENTRY"] = os.fsencode(entry.name)
        environment[b"WATCHER_KEY"] = entry.key.encode()
        environment[b"WATCHER_ATTEMPT"] = b"%d" % entry.attempt
        environment[b"WATCHER_FILE"] = os.fsencode(entry.path)
        return environment

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
    view = memoryview(entry.message)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
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


def _ended(process: subprocess.Popen[bytes], seconds: float | None, stderr: int) -> bool:
    """Wait for a process to end, so long at most; say whether it has. Then it is reaped."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # before Linux 5.3, or out of descriptors: subprocess looks now and then
        pidfd = -1
    try:
        while True:
            left = max(0.0, deadline - time.monotonic())
            if _ends_within(process, pidfd, min(left, LOOK_EVERY)):
                return True
            if left == 0:
                return False
            cut(stderr, STDERR_ON_DISK)
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _ends_within(process: subprocess.Popen[bytes], pidfd: int, seconds: float) -> bool:
    if pidfd < 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode is not None
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return False
    process.wait()
    return True
