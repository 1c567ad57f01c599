"""The file-system calls that change entries, so that a test can stop before and after each.

This process's own directory, the journal and the producer's scratch files have calls of their own.

Guarantees: nothing here overwrites a file (`move` refuses a taken name) but `write_record`, whose
file is no entry's. Nothing follows a symbolic link in the last component, and every descriptor is
closed on exec.
Fails: every call raises the kernel's OSError; the caller decides what it means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from watcher.spool import libc

LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RENAME_NOREPLACE = 1  # linux/fs.h
_UNLOCK_TRIES = 5
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Disk:
    """The calls, named by purpose. A process uses one instance; a test passes another."""

    def open(self, name: bytes, directory: int) -> int:
        """Open a file to claim it; never blocks on a FIFO, never follows a link."""
        return os.open(name, LOOK, dir_fd=directory)

    def open_writable(self, name: bytes, directory: int) -> int:
        """Open a file as `open` does, and for writing: on NFS an exclusive lock needs that."""
        return os.open(name, LOOK | os.O_RDWR, dir_fd=directory)

    def lock(self, fd: int) -> None:
        """Claim; raises BlockingIOError if another open file description has the lock."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(self, fd: int) -> None:
        """Release a claim, also in processes that inherited the open file description.

        A process that a handler left running may have inherited it: closing the descriptor here
        would leave the entry claimed for as long as that process lives. So a refused unlock is
        repeated at once.
        """
        for _ in range(_UNLOCK_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_UN)
            except OSError:
                continue  # if every try is refused, the claim ends with the last descriptor
            return

    def unlink(self, name: bytes, directory: int) -> None:
        """Remove one file of a done entry."""
        os.unlink(name, dir_fd=directory)

    def move(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        """Rename without overwriting; raises FileExistsError if the target's name is taken."""
        code = libc.renameat2(source, name, target, target_name, _RENAME_NOREPLACE)
        if code == 0:
            return
        if code in _NOT_SUPPORTED:
            self.link_and_unlink(name, source, target_name, target)
            return
        raise OSError(code, os.strerror(code), os.fsdecode(name))

    def move_aside(
        self, name: bytes, source: int, target: int, new_name: bytes | None = None
    ) -> None:
        """Rename into the process directory, where the caller knows that the name is free.

        It is one step on every file system. `link_and_unlink` would unlink a file that a writer
        renamed over the name between its two steps.
        """
        os.rename(name, new_name or name, src_dir_fd=source, dst_dir_fd=target)

    def link_and_unlink(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        """Do what `move` does, on file systems without RENAME_NOREPLACE.

        A crash between the two steps leaves one file with two names, one of them in a state
        directory. The sweep recognises it by its inode number and completes the move
        (`interrupted.finish_move`). The target is synced before the unlink: else a power failure
        could keep the second change and lose the first.
        """
        with self._held(name, source):
            os.link(name, target_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            with contextlib.suppress(
                OSError
            ):  # a refused sync makes the file no less safe than it was
                os.fsync(target)
            try:
                os.unlink(name, dir_fd=source)
            except OSError:
                os.unlink(target_name, dir_fd=target)
                raise

    @contextlib.contextmanager
    def _held(self, name: bytes, directory: int) -> Iterator[None]:
        """Claim a file during a move, if it is not claimed.

        Else a sweep would take its two names for an interrupted move and remove one, and the mover
        would remove the other. If the caller has the claim, or it is refused, nothing is added.
        """
        fd = None
        with contextlib.suppress(OSError):
            fd = self.open(name, directory)
            self.lock(fd)
        try:
            yield
        finally:
            if fd is not None:
                os.close(fd)

    def archive(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        """Rename a done file into the archive; raises FileExistsError if the name is taken there.

        On file systems without RENAME_NOREPLACE an empty file is made first, which must be new, and
        the rename replaces it. A crash between the two steps leaves the empty file. `move` would
        leave one file with two names: an operator may make such links in an archive, so no recovery
        could tell which of the two names to remove.
        """
        code = libc.renameat2(source, name, target, target_name, _RENAME_NOREPLACE)
        if code == 0:
            return
        if code not in _NOT_SUPPORTED:
            raise OSError(code, os.strerror(code), os.fsdecode(name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(target_name, flags, 0o600, dir_fd=target))
        try:
            os.rename(name, target_name, src_dir_fd=source, dst_dir_fd=target)
        except OSError:
            os.unlink(target_name, dir_fd=target)
            raise

    def make_directory(self, name: bytes, directory: int, mode: int = 0o700) -> None:
        """Make a directory in `.watcher/` or of the archive; it may exist already.

        The parent is synced in any case: the process that made it may have died before its sync.
        """
        try:
            os.mkdir(name, mode, dir_fd=directory)
        except FileExistsError:
            with contextlib.suppress(OSError):  # a directory that is only read needs no sync
                os.fsync(directory)
            return
        os.fsync(directory)

    def write_note(self, name: bytes, directory: int, data: bytes, *, durable: bool = True) -> None:
        """Write a note, whole or not at all."""
        scratch = b".%d.%x.tmp" % (os.getpid(), id(data))
        fd = _new_file(scratch, directory, data, durable=durable)
        try:
            self.move(scratch, directory, name, directory)
        except OSError:
            os.unlink(scratch, dir_fd=directory)
            raise
        finally:
            os.close(fd)

    def write_record(self, name: bytes, directory: int, data: bytes) -> None:
        """Write the record of the queue, in the place of the one before, whole or not at all."""
        scratch = b".%s.%s.tmp" % (name, os.urandom(4).hex().encode())
        fd = _new_file(scratch, directory, data, durable=True)
        try:
            os.rename(scratch, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(scratch, dir_fd=directory)
            raise
        finally:
            os.close(fd)

    def sync(self, directory: int) -> None:
        """Make the names of a directory durable."""
        os.fsync(directory)


def _new_file(name: bytes, directory: int, data: bytes, *, durable: bool) -> int:
    """Make and write a file; return its descriptor. If that fails, there is no such file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        give(fd, directory)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
    except OSError:
        os.close(fd)
        os.unlink(name, dir_fd=directory)
        raise
    return fd


def give(fd: int, directory: int) -> None:
    """Give a file that root made to the owner of the directory that it is in."""
    if os.geteuid() == 0:
        owner = os.fstat(directory)
        if owner.st_uid != 0:
            os.fchown(fd, owner.st_uid, owner.st_gid)


DISK = Disk()
