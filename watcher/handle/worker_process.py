"""One process of a worker command: it exchanges requests for answers (`worker_channel`).

Guarantees: each wait has the limit of the timeout, or wakes when the process ends. An answer counts
only if the whole request was read before it, and if it is one line. A process that breaks the
protocol, is late or dies is killed with its process group.
Fails: `WorkerProcess` raises the kernel's OSError, or ValueError for an argument that cannot be
encoded; `ask` raises OSError if the entry cannot be sent.
"""

from __future__ import annotations

import array
import fcntl
import math
import os
import select
import signal
import termios
import time
import weakref
from dataclasses import replace
from typing import NamedTuple

from watcher.durations import show
from watcher.handle import worker_channel
from watcher.handle.child_process import Trimmer, end_of, signal_group
from watcher.handle.entry import Entry
from watcher.handle.posix_spawn import Strings
from watcher.rules.results import HandlerResult, Verdict, crashed, from_exit_status, shortened
from watcher.rules.worker_answer import MOST, quoted, read_answer

LEAVE = 5.0  # seconds to end after its standard input was closed; then TERM
FOLLOW = 1.0  # seconds to end after it closed its standard output
BROKEN = "the command does not keep to the worker protocol"
SHOWN = 200  # characters of the last line on standard error, in a reason


class Response(NamedTuple):
    """What came of one request; `last`: the process has ended, or is ended now."""

    result: HandlerResult
    last: bool = False
    unread: bool = False  # it ended before it had read the request


class _Ended(Exception):
    """It closed a stream, or died: what it answered until then, what could not be written."""

    def __init__(self, answer: bytes, rest: bytes) -> None:
        super().__init__(answer)
        self.answer = answer
        self.rest = rest


class WorkerProcess:
    """One process; `running` has its process group until it has ended."""

    def __init__(self, argv: Strings, environment: Strings, running: set[int]) -> None:
        self.answered = 0
        self._channel = channel = worker_channel.started(argv, environment, running)
        self._process = channel.process
        self._release = weakref.finalize(self, worker_channel.let_go, channel, LEAVE)
        self._trimmer = Trimmer(channel.stderr)
        self._poll = select.poll()
        self._poll.register(channel.answers, select.POLLIN)
        if channel.process.pidfd is not None:
            self._poll.register(channel.process.pidfd, select.POLLIN)

    @property
    def pid(self) -> int:
        """Its process ID, which is that of its group."""
        return self._process.pid

    def idle(self) -> bool:
        """Whether it waits for a request: it lives, and wrote nothing that was not asked for."""
        if not self._release.alive or self._channel.requests is None or self._poll.poll(0):
            return False
        return self._process.pidfd is not None or not self._process.dead()

    def unasked(self) -> bytes:
        """Return what an idle process wrote without a request."""
        return b"" if self._channel.requests is None else (self._read() or b"")

    def ask(
        self, entry: Entry, line: bytes, timeout: float | None, copy_to: int | None
    ) -> Response:
        """Write a request, and wait for the answer; `copy_to` gets its standard error too."""
        channel = self._channel
        if self.answered:  # what it wrote while it started is the first entry's
            os.ftruncate(channel.stderr, 0)
        self._trimmer = Trimmer(channel.stderr, copy_to)
        entry.process = self.pid
        try:
            channel.lend([part.fd for part in entry.parts])
            answer = self._exchange(line, timeout)
            result = read_answer(answer, entry.key)
        except TimeoutError:
            return self._late(timeout or 0.0)
        except _Ended as ended:
            return self._died(ended.answer, ended.rest)
        except ValueError as error:
            return self._wrong(str(error))
        finally:
            if self._release.alive:  # else its descriptors are closed, and their numbers free
                channel.take_back()
        self.answered += 1
        text = self._said()
        return Response(replace(result, stderr=text) if text else result)

    def hang_up(self) -> None:
        """Close its standard input: it ends, and gets no further request."""
        self._channel.hang_up()

    def end(self, seconds: float) -> None:
        """Close its standard input; after `seconds` end what is left of its group."""
        if self._release.detach():
            worker_channel.let_go(self._channel, seconds)

    # -- one request --------------------------------------------------------------------------

    def _exchange(self, line: bytes, timeout: float | None) -> bytes:
        """Return the answer's line; raise TimeoutError, _Ended or ValueError."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        answer, trimmer = b"", self._trimmer
        rest = self._write(line, answer)
        while True:
            left = max(0.0, deadline - time.monotonic())
            ended = self._wait(min(left, trimmer.wait), bool(rest))
            got = self._read()
            answer += got or b""
            if b"\n" in answer:
                return self._one_line(answer, rest)
            if len(answer) >= MOST:
                raise ValueError(f"an answer of more than {MOST} bytes: {quoted(answer)}")
            if ended or got == b"":
                raise _Ended(answer, rest)
            if left == 0:
                raise TimeoutError
            rest = self._write(rest, answer)
            trimmer.look()

    def _one_line(self, answer: bytes, rest: bytes) -> bytes:
        line, _, more = answer.partition(b"\n")
        if more:
            raise ValueError(f"more than one answer: {quoted(answer)}")
        if rest or self._unread():
            raise ValueError(f"{quoted(line)} before it had read the request")
        return line

    def _wait(self, seconds: float, writes: bool) -> bool:
        """Wait until something happens, at most so long; return whether it has ended."""
        requests = self._channel.requests
        if writes and requests is not None:
            self._poll.register(requests, select.POLLOUT)
        try:
            ready = dict(self._poll.poll(seconds * 1000))
        finally:
            if writes and requests is not None:
                self._poll.unregister(requests)
        pidfd = self._process.pidfd
        return self._process.dead() if pidfd is None else pidfd in ready

    def _write(self, data: bytes, answer: bytes) -> bytes:
        """Write what the pipe takes; return the rest; raise _Ended."""
        if not data or self._channel.requests is None:
            return data
        try:
            return data[os.write(self._channel.requests, data) :]
        except BlockingIOError:
            return data
        except BrokenPipeError:
            raise _Ended(answer, data) from None

    def _read(self) -> bytes | None:
        """Return what it wrote; None if nothing, b"" if it has closed its standard output."""
        try:
            return os.read(self._channel.answers, MOST)
        except BlockingIOError:
            return None

    def _unread(self) -> int:
        """Return how many bytes of the request it has not read."""
        count = array.array("i", [0])
        if self._channel.requests is not None:
            fcntl.ioctl(self._channel.requests, termios.FIONREAD, count)
        return count[0]

    # -- how it failed ------------------------------------------------------------------------

    def _late(self, timeout: float) -> Response:
        """End it, since it takes too long."""
        unread = self._unread() > 0
        signal_group(self.pid, signal.SIGTERM)
        self._process.ends_within(worker_channel.KILL_AFTER)
        status, text = self._process.kill(), self._said()
        self.end(0.0)
        reason = f"timeout: still running after {show(timeout)}"
        if unread:
            reason = f"{reason}, and has not read the request"
            return Response(HandlerResult(Verdict.MISCONFIGURED, reason, None, text, status), True)
        return Response(HandlerResult(Verdict.RETRY, reason, None, text, status), True)

    def _died(self, answer: bytes, rest: bytes) -> Response:
        """Say how it died; kill it if it still runs."""
        ended = self._process.ends_within(FOLLOW)
        unread = bool(rest) or self._unread() > 0
        status, text = self._process.kill(), self._said()
        self.end(0.0)
        last = "".join(text.strip().splitlines()[-1:])[:SHOWN]
        said = f"half an answer: {quoted(answer)}" if answer else last
        result = crashed(status if ended else None, text, said)
        if unread:
            reason = shortened(f"ended before it had read the request: {result.reason}")
            result = replace(result, verdict=Verdict.MISCONFIGURED, reason=reason)
        elif ended and not answer:
            told = from_exit_status(status, text)  # 126, 127 or 78: the operator's mistake
            result = told if told.verdict is Verdict.MISCONFIGURED else result
        return Response(result, True, unread)

    def _wrong(self, why: str) -> Response:
        """Kill it: it does not keep to the protocol, and its next answer may be to anything."""
        status, text = self._process.kill(), self._said()
        self.end(0.0)
        reason = shortened(f"{BROKEN}: {why}")
        return Response(HandlerResult(Verdict.MISCONFIGURED, reason, None, text, status), True)

    def _said(self) -> str:
        """Return the end of what it wrote to standard error since the request."""
        self._trimmer.copy()
        stderr = self._channel.stderr
        if os.fstat(stderr).st_size == 0:  # as usual
            return ""
        return end_of(stderr).decode("utf-8", "backslashreplace")
