"""The scan: the truth about a directory, in bounded batches, oldest first.

Guarantees: memory for one batch, whatever the directory holds; nothing is opened or changed. The
order is that of commit, never the directory's: by ctime, then name. A batch begins after the last
of the one before (`Mark`), so entries that stay where they are do not come twice in one pass.
With `by_name` the moment that Mailman's names begin with stands for the ctime, as it does for
Mailman: then no file is looked at, and a million names are read in a second.
Fails: OSError when the directory cannot be read; a file that goes while we look is just not there.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.age import SECOND
from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import OURS, Kind, Layout
from watcher.spool.spool import Spool, is_regular

BATCH = 32_768
FIRST = 32_768  # of a backlog: soon to be had, so that work begins
MANY = 131_072  # of a backlog, later: each time all that is left of the directory is read
_MOMENT = 8  # bytes in front of a packed name
_EPOCH = 1 << 63
MAX_NAMED = 1_000  # leftovers and foreign files that a scan names; the rest it counts


class Mark(NamedTuple):
    """A place in the order of commit: a ctime, or with `by_name` the moment in the name."""

    ctime_ns: int
    name: bytes


START = Mark(-(1 << 63), b"")


class Bystander(NamedTuple):
    """A file that is not an entry: what it is, and since when (ctime, nanoseconds)."""

    name: bytes
    kind: Kind
    why: str
    ctime_ns: int
    links: int = 1  # of a regular file with an entry's name


@dataclass(slots=True)
class Batch:
    """What a scan found: the entries packed (`packed`), the oldest first."""

    packed: list[bytes] = field(default_factory=list)
    more: bool = False
    total: int = 0
    bystanders: list[Bystander] = field(default_factory=list)
    counts: dict[Kind, int] = field(default_factory=dict)

    @property
    def entries(self) -> list[Mark]:
        """The entries, each with its place."""
        return [unpacked(each) for each in self.packed]


def packed(moment: int, name: bytes) -> bytes:
    """Put a place and a name into one object that sorts like them, and is half as large."""
    if not -_EPOCH <= moment < _EPOCH:
        moment = -_EPOCH if moment < 0 else _EPOCH - 1
    return (moment + _EPOCH).to_bytes(_MOMENT, "big") + name


def name_in(mark: bytes) -> bytes:
    """Return the name of a packed mark."""
    return mark[_MOMENT:]


def unpacked(mark: bytes) -> Mark:
    """Return the place and the name in a packed mark."""
    return Mark(int.from_bytes(mark[:_MOMENT], "big") - _EPOCH, mark[_MOMENT:])


def scan(
    spool: Spool,
    after: Mark = START,
    skip: Callable[[bytes], bool] = lambda _name: False,
    limit: int = BATCH,
    *,
    by_name: bool = False,
) -> Batch:
    """Look at every name once; return the `limit` oldest entries that come after `after`."""
    batch = Batch()
    oldest = _Oldest(after, limit)
    fd = os.open(b".", DIRECTORY, dir_fd=spool.fd)  # an offset of its own
    try:
        with os.scandir(fd) as directory:
            items = _left_by_name(directory, batch, oldest, skip) if by_name else directory
            for item in items:
                mark = _look(spool, batch, item, skip)
                if mark is not None:
                    batch.total += 1
                    oldest.add(packed(*mark), mark.ctime_ns)
    finally:
        os.close(fd)
    batch.packed = oldest.end()
    batch.more = oldest.more
    return batch


class _Oldest:
    """Keeps the `limit` oldest marks of a stream, in room for half as many more."""

    def __init__(self, after: Mark, limit: int) -> None:
        self.more = False  # there were younger ones
        self.bound = sys.maxsize  # what is younger than this moment is not among them
        self.bound_name = ""  # the same as a name, and where its point is
        self.point = -1
        self._after = packed(*after)
        self._limit = limit
        self._marks: list[bytes] = []

    def add(self, mark: bytes, moment: int) -> None:
        """Keep a packed mark, if it is old enough."""
        if mark <= self._after:
            return
        if moment > self.bound:
            self.more = True
            return
        self._marks.append(mark)
        if len(self._marks) > self._limit + self._limit // 2 + 1:
            self._cut()

    def _cut(self) -> None:
        self._marks.sort()
        if len(self._marks) > self._limit:
            del self._marks[self._limit :]
            self.more = True
            if self._marks:
                self.bound, name = unpacked(self._marks[-1])
                self.bound_name = os.fsdecode(name)
                self.point = self.bound_name.find(".")

    def end(self) -> list[bytes]:
        """Return them, the oldest first."""
        self._cut()
        return self._marks


def _left_by_name(
    directory: Iterable[os.DirEntry[str]],
    batch: Batch,
    oldest: _Oldest,
    skip: Callable[[bytes], bool],
) -> Iterator[os.DirEntry[str]]:
    """Take the entries whose names tell their moment; yield the names that do not."""
    total, encoding = 0, sys.getfilesystemencoding()
    for item in directory:
        name = item.name
        bound, point = oldest.bound_name, oldest.point
        if point > 0 and name > bound and name[point : point + 1] == ".":
            oldest.more = True  # as many digits of seconds, and more of them: younger
            total += 1
            continue
        seconds, plus, rest = name.partition("+")
        if plus and rest.endswith(".pck") and name[0] != ".":
            try:
                moment = int(float(seconds) * SECOND)
            except (ValueError, OverflowError):
                yield item
                continue
            total += 1
            if moment > oldest.bound:
                oldest.more = True
            elif not item.is_file(follow_symlinks=False):
                total -= 1
                yield item
            elif not skip(encoded := name.encode(encoding, "surrogateescape")):  # os.fsencode
                oldest.add(packed(moment, encoded), moment)
        else:
            yield item
    batch.total += total


def _look(
    spool: Spool, batch: Batch, item: os.DirEntry[str], skip: Callable[[bytes], bool]
) -> Mark | None:
    """Look at one file: return its place if it is an entry that is wanted."""
    name = os.fsencode(item.name)
    if name == OURS or skip(name):
        return None
    kind = spool.layout.kind(name)
    try:
        status = item.stat(follow_symlinks=False)
    except OSError:
        return None
    if kind in _ENTRIES and is_regular(status):
        return _mark(spool, spool.layout, name, kind, status)
    _count(batch, name, kind, status)
    return None


_ENTRIES = frozenset({Kind.ENTRY, Kind.MESSAGE_HALF, Kind.METADATA_HALF})


def _mark(
    spool: Spool, layout: Layout, name: bytes, kind: Kind, status: os.stat_result
) -> Mark | None:
    """Place an entry in the order of commit: a pair by its younger half, under its message.

    None for a `.db` whose message is there: the message's own name stands for both.
    """
    if not layout.legacy:
        return Mark(status.st_ctime_ns, name)
    if kind is Kind.METADATA_HALF:
        for message in layout.message_halves(name):
            if spool.stat(message) is not None:
                return None
        return Mark(status.st_ctime_ns, name)
    other = spool.stat(layout.metadata_half(name))
    ctime_ns = status.st_ctime_ns if other is None else max(status.st_ctime_ns, other.st_ctime_ns)
    return Mark(ctime_ns, name)


def _count(batch: Batch, name: bytes, kind: Kind, status: os.stat_result) -> None:
    links = 1
    if kind in _ENTRIES:
        kind, why = Kind.FOREIGN, _odd(status)
        links = status.st_nlink if stat.S_ISREG(status.st_mode) else 1
    elif stat.S_ISDIR(status.st_mode):
        kind, why = Kind.FOREIGN, "a directory"
    else:
        why = kind.value
    batch.counts[kind] = batch.counts.get(kind, 0) + 1
    if len(batch.bystanders) < MAX_NAMED:
        batch.bystanders.append(Bystander(name, kind, why, status.st_ctime_ns, links))


_TYPES = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _odd(status: os.stat_result) -> str:
    """Say why a file with an entry's name is none."""
    kind = _TYPES.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        return f"{kind} with an entry's name"
    return f"a file with {status.st_nlink} hard links; an entry has one name"
