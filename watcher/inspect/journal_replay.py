"""Replay a journal into an `Audit`: each line once, in the order of time.

Each process appends its lines a little later than it recorded them, so lines of several processes
may be up to `WINDOW` out of order. Lines that were appended later than that have a mark, and are
sorted in by their time. A line that is there twice (a process died after it appended its spill and
before it emptied it) counts once. The files are read twice: the first pass finds the late lines,
the names that vanished, the carried entries, and where another epoch begins.
Fails: OSError if the journal cannot be read; a line that is not valid is counted.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Collection, Iterator

from watcher.inspect.audit_rules import WINDOW, Audit
from watcher.inspect.journal_reader import read_lines
from watcher.inspect.periods import ALWAYS, Periods, Window
from watcher.rules.names import Layout
from watcher.spool.journal_files import place_of
from watcher.spool.journal_line import NO_MOVE, Line, is_mark, parse_line

Lines = Iterator[tuple[bytes, bool]]  # as `read_lines` yields them


def replay(
    state_root: int,
    layout: Layout,
    window: Window = ALWAYS,
    directory: int | None = None,
    names_here: Collection[bytes] = (),
) -> Audit:
    """Read the whole journal; `state_root` is the descriptor of `.watcher`.

    `directory` is that of the journal's files, None: the same. What happened in the `window` is
    counted by period as well. Of `names_here`, the names in the queue, the audit notes in a copy
    which have ended before.
    """
    audit = Audit(layout, Periods(window))
    lines = functools.partial(read_lines, state_root, directory)
    late = _first_pass(lines(), audit)
    audit.start_second_pass(names_here, place_of(state_root))
    moment, same = 0.0, set[Line]()
    for line in _in_order(lines(), late, audit):
        if line.time != moment:
            moment, same = line.time, set()
        elif line in same:
            continue
        same.add(line)
        audit.add(line)
    audit.close()
    return audit


def _first_pass(lines: Lines, audit: Audit) -> list[Line]:
    """Return the lines that were written late.

    Also note the names that vanished, the carried entries, and the lines `begin`.
    """
    late = []
    for raw, is_late in lines:
        odd = (
            b" vanish 0 " in raw or b" carried " in raw or b" before " in raw or b" begin 0 " in raw
        )
        if not is_late and not odd:
            audit.lines = audit.lines or not is_mark(raw)
            continue
        line = parse_line(raw)
        if line is None:
            continue  # `_in_order` counts it
        if line.move == b"begin":
            audit.note_begin(line)
        if is_late:
            late.append(line)
        if line.move == b"vanish":
            audit.gone_names.add(audit.stem(line.name))
        elif line.move in NO_MOVE and line.inode:
            audit.add_carried(line)
    return late


def _in_order(lines: Lines, late: list[Line], audit: Audit) -> Iterator[Line]:
    """Yield the lines in the order of their time.

    A line that has no mark, and is older by more than `WINDOW` than one before it, was written
    after the clock was set back. All lines before it are yielded first.
    """
    waiting = [(line.time, number - len(late), line) for number, line in enumerate(late)]
    heapq.heapify(waiting)
    newest, met = 0.0, -len(late)  # minus the number of late lines still to come
    for number, (raw, is_late) in enumerate(lines):
        line = parse_line(raw)
        if line is None:
            audit.unreadable += not is_mark(raw)
        elif is_late:
            met += 1
        elif line.move not in NO_MOVE:
            if line.time < newest - WINDOW:
                newest = 0.0
                before = [each for each in waiting if each[1] < met or each[1] >= 0]
                waiting = sorted(each for each in waiting if met <= each[1] < 0)
                yield from (each[2] for each in sorted(before))
            newest = max(newest, line.time)
            heapq.heappush(waiting, (audit.sort_time(line), number, line))
            while waiting[0][0] < newest - WINDOW:
                yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
