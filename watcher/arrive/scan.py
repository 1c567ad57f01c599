"""The scan: the truth about a directory, in bounded batches, oldest first.

Guarantees: memory for one batch, whatever the directory holds; nothing is opened or changed. The
order is that of commit (ctime, then name), never the directory's. A batch begins after the last
of the one before (`Mark`), so entries that stay where they are do not come twice in one pass.
Fails: OSError when the directory cannot be read; a file that goes while we look is just not there.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import OURS, Kind, Layout
from watcher.spool.spool import Spool, is_regular

BATCH = 32_768
MAX_NAMED = 1_000  # leftovers and foreign files that a scan names; the rest it counts


class Mark(NamedTuple):
    """A place in the order of commit."""

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
    """What a scan found."""

    entries: list[Mark] = field(default_factory=list)
    more: bool = False
    total: int = 0
    bystanders: list[Bystander] = field(default_factory=list)
    counts: dict[Kind, int] = field(default_factory=dict)


def scan(
    spool: Spool,
    after: Mark = START,
    skip: Callable[[bytes], bool] = lambda _name: False,
    limit: int = BATCH,
) -> Batch:
    """Look at every name once; return the `limit` oldest entries that come after `after`."""
    batch = Batch()
    candidates = (mark for mark in _candidates(spool, batch, skip) if mark > after)
    batch.entries = heapq.nsmallest(limit + 1, candidates)
    if len(batch.entries) > limit:
        batch.more = True
        batch.entries.pop()
    return batch


def _candidates(spool: Spool, batch: Batch, skip: Callable[[bytes], bool]) -> Iterator[Mark]:
    layout = spool.layout
    fd = os.open(b".", DIRECTORY, dir_fd=spool.fd)  # an offset of its own
    try:
        with os.scandir(fd) as directory:
            for item in directory:
                name = os.fsencode(item.name)
                kind = layout.kind(name)
                if name == OURS or skip(name):
                    continue
                try:
                    status = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                if kind in _ENTRIES and is_regular(status):
                    mark = _mark(spool, layout, name, kind, status)
                    if mark is not None:
                        batch.total += 1
                        yield mark
                else:
                    _count(batch, name, kind, status)
    finally:
        os.close(fd)


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
