"""The C library's functions that Python 3.11 to 3.13 do not offer, called through ctypes.

Guarantees: the only module that loads the C library. ctypes is imported at the first call, not at
start (some 10 ms). The interpreter's lock is released during each call.
Fails: as each function says.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_BTIME = 0x800  # STATX_BTIME, linux/stat.h
_STATX_SIZE = 256  # bytes of struct statx
_MASK, _BIRTH = 0, 80  # offsets: stx_mask; stx_btime: seconds (8 bytes), then nanoseconds (4)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_SIG_IGN = 1  # asm-generic/signal-defs.h
_PDEATHSIG = 1  # linux/prctl.h


@functools.cache
def library() -> ctypes.CDLL:
    """Return the C library; `ctypes.get_errno` tells why a call failed."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _error() -> int:
    import ctypes

    return ctypes.get_errno()


def renameat2(source: int, name: bytes, target: int, target_name: bytes, flags: int) -> int:
    """Rename with flags: return 0 or the errno, ENOSYS if the C library does not have it."""
    call = getattr(library(), "renameat2", None)
    if call is None:
        return errno.ENOSYS
    return 0 if call(source, name, target, target_name, flags) == 0 else _error()


def birth_time_ns(directory: int, name: bytes, flags: int) -> int | None:
    """Return statx(2)'s birth time, nanoseconds since the epoch; None if it cannot be found out."""
    import ctypes

    call = getattr(library(), "statx", None)
    if call is None:
        return None
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if call(directory, name, flags, _BTIME, buffer) != 0:
        return None
    data = buffer.raw
    if not int.from_bytes(data[_MASK : _MASK + 4], sys.byteorder) & _BTIME:
        return None
    seconds = int.from_bytes(data[_BIRTH : _BIRTH + 8], sys.byteorder, signed=True)
    fraction = int.from_bytes(data[_BIRTH + 8 : _BIRTH + 12], sys.byteorder)
    return seconds * 1_000_000_000 + fraction


def syncfs(fd: int) -> None:
    """Write out everything of the file system that `fd` is on; raises OSError."""
    if library().syncfs(fd) != 0:
        code = _error()
        raise OSError(code, os.strerror(code))


def punch_hole(fd: int, size: int) -> None:
    """Free the first `size` bytes of a file without changing its length; raises OSError."""
    import ctypes

    fallocate = getattr(library(), "fallocate64", None) or library().fallocate
    if fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(0), ctypes.c_int64(size)):
        code = _error()
        raise OSError(code, os.strerror(code))


def prctl(option: int, value: int) -> None:
    """Set an option of this process; nothing is done if the C library has no such call."""
    import ctypes

    call = getattr(library(), "prctl", None)
    if call is not None:
        call(option, ctypes.c_ulong(value), 0, 0, 0)


def kill_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, also while it is stopped."""
    prctl(_PDEATHSIG, signal.SIGKILL)


def ignore_signal(number: int) -> None:
    """Ignore a signal, from any thread: Python's `signal.signal` is for the main thread alone."""
    import ctypes

    library().signal(ctypes.c_int(number), ctypes.c_void_p(_SIG_IGN))
