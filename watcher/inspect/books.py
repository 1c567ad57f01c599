"""What the journal adds up to: which entries were seen, and what became of each.

A life is one entry's, known by its message's inode, which no move changes; it ends when a handler
called it done or an operator deleted it. Lines of several processes may be up to `WINDOW` out of
order; those that were put down later than that are marked so, and are given their place by their
time. A line may be there twice (a process died between writing and forgetting it) and counts once.
Memory for open lives only.
Fails: OSError where the journal cannot be read; a line that makes no sense is counted.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from watcher.inspect.lines import Line, marked, parse_line
from watcher.spool.layout import Layout, is_metadata
from watcher.spool.schedule import parse

WINDOW = 30.0  # seconds
UNHEARD = 600.0  # seconds: for how long a rename may go unheard by one of several daemons
_NUMBERS = re.compile(rb"(?:~[0-9]+)+\Z")  # of which the first may be a part of its own name
_HEARD = re.compile(rb"heard of at ([0-9]+\.[0-9]+)")
_CUT_ABOVE = 100  # bytes: no shorter name is ever cut
_REUNITED = b"reunite"
_JOINS = (_REUNITED, b"release", b"requeue")  # how half of a pair comes back to its message
_ENDS = {b"finish": "done", b"delete": "removed by an operator"}


@dataclass
class Books:
    """What the journal says."""

    layout: Layout
    seen: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    open: dict[int, Line] = field(default_factory=dict)  # by inode: the last line of a life
    carried: dict[int, list[Line]] = field(default_factory=dict)  # lives that no line tells of yet
    replaced: list[Line] = field(default_factory=list)  # lives whose inode is another's by now
    gone: set[bytes] = field(default_factory=set)  # NAMEs that were gone when they were claimed
    vanished: dict[bytes, Line] = field(default_factory=dict)  # those that nobody had
    told: dict[bytes, float] = field(default_factory=dict)  # when another process last had these
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
            self._vanish(line)
        elif line.inode == 0:
            self.unreadable += 1
        else:
            self._live(line)

    def _live(self, line: Line) -> None:
        self._explain(line)
        known = self.open.pop(line.inode, None)
        if known is not None and not self._same(known, line):
            self.replaced.append(known)
            known = None
        if known is None:
            known = self._carried_over(line)
            if known is None and line.move == _REUNITED:
                return  # another was quicker, and may have ended its life since
            self.seen += 1
        if line.move in _JOINS and is_metadata(line.name, self.layout):
            self.seen -= 1  # half of a life: its message has the other half
        elif line.move in _ENDS:
            how = _ENDS[line.move]
            self.ended[how] = self.ended.get(how, 0) + 1
        else:
            self.open[line.inode] = line

    def _vanish(self, line: Line) -> None:
        """Take account of a name that was gone: by what another told of it since it was there."""
        stem, heard = self.stem(line.name), _HEARD.fullmatch(line.detail)
        since = float(heard[1]) - UNHEARD if heard else 0.0
        if self.told.get(stem, -1.0) < since:
            self.vanished.setdefault(stem, line)

    def _explain(self, line: Line) -> None:
        if self.gone and (stem := self.stem(line.name)) in self.gone:
            self.told[stem] = line.time
            gone = self.vanished.get(stem)
            if gone is not None and line.time < gone.time + WINDOW:
                del self.vanished[stem]

    def carry(self, line: Line) -> None:
        """Take note of a life that was carried over into a newer file.

        It says that there was one, and nothing of when: what lies in a directory is read while it
        changes, and a life may end between that look and the line.
        """
        known = self.carried.setdefault(line.inode, [])
        if not any(self._same(each, line) for each in known):
            known.append(line)

    def _carried_over(self, line: Line) -> Line | None:
        """Return the line that carried over the life of which this line tells first."""
        known = self.carried.get(line.inode, [])
        found = next((each for each in known if self._same(each, line)), None)
        if found is not None:
            known.remove(found)
        return found

    def _same(self, one: Line, other: Line) -> bool:
        return same_entry(self.stem(one.name), self.stem(other.name))

    def close(self) -> None:
        """Take account of the lives of which nothing tells but that they were carried over."""
        for line in itertools.chain.from_iterable(self.carried.values()):
            self._explain(line)
            self.seen += 1
            other = self.open.get(line.inode)
            if other is None or other.time < line.time:
                self.open[line.inode] = line
            if other is not None:
                self.replaced.append(min(other, line))
        self.carried.clear()


def same_entry(one: bytes, other: bytes) -> bool:
    """Whether two NAMEs of one inode are one entry's: what we put away may be numbered, or cut.

    See `layout.stored`.
    """
    one, other = _NUMBERS.sub(b"", one), _NUMBERS.sub(b"", other)
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) > _CUT_ABOVE and long.startswith(short))


def in_common(name: bytes) -> bytes:
    """Return what a NAME has in common with each that is the `same_entry`'s."""
    return _NUMBERS.sub(b"", name)[:_CUT_ABOVE]


def read(ours: int, layout: Layout) -> Books:
    """Read every file of the journal, the oldest first; `ours` is the descriptor of `.watcher`."""
    books = Books(layout)
    late = _foresee(ours, books)
    moment, same = 0.0, set[Line]()
    for line in _in_order(ours, late, books):
        if line.time != moment:
            moment, same = line.time, set()
        elif line in same:
            continue
        same.add(line)
        books.enter(line)
    books.close()
    return books


def _foresee(ours: int, books: Books) -> list[Line]:
    """Return the lines that were put down late; learn which entries were gone, or carried over."""
    late = []
    for raw, is_late in marked(ours):
        if not is_late and b" vanish 0 " not in raw and b" carried " not in raw:
            continue
        line = parse_line(raw)
        if line is None:
            continue  # `_in_order` counts it
        if is_late:
            late.append(line)
        if line.move == b"vanish":
            books.gone.add(books.stem(line.name))
        elif line.move == b"carried":
            books.carry(line)
    return late


def _in_order(ours: int, late: list[Line], books: Books) -> Iterator[Line]:
    """Yield the lines by their time, but for a clock that stepped back by more than `WINDOW`."""
    waiting = [(line.time, number - len(late), line) for number, line in enumerate(late)]
    heapq.heapify(waiting)
    newest = 0.0
    for number, (raw, is_late) in enumerate(marked(ours)):
        line = parse_line(raw)
        if line is None:
            books.unreadable += 1
        elif not is_late and line.move != b"carried":
            newest = max(newest, line.time)
            heapq.heappush(waiting, (line.time, number, line))
            while waiting[0][0] < newest - WINDOW:
                yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
