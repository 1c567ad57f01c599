"""Records what the program does to a disk: its own calls, on a real directory, in order.

Installed for a while in this process. An operation is what a power failure may undo: a change of
names, of contents, and a sync, after which it may not. Files are known by their inode numbers, and
those that were made meanwhile by numbers of ours: a kernel gives a removed file's to the next.
A change that goes past these calls is found out: the recorded ones no longer come to what is there.
What is mapped into memory (the ledger, the journal's spill) is not recorded: it is never synced and
nothing is asked of it after a power failure.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from watcher import commit_many
from watcher.spool import libc

_CALLS = ("open", "close", "write", "fsync", "rename", "link", "unlink", "mkdir", "rmdir", "dup")
IGNORED = (".journal", ".ledger", ".fault", "journal")  # never synced, and none is an entry


class Op(NamedTuple):
    """One operation on the disk. Paths are relative to the queue."""

    what: str  # mkdir, rmdir, create, write, sync (a file), sync names, sync all, rename, link,
    # unlink, word
    inode: int = 0
    path: str = ""
    to: str = ""
    data: bytes = b""
    at: int = 0  # offset of a write


_made = itertools.count(-1, -1)


def fresh() -> int:
    """Return a number that no file has."""
    return next(_made)


class Recorder:
    """The operations on one directory, and whether its syncs are made (a test breaks them)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.has_noreplace = True
        self.ops: list[Op] = []
        self.blind: frozenset[str] = frozenset()  # "sync", "sync names": not recorded
        self.ids: dict[int, int] = {}  # our number for an inode's
        self._real: dict[str, Any] = {name: getattr(os, name) for name in _CALLS}
        self._paths: dict[int, str] = {}
        self._offsets: dict[int, int] = {}

    def say(self, word: str) -> None:
        """Record a word of the program: at this point it made a promise."""
        self.ops.append(Op("word", path=word))

    def _where(self, path: Any, directory: int | None = None) -> str | None:
        name = os.fsdecode(path)
        if name.startswith("/"):
            if name == self.root:
                return "."
            inside = name.startswith(self.root + "/")
            return name[len(self.root) + 1 :] if inside else None
        if directory is None or directory not in self._paths:
            return None
        return os.path.normpath(os.path.join(self._paths[directory], name))

    def _id(self, file: int | str) -> int:
        inode = os.stat(file, follow_symlinks=isinstance(file, int)).st_ino
        return self.ids.get(inode, inode)

    def _add(self, op: Op) -> None:
        if op.what not in self.blind and not os.path.basename(op.path).startswith(IGNORED):
            self.ops.append(op)

    # -- the calls ------------------------------------------------------------------------------

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """Open, and record a file that was made."""
        where = self._where(path, dir_fd)
        new = where is not None and not os.path.lexists(f"{self.root}/{where}")
        fd: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        if where is not None:
            self._paths[fd], self._offsets[fd] = where, 0
            if new and flags & os.O_CREAT:
                self.ids[os.fstat(fd).st_ino] = fresh()
                self._add(Op("create", self._id(fd), where))
        return fd

    def close(self, fd: int) -> None:
        """Close: nothing on the disk changes."""
        self._real["close"](fd)
        self._paths.pop(fd, None)

    def dup(self, fd: int) -> int:
        """Duplicate a descriptor."""
        new: int = self._real["dup"](fd)
        if fd in self._paths:
            self._paths[new] = self._paths[fd]
        return new

    def write(self, fd: int, data: Any) -> int:
        """Write, and record the bytes."""
        done: int = self._real["write"](fd, data)
        if fd in self._paths:
            at = self._offsets[fd]
            self._offsets[fd] = at + done
            part = bytes(data)[:done]
            self._add(Op("write", self._id(fd), self._paths[fd], data=part, at=at))
        return done

    def fsync(self, fd: int) -> None:
        """Record a sync; the kernel's is not needed."""
        if fd in self._paths:
            path = self._paths[fd]
            names = os.path.isdir(f"/proc/self/fd/{fd}")
            self._add(Op("sync names" if names else "sync", self._id(fd), path))

    def rename(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        """Rename."""
        op = self._move("rename", src, src_dir_fd, dst, dst_dir_fd)
        self._real["rename"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if op is not None:
            self._add(op)

    def link(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int, **more: Any
    ) -> None:
        """Link."""
        op = self._move("link", src, src_dir_fd, dst, dst_dir_fd)
        self._real["link"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **more)
        if op is not None:
            self._add(op)

    def _move(
        self, what: str, src: Any, source: int | None, dst: Any, target: int | None
    ) -> Op | None:
        old, new = self._where(src, source), self._where(dst, target)
        if old is None or new is None:
            return None
        try:
            inode = self._id(f"{self.root}/{old}")
        except FileNotFoundError:
            return None  # the call will fail
        return Op(what, inode, old, new)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        """Unlink."""
        self._removed("unlink", path, dir_fd)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        """Remove a directory."""
        self._removed("rmdir", path, dir_fd)

    def _removed(self, what: str, path: Any, dir_fd: int | None) -> None:
        where = self._where(path, dir_fd)
        inode = 0
        if where is not None:
            with contextlib.suppress(FileNotFoundError):
                inode = self._id(f"{self.root}/{where}")
        self._real[what](path, dir_fd=dir_fd)
        if where is not None:
            self._add(Op(what, inode, where))

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """Make a directory."""
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        where = self._where(path, dir_fd)
        if where is not None:
            self._add(Op("mkdir", path=where))

    def _renameat2(self, source: int, name: bytes, target: int, new: bytes, flags: int) -> int:
        if not self.has_noreplace:
            return errno.ENOSYS
        op = self._move("rename", name, source, new, target)
        code = self._noreplace(source, name, target, new, flags)
        if code == 0 and op is not None:
            self._add(op)
        return code

    def _sync_all(self, _directory: int) -> bool:
        self._add(Op("sync all"))
        return True

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record the calls inside `with`."""
        self._noreplace = libc.renameat2
        libc.renameat2 = self._renameat2
        for name in _CALLS:
            setattr(os, name, getattr(self, name))
        whole, commit_many.sync_file_system = commit_many.sync_file_system, self._sync_all
        try:
            yield
        finally:
            for name in _CALLS:
                setattr(os, name, self._real[name])
            libc.renameat2 = self._noreplace
            commit_many.sync_file_system = whole


@contextlib.contextmanager
def renaming(*, noreplace: bool) -> Iterator[None]:
    """Behave inside `with` as a file system with RENAME_NOREPLACE, or without."""
    kept = libc.renameat2
    if not noreplace:
        libc.renameat2 = lambda *_: errno.ENOSYS
    try:
        yield
    finally:
        libc.renameat2 = kept
