"""What a file system does, each by trying: names, numbers, times, links, syncs, moves.

Guarantees: everything happens in one directory of our own, which the caller removes.
Fails: never; what cannot be tried is said.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator

from watcher import producer
from watcher.arrive.scan import scan
from watcher.errors import WatcherError
from watcher.inspect.grade import BAD, OK, WARNING
from watcher.spool.disk import Disk
from watcher.spool.layout import Layout
from watcher.spool.spool import Spool
from watcher.torture import contention
from watcher.torture.verdict import Fact

COMMITS = 20
ORDERED, APART = 10, 0.012  # entries, and the seconds between two: more than a kernel's tick
QUICK = 0.00005  # seconds a commit: no disk is that fast
TIMES = 2.5  # seconds at most until a file's time changes: two on FAT
SKEW = 0.1  # seconds between the clock that stamps files and ours that are nobody's concern
LONGEST = 255  # bytes of a name
_MAKE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def find_out(path: str) -> Iterator[Fact]:
    """Try everything in the directory `path`; yields what is found, one by one."""
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


def _make(directory: int, name: bytes) -> int:
    return os.open(name, _MAKE, 0o600, dir_fd=directory)


class _Noticing(Disk):
    """The spool's own calls, and which way a move went."""

    linked = False

    def link_and_unlink(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        self.linked = True
        super().link_and_unlink(name, source, target_name, target)


def _move(directory: int) -> Fact:
    """Move onto a name that is taken: promise 3 stands on its being refused."""
    disk = _Noticing()
    for name in (b"m1", b"m2"):
        os.close(_make(directory, name))
    try:
        disk.move(b"m1", directory, b"m2", directory)
    except FileExistsError:
        disk.move(b"m1", directory, b"m3", directory)
        if not disk.linked:
            return Fact("move", OK, "never overwrites: RENAME_NOREPLACE is there")
        return Fact("move", OK, "never overwrites: link and unlink, without RENAME_NOREPLACE")
    except OSError as error:
        what = f"{error.strerror}: entries cannot be put into dead/ or deferred/"
        return Fact("move", BAD, f"neither RENAME_NOREPLACE nor links ({what})", 3)
    return Fact("move", BAD, "overwrote a file that it was told not to", 3)


def _sync(path: str) -> Fact:
    """Commit a few entries: the file synced, the directory synced."""
    took = []
    try:
        for number in range(COMMITS):
            began = time.perf_counter()
            producer.enqueue(path, b"message %d" % number)
            took.append(time.perf_counter() - began)
    except (OSError, WatcherError) as error:
        return Fact("sync", BAD, f"refused: {error}", 5)
    median = statistics.median(took)
    what = f"of files and directories is accepted; a commit takes {median * 1000:.2g} ms"
    if median < QUICK:
        return Fact("sync", WARNING, f"{what}, too quick for any disk to have been asked", 5)
    return Fact("sync", OK, what)


def _order(path: str) -> Fact:
    """Commit entries one after another; see whether a scan gives them in that order."""
    folder = os.path.join(path, "order")
    os.mkdir(folder, 0o700)
    committed = []
    for number in range(ORDERED):
        name = f"{ORDERED - number:03}.pck"  # names say the contrary
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
        " decides, so number them, or do not count on their order",
        6,
    )


def _times(directory: int) -> Iterator[Fact]:
    fd = _make(directory, b"t")
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
    """Compare the file system's clock with ours, and try to set a ctime back."""
    before = time.time()
    os.fchmod(fd, 0o640)
    after, ctime = time.time(), os.fstat(fd).st_ctime
    off = max(before - ctime, ctime - after, 0.0)
    os.utime(fd, (0, 0))
    back = os.fstat(fd).st_ctime < before - TIMES - off
    if back:
        return Fact("ctime", BAD, "can be set back by a writer: a grace age proves nothing here", 1)
    if off <= SKEW:
        return Fact("ctime", OK, "this machine's clock, and cannot be set back")
    return Fact(
        "ctime",
        OK if off <= TIMES else WARNING,
        f"{off:.1f} s from this machine's clock"
        + ("" if off <= TIMES else ": set the clocks of both right, or files come of age wrongly"),
        2,
    )


def _tick(fd: int) -> Iterator[Fact]:
    """Change a file again and again: how fine its times are, and whether they ever go back."""
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
    """Follow a file by its number: over a rename, through the listing, past its unlink."""
    fd = _make(directory, b"i1")
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
            os.close(_make(directory, name))
            if name not in map(os.fsencode, os.listdir(directory)):
                refused.append(f"{about} (comes back changed)")
        except (OSError, ValueError):
            refused.append(about)
    if refused:
        what = f"not possible: {', '.join(refused)}; writers of such names are refused"
        yield Fact("names", WARNING, what)
    else:
        yield Fact("names", OK, "255 bytes, and any byte but NUL and '/'")
    os.close(_make(directory, b"Case"))
    try:
        os.stat(b"cASE", dir_fd=directory)
    except FileNotFoundError:
        yield Fact("case", OK, "names that differ in case are two")
    else:
        what = "names that differ in case are one: a writer's rename may replace another's entry"
        yield Fact("case", WARNING, what, 3)


def _links(directory: int) -> Iterator[Fact]:
    fd = _make(directory, b"h1")
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
    yield Fact("O_TMPFILE", OK, "there, and not needed" if nameless else "not there, nor needed")
