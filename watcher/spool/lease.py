"""Does a process have this file open for writing? The kernel is asked by a short read lease.

fcntl(2): F_SETLEASE with F_RDLCK fails with EAGAIN while any process has the file open for writing,
or has a shared writable mapping of it. The lease is kept for a moment only. A writer that opens the
file meanwhile breaks the lease: the kernel sends SIGIO to this process, whose default action is to
kill it. So a process must call `ignore_sigio` before it asks.

Guarantees: `writer` gives the lease back before it returns; `take` leaves that to the caller.
Fails: `take` and `give_back` raise OSError; `writer` answers UNKNOWN.
"""

from __future__ import annotations

import errno
import fcntl
import signal

from watcher.rules.evidence import Writer

# EACCES, EPERM: another user's file, and no CAP_LEASE. The others: a file system without leases.
# Errors that may be over soon (ENOMEM, EINTR, EIO) are not among them: for these the grace age
# would decide.
_NO_LEASES = (
    errno.EACCES,
    errno.EPERM,
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
)


def writer(fd: int) -> Writer:
    """Ask for writers of the file of an O_RDONLY descriptor; UNKNOWN if the kernel cannot tell."""
    try:
        found = take(fd)
    except OSError:
        return Writer.UNKNOWN
    if found is Writer.NONE:
        give_back(fd)
    return found


def take(fd: int) -> Writer:
    """Do as `writer`, and if the answer is NONE, keep the lease until `give_back`.

    The kernel makes a process wait that opens the file for writing meanwhile, so the time must be
    short. Raises OSError for an error that says nothing about leases and may be over soon.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return Writer.SOME
    except OSError as error:
        if error.errno in _NO_LEASES:
            return Writer.UNKNOWN
        raise
    return Writer.NONE


def give_back(fd: int) -> None:
    """End a lease: processes that wait to open the file for writing go on."""
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def ignore_sigio() -> None:
    """Survive a broken lease. SIG_IGN would be inherited by the commands, so a function is set."""
    signal.signal(signal.SIGIO, lambda _number, _frame: None)
