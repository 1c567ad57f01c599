"""posix_spawn(3) called without the interpreter's lock.

It returns when the command's own program has begun, some hundred microseconds later, most of which
the kernel spends in execve(2). `os.posix_spawn` and `subprocess` keep the interpreter's lock all
that time: then the workers of a process begin one command at a time and settle none meanwhile.

Guarantees: the command leads a process group of its own, and has the signals that Python ignores
as they were; it has open what it is given and nothing else that is closed on exec.
Fails: OSError, the C library's; ValueError for a string with a NUL in it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from collections.abc import Iterable, Sequence

_SETPGROUP, _SETSIGDEF = 0x02, 0x04  # spawn.h
_ROOM = 1024  # bytes: for any of its structures, of which the C library alone knows the size
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_LIBRARY = ctypes.CDLL(None)
Strings = ctypes.Array[ctypes.c_char_p]


def strings(items: Iterable[bytes]) -> Strings:
    """Return an array as argv and envp are; raises ValueError."""
    found = list(items)
    if any(b"\0" in item for item in found):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(found) + 1))(*found, None)


def spawn(argv: Strings, environment: Strings, duplicates: Sequence[tuple[int, int]]) -> int:
    """Start a command, found on PATH, and return its process; raises OSError.

    Each pair of `duplicates` is a descriptor of ours and the one that the command has it as; one
    that it has under the same number stays open on exec, ours is still closed there.
    """
    pid = ctypes.c_int()
    actions = ctypes.create_string_buffer(_ROOM)
    _checked(_LIBRARY.posix_spawn_file_actions_init(actions))
    try:
        for ours, its in duplicates:
            _checked(_LIBRARY.posix_spawn_file_actions_adddup2(actions, ours, its))
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
    """Return what is the same for all commands."""
    attributes, signals = (ctypes.create_string_buffer(_ROOM) for _ in range(2))
    _LIBRARY.sigemptyset(signals)
    for number in _IGNORED_BY_PYTHON:
        _LIBRARY.sigaddset(signals, number)
    _checked(_LIBRARY.posix_spawnattr_init(attributes))
    _checked(_LIBRARY.posix_spawnattr_setpgroup(attributes, 0))
    _checked(_LIBRARY.posix_spawnattr_setsigdefault(attributes, signals))
    _checked(_LIBRARY.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETPGROUP | _SETSIGDEF)))
    return attributes


def _checked(code: int, name: bytes | None = None) -> None:
    if code:
        raise OSError(code, os.strerror(code), *([] if name is None else [os.fsdecode(name)]))
