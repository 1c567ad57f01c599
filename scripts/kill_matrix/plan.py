"""Which calls of a command are struck, and with what: from the calls of a run that nothing harmed.

A call that changes nothing leaves the disk as the next one finds it, so a death there is a death at
the next; they are all struck too with `looking=1`, every fourth by default. Of errors, those that
the call can have (a close(2) that failed would still have closed, which strace cannot do).
"""

from __future__ import annotations

from collections import Counter
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
    "EAGAIN": {"vfork", "clone", "clone3"},
}
FOR_A_WHILE = 4  # calls in a row
_LASTING = frozenset({*_NAMES, "openat", "write", "pwrite64", "fsync"})
_LAST = ("ENOSPC", "EIO", "EACCES", "EMFILE")


def deaths(calls: Sequence[Call], looking: int) -> Iterator[Point]:
    """Yield the points at which to kill; every `looking`th of the calls that change nothing."""
    seen = 0
    for call, count in sorted(Counter(call.name for call in calls).items()):
        for number in range(1, count + 1):
            seen += call not in _CHANGING
            if call in _CHANGING or seen % looking == 0:
                yield Point(call, number)


def refusals(calls: Sequence[Call]) -> Iterator[Point]:
    """Yield the points at which one call is refused, then those where some in a row are."""
    by_name: dict[str, list[str]] = {}
    for call in calls:
        by_name.setdefault(call.name, []).append(call.line)
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
