"""posix_spawn(3) called without the interpreter's lock.

The call returns when the command's program has started, after some hundred microseconds, most of
which the kernel spends in execve(2). `os.posix_spawn` and `subprocess` hold the interpreter's lock
for all that time: no other worker could start a command or finish an entry.

Guarantees: the command leads its own process group. No signal is blocked for it. The ignored
signals are those that were ignored when this process started, without SIGCHLD. Of the descriptors
that are close-on-exec it has only those passed to it.
Fails: the C library's OSError; ValueError for a string that contains NUL.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from collections.abc import Iterable, Sequence

from watcher.spool import libc

_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08  # spawn.h
_ROOM = 1024  # bytes: more than any of its structures, whose sizes only the C library knows
_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)  # Python ignores the first two
_LIBRARY = libc.library()
Strings = ctypes.Array[ctypes.c_char_p]


def strings(items: Iterable[bytes]) -> Strings:
    """Return an array in the form of argv and envp; raise ValueError."""
    found = list(items)
    if any(b"\0" in item for item in found):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(found) + 1))(*found, None)


def spawn(argv: Strings, environment: Strings, duplicates: Sequence[tuple[int, int]]) -> int:
    """Start a command, found on PATH, and return its process ID; raise OSError.

    A pair of `duplicates` is a descriptor here and its number in the command. If both are the
    same, it stays open in the command; the descriptor here remains close-on-exec.
    """
    pid = ctypes.c_int()
    actions = ctypes.create_string_buffer(_ROOM)
    _checked(_LIBRARY.posix_spawn_file_actions_init(actions))
    try:
        for here, there in duplicates:
            _checked(_LIBRARY.posix_spawn_file_actions_adddup2(actions, here, there))
        attributes = _attributes()
        _checked(
            _LIBRARY.posix_spawnp(
                ctypes.byref(pid), argv[0], actions, attributes, argv, environment
            ),
            argv[0],
        )
    finally:
        _LIBRARY.posix_spawn_file_actions_destroy(actions)
    return pid.value


@functools.cache
def _attributes() -> ctypes.Array[ctypes.c_char]:
    """Return the attributes, which are the same for all commands."""
    attributes, signals, blocked = (ctypes.create_string_buffer(_ROOM) for _ in range(3))
    _LIBRARY.sigemptyset(signals)
    _LIBRARY.sigemptyset(blocked)
    for number in _DEFAULT:
        _LIBRARY.sigaddset(signals, number)
    _checked(_LIBRARY.posix_spawnattr_init(attributes))
    _checked(_LIBRARY.posix_spawnattr_setpgroup(attributes, 0))
    _checked(_LIBRARY.posix_spawnattr_setsigdefault(attributes, signals))
    _checked(_LIBRARY.posix_spawnattr_setsigmask(attributes, blocked))
    flags = _SETPGROUP | _SETSIGDEF | _SETSIGMASK
    _checked(_LIBRARY.posix_spawnattr_setflags(attributes, ctypes.c_short(flags)))
    return attributes


def _checked(code: int, name: bytes | None = None) -> None:
    if code:
        raise OSError(code, os.strerror(code), *([] if name is None else [os.fsdecode(name)]))
