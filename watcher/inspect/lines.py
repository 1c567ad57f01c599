"""Read the lines of the journal: of its files, and of what processes have not put there yet.

Guarantees: what is moved on meanwhile, from a process to a file or from one file to the next, is
read once at least. Memory for what is in no file.
Fails: OSError where the journal cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from watcher.spool.disk import DIRECTORY
from watcher.spool.journal import KEPT, NAME, spilled
from watcher.spool.layout import INFLIGHT

_LONGEST = 1 << 14  # bytes of a line
_HEAD = 6  # fields before the detail


class Line(NamedTuple):
    """One line of the journal."""

    time: float
    pid: int
    state: bytes
    move: bytes
    inode: int
    name: bytes
    detail: bytes

    def __str__(self) -> str:
        import datetime as dt

        when = dt.datetime.fromtimestamp(self.time, dt.UTC).isoformat(" ", "seconds")
        what = f"{when}: {self.state.decode()} {self.move.decode()}, by process {self.pid}"
        return what + (f": {self.detail.decode('ascii', 'replace')}" if self.detail else "")


def marked(ours: int) -> Iterator[tuple[bytes, bool]]:
    """Yield each line, and whether it may have been put down late.

    What is in no file yet is read before the files: it may get there meanwhile, and is there twice.
    Where a file has been dropped, one that tells of an entry which was gone tells nothing: who had
    it may have said so in the file that was dropped.
    """
    waiting = list(_spilled_lines(ours))
    late = 0
    for raw, is_oldest in _written_lines(ours):
        told = parse_line(raw) if b" late 0 " in raw or b" vanish 0 " in raw else None
        if told is not None and told.move == b"late":
            late = int(told.detail.split()[0]) if told.detail[:1].isdigit() else 0
            continue
        if not is_oldest or told is None or told.move != b"vanish":
            yield raw, late > 0
        late -= 1
    yield from ((raw, True) for raw in waiting)


def _written_lines(ours: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines of every file, the oldest first; and whether it is the oldest that is kept.

    They are opened the newest first: should one be begun meanwhile, each is met under its next
    number, and none is missed.
    """
    with contextlib.ExitStack() as opened:
        files: dict[int, tuple[BinaryIO, int]] = {}
        for number in range(KEPT + 1):
            name = NAME + b".%d" % number if number else NAME
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=ours)
                inode = os.fstat(fd).st_ino
                files.setdefault(inode, (opened.enter_context(open(fd, "rb")), number))
        for file, number in reversed(files.values()):
            while line := file.readline(_LONGEST):
                yield line, number == KEPT


def _spilled_lines(ours: int) -> Iterator[bytes]:
    """Yield what processes at work, or dead, have not put into the journal yet."""
    try:
        inflight = os.open(INFLIGHT, DIRECTORY | os.O_NOFOLLOW, dir_fd=ours)
    except OSError:
        return
    try:
        for name in os.listdir(inflight):
            yield from _spilled_by(name, inflight)
    finally:
        os.close(inflight)


def _spilled_by(process: str, inflight: int) -> list[bytes]:
    try:
        fd = os.open(process, DIRECTORY | os.O_NOFOLLOW, dir_fd=inflight)
    except OSError:
        return []
    try:
        return spilled(fd).splitlines(keepends=True)
    except OSError:
        return []
    finally:
        os.close(fd)


def parse_line(raw: bytes) -> Line | None:
    """Return what a line says; None of one that makes no sense."""
    if not raw.endswith(b"\n"):
        return None
    fields = raw[:-1].split(b" ", _HEAD)
    try:
        moment, pid, state, move, inode, name = fields[:_HEAD]
        detail = _unquoted(fields[_HEAD]) if len(fields) > _HEAD else b""
        return Line(float(moment), int(pid), state, move, int(inode), _unquoted(name), detail)
    except (ValueError, IndexError):
        return None


def _unquoted(text: bytes) -> bytes:
    if b"%" not in text:
        return text
    return re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), text)
