"""Which entry a process that stays has in hand: a small file in memory that the process inherits.

The daemon writes the entry's device and inode number into it, so that another process finds the
handler of an entry (`operate.handler_process`). A command that is started for one entry has the
entry's file open instead.
Guarantees: the file is changed in one write. A process that writes into its own mark can only take
the place of the handler itself.
Fails: `make` and `write` raise OSError.
"""

from __future__ import annotations

import os

NAME = "watcher-entry"
_LINK = f"/memfd:{NAME}"
_WIDTH = 48  # bytes: two numbers of 64 bits, and blanks


def make() -> int:
    """Return the descriptor of a new mark."""
    return os.memfd_create(NAME, os.MFD_CLOEXEC)


def write(mark: int, entry: int | None) -> None:
    """Note the entry that is open as `entry`; None: no entry is in hand."""
    status = None if entry is None else os.fstat(entry)
    text = b"" if status is None else b"%d %d" % (status.st_dev, status.st_ino)
    os.pwrite(mark, text.ljust(_WIDTH), 0)


def is_of(path: str, device: int, inode: int) -> bool:
    """Whether a descriptor in /proc is the mark of a process with this file in hand."""
    try:
        if not os.readlink(path).startswith(_LINK):
            return False
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _WIDTH).split() == [b"%d" % device, b"%d" % inode]
        finally:
            os.close(fd)
    except OSError:
        return False
