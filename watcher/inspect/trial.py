"""What a directory and this machine can do: found out by trying, in a scratch place of ours.

Guarantees: the queue itself is only read; what is tried happens in a directory made for it under
`.watcher/` (which is made if it is not there) and is removed again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from watcher.arrive.scan import Batch, scan
from watcher.claim import lease
from watcher.durations import show
from watcher.errors import WatcherError
from watcher.evidence import Writer
from watcher.spool import mounts
from watcher.spool.disk import DIRECTORY, DISK
from watcher.spool.layout import Kind, Layout, display
from watcher.spool.spool import Spool

OK, WARNING, BAD = "ok", "warning", "bad"
NEARLY = 0.8  # of a limit
LITTLE = 0.05  # of a disk
SHOWN = 5  # leftovers named of each kind


class Check(NamedTuple):
    """One thing looked at: how it is, and what to do about it."""

    grade: str
    about: str
    what: str


def check_directory(spool: Spool, grace: float) -> Iterator[Check]:
    """Try a queue directory; yields what is found."""
    blind = spool.filesystem in mounts.EVENTS_BLIND
    name = spool.filesystem or "unknown"
    yield Check(
        WARNING if blind else OK,
        "file system",
        f"{name}: changes made elsewhere raise no events; it is polled" if blind else name,
    )
    yield from _permissions(spool)
    yield from _space(spool)
    yield from _tried(spool)
    yield from _contents(spool, grace)


def _permissions(spool: Spool) -> Iterator[Check]:
    for mode, what in ((os.R_OK, "read"), (os.W_OK, "write"), (os.X_OK, "search")):
        if not os.access(spool.path, mode):
            yield Check(BAD, "permission", f"we may not {what} it: check its owner and mode")
    if os.fstat(spool.fd).st_mode & 0o002:
        yield Check(WARNING, "permission", "anybody may write here: chmod o-w unless that is meant")


def _space(spool: Spool) -> Iterator[Check]:
    status = os.fstatvfs(spool.fd)
    for about, free, total in (
        ("free space", status.f_bavail, status.f_blocks),
        ("free inodes", status.f_favail, status.f_files),
    ):
        if total:
            share = free / total
            grade = BAD if free == 0 else WARNING if share < LITTLE else OK
            yield Check(grade, about, f"{share:.0%}" + ("" if grade == OK else ": free some"))


def _tried(spool: Spool) -> Iterator[Check]:
    try:
        inflight = spool.inflight()
        name = b"check.%d" % os.getpid()
        os.mkdir(name, 0o700, dir_fd=inflight)
    except (OSError, WatcherError) as error:
        yield Check(BAD, "our directory", f"cannot be made or used: {error}")
        return
    fd = os.open(name, DIRECTORY, dir_fd=inflight)
    try:
        for about, trial in _TRIALS.items():
            try:
                fault = trial(spool, fd)
            except (OSError, WatcherError) as error:
                fault = str(error)
            yield Check(OK if not fault else _GRADES.get(about, BAD), about, fault or "works")
    finally:
        for file in os.listdir(fd):
            os.unlink(file, dir_fd=fd)
        os.close(fd)
        os.rmdir(name, dir_fd=inflight)


def _make(directory: int, name: bytes) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)


def _try_rename(_spool: Spool, directory: int) -> str:
    os.close(_make(directory, b"a"))
    os.close(_make(directory, b"b"))
    try:
        DISK.move(b"a", directory, b"b", directory)
    except FileExistsError:
        DISK.move(b"a", directory, b"c", directory)
        return ""
    return "a rename overwrote a file it was told not to: not a file system for a queue"


def _try_lock(_spool: Spool, directory: int) -> str:
    one, other = _make(directory, b"d"), _make(directory, b"d")
    try:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
        return "two locks on one file: use one process only for this queue"
    finally:
        os.close(one)
        os.close(other)


def _try_lease(spool: Spool, directory: int) -> str:
    if not spool.leases:
        return "leases know nothing of writers elsewhere here: the grace age decides"
    writing = _make(directory, b"e")
    reading = DISK.open(b"e", directory)
    try:
        if lease.writer(reading) is not Writer.SOME:
            return "not to be had: files that were not renamed in wait for their grace age"
        os.close(writing)
        writing = -1
        return "" if lease.writer(reading) is Writer.NONE else "refused although nobody writes"
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _try_inotify(spool: Spool, directory: int) -> str:
    import select

    from watcher.arrive.inotify import Inotify
    from watcher.arrive.source import Seen

    os.close(_make(directory, b"f.tmp"))
    path = os.fsencode(f"/proc/self/fd/{directory}")
    scratch = Spool(os.path.realpath(path), Layout(b".pck"))
    source = Inotify()
    try:
        source.arm(1, scratch)
        os.rename(b"f.tmp", b"f.pck", src_dir_fd=directory, dst_dir_fd=directory)
        select.select([source.fileno()], [], [], 1.0)
        seen = [hint.name for hint in source.read() if hint.seen is Seen.RENAMED]
    finally:
        source.close()
    if b"f.pck" not in seen:
        return "a rename raised no event: set source to polling"
    return "" if spool.filesystem not in mounts.EVENTS_BLIND else "sees this machine's changes only"


_TRIALS: dict[str, Callable[[Spool, int], str]] = {
    "rename": _try_rename,
    "lock": _try_lock,
    "lease": _try_lease,
    "inotify": _try_inotify,
}
_GRADES = {"lease": WARNING, "inotify": WARNING}


def _contents(spool: Spool, grace: float) -> Iterator[Check]:
    batch = scan(spool, limit=1)
    yield Check(OK, "entries", str(batch.total))
    for kind in (Kind.TEMPORARY, Kind.LEFTOVER, Kind.FOREIGN):
        if batch.counts.get(kind):
            yield _bystanders(batch, kind, grace)
    for state in ("orphans", "dead", "held", "deferred"):
        with contextlib.suppress(OSError):
            path = os.path.join(spool.path, b".watcher", os.fsencode(state))
            count = sum(not name.endswith(b".json") for name in os.listdir(path))
            if count:
                yield Check(WARNING, state, f"{count} files: see watcher list --state")


def _bystanders(batch: Batch, kind: Kind, grace: float) -> Check:
    of_kind = [item for item in batch.bystanders if item.kind is kind]
    now = time.time()
    ages = [now - item.ctime_ns / 1e9 for item in of_kind]
    oldest = max(ages, default=0.0)
    names = ", ".join(display(item.name) for item in of_kind[:SHOWN])
    more = ", ..." if len(of_kind) > SHOWN else ""
    grade = OK if kind is Kind.TEMPORARY and oldest < grace else WARNING
    what = f"{batch.counts[kind]}, the oldest for {show(oldest)}: {names}{more}"
    return Check(grade, kind.value, what)


def check_machine() -> Iterator[Check]:
    """Look at the limits of inotify and how close this user is to them."""
    instances, watches = _used()
    for name, used in (("max_user_instances", instances), ("max_user_watches", watches)):
        limit = _limit(name)
        if limit is None:
            yield Check(WARNING, name, "no inotify on this machine: queues are polled")
            continue
        near = used >= limit * NEARLY
        advice = f": raise fs.inotify.{name}" if near else ""
        yield Check(WARNING if near else OK, name, f"{used} of {limit} in use{advice}")
    queued = _limit("max_queued_events")
    if queued is not None:
        yield Check(OK, "max_queued_events", f"{queued}; a storm of more is found by scanning")


def _limit(name: str) -> int | None:
    try:
        with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _used() -> tuple[int, int]:
    """Count this user's inotify instances and watches, as far as /proc shows them."""
    instances = watches = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                continue
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:inotify":
                    instances += 1
                    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
                        watches += sum(line.startswith("inotify ") for line in info)
        except OSError:
            continue
    return instances, watches
