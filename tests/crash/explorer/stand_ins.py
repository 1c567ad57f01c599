"""What stands for Python's own objects, so that their calls are steps too."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from explorer.name_calls import NameCalls


class Buffered:
    """A file object that writes when it is flushed or closed, in two pieces."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
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

    def __init__(self, stepper: NameCalls, path: Any, found: list[tuple[Any, int]]) -> None:
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

    def __init__(self, stepper: NameCalls, place: Any, name: Any, inode: int) -> None:
        self._stepper, self._place, self._inode = stepper, place, inode
        self.name = name
        self.path = name if isinstance(place, int) else os.path.join(place, name)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISREG(self.stat(follow_symlinks=follow_symlinks).st_mode)

    def inode(self) -> int:
        return self._inode

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if isinstance(self._place, int):
            return self._stepper.stat(
                self.name, dir_fd=self._place, follow_symlinks=follow_symlinks
            )
        return self._stepper.stat(self.path, follow_symlinks=follow_symlinks)
