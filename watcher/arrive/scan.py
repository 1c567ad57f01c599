"""The scan: list the entries of a directory in bounded batches, the oldest first.

Guarantees: memory for one batch, however large the directory is. No file is opened or changed. The
order is that of commit: by ctime, then by name. A batch begins after the last entry of the batch
before (`ScanPosition`), so an entry that stays in its place comes once in a pass.
With `by_name` the time at the beginning of Mailman's names is used for the ctime, as Mailman does:
then no file is looked at, and a million names take a second.
Fails: OSError if the directory cannot be read. A file that is removed during the scan is left out.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.rules.age import SECOND
from watcher.rules.kinds import ENTRY_KINDS, Kind
from watcher.rules.names import Layout, is_note, other_names
from watcher.rules.pair_names import MESSAGE_SUFFIXES, message_names, metadata_name
from watcher.spool.dirs import names_in, scan_dir
from watcher.spool.spool import Spool

BATCH = 32_768
FIRST = 32_768  # entries of a backlog in its first batch: small, so that work begins soon
MANY = 131_072  # in later batches: each one reads the whole rest of the directory
_TIME_BYTES = 8  # bytes of the time in front of a packed name
_EPOCH = 1 << 63
MAX_NAMED = 1_000  # bystanders that a scan names; it counts the others


class ScanPosition(NamedTuple):
    """A position in the order of commit: a ctime, or with `by_name` the time in the name."""

    ctime_ns: int
    name: bytes


START = ScanPosition(-(1 << 63), b"")


class Bystander(NamedTuple):
    """A file that is not an entry: its kind, and its ctime."""

    name: bytes
    kind: Kind
    why: str
    ctime_ns: int
    links: int = 1  # link count, of a regular file with an entry's name


@dataclass(slots=True)
class Batch:
    """The result of a scan: the entries, each one packed (see `packed`), the oldest first."""

    packed: list[bytes] = field(default_factory=list)
    more: bool = False
    total: int = 0
    bystanders: list[Bystander] = field(default_factory=list)
    counts: dict[Kind, int] = field(default_factory=dict)

    @property
    def entries(self) -> list[ScanPosition]:
        """The entries with their positions."""
        return [unpacked(each) for each in self.packed]


def packed(time_ns: int, name: bytes) -> bytes:
    """Return a position as one bytes object: it sorts like the pair, and needs half the memory."""
    if not -_EPOCH <= time_ns < _EPOCH:
        time_ns = -_EPOCH if time_ns < 0 else _EPOCH - 1
    return (time_ns + _EPOCH).to_bytes(_TIME_BYTES, "big") + name


def name_in(position: bytes) -> bytes:
    """Return the name in a packed position."""
    return position[_TIME_BYTES:]


def unpacked(position: bytes) -> ScanPosition:
    """Return a packed position as a pair."""
    return ScanPosition(
        int.from_bytes(position[:_TIME_BYTES], "big") - _EPOCH, position[_TIME_BYTES:]
    )


def scan(
    spool: Spool,
    after: ScanPosition = START,
    skip: Callable[[bytes], bool] = lambda _name: False,
    limit: int = BATCH,
    *,
    by_name: bool = False,
) -> Batch:
    """Read every name once; return the `limit` oldest entries after the position `after`."""
    batch = Batch()
    oldest = _Oldest(after, limit)
    items = scan_dir(spool.fd)
    for item in _left_by_name(items, batch, oldest, skip) if by_name else items:
        position = _look(spool, batch, item, skip)
        if position is not None:
            batch.total += 1
            oldest.add(packed(*position), position.ctime_ns)
    batch.packed = oldest.end()
    batch.more = oldest.more
    return batch


class _Oldest:
    """Keeps the `limit` oldest positions of a stream; it holds half as many more between cuts."""

    def __init__(self, after: ScanPosition, limit: int) -> None:
        self.more = False  # younger entries were left out
        self.bound = sys.maxsize  # nanoseconds: younger entries are left out
        self.bound_name = (
            ""  # the name of the youngest entry that is kept, and the index of its "."
        )
        self.point = -1
        self._after = packed(*after)
        self._limit = limit
        self._positions: list[bytes] = []

    def add(self, position: bytes, time_ns: int) -> None:
        """Keep a packed position, if it is old enough."""
        if position <= self._after:
            return
        if time_ns > self.bound:
            self.more = True
            return
        self._positions.append(position)
        if len(self._positions) > self._limit + self._limit // 2 + 1:
            self._cut()

    def _cut(self) -> None:
        self._positions.sort()
        if len(self._positions) > self._limit:
            del self._positions[self._limit :]
            self.more = True
            if self._positions:
                self.bound, name = unpacked(self._positions[-1])
                self.bound_name = os.fsdecode(name)
                self.point = self.bound_name.find(".")

    def end(self) -> list[bytes]:
        """Return the packed positions, the oldest first."""
        self._cut()
        return self._positions


def _left_by_name(
    directory: Iterable[os.DirEntry[str]],
    batch: Batch,
    oldest: _Oldest,
    skip: Callable[[bytes], bool],
) -> Iterator[os.DirEntry[str]]:
    """Add the entries whose names begin with a time; yield the other files."""
    total, encoding = 0, sys.getfilesystemencoding()
    for item in directory:
        name = item.name
        bound, point = oldest.bound_name, oldest.point
        if point > 0 and name > bound and name[point : point + 1] == ".":
            oldest.more = True  # same number of digits, and a greater number: younger
            total += 1
            continue
        seconds, plus, rest = name.partition("+")
        if plus and rest.endswith(".pck") and name[0] != ".":
            try:
                time_ns = int(float(seconds) * SECOND)
            except (ValueError, OverflowError):
                yield item
                continue
            total += 1
            if time_ns > oldest.bound:
                oldest.more = True
            elif not item.is_file(follow_symlinks=False):
                total -= 1
                yield item
            elif not skip(encoded := name.encode(encoding, "surrogateescape")):  # os.fsencode
                oldest.add(packed(time_ns, encoded), time_ns)
        else:
            yield item
    batch.total += total


def _look(
    spool: Spool, batch: Batch, item: os.DirEntry[str], skip: Callable[[bytes], bool]
) -> ScanPosition | None:
    """Look at one file: return its position if it is an entry and not skipped."""
    name = os.fsencode(item.name)
    if name in spool.own_names or skip(name):
        return None
    kind = spool.layout.kind(name)
    try:
        status = item.stat(follow_symlinks=False)
    except OSError:
        return None
    if kind in ENTRY_KINDS and spool.layout.may_be_entry(status):
        return _position(spool, spool.layout, name, kind, status)
    if kind is Kind.MARKER and _has_entry(spool, name):
        return None
    _count(batch, name, kind, status)
    return None


def _has_entry(spool: Spool, marker: bytes) -> bool:
    """Whether the entry is there whose marker a file is: then it is none that was left behind."""
    entry = spool.layout.entry_beside(marker)
    return entry is not None and spool.stat(entry) is not None


def _position(
    spool: Spool, layout: Layout, name: bytes, kind: Kind, status: os.stat_result
) -> ScanPosition | None:
    """Return an entry's position: for a pair, the ctime of its younger file and the message's name.

    None for a `.db` whose message is in the queue: the pair is listed under the message's name.
    """
    if not layout.legacy:
        return ScanPosition(status.st_ctime_ns, name)
    if kind is Kind.METADATA_HALF:
        for message in message_names(name):
            if spool.stat(message) is not None:
                return None
        return ScanPosition(status.st_ctime_ns, name)
    other = spool.stat(metadata_name(name))
    ctime_ns = status.st_ctime_ns if other is None else max(status.st_ctime_ns, other.st_ctime_ns)
    return ScanPosition(ctime_ns, name)


def _count(batch: Batch, name: bytes, kind: Kind, status: os.stat_result) -> None:
    links = 1
    if kind in ENTRY_KINDS:
        kind, why = Kind.FOREIGN, _odd(status)
        links = status.st_nlink if stat.S_ISREG(status.st_mode) else 1
    elif stat.S_ISDIR(status.st_mode):
        kind, why = Kind.FOREIGN, "a directory"
    else:
        why = "a marker without its entry" if kind is Kind.MARKER else kind.value
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
    """Return why a file with an entry's name is not an entry."""
    kind = _TYPES.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        return f"{kind} with an entry's name"
    return f"a file that {other_names(status)}"


def is_deferred_message(name: bytes, layout: Layout) -> bool:
    """Whether a stamped name is an entry's message, and not its metadata, its note or scratch."""
    if layout.raw:
        return not name.endswith(b".tmp") and name[:1] != b"." and not is_note(name, layout)
    return name.endswith(MESSAGE_SUFFIXES)


def deferred_names(directory: int, layout: Layout) -> list[bytes]:
    """Return the names of the deferred entries in the directory; no file is opened.

    Also a `.db` without a message: if a process dies between the two unlinks of a pair that is
    done, its `.db` stays.
    """
    names = list(names_in(directory))
    entries = [name for name in names if is_deferred_message(name, layout) and name[:1] != b"."]
    metadata = () if layout.raw else [name for name in names if name.endswith(b".db")]
    if metadata:
        beside = {metadata_name(name) for name in entries}
        entries += [name for name in metadata if name not in beside and name[:1] != b"."]
    return entries
