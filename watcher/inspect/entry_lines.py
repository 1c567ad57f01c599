"""Find the lines of one entry in the journal, by the name that an operator gives.

The name is a file name, with or without a stamp or a number, or NAME. Other NAMEs that begin so are
returned, too (rules/beginnings.py). One pass over the journal: a line is parsed only if it has the
bytes of the name.
Guarantees: the lines are in the order of their time, each once. Memory for the newest `MOST` lines,
and for the lines that wait in spills.
Fails: OSError if the journal cannot be read; TryAgain if that takes longer than it may.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from watcher.errors import TryAgain
from watcher.inspect.audit_rules import EVENT_DELAY, WINDOW
from watcher.inspect.journal_hosts import with_hosts
from watcher.inspect.journal_reader import number_in, read_lines
from watcher.inspect.same_entry import common_part, same_entry, stem_of
from watcher.rules.beginnings import begins
from watcher.rules.names import Layout
from watcher.rules.stamp import without_stamps
from watcher.spool.journal_files import FIRST, parse_begin
from watcher.spool.journal_line import Line, event_time_in, parse_line, quoted

MOST = 10_000  # lines of one entry's names
LOOK_EVERY = 4096  # lines between two looks at the clock
CANDIDATES = 10  # NAMEs that begin with what was given


_Raw = tuple[bytes, bool]  # a line, and whether it was written late


class Written(NamedTuple):
    """A line, and the host that wrote it, if the journal says that."""

    line: Line
    host: bytes | None


class Coverage(NamedTuple):
    """What the journal covers."""

    since: float | None  # the time of its oldest line; None: it has none
    whole: bool  # it begins with the first start in this directory: no line was removed
    lost: int  # lines that could not be written


class EntryLines(NamedTuple):
    """The lines of an entry, with the lines `begin` between them, and what the journal covers."""

    lines: list[Written]
    covers: Coverage
    left_out: int = 0  # older lines of the same names
    candidates: tuple[bytes, ...] = ()  # other NAMEs that begin with what was given


class WantedName:
    """A name that was asked for. PURE."""

    def __init__(self, name: bytes, layout: Layout) -> None:
        self.name = name
        self._layout = layout
        self._own = layout.in_state_dir()
        names = [name, *(name + ending for ending in layout.endings())]
        self._stems = {stem_of(each, layout) for each in names}
        self.needle = quoted(common_part(self._own.split(without_stamps(name))[0]))

    def is_named(self, file: bytes) -> bool:
        """Whether a file in a line has this name, with or without stamp, number and suffix."""
        stem = stem_of(file, self._layout)
        return any(same_entry(stem, wanted) for wanted in self._stems)

    def begins(self, file: bytes) -> bool:
        """Whether the name may stand for a file's name, as the beginning of it."""
        return begins(self.name, without_stamps(file), self._own)

    def stem(self, file: bytes) -> bytes:
        """Return NAME of a file, as `list` shows it."""
        return self._own.stem(without_stamps(file))


def find_lines(
    state_root: int,
    name: bytes,
    layout: Layout,
    directory: int | None = None,
    until: float = math.inf,
) -> EntryLines:
    """Return the lines of the entry called `name`; `state_root` is the descriptor of `.watcher`.

    `directory` is that of the journal's files, None: the same. Raises TryAgain if the journal could
    not be read until the moment `until` (monotonic).
    """
    wanted = WantedName(name, layout)
    kept: deque[tuple[Written, bool]] = deque(maxlen=MOST)
    beginnings: list[tuple[int, Written]] = []
    candidates: set[bytes] = set()
    count, lost, needle = 0, 0, wanted.needle
    since, whole = None, False
    for raw, is_late, host in with_hosts(_in_time(read_lines(state_root, directory), until)):
        special = b" begin 0 " in raw or b" lost 0 " in raw
        if since is not None and needle not in raw and not special:
            continue
        line = parse_line(raw)
        if line is None:
            continue
        if since is None:
            begin = parse_begin(line)
            since, whole = line.time, begin is not None and begin.why == FIRST
        if special and line.inode == 0 and line.move in {b"begin", b"lost"}:
            lost += number_in(line.detail, 1) if line.move == b"lost" else 0
            if line.move == b"begin":
                beginnings.append((count, Written(line, host)))
        elif not line.inode and line.move != b"vanish":
            continue
        elif wanted.is_named(line.name):
            kept.append((Written(line, host), is_late))
            count += 1
        elif len(candidates) <= CANDIDATES and wanted.begins(line.name):
            candidates.add(wanted.stem(line.name))
    left_out = count - len(kept)
    ordered = _in_order(_merged(kept, beginnings, left_out))
    covers = Coverage(since, whole, lost)
    return EntryLines(ordered, covers, left_out, tuple(sorted(candidates)))


def _in_time(lines: Iterable[_Raw], until: float) -> Iterator[_Raw]:
    """Yield the lines; raise TryAgain if the last one does not come until then."""
    for number, line in enumerate(lines):
        if number % LOOK_EVERY == 0 and time.monotonic() > until:
            raise TryAgain("the journal is too large to be read in this time")
        yield line


def _merged(
    kept: Iterable[tuple[Written, bool]], beginnings: list[tuple[int, Written]], left_out: int
) -> Iterable[tuple[Written, bool]]:
    """Yield the lines kept, with the lines `begin` where they were between them."""
    waiting = iter(beginnings)
    following = next(waiting, None)
    for number, each in enumerate(kept, left_out):
        while following is not None and following[0] <= number:
            yield following[1], False
            following = next(waiting, None)
        yield each
    while following is not None:
        yield following[1], False
        following = next(waiting, None)


def _in_order(lines: Iterable[tuple[Written, bool]]) -> list[Written]:
    """Return the lines by their time, each once.

    Lines of several processes may be up to `WINDOW` out of order, and late ones any time. A line
    that is older than that was written after the clock was set back: it comes after the others.
    """
    parts: list[list[Written]] = [[]]
    newest = 0.0
    for each, is_late in lines:
        if not is_late:
            if each.line.time < newest - WINDOW:
                parts.append([])
                newest = 0.0
            newest = max(newest, each.line.time)
        parts[-1].append(each)
    ordered: list[Written] = []
    met: set[Line] = set()
    for part in parts:
        for each in sorted(part, key=_time_of):
            if each.line not in met:
                met.add(each.line)
                ordered.append(each)
    return ordered


def taken(lines: Iterable[Written]) -> list[Written]:
    """Return the lines `vanish` that no other line explains: another program took the file.

    As the audit: a line of the name since the event, or shortly after, explains it. PURE.
    """
    lines = list(lines)
    moves = [each.line.time for each in lines if each.line.inode]
    found = []
    for each in lines:
        if each.line.move != b"vanish":
            continue
        event_time = event_time_in(each.line.detail)
        since = 0.0 if event_time is None else event_time - EVENT_DELAY
        if not any(since <= moment < each.line.time + WINDOW for moment in moves):
            found.append(each)
    return found


def _time_of(written: Written) -> float:
    """Return the time that a line is sorted by: for `begin`, when that `.watcher` was made.

    A process may record a line in a copy of the queue before it writes the copy's line `begin`.
    """
    begin = parse_begin(written.line)
    born = 0.0 if begin is None else begin.state_root.birth / 1e9
    return min(written.line.time, born or written.line.time)
