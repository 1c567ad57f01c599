"""The last words of this process, should a handler take it down: faulthandler(3)'s traceback.

Written by Python itself on a fatal signal (a segfault in an extension module, an abort), into a
file beside the ledger, so that whoever counts the death can say how it came about. A SIGKILL leaves
nothing.
Guarantees: one file a process, linked into its directory of each queue where the file system lets
us. Fails: never; it explains, no more.
"""

from __future__ import annotations

import contextlib
import os
import re

FAULT = b".fault"
KEPT = 4096  # bytes
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_armed: list[int] = []  # the descriptor of the file, once there is one


def arm(directory: int) -> None:
    """Have the traceback of a fatal signal written into a process's own directory."""
    import faulthandler

    with contextlib.suppress(OSError):
        if _armed:
            with contextlib.suppress(OSError):
                path = f"/proc/self/fd/{_armed[0]}"
                os.link(path, FAULT, dst_dir_fd=directory, follow_symlinks=True)
                return
        fd = os.open(FAULT, _FLAGS, 0o600, dir_fd=directory)
        faulthandler.enable(fd)
        for old in _armed:
            os.close(old)
        _armed[:] = [fd]


def read(directory: int) -> tuple[str, str]:
    """Return how the process died, as far as it could say ("" if not), and all it said."""
    try:
        fd = os.open(FAULT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return "", ""
    try:
        text = os.pread(fd, KEPT, 0)  # its beginning: the cause, then the most recent call first
    except OSError:
        return "", ""
    finally:
        os.close(fd)
    said = text.decode("utf-8", "backslashreplace")
    fatal = re.search(r"^Fatal Python error: (.{1,200})$", said, re.MULTILINE)
    return (fatal[1] if fatal else ""), said
