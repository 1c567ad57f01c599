"""Read the journal: which entries were seen, and what became of each. Memory for open lives only.

A life is one entry's, known by its message's inode, which no move changes; it ends when a handler
called it done or an operator deleted it. Lines of several processes may be up to `WINDOW` out of
order, and a line may be there twice (a process died between writing and forgetting it).
Fails: OSError where the journal cannot be read; a line that makes no sense is counted.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.spool.disk import DIRECTORY
from watcher.spool.journal import KEPT, NAME, spilled
from watcher.spool.layout import INFLIGHT, Layout, is_metadata
from watcher.spool.schedule import parse

WINDOW = 30.0  # seconds
_LONGEST = 1 << 14  # bytes of a line
_NUMBER = re.compile(rb"~[0-9]+\Z")
_CUT_ABOVE = 100  # bytes: no shorter name is ever cut
_HEAD = 6  # fields before the detail
_REUNITED = b"reunite"
_JOINS = (_REUNITED, b"release", b"requeue")  # how half of a pair comes back to its message
_ENDS = {b"finish": "done", b"delete": "removed by an operator"}


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


@dataclass
class Books:
    """What the journal says."""

    layout: Layout
    seen: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    open: dict[int, Line] = field(default_factory=dict)  # by inode: the last line of a life
    replaced: list[Line] = field(default_factory=list)  # lives whose inode is another's by now
    gone: set[bytes] = field(default_factory=set)  # NAMEs that were gone when they were claimed
    vanished: dict[bytes, Line] = field(default_factory=dict)  # those that nobody had
    explained: set[bytes] = field(default_factory=set)  # those that another process had
    lost: int = 0  # lines that could not be written
    unreadable: int = 0
    begins: float | None = None

    def stem(self, name: bytes) -> bytes:
        """Return NAME of a file's name in a line, with or without a stamp.

        Every stamp goes: one may be a part of the entry's own name, and be all that it has in front
        in the queue, and the second where it was deferred.
        """
        while found := parse(name):
            name = found[1]
        return self.layout.as_put_away().stem(name)

    def enter(self, line: Line) -> None:
        """Take account of one line."""
        if self.begins is None:
            self.begins = line.time
        if line.move == b"lost":
            self.lost += int(line.detail.split()[0]) if line.detail[:1].isdigit() else 1
        elif line.move == b"vanish":
            if self.stem(line.name) not in self.explained:
                self.vanished.setdefault(self.stem(line.name), line)
        elif line.inode == 0:
            self.unreadable += 1
        else:
            self._live(line)

    def _live(self, line: Line) -> None:
        if self.gone and (stem := self.stem(line.name)) in self.gone:
            self.explained.add(stem)
            self.vanished.pop(stem, None)
        known = self.open.pop(line.inode, None)
        if known is not None and not same_entry(self.stem(known.name), self.stem(line.name)):
            self.replaced.append(known)
            known = None
        if known is None:
            if line.move == _REUNITED:  # another was quicker, and may have ended its life since
                return
            self.seen += 1
        elif line.move == b"carried":
            line = known  # which says more of it
        if line.move in _JOINS and is_metadata(line.name, self.layout):
            self.seen -= 1  # half of a life: its message has the other half
        elif line.move in _ENDS:
            how = _ENDS[line.move]
            self.ended[how] = self.ended.get(how, 0) + 1
        else:
            self.open[line.inode] = line


def same_entry(one: bytes, other: bytes) -> bool:
    """Whether two NAMEs of one inode are one entry's: what we put away may be numbered, or cut.

    See `layout.stored`.
    """
    one, other = _NUMBER.sub(b"", one), _NUMBER.sub(b"", other)
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) > _CUT_ABOVE and long.startswith(short))


def read(ours: int, layout: Layout) -> Books:
    """Read every file of the journal, the oldest first; `ours` is the descriptor of `.watcher`."""
    books = Books(layout)
    gone = [_parse(line) for line in _lines(ours) if b" ready vanish 0 " in line]
    books.gone = {books.stem(line.name) for line in gone if line is not None}
    waiting: list[tuple[float, int, Line]] = []
    newest, last = 0.0, b""
    for number, raw in enumerate(_lines(ours)):
        if raw == last:
            continue
        last, line = raw, _parse(raw)
        if line is None:
            books.unreadable += 1
            continue
        newest = max(newest, line.time)
        heapq.heappush(waiting, (line.time, number, line))
        while waiting[0][0] < newest - WINDOW:
            books.enter(heapq.heappop(waiting)[2])
    while waiting:
        books.enter(heapq.heappop(waiting)[2])
    return books


def _lines(ours: int) -> Iterator[bytes]:
    for name in [NAME + b".%d" % number for number in range(KEPT, 0, -1)] + [NAME]:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=ours)
        except FileNotFoundError:
            continue
        with open(fd, "rb") as file:
            while line := file.readline(_LONGEST):
                yield line
    yield from _spilled_lines(ours)


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


def _parse(raw: bytes) -> Line | None:
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
