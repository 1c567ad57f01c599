"""How a queue directory is: its file system, permissions, space, what it can do, what lies in it.

Guarantees: as `trial`; memory for one batch of a scan's names, whatever the directory holds.
Fails: OSError when the directory cannot be read to its end.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sized

from watcher.arrive.scan import Bystander, scan
from watcher.durations import show
from watcher.errors import WatcherError
from watcher.inspect.grade import BAD, OK, WARNING, Check
from watcher.inspect.notes import open_place, put_away
from watcher.inspect.trial import try_directory
from watcher.lifecycle import State
from watcher.settle.aside import listed
from watcher.spool import mounts
from watcher.spool.layout import STATE_DIRECTORIES, Kind, display
from watcher.spool.spool import Spool

LITTLE = 0.05  # of a disk
SHOWN = 5  # names of each kind
_KINDS = {
    Kind.TEMPORARY: "watcher explain FILE says how to put it back if its writer is gone",
    Kind.LEFTOVER: "watcher explain FILE says how to put it back",
    Kind.FOREIGN: "never touched: move them away unless they belong here",
}
_ENTRIES = (Kind.ENTRY, Kind.MESSAGE_HALF, Kind.METADATA_HALF)
_SCRATCH = re.compile(rb"\.([0-9]{1,9})\.[0-9a-f]+\.tmp")  # as `Disk.write_note` calls it
_NOTES = "their processes died while writing them, and nothing reads them: rm, if you like"
_ODD = "never handled: only a regular file with one name is an entry; move them away"


def check_directory(spool: Spool, grace: float) -> Iterator[Check]:
    """Look at a queue directory and try it; yields what is found."""
    blind = spool.filesystem in mounts.EVENTS_BLIND
    name = spool.filesystem or "unknown"
    yield Check(
        WARNING if blind else OK,
        "file system",
        f"{name}: changes made elsewhere raise no events; it is polled" if blind else name,
    )
    yield from _permissions(spool)
    yield from _space(spool)
    yield from try_directory(spool)
    yield from _entries(spool, grace)
    yield from _put_away(spool)
    yield from _scratch(spool, grace)


def _permissions(spool: Spool) -> Iterator[Check]:
    modes = ((os.R_OK, "read"), (os.W_OK, "write"), (os.X_OK, "search"))
    refused = [what for mode, what in modes if not os.access(spool.path, mode)]
    if refused:
        words = f"we may not {' or '.join(refused)} it: check its owner and mode"
        yield Check(BAD, "permission", words, os.EX_NOPERM)
    if os.fstat(spool.fd).st_mode & 0o002:
        yield Check(WARNING, "permission", "anybody may write here: chmod o-w unless that is meant")
    elif not refused:
        yield Check(OK, "permission", "we may read, write and search it")


def _space(spool: Spool) -> Iterator[Check]:
    status = os.fstatvfs(spool.fd)
    for about, free, total, left in (
        ("free space", status.f_bavail, status.f_blocks, size(status.f_bavail * status.f_frsize)),
        ("free inodes", status.f_favail, status.f_files, str(status.f_favail)),
    ):
        if total:
            share = free / total
            grade = BAD if free == 0 else WARNING if share < LITTLE else OK
            yield Check(
                grade, about, f"{share:.0%}, {left}" + ("" if grade == OK else ": free some")
            )


def size(count: float) -> str:
    """Show a number of bytes in the largest unit that leaves it above one."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - the step between units
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.0f} TiB"


def _entries(spool: Spool, grace: float) -> Iterator[Check]:
    batch = scan(spool, limit=1)
    oldest = f", the oldest for {show(_age(batch.entries[0].ctime_ns))}" if batch.entries else ""
    yield Check(OK, "entries", f"{batch.total}{oldest}")
    odd = [item for item in batch.bystanders if spool.layout.kind(item.name) in _ENTRIES]
    if odd:
        shown = ", ".join(f"{display(item.name)} ({item.why})" for item in odd[:SHOWN])
        yield Check(WARNING, "odd", f"{_number(odd, len(odd))}: {shown}{_more(odd)}. {_ODD}")
    for kind, advice in _KINDS.items():
        of_kind = [item for item in batch.bystanders if item.kind is kind and item not in odd]
        if of_kind:
            total = batch.counts[kind] - (len(odd) if kind is Kind.FOREIGN else 0)
            shown = ", ".join(display(item.name) for item in of_kind[:SHOWN])
            words = f"{_number(of_kind, total)}: {shown}{_more(of_kind)}"
            young = kind is Kind.TEMPORARY and _oldest(of_kind) < grace
            yield (
                Check(OK, kind.value, words)
                if young
                else Check(WARNING, kind.value, f"{words}. {advice}")
            )


def _number(items: list[Bystander], total: int) -> str:
    return f"{total}, the oldest for {show(_oldest(items))}"


def _more(items: Sized) -> str:
    return ", ..." if len(items) > SHOWN else ""


def _oldest(items: list[Bystander]) -> float:
    return max(_age(item.ctime_ns) for item in items)


def _age(ctime_ns: int) -> float:
    return max(0.0, time.time() - ctime_ns / 1e9)


def _scratch(spool: Spool, grace: float) -> Iterator[Check]:
    """Tell of notes that were never finished: their writers died. Nothing reads them."""
    for state, place in STATE_DIRECTORIES.items():
        with contextlib.suppress(WatcherError):  # it was told where the entries are counted
            directory = open_place(spool, state)
            if directory is None:
                continue
            try:
                left = [name for name, _ in listed(directory) if _is_left(name, directory, grace)]
            finally:
                os.close(directory)
            if left:
                shown = ", ".join(map(display, left[:SHOWN])) + _more(left)
                words = f"{len(left)} in .watcher/{place.decode()}/: {shown}"
                yield Check(WARNING, "unfinished notes", f"{words}. {_NOTES}")


def _is_left(name: bytes, directory: int, grace: float) -> bool:
    """Whether a file is the scratch of a note whose process died, by its name and its age."""
    found = _SCRATCH.fullmatch(name)
    if found is None or os.path.exists(b"/proc/" + found[1]):
        return False
    try:
        return _age(os.stat(name, dir_fd=directory, follow_symlinks=False).st_ctime_ns) >= grace
    except FileNotFoundError:
        return False


def _put_away(spool: Spool) -> Iterator[Check]:
    for state in STATE_DIRECTORIES:
        try:
            directory = open_place(spool, state)
        except WatcherError as error:
            yield Check(BAD, state.value, str(error), error.exit_code)
            return  # it is the same for the others
        if directory is None:
            continue
        try:
            count = sum(1 for _ in put_away(directory, spool.layout, state))
        finally:
            os.close(directory)
        if count and state in (State.DEAD, State.ORPHAN):
            words = f"{count}: watcher list --state {state.value} says why"
            yield Check(WARNING, state.value, words)
        elif count:
            yield Check(OK, state.value, str(count))
