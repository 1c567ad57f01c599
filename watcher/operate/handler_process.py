"""The child process that runs the handler of one entry: find it, and end its process group.

The child is known by three things: its parent is the process that has the entry claimed; it leads a
process group of its own, which that process made for it; and it has the entry's file open, or, if
it stays for many entries, a mark of the entry (`handle.entry_mark`). Its
number may be another process's a moment later, so it is pinned by a pidfd first and looked at again
then.
Guarantees: no signal goes to a process that does not satisfy all three, or is not in such a
process's group. On Linux 6.9 or later the pidfd addresses the group; before, killpg(2) does, while
the child lives.
Fails: NotPermitted if /proc or the kernel refuses; Unavailable without pidfds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

from watcher.errors import NotPermitted, Unavailable
from watcher.handle import entry_mark

_WHOLE_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP, linux/pidfd.h
_PAUSE = 0.02  # seconds between looks at what no descriptor tells


class _Stat(NamedTuple):
    """What /proc/PID/stat says of a process."""

    parent: int
    group: int
    started: int  # clock ticks since the machine's start


class HandlerProcess:
    """A running handler: the leader of its process group, pinned by a pidfd until `close`."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self._pidfd)

    def end(self, seconds: float) -> str:
        """End the group: TERM, and after `seconds` KILL for what is left; return the last signal.

        A member that made a group of its own is not ended.
        """
        deadline = time.monotonic() + seconds
        members = _pinned_members(self.pid)
        try:
            self._signal_group(signal.SIGTERM)
            pidfds = [self._pidfd, *members]
            while pidfds and time.monotonic() < deadline:
                pidfds = [pidfd for pidfd in pidfds if not _ended(pidfd, _PAUSE)]
            if not pidfds:
                return "TERM"
            if not _ended(self._pidfd):
                self._signal_group(signal.SIGKILL)
            for pidfd in pidfds:
                _signal(pidfd, signal.SIGKILL)
            return "KILL"
        finally:
            for pidfd in members:
                os.close(pidfd)

    def _signal_group(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number, None, _WHOLE_GROUP)
        except ProcessLookupError:
            return
        except PermissionError:
            raise NotPermitted(
                f"process {self.pid}: may not be signalled by this user: run this as its user or"
                " as root"
            ) from None
        except OSError:  # EINVAL: before Linux 6.9
            if not _ended(self._pidfd):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, number)


def find(parent: int, device: int, inode: int) -> HandlerProcess | None:
    """Return the child of `parent` that handles this file and leads its group; None if none."""
    for pid in _children(parent):
        before = _stat(pid)
        if before is None or (before.parent, before.group) != (parent, pid):
            continue
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        except OSError as error:
            raise Unavailable(f"process {pid}: cannot be pinned: {error.strerror}") from None
        try:
            if _stat(pid) == before and _has_in_hand(pid, device, inode) and not _ended(pidfd):
                found, pidfd = HandlerProcess(pid, pidfd), -1
                return found
        finally:
            if pidfd >= 0:
                os.close(pidfd)
    return None


def _processes() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def _children(parent: int) -> Iterator[int]:
    for pid in _processes():
        found = _stat(pid)
        if found is not None and found.parent == parent:
            yield pid


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # a command's name may hold anything
        return _Stat(int(fields[1]), int(fields[2]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def _has_in_hand(pid: int, device: int, inode: int) -> bool:
    """Whether a process has a file, or its mark; raise NotPermitted if that may not be seen."""
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except PermissionError:
        raise NotPermitted(
            f"process {pid}: its files may not be seen by this user: run this as its user or as"
            " root"
        ) from None
    except OSError:
        return False
    for name in names:
        with contextlib.suppress(OSError):
            status = os.stat(f"{directory}/{name}")
            if (status.st_dev, status.st_ino) == (device, inode):
                return True
            if entry_mark.is_of(f"{directory}/{name}", device, inode):
                return True
    return False


def _pinned_members(group: int) -> list[int]:
    """Return a pidfd of each process in a group besides its leader."""
    pinned = []
    for pid in _processes():
        found = _stat(pid)
        if found is None or found.group != group or pid == group:
            continue
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            if _stat(pid) == found:
                pinned.append(pidfd)
            else:
                os.close(pidfd)
    return pinned


def _ended(pidfd: int, seconds: float = 0.0) -> bool:
    """Whether a process has ended; wait at most so long."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _signal(pidfd: int, number: int) -> None:
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, number)
