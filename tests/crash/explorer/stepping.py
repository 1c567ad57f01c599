"""Steps the program's own file operations: each waits for permission, and is told of when done.

Installed in an actor's process, and only there. Every call by which an actor sees or changes what
others see (a look by name, a change of names, a read, a write, a lock, a lease, the closing of a
file that was open for writing or locked) is one *step*: before it the actor says what it is about
to do and waits; after it, it says what came of it. What only the actor itself can see (fsync, its
own directory descriptors) is no step. The calls themselves are the kernel's, on a real directory.

Two things are made narrower than the kernel makes them. A lease is asked for and given back in one
step: a writer that opens the file in between is made to wait by the kernel until it is given back,
which is as if it came after. A name list is one step, sorted.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import marshal
import os
import re
import stat
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from watcher.spool.disk import _CACHE, _renameat2

WAIT = "wait for "
FREE = 1 << 30  # steps: more than any actor makes
_SCRATCH = re.compile(rb"\.[0-9]+\.[0-9a-f]+\.tmp$")
_WRITING = os.O_WRONLY | os.O_RDWR
_LENGTH = struct.Struct("I")

# The kernel's, kept before an actor's are put in their place.
_CALLS = (
    *("open", "close", "stat", "lstat", "fstat", "read", "pread", "write", "pwrite", "ftruncate"),
    *("rename", "link", "unlink", "mkdir", "rmdir", "scandir", "listdir", "dup", "urandom"),
)
REAL: dict[str, Any] = {name: getattr(os, name) for name in _CALLS}
_FLOCK, _FCNTL = fcntl.flock, fcntl.fcntl


class Step(NamedTuple):
    """One step that was made."""

    call: str
    outcome: str
    changed: bool = False  # whether others can tell that it was made
    inodes: tuple[int, ...] = ()  # the files that it saw or changed
    born: bool = False  # whether it made the file
    event: str = ""  # what inotify(7) would say of it in the queue's directory
    word: tuple[str, ...] = ()  # a handler's: see `Stepper.handle`


class Blocked(Exception):
    """The call would have to wait for another actor."""


class Pending(NamedTuple):
    """What an actor is about to do: below the queue where, and to which files it has open."""

    call: str
    paths: tuple[str, ...]
    looks: bool = False  # whether nobody else can tell that it was made
    inodes: tuple[int, ...] = ()


def send(channel: int, message: object) -> None:
    """Send one message over a pipe."""
    data = marshal.dumps(message)
    REAL["write"](channel, _LENGTH.pack(len(data)) + data)


def receive(channel: int) -> Any:
    """Receive one message; raise EOFError when the other end is gone."""
    head = REAL["read"](channel, _LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    left, pieces = _LENGTH.unpack(head)[0], []
    while left:
        piece = REAL["read"](channel, left)
        if not piece:
            raise EOFError
        pieces.append(piece)
        left -= len(piece)
    return marshal.loads(b"".join(pieces))


class Stepper:
    """An actor's side: asks before each step, and reports."""

    def __init__(self, root: bytes, number: int, asks: int, grants: int) -> None:
        self.root = root
        self.number = number
        self.quiet: frozenset[str] = frozenset()  # paths that nobody makes or removes
        self.has_noreplace = True
        self.pieces = 2  # in which a writer's file is written
        self.now = 2_000_000_000 + number  # seconds: every file of a test is of age by far
        self._asks, self._grants = asks, grants
        self._granted = 0
        self._made: list[tuple[Any, ...]] = []
        self._blocked = False
        self._random = 0
        self._paths: dict[int, str] = {}
        self._writing: set[int] = set()
        self._locked: set[int] = set()
        self._short: set[int] = set()  # descriptors whose next write is cut in two

    # -- asking and telling -------------------------------------------------------------------

    def step(self, pending: Pending, do: Callable[[], tuple[Any, Step]]) -> Any:
        """Ask, do, tell. `do` returns what the caller gets and what is told."""
        while True:
            self._ask(pending)
            try:
                result, made = do()
            except Blocked:
                self._blocked = True
                continue
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "?")
                self._made.append(tuple(Step(pending.call, name)))
                raise
            self._made.append(tuple(made))
            return result

    def _ask(self, pending: Pending) -> None:
        if self._granted == 0:
            send(self._asks, (self._made, tuple(pending), self._blocked, ""))
            self._made, self._blocked = [], False
            self._granted = receive(self._grants)
        self._granted -= 1

    def end(self, result: str) -> None:
        """Tell the last steps, and that there are no more."""
        send(self._asks, (self._made, None, False, result))

    # -- names ----------------------------------------------------------------------------------

    def where(self, name: Any, directory: int | None = None) -> str | None:
        """Return the path below the queue; None for what is not below it."""
        path = os.fsencode(name)
        if not path.startswith(b"/"):
            if directory is None or directory not in self._paths:
                return None
            base = self._paths[directory]
            return shown(path) if base == "." else f"{base}/{shown(path)}"
        if path == self.root:
            return "."
        return shown(path[len(self.root) + 1 :]) if path.startswith(self.root + b"/") else None

    def path(self, fd: int) -> str | None:
        """Return the path a descriptor was opened by."""
        return self._paths.get(fd)

    def is_quiet(self, *paths: str) -> bool:
        """Whether nobody else can tell whether the call was made, nor it whether theirs were."""
        return all(path in self.quiet or path.startswith(".watcher/journal") for path in paths)

    @staticmethod
    def _on(fd: int, call: str, where: str, *, looks: bool = False) -> Pending:
        return Pending(call, (where,), looks, (REAL["fstat"](fd).st_ino,))

    # -- calls ----------------------------------------------------------------------------------

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = self.where(path, dir_fd)
        if where is None and os.fsencode(path) == b"." and dir_fd in self._paths:
            where = self._paths[dir_fd]
        if where is not None and where.endswith("/."):
            where = where[:-2]
        if where is None:
            return REAL["open"](path, flags, mode, dir_fd=dir_fd)

        def do() -> tuple[int, Step]:
            before = _inode(path, dir_fd)
            fd = REAL["open"](path, flags, mode, dir_fd=dir_fd)
            self._paths[fd] = where
            self._writing.discard(fd)
            self._locked.discard(fd)
            if flags & _WRITING:
                self._writing.add(fd)
                if "/" not in where:
                    self._short.add(fd)
            inode = REAL["fstat"](fd).st_ino
            changed = bool(flags & _WRITING)
            return fd, Step(call, "ok", changed, (inode,), born=before == 0)

        call = f"open {where}" + (" to write" if flags & _WRITING else "")
        if self.is_quiet(where):
            return do()[0]
        return self.step(Pending(call, (where,), looks=not flags & _WRITING), do)

    def close(self, fd: int) -> None:
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
            self.step(self._on(fd, f"close {where}", where), do)

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

        def do() -> tuple[os.stat_result, Step]:
            status = REAL["fstat"](fd)
            links = "" if status.st_nlink else ", removed"
            return status, Step(call, _told(status, where) + links, inodes=(status.st_ino,))

        call = f"fstat {where}"
        return self.step(self._on(fd, call, where, looks=True), do)

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
            inode = _inode(path, dir_fd)
            REAL[what](path, dir_fd=dir_fd)
            return None, Step(call, "ok", changed=True, inodes=(inode,))

        call = f"{what} {where}"
        self.step(Pending(call, (where,)), do)

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        where = self.where(path, dir_fd)
        if where is None or self.is_quiet(where):
            REAL["mkdir"](path, mode, dir_fd=dir_fd)
            return

        def do() -> tuple[None, Step]:
            REAL["mkdir"](path, mode, dir_fd=dir_fd)
            inode = _inode(path, dir_fd)
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
            inodes = _inode(src, src_dir_fd), _inode(dst, dst_dir_fd)
            REAL["rename"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            return None, Step(call, "ok", True, inodes, event=_moved(target))

        call = f"rename {source} {target}"
        self.step(Pending(call, (source, target)), do)

    def renameat2(self, source: int, name: bytes, target: int, new: bytes, flags: int) -> int:
        if not self.has_noreplace:
            return errno.ENOSYS
        old_path, new_path = self.where(name, source), self.where(new, target)
        assert old_path is not None, name
        assert new_path is not None, new

        def do() -> tuple[int, Step]:
            inode = _inode(name, source)
            code = _REAL_RENAMEAT2[0](source, name, target, new, flags)
            if code:
                return code, Step(call, errno.errorcode[code])
            return 0, Step(call, "ok", True, (inode, 0), event=_moved(new_path))

        call = f"move {old_path} {new_path}"
        return self.step(Pending(call, (old_path, new_path)), do)

    def link(self, src: Any, dst: Any, *, src_dir_fd: int, dst_dir_fd: int, **_: Any) -> None:
        source, target = self.where(src, src_dir_fd), self.where(dst, dst_dir_fd)
        assert source is not None, src
        assert target is not None, dst

        def do() -> tuple[None, Step]:
            REAL["link"](
                src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False
            )
            return None, Step(call, "ok", True, (_inode(src, src_dir_fd),))

        call = f"link {source} {target}"
        self.step(Pending(call, (source, target)), do)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._reading(fd, lambda: REAL["pread"](fd, size, offset))

    def read(self, fd: int, size: int) -> bytes:
        return self._reading(fd, lambda: REAL["read"](fd, size))

    def _reading(self, fd: int, read: Callable[[], bytes]) -> bytes:
        where = self._paths.get(fd)
        if where is None or self.is_quiet(where):
            return read()

        def do() -> tuple[bytes, Step]:
            data = read()
            inode = REAL["fstat"](fd).st_ino
            told = f"{len(data)} bytes {hashlib.sha1(data).hexdigest()[:6]}"
            # Notes and ledgers hold times and inode numbers, which differ from run to run.
            return data, Step(call, told if "/" not in where else "ok", inodes=(inode,))

        call = f"read {where}"
        return self.step(self._on(fd, call, where, looks=True), do)

    def write(self, fd: int, data: Any) -> int:
        if fd in self._short and self.pieces > 1:
            self._short.discard(fd)
            data = bytes(data)[: max(1, len(data) // 2)]
        return self._writing_step(fd, data, lambda: REAL["write"](fd, data))

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        return self._writing_step(fd, data, lambda: REAL["pwrite"](fd, data, offset))

    def ftruncate(self, fd: int, size: int) -> None:
        self._writing_step(fd, b"", lambda: REAL["ftruncate"](fd, size))

    def _writing_step(self, fd: int, data: Any, write: Callable[[], Any]) -> Any:
        where = self._paths.get(fd)
        if where is None or self.is_quiet(where):
            return write()

        def do() -> tuple[Any, Step]:
            result = write()
            told = f"{len(data)} bytes" if "/" not in where else "ok"
            return result, Step(call, told, True, (REAL["fstat"](fd).st_ino,))

        call = f"write {where}"
        return self.step(self._on(fd, call, where), do)

    def flock(self, fd: int, operation: int) -> None:
        where = self._paths.get(fd)
        if where is None or self.is_quiet(where):
            _FLOCK(fd, operation)
            return

        def do() -> tuple[None, Step]:
            try:
                _FLOCK(fd, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                if operation & fcntl.LOCK_NB:
                    raise
                raise Blocked from None
            self._locked.add(fd)
            return None, Step(call, "ok", changed=True, inodes=(REAL["fstat"](fd).st_ino,))

        call = f"lock {where}"
        self.step(self._on(fd, call, where), do)

    def fcntl(self, fd: int, command: int, argument: Any = 0) -> Any:
        where = self._paths.get(fd)
        if where is None or command != fcntl.F_SETLEASE or argument == fcntl.F_UNLCK:
            return _FCNTL(fd, command, argument)

        def do() -> tuple[Any, Step]:
            result = _FCNTL(fd, command, argument)
            return result, Step(call, "ok", inodes=(REAL["fstat"](fd).st_ino,))

        call = f"lease {where}"
        return self.step(self._on(fd, call, where, looks=True), do)

    def urandom(self, size: int) -> bytes:
        self._random += 1
        return hashlib.sha256(b"%d.%d" % (self.number, self._random)).digest()[:size]

    # -- what a handler does, and what is waited for -----------------------------------------------

    def handle(self, what: str, message: bytes, metadata: str, inodes: tuple[int, ...]) -> None:
        """Tell that the handler begins (`what` is "begins"), or its word."""
        told = hashlib.sha1(message + metadata.encode()).hexdigest()[:6]
        word = (what, message.decode("latin-1"), metadata)
        call = f"handler {what}"
        self.step(Pending(call, ("*",)), lambda: (None, Step(call, told, True, inodes, word=word)))

    def wait_for(self, *events: str) -> None:
        """Wait until all of these happened (as `Step.event` tells them)."""
        call = WAIT + " + ".join(events)
        self.step(Pending(call, ("*",)), lambda: (None, Step(call, "ok")))

    # -- installing -----------------------------------------------------------------------------

    def install(self) -> None:
        """Put the steps in the place of the calls, in this process."""
        for name in REAL:
            if hasattr(self, name):
                setattr(os, name, getattr(self, name))
        os.remove, os.replace = self.unlink, self.rename  # type: ignore[assignment]
        os.getpid = lambda: 1000 + self.number
        fcntl.flock, fcntl.fcntl = self.flock, self.fcntl  # type: ignore[assignment]
        _CACHE[:] = [self.renameat2]
        time.time = lambda: float(self.now)
        time.time_ns = lambda: self.now * 1_000_000_000
        time.monotonic = lambda: float(self.now)
        time.monotonic_ns = lambda: self.now * 1_000_000_000
        time.clock_gettime_ns = lambda _clock: self.now * 1_000_000_000
        time.sleep = lambda _seconds: None

    def open_buffered(self, path: str, mode: str) -> Buffered:
        """Stand for the built-in open() of the writers."""
        assert mode == "wb"
        return Buffered(path)


class Buffered:
    """A file object that writes when it is flushed or closed, in two pieces."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        self._data += data

    def flush(self) -> None:
        while self._data:
            self._data = self._data[os.write(self._fd, self._data) :]

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1


class Scanned:
    """What os.scandir returns: names listed at once, each looked at when asked."""

    def __init__(self, stepper: Stepper, path: Any, found: list[tuple[Any, int]]) -> None:
        self._items = iter([Item(stepper, path, name, inode) for name, inode in found])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Scanned:
        return self

    def __next__(self) -> Item:
        return next(self._items)


class Item:
    """One entry of a directory, as os.DirEntry."""

    def __init__(self, stepper: Stepper, place: Any, name: Any, inode: int) -> None:
        self._stepper, self._place, self._inode = stepper, place, inode
        self.name = name
        self.path = name if isinstance(place, int) else os.path.join(place, name)

    def inode(self) -> int:
        return self._inode

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if isinstance(self._place, int):
            return self._stepper.stat(
                self.name, dir_fd=self._place, follow_symlinks=follow_symlinks
            )
        return self._stepper.stat(self.path, follow_symlinks=follow_symlinks)


def shown(name: bytes) -> str:
    """Return a name for people; a note's scratch name without its random part."""
    return _SCRATCH.sub(b".SCRATCH.tmp", name).decode("utf-8", "backslashreplace")


def _told(status: os.stat_result, where: str) -> str:
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    size = "" if "/" in where else f"{status.st_size} bytes, "  # notes hold times
    return f"{size}{status.st_nlink} names"


def _moved(target: str) -> str:
    return "" if "/" in target else f"moved {target}"


def _inode(path: Any, directory: int | None) -> int:
    try:
        return REAL["stat"](path, dir_fd=directory, follow_symlinks=False).st_ino
    except OSError:
        return 0


_REAL_RENAMEAT2 = [_renameat2()]
