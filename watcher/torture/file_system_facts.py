"""What a file system does, found by trying: names, inode numbers, times, links, syncs, moves.

Guarantees: all files are made in the given directory, which the caller removes.
Fails: never; a fact that cannot be tried is reported as a warning.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator

from watcher import commit_one
from watcher.arrive.scan import scan
from watcher.errors import WatcherError
from watcher.inspect.probe import make_file, move_overwrites
from watcher.rules.finding import BAD, OK, WARNING
from watcher.rules.names import Layout
from watcher.spool.disk import Disk
from watcher.spool.spool import Spool
from watcher.torture import contention
from watcher.torture.verdict import Fact

COMMITS = 20
ORDERED, APART = 10, 0.012  # entries, and the seconds between two: more than a kernel's tick
QUICK = 0.00005  # seconds for a commit: no disk is that fast
TIMES = 2.5  # seconds to wait for a new time stamp: FAT has steps of two
SKEW = 0.1  # seconds between the file system's clock and this machine's that do no harm
LONGEST = 255  # bytes of a name


def find_out(path: str) -> Iterator[Fact]:
    """Try every fact in the directory `path`; yield the facts one by one."""
    spool = Spool(os.fsencode(path), Layout())
    kind = spool.filesystem
    trials: dict[str, Callable[[int], Iterator[Fact]]] = {
        "rename": lambda fd: iter([contention.renames(fd)]),
        "move": lambda fd: iter([_move(fd)]),
        "lock": contention.locks,
        "lease": lambda fd: iter([contention.leases(fd, kind)]),
        "inotify": lambda _fd: iter([contention.events(path, kind)]),
        "sync": lambda _fd: iter([_sync(path)]),
        "order": lambda _fd: iter([_order(path)]),
        "times": _times,
        "inode": lambda fd: iter([_inode(fd)]),
        "names": _names,
        "links": _links,
    }
    for about, trial in trials.items():
        try:
            yield from trial(spool.fd)
        except (OSError, WatcherError) as error:
            yield Fact(about, WARNING, f"cannot be tried: {error}")


class _Noticing(Disk):
    """The spool's own calls; notes whether a move was made by link and unlink."""

    linked = False

    def link_and_unlink(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        self.linked = True
        super().link_and_unlink(name, source, target_name, target)


def _move(directory: int) -> Fact:
    """Move onto a name that exists: promise 3 requires that the move fails."""
    disk = _Noticing()
    try:
        if move_overwrites(directory, disk):
            return Fact("move", BAD, "overwrote a file, although that was forbidden", 3)
    except OSError as error:
        what = f"{error.strerror}: entries cannot be put into dead/ or deferred/"
        return Fact("move", BAD, f"neither RENAME_NOREPLACE nor links ({what})", 3)
    if not disk.linked:
        return Fact("move", OK, "never overwrites: RENAME_NOREPLACE is there")
    return Fact("move", OK, "never overwrites: link and unlink, without RENAME_NOREPLACE")


def _sync(path: str) -> Fact:
    """Commit a few entries, with a sync of each file and of the directory."""
    took = []
    try:
        for number in range(COMMITS):
            began = time.perf_counter()
            commit_one.enqueue(path, b"message %d" % number)
            took.append(time.perf_counter() - began)
    except (OSError, WatcherError) as error:
        return Fact("sync", BAD, f"refused: {error}", 5)
    median = statistics.median(took)
    what = f"of files and directories is accepted; a commit takes {median * 1000:.2g} ms"
    if median < QUICK:
        return Fact("sync", WARNING, f"{what}: too quick, the disk cannot have written it", 5)
    return Fact("sync", OK, what)


def _order(path: str) -> Fact:
    """Commit entries one after another; check that a scan gives them in that order."""
    folder = os.path.join(path, "order")
    os.mkdir(folder, 0o700)
    committed = []
    for number in range(ORDERED):
        name = f"{ORDERED - number:03}.pck"  # the order of the names is the reverse
        with open(os.path.join(folder, name + ".tmp"), "wb") as file:
            file.write(b"x")
        os.rename(os.path.join(folder, name + ".tmp"), os.path.join(folder, name))
        committed.append(name.encode())
        time.sleep(APART)
    found = [mark.name for mark in scan(Spool(os.fsencode(folder), Layout())).entries]
    if found == committed:
        return Fact("order", OK, "a scan gives entries in the order of their commits")
    return Fact(
        "order",
        BAD,
        f"a scan cannot tell which of two entries came first, {APART * 1000:.0f} ms apart: the name"
        " decides. Number the names, or do not rely on the order",
        6,
    )


def _times(directory: int) -> Iterator[Fact]:
    fd = make_file(directory, b"t")
    try:
        yield _clock(fd)
        yield from _tick(fd)
    finally:
        os.close(fd)
    before = os.stat(b"t", dir_fd=directory).st_ctime_ns
    end = time.monotonic() + TIMES
    name, other = b"t", b"t2"
    while time.monotonic() < end:
        os.rename(name, other, src_dir_fd=directory, dst_dir_fd=directory)
        name, other = other, name
        if os.stat(name, dir_fd=directory).st_ctime_ns != before:
            yield Fact("ctime of a rename", OK, "a rename is a change")
            return
        time.sleep(0.01)
    yield Fact(
        "ctime of a rename",
        WARNING,
        "a rename leaves the ctime: ages count from the last write instead of the commit",
        6,
    )


def _clock(fd: int) -> Fact:
    """Compare the file system's clock with this machine's, and try to set a ctime back."""
    before = time.time()
    os.fchmod(fd, 0o640)
    after, ctime = time.time(), os.fstat(fd).st_ctime
    off = max(before - ctime, ctime - after, 0.0)
    os.utime(fd, (0, 0))
    back = os.fstat(fd).st_ctime < before - TIMES - off
    if back:
        return Fact("ctime", BAD, "can be set back by a writer: a grace age proves nothing", 1)
    if off <= SKEW:
        return Fact("ctime", OK, "this machine's clock, and cannot be set back")
    return Fact(
        "ctime",
        OK if off <= TIMES else WARNING,
        f"{off:.1f} s from this machine's clock"
        + ("" if off <= TIMES else ": set both clocks, or the age of files is wrong"),
        2,
    )


def _tick(fd: int) -> Iterator[Fact]:
    """Change a file repeatedly: measure the steps of its times, and whether they go back."""
    times = [os.fstat(fd).st_ctime_ns]
    end = time.monotonic() + TIMES
    while time.monotonic() < end and len(set(times)) < 5:  # noqa: PLR2004 - enough to see a step
        os.fchmod(fd, 0o600 if len(times) % 2 else 0o640)
        times.append(os.fstat(fd).st_ctime_ns)
        time.sleep(0.0002)
    steps = [after - before for before, after in itertools.pairwise(times)]
    if any(step < 0 for step in steps):
        yield Fact("times", WARNING, "go back: entries may be handled out of order", 6)
        return
    ticks = [step for step in steps if step]
    if not ticks:
        yield Fact("times", WARNING, f"did not change for {TIMES} s", 6)
        return
    tick = min(ticks) / 1e9
    exact = any(moment % 1_000_000_000 for moment in times)
    words = f"steps of {tick * 1000:.2g} ms" if exact else "whole seconds"
    yield Fact("times", OK if exact else WARNING, words, 0 if exact else 6)


def _inode(directory: int) -> Fact:
    """Compare the inode number of a file before and after a rename, in a listing, after unlink."""
    fd = make_file(directory, b"i1")
    try:
        before = os.fstat(fd).st_ino
        os.rename(b"i1", b"i2", src_dir_fd=directory, dst_dir_fd=directory)
        numbers = {os.fstat(fd).st_ino, os.stat(b"i2", dir_fd=directory).st_ino}
        with os.scandir(directory) as listing:
            numbers |= {item.inode() for item in listing if item.name == "i2"}
        os.unlink(b"i2", dir_fd=directory)
        links = os.fstat(fd).st_nlink
    finally:
        os.close(fd)
    if numbers != {before}:
        return Fact(
            "inode", BAD, "changes: the file that was claimed cannot be told from its successor", 3
        )
    if links:
        return Fact("inode", WARNING, "stays; an unlinked file that is open still has a name", 4)
    return Fact("inode", OK, "stays over a rename; an unlinked file that is open has no name")


def _names(directory: int) -> Iterator[Fact]:
    awkward = {
        f"{LONGEST} bytes": b"n" * LONGEST,
        "bytes that are no UTF-8": b"\xff\xfe",
        "a newline": b"a\nb",
        "a leading dash": b"-n",
    }
    refused = []
    for about, name in awkward.items():
        try:
            os.close(make_file(directory, name))
            if name not in map(os.fsencode, os.listdir(directory)):
                refused.append(f"{about} (comes back changed)")
        except (OSError, ValueError):
            refused.append(about)
    if refused:
        what = f"not possible: {', '.join(refused)}; writers of such names are refused"
        yield Fact("names", WARNING, what)
    else:
        yield Fact("names", OK, "255 bytes, and any byte but NUL and '/'")
    os.close(make_file(directory, b"Case"))
    try:
        os.stat(b"cASE", dir_fd=directory)
    except FileNotFoundError:
        yield Fact("case", OK, "names that differ in case are two")
    else:
        what = "names that differ in case are one: a writer's rename may replace another's entry"
        yield Fact("case", WARNING, what, 3)


def _links(directory: int) -> Iterator[Fact]:
    fd = make_file(directory, b"h1")
    try:
        os.link(b"h1", b"h2", src_dir_fd=directory, dst_dir_fd=directory)
        count = os.fstat(fd).st_nlink
        yield (
            Fact("links", OK, "hard links are there, and counted")
            if count == 2  # noqa: PLR2004 - the two names
            else Fact("links", WARNING, f"two names, but a link count of {count}")
        )
    except OSError as error:
        yield Fact("links", OK, f"no hard links ({error.strerror}); none are needed")
    finally:
        os.close(fd)
    nameless = False
    with contextlib.suppress(OSError):
        os.close(os.open(b".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=directory))
        nameless = True
    yield Fact(
        "O_TMPFILE", OK, "there, and not needed" if nameless else "not there, and not needed"
    )
