"""Is anybody writing to this file? Asked of the kernel by taking a read lease for an instant.

fcntl(2): F_SETLEASE with F_RDLCK fails with EAGAIN while any process has the file open for
writing, by a shared writable mapping kept after close too. We only ask: the lease is given back
at once. A writer that opens the file in between breaks the lease, which sends SIGIO, whose default
action is death: a process that asks must call `ignore_sigio` first.
"""

from __future__ import annotations

import errno
import fcntl
import signal

from watcher.evidence import Writer

# EACCES, EPERM: another's file, no CAP_LEASE; the others: a file system without leases. What may be
# over in a moment (ENOMEM, EINTR, EIO) must not stand for these: then the grace age would decide.
_NONE_TO_BE_HAD = (
    errno.EACCES,
    errno.EPERM,
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
)


def writer(fd: int) -> Writer:
    """Ask about an open O_RDONLY descriptor; a refusal that does not mean a writer is UNKNOWN."""
    try:
        found = take(fd)
    except OSError:
        return Writer.UNKNOWN
    if found is Writer.NONE:
        give_back(fd)
    return found


def take(fd: int) -> Writer:
    """Do as `writer` does and, where it is NONE, keep the lease: until `give_back` nobody writes.

    Whoever opens the file for writing meanwhile waits, so this is for an instant only.
    Raises OSError for what says nothing of leases, and may be over in a moment.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return Writer.SOME
    except OSError as error:
        if error.errno in _NONE_TO_BE_HAD:
            return Writer.UNKNOWN
        raise
    return Writer.NONE


def give_back(fd: int) -> None:
    """End a lease: whoever waits to write goes on."""
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def ignore_sigio() -> None:
    """Survive a broken lease. A handler, not SIG_IGN, which our children would inherit."""
    signal.signal(signal.SIGIO, lambda _number, _frame: None)
