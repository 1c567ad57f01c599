"""The only file-system calls that change a spool, so that a test can stop before and after each.

Guarantees: nothing here overwrites a file (`move` refuses a taken name), nothing follows a
symbolic link in the last component, and every descriptor is closed on exec.
Fails: every call raises the OSError of the kernel; the callers decide what it means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RENAME_NOREPLACE = 1  # linux/fs.h
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Disk:
    """The calls, by what they are for. One instance serves a process; a test passes its own."""

    def open(self, name: bytes, directory: int) -> int:
        """Open a file to look at and to claim; never blocks on a FIFO, never follows a link."""
        return os.open(name, LOOK, dir_fd=directory)

    def open_writable(self, name: bytes, directory: int) -> int:
        """Do what `open` does, where flock(2) is made of record locks, which need it."""
        return os.open(name, LOOK | os.O_RDWR, dir_fd=directory)

    def lock(self, fd: int) -> None:
        """Claim: BlockingIOError when another open file description has it."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlink(self, name: bytes, directory: int) -> None:
        """Remove one file: the end of an entry that a handler called done."""
        os.unlink(name, dir_fd=directory)

    def move(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        """Rename without overwriting: FileExistsError when the target's name is taken."""
        code = _renameat2()(source, name, target, target_name, _RENAME_NOREPLACE)
        if code == 0:
            return
        if code in _NOT_SUPPORTED:
            self.link_and_unlink(name, source, target_name, target)
            return
        raise OSError(code, os.strerror(code), os.fsdecode(name))

    def move_aside(self, name: bytes, source: int, target: int) -> None:
        """Rename into a directory that only the caller uses, where it knows the name to be free.

        One step on every file system: `link_and_unlink` would unlink a newcomer to the name.
        """
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)

    def link_and_unlink(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        """Do what `move` does on file systems without RENAME_NOREPLACE.

        A crash between the two leaves one file under two names, one of them ours: the sweep
        recognises it by the inode and finishes (`halfway.finish_move`). The new name is durable
        before the old one goes: these are two changes, and a disk may keep only the second.
        """
        with self._held(name, source):
            os.link(name, target_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            with contextlib.suppress(OSError):  # what cannot be synced here was no safer before
                os.fsync(target)
            try:
                os.unlink(name, dir_fd=source)
            except OSError:
                os.unlink(target_name, dir_fd=target)
                raise

    @contextlib.contextmanager
    def _held(self, name: bytes, directory: int) -> Iterator[None]:
        """Keep a file claimed that nobody has: or a sweep takes its two names for a cut move's.

        It would remove the one, and the mover then the other. Where the caller has it claimed, or
        it cannot be, nothing is added.
        """
        fd = -1
        with contextlib.suppress(OSError):
            fd = self.open(name, directory)
            self.lock(fd)
        try:
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def make_directory(self, name: bytes, directory: int) -> None:
        """Make a directory of ours, for its owner only; an existing one is as good.

        It is synced all the same: whoever made it may have died before that, or be about to.
        """
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            with contextlib.suppress(OSError):  # to look at what is there needs no sync
                os.fsync(directory)
            return
        os.fsync(directory)

    def write_note(self, name: bytes, directory: int, data: bytes, *, durable: bool = True) -> None:
        """Write the small file that explains, whole or not at all."""
        scratch = b".%d.%x.tmp" % (os.getpid(), id(data))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(scratch, flags, 0o600, dir_fd=directory)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
            self.move(scratch, directory, name, directory)
        except OSError:
            os.unlink(scratch, dir_fd=directory)
            raise
        finally:
            os.close(fd)

    def sync(self, directory: int) -> None:
        """Make the names of a directory durable."""
        os.fsync(directory)


def _renameat2() -> Callable[[int, bytes, int, bytes, int], int]:
    """Return renameat2(2) as a function that returns 0 or the errno (Python 3.13 has no other)."""
    if not _CACHE:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        raw: ctypes._NamedFuncPointer | None = getattr(library, "renameat2", None)

        def call(source: int, name: bytes, target: int, target_name: bytes, flags: int) -> int:
            if raw is None:
                return errno.ENOSYS
            if raw(source, name, target, target_name, ctypes.c_uint(flags)) == 0:
                return 0
            return ctypes.get_errno()

        _CACHE.append(call)
    return _CACHE[0]


_CACHE: list[Callable[[int, bytes, int, bytes, int], int]] = []
DISK = Disk()
