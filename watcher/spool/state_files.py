"""Open the files and directories in `.watcher/` that are not entries: the rules of what to trust.

Root serves queues of other users. The owner of a queue may have put anything into `.watcher/`: a
link to a file of root's, a FIFO that blocks, another process's file. So nothing is followed, waited
for or overwritten:

    a file         is regular, has one name, belongs to this process's user or to root (for root:
                   or to the directory's owner), and is read up to a limit
    a new file     is made by this call (O_EXCL), and then given to the directory's owner
    a directory    is one, belongs to this process's user (for root: or to its parent's owner),
                   and other users may not write to it

What root makes belongs to the owner of the directory that it is in, so that the owner's daemon can
use it.
Fails: `Odd`, an OSError, for a file or directory that must not be used; else the kernel's OSError.
"""

from __future__ import annotations

import errno
import os
import stat

from watcher.spool.dirs import open_dir
from watcher.spool.disk import give

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_TRIES = 3  # to make a file that another process keeps making


class Odd(PermissionError):
    """What has the name does not satisfy the rules above, and is not used."""

    def __init__(self, name: bytes, why: str) -> None:
        super().__init__(errno.EPERM, why, os.fsdecode(name))


def open_file(
    name: bytes, directory: int, access: int = os.O_RDONLY, *, names: int | None = 1
) -> int:
    """Open an existing file; `names` is how many links it may have, None for any number."""
    try:
        fd = os.open(name, access | _SAFE, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR):
            raise Odd(name, "not a regular file") from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Odd(name, "not a regular file")  # noqa: TRY301 - closed below
        if names is not None and status.st_nlink > names:
            raise Odd(name, f"a file of {status.st_nlink} names")  # noqa: TRY301
        if not _is_trusted(status.st_uid, directory):
            raise Odd(name, f"a file of user {status.st_uid}")  # noqa: TRY301
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(name: bytes, directory: int, most: int, *, names: int | None = 1) -> bytes:
    """Return the first `most` bytes of a file."""
    fd = open_file(name, directory, names=names)
    try:
        return os.pread(fd, most, 0)
    finally:
        os.close(fd)


def create(
    name: bytes, directory: int, access: int = os.O_RDWR, mode: int = 0o600, *, mine: bool = False
) -> int:
    """Make a new file; raises FileExistsError. `mine`: root does not give it away."""
    fd = os.open(name, access | os.O_CREAT | os.O_EXCL | _SAFE, mode, dir_fd=directory)
    try:
        if not mine:
            give(fd, directory)
    except BaseException:
        os.close(fd)
        raise
    return fd


def create_anew(
    name: bytes, directory: int, access: int = os.O_RDWR, mode: int = 0o600, *, mine: bool = False
) -> int:
    """Make a file in the process directory, in the place of a file of its name."""
    for _ in range(_TRIES):
        try:
            return create(name, directory, access, mode, mine=mine)
        except FileExistsError:
            os.unlink(name, dir_fd=directory)
    return create(name, directory, access, mode, mine=mine)


def open_or_create(name: bytes, directory: int, access: int) -> int:
    """Open a file, made if it does not exist."""
    for _ in range(_TRIES):
        try:
            return open_file(name, directory, access)
        except FileNotFoundError:
            try:
                return create(name, directory, access)
            except FileExistsError:
                continue  # another process was quicker
    return open_file(name, directory, access)


def open_directory(name: bytes, parent: int, owned: int | None = None) -> int:
    """Open a directory; an empty one of root's is given to its owner, the parent's by default.

    `owned` is the descriptor of another directory that has the right owner.
    """
    owned = parent if owned is None else owned
    fd = open_dir(name, parent)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() and not _root_trusts(status.st_uid, owned):
            why = f"belongs to user {status.st_uid}, not to us: remove it or chown it"
            raise Odd(name, why)  # noqa: TRY301
        if status.st_mode & _OTHERS_WRITE:
            mode = stat.S_IMODE(status.st_mode)
            raise Odd(name, f"others may write to it (mode {mode:04o}): chmod go-w")  # noqa: TRY301
        if status.st_uid == 0 != os.fstat(owned).st_uid and not os.listdir(fd):
            give(fd, owned)  # an empty one is not in use
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_just_made(name: bytes, parent: int) -> int:
    """Open a directory that this process has just made; raises `Odd` if it was replaced."""
    fd = open_dir(name, parent)
    try:
        if os.fstat(fd).st_uid != os.geteuid() or os.listdir(fd):
            raise Odd(name, "another directory took its place")  # noqa: TRY301
    except BaseException:
        os.close(fd)
        raise
    return fd


def odd(name: bytes, directory: int, *, names: int | None = 1) -> str:
    """Return why the file of a name must not be used; "" if it may be, or does not exist."""
    try:
        os.close(open_file(name, directory, names=names))
    except Odd as error:
        return f"{os.fsdecode(name)}: {error.strerror}"
    except OSError:
        return ""
    return ""


def _is_trusted(uid: int, directory: int) -> bool:
    return uid in (0, os.geteuid()) or _root_trusts(uid, directory)


def _root_trusts(uid: int, directory: int) -> bool:
    return os.geteuid() == 0 and uid == os.fstat(directory).st_uid
