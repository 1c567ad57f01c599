"""Read the lines of the journal: from its files, and from the spills of all processes.

Guarantees: a line that moves meanwhile, from a spill to the newest file or to the next number, is
read at least once. Memory for the lines in spills only.
Fails: OSError if the journal cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from watcher.rules.names import INFLIGHT
from watcher.spool import state_files
from watcher.spool.dirs import names_in, open_dir
from watcher.spool.journal_files import GOES_ON, lines_in, parse_begin
from watcher.spool.journal_line import Line, is_mark, parse_line
from watcher.spool.journal_rotation import file_name, full_numbers
from watcher.spool.journal_spill import unflushed

_NEW_ONES = 2  # files that may be begun while the others are opened
_NUMBER = re.compile(rb"([0-9]{1,12}) ")


def read_lines(state_root: int, directory: int | None = None) -> Iterator[tuple[bytes, bool]]:
    """Yield each line, and whether it was written late: its place is then by its time.

    `directory` is that of the journal's files, None: `.watcher`, which is `state_root`. The spills
    are read before the files. A line that a process flushes meanwhile is yielded twice.
    In the oldest file, if files before it were removed, `vanish` lines are left out: the lines that
    explain them may have been there.
    """
    waiting = list(_unflushed_lines(state_root))
    late = 0
    for raw, is_oldest in _written_lines(state_root if directory is None else directory):
        line: Line | None = None
        if b" late 0 " in raw or b" vanish 0 " in raw:
            line = parse_line(raw)
        if line is not None and line.move == b"late":
            late = number_in(line.detail, -1)
            if late >= 0:
                continue
        if not is_oldest or line is None or line.move != b"vanish":
            yield raw, late > 0
        late -= 1
    yield from ((raw, True) for raw in waiting)


def number_in(detail: bytes, otherwise: int) -> int:
    """Return the number that a detail begins with."""
    found = _NUMBER.match(detail)
    return int(found[1]) if found else otherwise


def _written_lines(directory: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines of every file, the oldest first, and whether it is the oldest one of more.

    The newest file is opened first. If a process renames the files meanwhile, each is then found
    under its next number, and none is missed.
    """
    with contextlib.ExitStack() as opened:
        files: dict[int, BinaryIO] = {}
        last = max(full_numbers(directory), default=0) + _NEW_ONES
        for number in range(last + 1):
            with contextlib.suppress(FileNotFoundError):
                fd = state_files.open_file(file_name(number), directory)
                files.setdefault(os.fstat(fd).st_ino, opened.enter_context(open(fd, "rb")))
        oldest = True
        for file in reversed(files.values()):
            others = oldest and _goes_on(file)
            for line in lines_in(file):
                yield line, others
            oldest = False


def _goes_on(file: BinaryIO) -> bool:
    """Whether the first line of a file says that there were files before it."""
    first = next((line for line in lines_in(file) if not is_mark(line)), b"")
    file.seek(0)
    line = parse_line(first) if b" begin " in first else None
    begin = None if line is None else parse_begin(line)
    return begin is not None and begin.why == GOES_ON


def _unflushed_lines(state_root: int) -> Iterator[bytes]:
    """Yield the lines in the spills of all processes, at work or dead."""
    try:
        inflight = open_dir(INFLIGHT, state_root)
    except OSError:
        return
    try:
        for name in names_in(inflight):
            yield from _unflushed_by(name, inflight)
    finally:
        os.close(inflight)


def _unflushed_by(process: bytes, inflight: int) -> list[bytes]:
    try:
        fd = open_dir(process, inflight)
    except OSError:
        return []
    try:
        return unflushed(fd).splitlines(keepends=True)
    except OSError:
        return []
    finally:
        os.close(fd)
