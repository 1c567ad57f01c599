"""Every state that a disk may legally be in when the power fails. PURE.

The method is that of ALICE (Pillai and others, OSDI 2014): the operations up to some point were
issued; those that no completed sync covers may have reached the disk or not. Two kinds of disk:

ordered  names change on the disk in the order in which they were changed, as journals keep them,
         and a sync of anything brings all of them up to it; contents that were not synced may be
         there, in half, as zeros, or not
weak     each change of a name reached the disk or did not, whatever others did, until the directory
         it was made in was synced after it (a rename is one change, and either of its directories'
         sync will do); contents likewise, until the file was synced

Where more than `SUBSETS` changes are open at once, not all of their subsets are made, but those in
which at most two are missing, or at most two are there. A rename is one change also between two
directories (ALICE's atomic rename); what a file system does that breaks it in two is not made.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from power_loss.recording import Op

SUBSETS = 8
_NAMES = ("create", "rename", "link", "unlink", "mkdir", "rmdir")


class Disk(NamedTuple):
    """What is on a disk: directories, and names with the contents of their files."""

    directories: frozenset[str]
    files: frozenset[tuple[str, int]]  # path and inode
    contents: frozenset[tuple[int, bytes]]


def states(
    start: Disk, ops: Sequence[Op], *, weak: bool, first: int = 0
) -> Iterator[tuple[int, Disk]]:
    """Yield each state, with the number of operations issued, each once for that number.

    The power lasts for the `first` operations at least.
    """
    for issued in range(first, len(ops) + 1):
        seen: set[Disk] = set()
        done = ops[:issued]
        names = _weak_names(start, done) if weak else _ordered_names(start, done)
        held = list(_contents(start, done))
        for applied in names:
            for contents in held:
                state = _visible(applied, contents)
                if state not in seen:
                    seen.add(state)
                    yield issued, state


def everything(start: Disk, ops: Sequence[Op]) -> Disk:
    """Return the disk as a process sees it while the power is on: with all changes."""
    contents = dict(start.contents)
    for op in ops:
        if op.what == "create":
            contents[op.inode] = b""
        elif op.what == "write":
            contents[op.inode] = _written(contents.get(op.inode, b""), op)
    return _visible(_apply(start, ops), contents)


def _ordered_names(start: Disk, done: Sequence[Op]) -> Iterator[Disk]:
    least = max((n + 1 for n, op in enumerate(done) if op.what.startswith("sync")), default=0)
    for reached in range(least, len(done) + 1):
        yield _apply(start, done[:reached])


def _weak_names(start: Disk, done: Sequence[Op]) -> Iterator[Disk]:
    changes = [(number, op) for number, op in enumerate(done) if op.what in _NAMES]
    sure = {number for number, op in changes if _is_synced(op, done[number + 1 :])}
    unsure = [number for number, _ in changes if number not in sure]
    for there in _subsets(unsure):
        kept = sure.union(there)
        yield _apply(start, [op for n, op in enumerate(done) if op.what not in _NAMES or n in kept])


def _is_synced(op: Op, later: Iterable[Op]) -> bool:
    paths = (
        [op.to] if op.what == "link" else [op.path, op.to]
    )  # the path that it is linked from stays
    touched = {os.path.dirname(path) or "." for path in paths if path}
    return any(
        after.what == "sync all" or (after.what == "sync names" and after.path in touched)
        for after in later
    )


def _subsets(open_: Sequence[int]) -> Iterator[tuple[int, ...]]:
    sizes: Iterable[int] = range(len(open_) + 1)
    if len(open_) > SUBSETS:
        sizes = (0, 1, 2, len(open_) - 2, len(open_) - 1, len(open_))
    for size in sizes:
        yield from itertools.combinations(open_, size)


def _apply(start: Disk, ops: Iterable[Op]) -> Disk:
    directories, files = set(start.directories), dict(start.files)
    for op in ops:
        match op.what:
            case "mkdir":
                directories.add(op.path)
            case "rmdir":
                directories.discard(op.path)
            case "create" | "link":
                files[op.to or op.path] = op.inode
            case "rename":
                if files.get(op.path) == op.inode:
                    del files[op.path]
                files[op.to] = op.inode
            case "unlink":
                if files.get(op.path) == op.inode:
                    del files[op.path]
    return Disk(frozenset(directories), frozenset(files.items()), frozenset())


def _contents(start: Disk, done: Sequence[Op]) -> Iterator[dict[int, bytes]]:
    """Yield the contents that each file may have: what was synced, with or without later writes."""
    before = dict(start.contents)
    written: dict[int, bytes] = {}
    synced = dict(before)
    for op in done:
        if op.what == "create":
            written.setdefault(op.inode, b"")
            synced.setdefault(op.inode, b"")
        elif op.what == "write":
            written[op.inode] = _written(written.get(op.inode, before.get(op.inode, b"")), op)
        elif op.what == "sync" and op.inode in written:
            synced[op.inode] = written[op.inode]
        elif op.what == "sync all":
            synced |= written
    choices = []
    for inode, data in written.items():
        kept = synced[inode]
        if kept == data:
            choices.append([(inode, data)])
        else:
            half, size = data[: len(data) // 2], len(data)
            found = dict.fromkeys([kept, half, half.ljust(size, b"\0"), bytes(size), data])
            choices.append([(inode, each) for each in found])
    for chosen in itertools.product(*choices):
        yield before | dict(chosen)


def _written(data: bytes, op: Op) -> bytes:
    return data[: op.at].ljust(op.at, b"\0") + op.data + data[op.at + len(op.data) :]


def _visible(names: Disk, contents: dict[int, bytes]) -> Disk:
    """Return the disk as it is found: files that have a name, in directories that are there.

    A directory is there if all those that it lies in are: what was moved into one that is not is
    lost.
    """
    directories: set[str] = set()
    for path in sorted(names.directories):  # a directory comes before its contents
        if path == "." or (os.path.dirname(path) or ".") in directories:
            directories.add(path)
    files = frozenset(
        (path, inode)
        for path, inode in names.files
        if (os.path.dirname(path) or ".") in directories
    )
    inodes = {inode for _, inode in files}
    return Disk(
        frozenset(directories),
        files,
        frozenset((inode, contents.get(inode, b"")) for inode in inodes),
    )
