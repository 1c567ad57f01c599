"""The lines that one process has not appended to the journal yet: `inflight/PID.RANDOM/.journal`.

    00000062                     eight digits: how many bytes are used, these included
    1763895193.250113 4711 ...   whole lines, then NULs

The process maps this file into memory (`spool.journal`). A line in it costs no system call, and the
kernel keeps it when the process is killed.
Guarantees: the lines of a dead process are in the journal before this file is removed. A crash
between the two leaves lines in both; readers count such a line once.
Fails: OSError.
"""

from __future__ import annotations

import os
import time

from watcher.rules.lifecycle import State
from watcher.spool import state_files
from watcher.spool.journal_files import append
from watcher.spool.journal_line import line_of, parse_line
from watcher.spool.journal_rotation import JournalFiles

SPILL = b".journal"
SIZE = 64 << 10  # bytes
HEADER = 8  # bytes
LATE = 10.0  # seconds: lines that waited longer get a mark, so that readers sort them by their time


def append_spill(directory: int, files: JournalFiles) -> None:
    """Append to the journal what a process left in its `directory`, and remove its file."""
    data = unflushed(directory)
    if not data:
        return
    first = parse_line(data.partition(b"\n")[0] + b"\n")
    if first is not None and abs(time.time() - first.time) > LATE:
        data = late_mark(data) + data
    append(files, data)
    os.unlink(SPILL, dir_fd=directory)


def unflushed(directory: int) -> bytes:
    """Return the valid lines of a process's file, and a line with the count of the others.

    Return nothing if there is no such file, or one that may not be trusted (`state_files`). Any
    other error is raised, because the caller removes the file when this returns.
    """
    try:
        data = state_files.read(SPILL, directory, SIZE)
    except (FileNotFoundError, state_files.Odd):
        return b""
    used = int(data[:HEADER]) if data[:HEADER].isdigit() else 0
    lines = data[HEADER : min(used, SIZE)]
    lines = lines[: lines.rfind(b"\n") + 1]
    good = [line for line in lines.splitlines(keepends=True) if parse_line(line) is not None]
    if invalid := lines.count(b"\n") - len(good):
        why = f"{invalid} lines that made no sense"
        good.append(line_of(time.time_ns(), State.READY, "lost", 0, b"-", why))
    return b"".join(good)


def late_mark(lines: bytes) -> bytes:
    """Return the line that says that `lines`, which follow it, are older than those before it."""
    count = lines.count(b"\n")
    return line_of(time.time_ns(), State.READY, "late", 0, b"-", f"{count} lines")
