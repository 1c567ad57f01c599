"""Copy the bytes of a claimed file into a new one, in pieces, so that a stop ends it soon.

Guarantees: exactly `size` bytes are copied, from the beginning; no other process sees that the
claim's descriptor is read (its file offset stays).
Fails: OSError (ESTALE if the file is shorter than `size`), and Stopped.
"""

from __future__ import annotations

import errno
import os
import threading

PIECE = 8 << 20  # bytes between two looks at `stop`
_NOT_BY_KERNEL = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Stopped(Exception):
    """The process is about to exit."""


def copy_bytes(source: int, size: int, target: int, stop: threading.Event) -> None:
    """Append the first `size` bytes of one open file to another."""
    offset, by_kernel = 0, True
    while offset < size:
        if stop.is_set():
            raise Stopped
        count = min(PIECE, size - offset)
        if by_kernel:
            try:
                done = os.sendfile(target, source, offset, count)
            except OSError as error:
                if error.errno not in _NOT_BY_KERNEL:
                    raise
                by_kernel = False
                continue
        else:
            done = write_all(target, os.pread(source, min(count, 1 << 20), offset))
        if not done:
            raise OSError(errno.ESTALE, "the file became shorter while it was copied")
        offset += done


def write_all(target: int, data: bytes) -> int:
    """Write all of `data`; return how much that was."""
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return len(data)
