"""An entry's message as an open file, for a process that handles the entry.

Guarantees: the file is the claimed one, or a sealed file in memory: no process can change it.
Fails: as `Entry.message`; OSError if no file can be made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from watcher.handle.entry import Entry

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def message_file(entry: Entry, opened: contextlib.ExitStack) -> int:
    """Return a descriptor whose offset is at the message's beginning."""
    if entry.plain:
        fd = entry.parts[0].fd
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    return sealed("message", entry.message, opened)


def sealed(name: str, data: bytes, opened: contextlib.ExitStack) -> int:
    """Return a descriptor of a file in memory that holds `data`, at its beginning."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    opened.callback(os.close, fd)
    rest, written = memoryview(data), 0
    while written < len(rest):
        written += os.pwrite(fd, rest[written:], written)  # pwrite leaves the offset at 0
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd
