"""The set of files that a journal consists of: their numbers, and the step that adds one.

    journal              the newest lines
    journal.1 ...        older ones, the higher the older; `journal_keep` says how many

Guarantees: a file that is renamed while it is read is found under its next number. A crash between
two renames leaves a gap, which is no error. Only surplus files are removed, and never the newest
full one.
Fails: OSError.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from watcher.rules.journal_keep import DEFAULT, Full, Keep, surplus
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout, is_metadata, is_stored
from watcher.spool import state_files
from watcher.spool.birth import birth_of
from watcher.spool.dirs import names_in, stat_or_none
from watcher.spool.journal_line import line_of

NAME = b"journal"
_NUMBERED = re.compile(rb"journal\.([1-9][0-9]{0,5})")
_AT_ONCE = 1_024  # entries


class JournalFiles(NamedTuple):
    """Where the files of one journal lie, and what its writers need to know of the queue."""

    directory: int  # the descriptor; that of `.watcher`, or with `journal_dir` another one
    state_root: int  # the descriptor of `.watcher`
    layout: Layout
    keep: Keep = DEFAULT

    @classmethod
    def inside(cls, state_root: int, layout: Layout) -> JournalFiles:
        """Return the files of a journal that lies in `.watcher`."""
        return cls(state_root, state_root, layout)

    @property
    def is_outside(self) -> bool:
        """Whether the journal stays if another program takes `.watcher` away."""
        return self.directory != self.state_root


def file_name(number: int) -> bytes:
    """Return the name of the file with a number; 0 is the newest."""
    return NAME + b".%d" % number if number else NAME


def full_numbers(directory: int) -> list[int]:
    """Return the numbers of the full files, the newest first."""
    found = (_NUMBERED.fullmatch(name) for name in names_in(directory))
    return sorted(int(each[1]) for each in found if each is not None)


def shift(files: JournalFiles) -> None:
    """Remove the surplus files, and give each other file the next number."""
    directory, numbers = files.directory, full_numbers(files.directory)
    status = ((number, stat_or_none(file_name(number), directory)) for number in numbers)
    full = [Full(number, each.st_size, each.st_mtime) for number, each in status if each]
    newest = stat_or_none(NAME, directory)
    if newest is not None:
        full.append(Full(0, newest.st_size, newest.st_mtime))
    removed = surplus(full, files.keep, time.time())
    for number in removed:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file_name(number), dir_fd=directory)
    for number in sorted({*numbers, 0} - {*removed}, reverse=True):
        with contextlib.suppress(FileNotFoundError):
            older, newer = file_name(number + 1), file_name(number)
            os.rename(newer, older, src_dir_fd=directory, dst_dir_fd=directory)


def carried_lines(state_root: int, layout: Layout) -> Iterator[bytes]:
    """Yield a line for each entry that is put away, many lines at once."""
    for state, place in STATE_DIRECTORIES.items():
        try:
            fd = state_files.open_directory(place, state_root)
        except OSError:
            continue
        try:
            with os.scandir(fd) as items:
                while some := list(itertools.islice(items, _AT_ONCE)):
                    now = time.time_ns()
                    files = [(item.inode(), os.fsencode(item.name)) for item in some]
                    lines = b"".join(
                        line_of(now, state, "carried", inode, name, birth=birth_of(name, fd) or 0)
                        for inode, name in files
                        if _has_line(name, state, layout)
                    )
                    if lines:
                        yield lines
        finally:
            os.close(fd)


def _has_line(name: bytes, state: State, layout: Layout) -> bool:
    """Whether a file in the directory of `state` gets a line of its own.

    Of a pair only the message has lines. A `.db` has some while it is alone, as an orphan.
    """
    return is_stored(name, layout) and (state is State.ORPHAN or not is_metadata(name, layout))
