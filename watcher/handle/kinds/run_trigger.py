"""`trigger`: runs a command that is another program's own way to take the entries of a queue.

The command gets no entry. It looks at the directory by itself, and removes what it has handled.
`watcher.trigger` says when it runs.
Guarantees: the command has its own process group, and a timeout ends the group: TERM, then KILL for
the processes that are left. It inherits the lock of the run, so that no other process of watcher
begins one while it lives, also if this process dies. Its standard input is `/dev/null`.
Fails: `load` raises BadConfiguration if there is no such command; `run_for` never raises.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from watcher.durations import show
from watcher.handle.handler_settings import TIMEOUT, HandlerSettings
from watcher.rules.option import Option
from watcher.rules.results import SHORT, HandlerResult, Verdict, from_exit_status, shortened

if TYPE_CHECKING:
    from watcher.handle.command_process import Spawned
    from watcher.handle.entry import Entry
    from watcher.rules.finding import Check

KILL_AFTER = 5.0  # seconds between TERM and KILL
_NO_ENTRY = "its command takes the entries itself: no single one can be given to it"


class Trigger(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ trigger = [COMMAND, ARG...], timeout = "2m" }`."""

    trigger: tuple[str, ...]
    timeout: float | None = None  # seconds

    OPTIONS: ClassVar[Mapping[str, Option]] = {"timeout": TIMEOUT}
    EXAMPLE: ClassVar[str] = '{ trigger = ["COMMAND", "ARG"], timeout = "10m" }'
    COST: ClassVar[str] = "One process is started for all entries that are there when it looks."
    SETTLES: ClassVar[bool] = False

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not self.trigger or "\0" in "".join(self.trigger):
            return "trigger", "a command and its arguments"
        return None

    def load(self) -> TriggerCommand:
        """Return the handler; raise BadConfiguration if there is no such command."""
        from watcher.handle.program_file import must_be_there

        must_be_there(self.trigger[0], "handler.trigger")
        return TriggerCommand(self.trigger, self.timeout)

    def try_target(self) -> Iterator[Check]:
        """Say whether the interpreter in a script's first line can be run."""
        from watcher.handle.program_file import look_at

        yield from look_at(self.trigger[0])


class TriggerCommand:
    """Runs the command; one object a queue. `timeout` in seconds, None for none."""

    def __init__(self, argv: Sequence[str], timeout: float | None = None) -> None:
        self.argv = tuple(argv)
        self.timeout = timeout
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._terminated = False

    def run(self, entry: Entry) -> HandlerResult:  # noqa: ARG002 - the interface of a handler
        """Refuse: the caller would remove the entry if the command succeeded."""
        return HandlerResult(Verdict.MISCONFIGURED, _NO_ENTRY, ran=False)

    def run_for(self, entry: Entry, directory: bytes, lock: int) -> HandlerResult:
        """Run the command because an entry is ready; DONE if its exit status is 0."""
        from watcher.handle.child_process import last_of, signal_group, stderr_file

        with contextlib.ExitStack() as opened:
            try:
                stderr = stderr_file()
                opened.callback(os.close, stderr)
                process = self._start(entry, directory, (stderr, lock), opened)
            except (OSError, ValueError, MemoryError) as error:
                return self._not_started(error)
            with self._lock:
                self._running.add(process.pid)
            entry.process = process.pid
            if self._terminated:
                signal_group(process.pid, signal.SIGTERM)
            try:
                late = not process.ended_within(self.timeout)
                if late:
                    process.end(KILL_AFTER)
            finally:
                with self._lock:
                    self._running.discard(process.pid)
            text = last_of(stderr).decode("utf-8", "backslashreplace")
            status = process.returncode or 0
            if late:
                why = f"timeout: still running after {show(self.timeout or 0)}"
                return HandlerResult(Verdict.RETRY, why, None, text, status)
            if self._terminated and status:
                return HandlerResult(Verdict.STOPPED, "stopped at once", None, text, status)
            return from_exit_status(status, text)

    def _start(
        self,
        entry: Entry,
        directory: bytes,
        descriptors: tuple[int, int],
        opened: contextlib.ExitStack,
    ) -> Spawned:
        """Start the command; `descriptors` are its standard error and the lock of the run."""
        from watcher.handle.command_process import Streams, start
        from watcher.handle.posix_spawn import strings

        stderr, lock = descriptors
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, stdin)
        ours = {
            b"WATCHER_QUEUE": os.fsencode(entry.queue),
            b"WATCHER_DIRECTORY": directory,
            b"WATCHER_ENTRY": os.fsencode(entry.name),
        }
        inherited = {name: value for name, value in os.environb.items() if name not in _NOT_GIVEN}
        environment = [b"%s=%s" % item for item in {**inherited, **ours}.items()]
        argv = strings(os.fsencode(argument) for argument in self.argv)
        return start(argv, strings(environment), Streams(stdin, stderr, None), [lock])

    def _not_started(self, error: Exception) -> HandlerResult:
        why = getattr(error, "strerror", None) or str(error)
        short = getattr(error, "errno", None) in (*SHORT, errno.ENOMEM, errno.ETXTBSY)
        verdict = Verdict.RETRY if short else Verdict.MISCONFIGURED
        return HandlerResult(verdict, shortened(f"{self.argv[0]}: cannot be run: {why}"), ran=False)

    def terminate(self) -> None:
        """Send TERM to the process group of every running command."""
        from watcher.handle.child_process import signal_group

        self._terminated = True  # before the signal: the end is no failure of the command
        for pid in list(self._running):
            signal_group(pid, signal.SIGTERM)


# Not inherited: this process may itself have been started by a handler, for an entry.
_NOT_GIVEN = frozenset(
    b"WATCHER_%s" % word for word in b"KEY ATTEMPT FILE FILES PATH METADATA METADATA_FILE".split()
)
