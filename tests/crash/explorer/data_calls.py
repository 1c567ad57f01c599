"""The calls that read, write, lock and lease, each as a step."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable
from typing import Any

from explorer.asking import Asking, random_bytes
from explorer.steps import REAL, Blocked, Step, status_told

_FLOCK, _FCNTL = fcntl.flock, fcntl.fcntl


class DataCalls(Asking):
    """What goes through a descriptor."""

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
        return self.step(self.on(fd, call, where, looks=True), do)

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
        return self.step(self.on(fd, call, where), do)

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
            (self._locked.discard if unlocks else self._locked.add)(fd)
            return None, Step(call, "ok", changed=True, inodes=(REAL["fstat"](fd).st_ino,))

        unlocks = operation == fcntl.LOCK_UN
        call = f"unlock {where}" if unlocks else f"lock {where}"
        self.step(self.on(fd, call, where), do)

    def fcntl(self, fd: int, command: int, argument: Any = 0) -> Any:
        where = self._paths.get(fd)
        if where is None or command != fcntl.F_SETLEASE:
            return _FCNTL(fd, command, argument)
        if argument == fcntl.F_UNLCK:
            self._leased.pop(fd, None)
            return 0

        def do() -> tuple[Any, Step]:
            result = _FCNTL(fd, command, argument)
            status = REAL["fstat"](fd)
            _FCNTL(fd, command, fcntl.F_UNLCK)
            self._leased[fd] = status
            return result, Step(call, status_told(status, where), inodes=(status.st_ino,))

        call = f"lease {where}"
        return self.step(self.on(fd, call, where, looks=True), do)

    def urandom(self, size: int) -> bytes:
        self._random += 1
        return random_bytes(self.number, self._random, size)
