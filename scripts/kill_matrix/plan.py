"""Choose the calls at which to kill a command or to fail, from those of an undisturbed run.

A kill at a call that does not change the disk is the same as a kill at the next call. Of these
calls every fourth is chosen by default, and every one with `looking=1`. Only errors that the call
can return are used; close(2) has none, because a failed close(2) still closes, which strace cannot
do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kill_matrix.trial import Point, can_have
from kill_matrix.victim import Call

_CHANGING = frozenset(
    {
        *("write", "pwrite64", "ftruncate", "fsync", "fdatasync", "openat", "mkdir", "mkdirat"),
        *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir"),
        *("flock", "vfork", "clone", "clone3", "wait4", "inotify_add_watch", "exit_group"),
    }
)
_NAMES = ("renameat", "renameat2", "unlinkat", "mkdirat", "linkat")
ERRORS = {
    "ENOSPC": {*_NAMES, "openat", "write", "pwrite64", "fsync", "inotify_add_watch"} - {"unlinkat"},
    "EIO": {
        *(*_NAMES, "openat", "newfstatat", "read", "pread64", "write", "pwrite64", "fsync"),
        *("getdents64", "flock", "fcntl", "ftruncate"),
    },
    "EACCES": {*_NAMES, "openat", "newfstatat", "access", "inotify_add_watch"},
    "EMFILE": {"openat", "pipe2", "memfd_create", "inotify_init", "inotify_init1", "pidfd_open"},
    "EINTR": {
        *("openat", "read", "pread64", "write", "pwrite64", "fsync", "flock", "fcntl"),
        *("poll", "wait4", "renameat2"),
    },
    "EPERM": {
        "renameat",
        "renameat2",
        "unlinkat",
    },  # as for another user's file in a sticky directory
    "EAGAIN": {"vfork", "clone", "clone3"},
}
FOR_A_WHILE = 4  # calls in a row
_LASTING = frozenset({*_NAMES, "openat", "write", "pwrite64", "fsync"})
_LAST = ("ENOSPC", "EIO", "EACCES", "EPERM", "EMFILE")


def deaths(calls: Sequence[Call], looking: int) -> Iterator[Point]:
    """Yield the points at which to kill; every `looking`th of the calls that change nothing."""
    seen = 0
    most = {name: len(lines) for name, lines in _longest(calls).items()}
    if looking > 1:
        most.pop("futex", None)  # threads wait in it hundreds of times; it does not change the disk
    for call, count in sorted(most.items()):
        for number in range(1, count + 1):
            seen += call not in _CHANGING
            if call in _CHANGING or seen % looking == 0:
                yield Point(call, number)


def refusals(calls: Sequence[Call]) -> Iterator[Point]:
    """Yield the points at which one call is refused, then those with several in a row."""
    by_name = _longest(calls)
    for error, names in ERRORS.items():
        for name in sorted(names & by_name.keys()):
            for number, line in enumerate(by_name[name], 1):
                if can_have(error, line):
                    yield Point(name, number, error)
    for error in _LAST:
        for name in sorted(_LASTING & ERRORS[error] & by_name.keys()):
            for number in range(1, len(by_name[name]) + 1, FOR_A_WHILE - 1):
                if can_have(error, by_name[name][number - 1]):
                    yield Point(name, number, error, number + FOR_A_WHILE - 1)


def _longest(calls: Sequence[Call]) -> dict[str, list[str]]:
    """Return the lines of each call, by name: those of the thread that made it most often."""
    by_thread: dict[str, dict[str, list[str]]] = {}
    for call in calls:
        by_thread.setdefault(call.name, {}).setdefault(call.thread, []).append(call.line)
    return {name: max(lines.values(), key=len) for name, lines in by_thread.items()}
