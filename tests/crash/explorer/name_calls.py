"""The calls that see or change names, each as a step."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from explorer.asking import Asking
from explorer.stand_ins import Scanned
from explorer.steps import REAL, Pending, Step, created, gone, inode_of, moved, shown, status_told

from watcher.spool import libc

_WRITING = os.O_WRONLY | os.O_RDWR
UNNAMED = "#unnamed"


class NameCalls(Asking):
    """Opening, closing, looking, and every change of names."""

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = self.where(path, dir_fd)
        if where is None and os.fsencode(path) == b"." and dir_fd in self._paths:
            where = self._paths[dir_fd]
        if where is not None and where.endswith("/."):
            where = where[:-2]
        if where is None:
            return REAL["open"](path, flags, mode, dir_fd=dir_fd)

        def do() -> tuple[int, Step]:
            before = inode_of(path, dir_fd)
            fd = REAL["open"](path, flags, mode, dir_fd=dir_fd)
            self._paths[fd] = where
            self._writing.discard(fd)
            self._locked.discard(fd)
            if flags & _WRITING:
                self._writing.add(fd)
                if "/" not in where:
                    self._short.add(fd)
            inode = REAL["fstat"](fd).st_ino
            changed, born = bool(flags & _WRITING), before == 0
            event = created(where) if born else ""
            return fd, Step(call, "ok", changed, (inode,), born=born, event=event)

        call = f"open {where}" + (" to write" if flags & _WRITING else "")
        if self.is_quiet(where):
            return do()[0]
        return self.step(Pending(call, (where,), looks=not flags & _WRITING), do)

    def close(self, fd: int) -> None:
        self._leased.pop(fd, None)
        where = self._paths.get(fd)
        if fd not in self._writing and fd not in self._locked:
            self._paths.pop(fd, None)
            REAL["close"](fd)
            return

        def do() -> tuple[None, Step]:
            inode = REAL["fstat"](fd).st_ino
            REAL["close"](fd)
            event = f"closed {where}" if fd in self._writing and where and "/" not in where else ""
            self._paths.pop(fd, None)
            self._writing.discard(fd)
            self._locked.discard(fd)
            self._short.discard(fd)
            return None, Step(f"close {where}", "ok", changed=True, inodes=(inode,), event=event)

        if where is None or self.is_quiet(where):
            do()
        else:
            self.step(self.on(fd, f"close {where}", where), do)

    def dup(self, fd: int) -> int:
        new = REAL["dup"](fd)
        if fd in self._paths:
            self._paths[new] = self._paths[fd]
        return new

    def stat(
        self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        if isinstance(path, int):
            return self.fstat(path)
        where = self.where(path, dir_fd)
        if where is None or self.is_quiet(where):
            return REAL["stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

        def do() -> tuple[os.stat_result, Step]:
            status = REAL["stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
            # The program asks no size of a name, and decides by its times before its next step.
            told = "directory" if stat.S_ISDIR(status.st_mode) else f"{status.st_nlink} names"
            return status, Step(call, told, inodes=(status.st_ino,))

        call = f"stat {where}"
        return self.step(Pending(call, (where,), looks=True), do)

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        where = self._paths.get(fd)
        if where is None or self.is_quiet(where):
            return REAL["fstat"](fd)
        if fd in self._leased:
            return self._leased[fd]

        def do() -> tuple[os.stat_result, Step]:
            status = REAL["fstat"](fd)
            links = "" if status.st_nlink else ", removed"
            return status, Step(call, status_told(status, where) + links, inodes=(status.st_ino,))

        call = f"fstat {where}"
        return self.step(self.on(fd, call, where, looks=True), do)

    def listing(self, path: Any) -> tuple[str | None, list[tuple[Any, int]]]:
        """Return where, and the names there with their inodes."""
        where = self._paths.get(path) if isinstance(path, int) else self.where(path)

        def do() -> tuple[list[tuple[Any, int]], Step]:
            with REAL["scandir"](path) as items:
                found = sorted((item.name, item.inode()) for item in items)
            names = " ".join(shown(os.fsencode(name)) for name, _ in found)
            return found, Step(call, names, inodes=tuple(inode for _, inode in found))

        call = f"list {where}"
        if where is None:
            return where, do()[0]
        return where, self.step(Pending(call, (where + "/*",), looks=True), do)

    def listdir(self, path: Any = ".") -> list[Any]:
        return [name for name, _ in self.listing(path)[1]]

    def scandir(self, path: Any = ".") -> Scanned:
        return Scanned(self, path, self.listing(path)[1])

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._removal("unlink", path, dir_fd)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._removal("rmdir", path, dir_fd)

    def _removal(self, what: str, path: Any, dir_fd: int | None) -> None:
        where = self.where(path, dir_fd)
        if where is None:
            REAL[what](path, dir_fd=dir_fd)
            return

        def do() -> tuple[None, Step]:
            self._may_go(where)
            inode = inode_of(path, dir_fd)
            REAL[what](path, dir_fd=dir_fd)
            return None, Step(call, "ok", changed=True, inodes=(inode,), event=gone(where))

        call = f"{what} {where}"
        self.step(Pending(call, (where,)), do)

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        where = self.where(path, dir_fd)
        if where is None or self.is_quiet(where):
            REAL["mkdir"](path, mode, dir_fd=dir_fd)
            return

        def do() -> tuple[None, Step]:
            REAL["mkdir"](path, mode, dir_fd=dir_fd)
            inode = inode_of(path, dir_fd)
            return None, Step(call, "ok", changed=True, inodes=(inode,), born=True)

        call = f"mkdir {where}"
        self.step(Pending(call, (where,)), do)

    def rename(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        source, target = self.where(src, src_dir_fd), self.where(dst, dst_dir_fd)
        assert source is not None, src
        assert target is not None, dst

        def do() -> tuple[None, Step]:
            self._may_go(source, target)
            inodes = inode_of(src, src_dir_fd), inode_of(dst, dst_dir_fd)
            REAL["rename"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            return None, Step(call, "ok", True, inodes, event=moved(target) or gone(source))

        call = f"rename {source} {target}"
        self.step(Pending(call, (source, target)), do)

    def renameat2(self, source: int, name: bytes, target: int, new: bytes, flags: int) -> int:
        if not self.has_noreplace:
            return errno.ENOSYS
        old_path, new_path = self.where(name, source), self.where(new, target)
        assert old_path is not None, name
        assert new_path is not None, new

        def do() -> tuple[int, Step]:
            inode = inode_of(name, source)
            pinned = old_path in self.pinned
            code = errno.EPERM if pinned else _REAL_RENAMEAT2[0](source, name, target, new, flags)
            if code:
                return code, Step(call, errno.errorcode[code])
            return 0, Step(call, "ok", True, (inode, 0), event=moved(new_path) or gone(old_path))

        call = f"move {old_path} {new_path}"
        return self.step(Pending(call, (old_path, new_path)), do)

    def _may_go(self, *paths: str) -> None:
        """Refuse what the kernel refuses for another user's file in a sticky directory."""
        if not self.pinned.isdisjoint(paths):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def link(self, src: Any, dst: Any, *, src_dir_fd: int, dst_dir_fd: int, **_: Any) -> None:
        source, target = self.where(src, src_dir_fd), self.where(dst, dst_dir_fd)
        assert source is not None, src
        assert target is not None, dst

        def do() -> tuple[None, Step]:
            REAL["link"](
                src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False
            )
            return None, Step(call, "ok", True, (inode_of(src, src_dir_fd),), event=created(target))

        call = f"link {source} {target}"
        self.step(Pending(call, (source, target)), do)

    def open_unnamed(self, directory: str) -> int:
        """Open a file that has no name yet (O_TMPFILE); the kernel tells of its close as `#INODE`.

        It is made when it gets its name: until then the kernel removes it with its writer.
        """

        def do() -> tuple[int, Step]:
            fd = REAL["open"](directory, os.O_TMPFILE | os.O_WRONLY, 0o666)
            self._paths[fd] = UNNAMED
            self._writing.add(fd)
            self._short.add(fd)
            return fd, Step(call, "ok", changed=True, inodes=(REAL["fstat"](fd).st_ino,))

        call = f"open {UNNAMED} to write"
        return self.step(Pending(call, (UNNAMED,)), do)  # type: ignore[no-any-return]

    def name_it(self, fd: int, path: str) -> None:
        """Give a file without a name its first one: linkat(2) with AT_SYMLINK_FOLLOW."""
        target = self.where(path)
        assert target is not None, path

        def do() -> tuple[None, Step]:
            REAL["link"](f"/proc/self/fd/{fd}", path, src_dir_fd=fd)
            inode = REAL["fstat"](fd).st_ino
            return None, Step(call, "ok", True, (inode,), born=True, event=created(target))

        call = f"link {UNNAMED} {target}"
        self.step(Pending(call, (UNNAMED, target)), do)


_REAL_RENAMEAT2 = [libc.renameat2]
