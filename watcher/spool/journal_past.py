"""Remember what the journal said, in case another program removes or moves it.

The process keeps the newest two files of the journal open, so it can read them after their names,
or all of `.watcher`, are gone. The older file ends with a line for each entry that was put away, so
the two files mention every such entry.
Guarantees: at most two descriptors for each queue. The files are read only when they are gone.
Fails: never; a file that cannot be opened or read is left out.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator

from watcher.rules.lifecycle import State
from watcher.rules.stamp import without_stamps
from watcher.spool import state_files
from watcher.spool.journal_files import lines_in
from watcher.spool.journal_line import (
    ACCEPT,
    ENDS,
    JOINS,
    NO_MOVE,
    PUT_AWAY,
    PUTS_AWAY,
    Line,
    line_of,
    parse_line,
)
from watcher.spool.journal_rotation import NAME, file_name

KEPT_OPEN = 2  # files
_ACCEPT = ACCEPT.encode()
_NUMBERS = re.compile(rb"~[0-9]+")  # before the ending
_CUT_ABOVE = 100  # bytes: no shorter name is ever cut
_STATES = {state.value.encode(): state for state in PUT_AWAY}


def state_after(line: Line) -> State:
    """Return the state that an entry is in after a line."""
    if line.move in NO_MOVE:
        return _STATES.get(line.state, State.READY)
    return PUTS_AWAY.get(line.move, State.READY)


def before_lines(entries: Iterable[Line], now_ns: int) -> bytes:
    """Return the lines `before` that a new journal begins with, for entries of the lost one."""
    return b"".join(
        line_of(now_ns, state_after(line), "before", line.inode, line.name, birth=line.birth)
        for line in entries
    )


def _may_continue(before: Line, line: Line) -> bool:
    """Whether a later line with the inode number of an entry may be about that entry.

    The kernel gives a free number to the next file. The time of birth tells the two apart; a line
    that has none, as that of a file that was handled at once, is told by its name.
    """
    if before.birth and line.birth:
        return before.birth == line.birth
    return _common_part(before.name) == _common_part(line.name)


def _common_part(name: bytes) -> bytes:
    """Return what all names of one entry have in common, without its layout (`same_entry`)."""
    return _NUMBERS.sub(b"", without_stamps(name))[:_CUT_ABOVE]


class Past:
    """The files of one journal that this process keeps open, the newest last."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}  # inode -> descriptor
        self._later = b""  # lines that are in no file

    def __del__(self) -> None:
        """Close the files."""
        for fd in self._files.values():
            os.close(fd)

    def copy(self, later: bytes) -> Past:
        """Return one that has the same files open, and these lines, which are in no file."""
        other = Past()
        with contextlib.suppress(OSError):
            for inode, fd in self._files.items():
                other._files[inode] = os.dup(fd)
        other._later = later
        return other

    def hold(self, directory: int) -> None:
        """Keep the newest file open. The first call opens the one before it too."""
        with contextlib.suppress(OSError):
            if os.stat(NAME, dir_fd=directory, follow_symlinks=False).st_ino in self._files:
                return
            if not self._files:
                with contextlib.suppress(FileNotFoundError):
                    self._open(file_name(1), directory)
            self._open(NAME, directory)
        while len(self._files) > KEPT_OPEN:
            os.close(self._files.pop(next(iter(self._files))))

    def _open(self, name: bytes, directory: int) -> None:
        fd = state_files.open_file(name, directory)
        before = self._files.pop(os.fstat(fd).st_ino, None)
        if before is not None:
            os.close(before)
        self._files[os.fstat(fd).st_ino] = fd

    def where(self) -> str:
        """Return the path of the directory that has the journal now; "" if it was removed."""
        for fd in reversed(self._files.values()):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{fd}")
                if os.fstat(fd).st_nlink and not path.endswith(" (deleted)"):
                    return os.path.dirname(path)
        return ""

    def open_entries(self, later: bytes = b"") -> list[Line]:
        """Return the last line of each entry that has not ended; `later` are lines in no file."""
        last: dict[int, Line] = {}
        gone: list[Line] = []  # their inode number is another file's now
        for line in self._lines(self._later + later):
            if line.inode == 0:
                continue
            if line.move == _ACCEPT:
                if line.inode in last and last[line.inode].name == line.name:
                    del last[line.inode]  # its loss is known
                continue
            before = last.pop(line.inode, None)
            if before is not None and not _may_continue(before, line):
                gone.append(before)
                before = None
            if line.move in ENDS or (line.move in JOINS and line.name.endswith(b".db")):
                continue
            known = before is not None and line.move in NO_MOVE
            last[line.inode] = before if before is not None and known else line
        return [*gone, *last.values()]

    def _lines(self, later: bytes) -> Iterator[Line]:
        for fd in self._files.values():
            with contextlib.suppress(OSError), open(os.dup(fd), "rb") as file:
                file.seek(0)
                for raw in lines_in(file):
                    line = parse_line(raw)
                    if line is not None:
                        yield line
        for raw in later.splitlines(keepends=True):
            line = parse_line(raw)
            if line is not None:
                yield line
