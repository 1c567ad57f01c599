"""The descriptor that the log goes to: standard error, written to without waiting for its reader.

Guarantees: a line is written whole or not at all, and before `write` returns, so that a process
that is killed afterwards loses none. A log without a reader (a full pipe, a stopped terminal)
blocks no stage: after `PATIENCE` seconds lines are dropped, and counted. One system call a line.
Fails: never. What standard error refuses (no reader, a full disk) is counted as dropped.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable
from functools import partial

PATIENCE = 1.0  # seconds


class Output:
    """Writes lines to a descriptor. `lost` says in one line how many were dropped."""

    def __init__(self, lost: Callable[[int], bytes], fd: int = 2) -> None:
        self._lost = lost
        self._fd = fd
        self._send = _sender(fd)
        self._dropped = 0
        self._cut = False  # the last line has no end: its reader stopped in the middle
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        """Make the lock anew: another thread may have held it in the parent."""
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Write a line, which ends with a line break, or drop it."""
        with self._lock:
            if self._dropped or self._cut:
                self._write_late(line)
                return
            try:
                written = self._send(line)
            except BlockingIOError:
                written = 0
            except OSError:
                self._dropped += 1
                return
            if written < len(line):
                written = self._write_rest(line, written, PATIENCE)
                self._note(whole=written == len(line), begun=written > 0)

    def _write_late(self, line: bytes) -> None:
        """Say first how many lines were dropped; wait for no room."""
        head = b"\n" if self._cut else b""
        if self._dropped:
            head += self._lost(self._dropped)
        written = self._write_rest(head + line, 0, 0.0)
        if written >= len(head):
            self._dropped, self._cut = 0, False
        self._note(whole=written == len(head) + len(line), begun=written > len(head))

    def _note(self, *, whole: bool, begun: bool) -> None:
        if not whole:
            self._dropped += 1
            self._cut = self._cut or begun

    def _write_rest(self, line: bytes, written: int, patience: float) -> int:
        """Write what is left of a line; return how much of it is written in the end."""
        deadline = time.monotonic() + patience
        while written < len(line):
            try:
                written += self._send(line[written:])
            except BlockingIOError:
                pass
            except OSError:
                break
            if written < len(line) and not has_room(self._fd, deadline - time.monotonic()):
                break
        return written


def has_room(fd: int, seconds: float) -> bool:
    """Wait until 4096 bytes can be written (PIPE_BUF), at most this long; return whether so."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _sender(fd: int) -> Callable[[bytes], int]:
    """Return a function that writes to `fd` and raises BlockingIOError where it would wait.

    O_NONBLOCK on `fd` itself would reach every process that shares it (the shell that started this
    one). A pipe or a terminal is opened anew instead, and a socket is told with each line.
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            sending = socket.socket(fileno=os.dup(fd))
            return lambda line: sending.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            with contextlib.suppress(OSError):  # another user's: ask for room at each line
                fd = os.open(f"/proc/self/fd/{fd}", flags)
                return partial(os.write, fd)
            return partial(_write_if_room, fd)
    except OSError:
        pass
    return partial(os.write, fd)  # a file: it has no reader that it could wait for


def _write_if_room(fd: int, line: bytes) -> int:
    if not has_room(fd, 0.0):
        raise BlockingIOError
    return os.write(fd, line[: select.PIPE_BUF])
