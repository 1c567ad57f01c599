"""What the daemon has of one process of a worker command: pipes, memory files, a socket.

While the process has an entry in hand, the entry's descriptors lie in the queue of a socket of
which the process has an end, at a high number that it does not use. The kernel keeps what lies
there open as long as one process has that end: so the claim lasts until the command ends, even if
the daemon is killed. After the answer the daemon takes the descriptors out again.
Guarantees: nothing waits here but `let_go`, which has a limit.
Fails: `started` and `lend` raise OSError; `started` also ValueError, for an argument that cannot be
encoded.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Callable, Sequence

from watcher.handle import entry_mark
from watcher.handle.child_process import last_of, signal_group, stderr_file
from watcher.handle.command_process import Spawned, Streams, start
from watcher.handle.kept_process import KeptProcess
from watcher.handle.posix_spawn import Strings

KILL_AFTER = 5.0  # seconds between TERM and KILL
HIGH = 100  # the least number of the socket in the command: scripts use those up to 9
_FD = array.array("i").itemsize
_ROOM = socket.CMSG_SPACE(8 * _FD)  # more than the files of an entry


class Channel:
    """The process, and the descriptors that lead to it.

    requests: its standard input; None after `hang_up`
    answers:  its standard output
    stderr:   the memory file that is its standard error
    mark:     which entry it has in hand (`entry_mark`)
    """

    def __init__(
        self,
        process: KeptProcess,
        requests: int,
        answers: int,
        memory: tuple[int, int],
        sockets: tuple[socket.socket, socket.socket],
    ) -> None:
        self.process = process
        self.requests: int | None = requests
        self.answers = answers
        self.stderr, self.mark = memory
        self._mine, self._theirs = sockets

    def hang_up(self) -> None:
        """Close its standard input."""
        requests, self.requests = self.requests, None
        if requests is not None:
            os.close(requests)

    def lend(self, fds: Sequence[int]) -> None:
        """Have the process hold an entry's descriptors, and note the entry."""
        socket.send_fds(self._mine, [b"\0"], fds)
        entry_mark.write(self.mark, fds[0])

    def take_back(self) -> None:
        """Take the lent descriptors out of the socket's queue and close them; clear the mark."""
        # Not recv_fds: before Python 3.14 it ignores its flags, and would wait.
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        with contextlib.suppress(OSError):  # the process took them
            _data, extra, _flags, _address = self._theirs.recvmsg(1, _ROOM, flags)
            for _level, _kind, some in extra:  # always SCM_RIGHTS on such a socket
                for fd in array.array("i", some[: len(some) - len(some) % _FD]):
                    os.close(fd)
        with contextlib.suppress(OSError):  # no memory: the mark stays until the next entry
            entry_mark.write(self.mark, None)

    def close(self) -> None:
        """Close all of it, once; what was written to standard error can be read no more."""
        last_of(self.stderr)
        for fd in (self.stderr, self.mark, self.answers):
            os.close(fd)
        self._mine.close()
        self._theirs.close()
        self.process.close()


def started(argv: Strings, environment: Strings, running: set[int]) -> Channel:
    """Start the process; raise OSError or ValueError."""
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
        stdin, requests = os.pipe()
        theirs.callback(os.close, stdin)
        undo.callback(os.close, requests)
        answers, stdout = os.pipe()
        theirs.callback(os.close, stdout)
        undo.callback(os.close, answers)
        sockets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in sockets:
            undo.callback(each.close)
        stderr = stderr_file()
        undo.callback(os.close, stderr)
        mark = entry_mark.make()
        undo.callback(os.close, mark)
        for fd in (requests, answers):
            os.set_blocking(fd, False)
        passed = []
        for fd in (sockets[1].fileno(), mark):
            passed.append(_numbered_high(fd))
            theirs.callback(os.close, passed[-1])
        spawned = start(argv, environment, Streams(stdin, stderr, stdout), passed)
        undo.pop_all()
    process = KeptProcess(spawned.pid, _wait_of(spawned), running)
    return Channel(process, requests, answers, (stderr, mark), sockets)


def _wait_of(spawned: Spawned) -> Callable[[], int]:
    def wait() -> int:
        with contextlib.suppress(ChildProcessError):  # with SIGCHLD ignored, the kernel reaps
            spawned.wait()
        return spawned.returncode or 0

    return wait


def _numbered_high(fd: int) -> int:
    """Return a copy of a descriptor with a number that a script does not use for its own."""
    try:
        return int(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH))
    except OSError:  # the limit is lower, or reached
        return int(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))


def let_go(channel: Channel, seconds: float) -> None:
    """Close its standard input; end it, `seconds` later by a signal; close the rest."""
    channel.take_back()  # a process that it left running may have the socket too
    channel.hang_up()
    process = channel.process
    if seconds > 0 and process.returncode is None and not process.ends_within(seconds):
        signal_group(process.pid, signal.SIGTERM)
        process.ends_within(KILL_AFTER)
    process.kill()
    channel.close()
