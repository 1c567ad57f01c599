"""The canary's file: one in the process directory, renamed to and fro between two names.

The process directory is private to the daemon, on the file system of the queue, and removed with
all files in it whose names begin with a dot (`spool.process_dir`). So a process that is killed at
any step leaves at most this file, and the next recovery removes it.
Guarantees: the file is one that `state_files` trusts. It is watched before it is renamed.
Fails: OSError or WatcherError: no canary is possible now, which says nothing about the watch.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from watcher.spool import state_files
from watcher.spool.process_dir import process_dir_for
from watcher.spool.spool import Spool

NAMES = (b".canary", b".canary-aside")


def rename_canary(spool: Spool, watch: Callable[[int], None]) -> None:
    """Have the file watched (`watch` is given its descriptor), and rename it."""
    directory = process_dir_for(spool).fd
    before, after = NAMES
    try:
        fd = state_files.open_file(before, directory)
    except FileNotFoundError:
        before, after = after, before
        try:
            fd = state_files.open_file(before, directory)
        except FileNotFoundError:
            fd = state_files.create(before, directory)
    try:
        watch(fd)
        os.rename(before, after, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(fd)
