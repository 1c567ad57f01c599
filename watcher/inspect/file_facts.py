"""The evidence that one file gives by itself: its type, age, writer, claim and contents.

Guarantees: a file is opened for reading only, without waiting; a read lease is given back at once.
Fails: never; a fact that cannot be found out says so.
"""

from __future__ import annotations

import os
import pwd
import stat
import time
from typing import NamedTuple

from watcher import mailman
from watcher.durations import show
from watcher.errors import Undecodable
from watcher.inspect.list_entries import LockHolders, by_process
from watcher.inspect.open_files import writers
from watcher.rules.evidence import Writer
from watcher.rules.names import Layout
from watcher.spool import lease
from watcher.spool.claimed import ClaimOptions
from watcher.spool.disk import LOOK
from watcher.spool.part import Part, read_part
from watcher.spool.spool import Spool


class Fact(NamedTuple):
    """One piece of evidence."""

    about: str
    what: str


def opened(
    spool: Spool, name: bytes, status: os.stat_result, terms: ClaimOptions, held: LockHolders
) -> list[Fact]:
    """Return what an open descriptor tells: the writer, the claim, and the contents."""
    pid = held.get((status.st_dev, status.st_ino))
    claimed = "no" if pid is None else by_process(pid)
    return [
        Fact("writer", _writer(spool, name, status)),
        Fact("claimed", claimed),
        Fact("contents", holds(spool.fd, name, spool.layout, terms.max_size)),
    ]


def _writer(spool: Spool, name: bytes, status: os.stat_result) -> str:
    pids = ", ".join(map(str, writers(status)))
    by = f", by process {pids}" if pids else ""
    if not spool.asks:
        return f"unknown: leases cannot be trusted here{by}"
    try:
        fd = os.open(name, LOOK, dir_fd=spool.fd)
    except OSError as error:
        return f"unknown: cannot be opened: {error.strerror}{by}"
    try:
        found = lease.writer(fd)
    finally:
        os.close(fd)
    match found:
        case Writer.SOME:
            return "open for writing" + (by or ", by a process or mapping that /proc does not show")
        case Writer.NONE:
            return ("none" if spool.leases else "none on this machine") + by
        case Writer.UNKNOWN:
            return "unknown: the kernel grants no lease" + by


def holds(directory: int, name: bytes, layout: Layout, limit: int) -> str:
    """Say what is in a file, as far as it can be decoded."""
    try:
        fd = os.open(name, LOOK, dir_fd=directory)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    status = os.fstat(fd)
    times = (status.st_ctime_ns, status.st_mtime_ns)
    part = Part(name, fd, status.st_ino, status.st_size, *times)
    try:
        found = _read(part, layout, limit)
    except Undecodable as error:
        found = str(error)
    except OSError as error:
        found = f"cannot be read: {error.strerror}"
    finally:
        os.close(fd)
    return f"{status.st_size} bytes, {found}"


def _read(part: Part, layout: Layout, limit: int) -> str:
    name = part.name.removesuffix(b".tmp")
    if layout.raw or not name.endswith((b".pck", b".db", b".bak", b".psv")):
        return "taken as they are"
    data = read_part(part, limit)
    if name.endswith(b".db"):
        return f"metadata of {len(mailman.read_db(data))} keys"
    count = mailman.pickles(data)
    if count == 1:
        return "one pickle: the metadata belongs in a .db beside it"
    if count == 0:
        return "empty: nothing was ever written to it"
    found = mailman.read_pck(data)
    return f"message of {len(found.message)} bytes and metadata of {len(found.metadata)} keys"


def ages(name: bytes, status: os.stat_result, terms: ClaimOptions) -> list[Fact]:
    """Return how old a file is, by which clock, and when it reaches the grace age."""
    age = terms.ages.age(name, status.st_ctime_ns)
    left = terms.grace - age
    of_age = "past it" if left <= 0 else f"of age in {show(left)}{moment(left)}"
    changed = time.time() - status.st_mtime
    said = f"{show(changed)} ago" if changed >= 0 else f"{show(-changed)} in the future"
    facts = [
        Fact("age", f"{show(age)}, {terms.ages.why(status.st_ctime_ns)}"),
        Fact("mtime", f"{said}; does not count: a writer can set it"),
        Fact("grace age", f"{show(terms.grace)}: {of_age}"),
    ]
    if terms.settle:
        left = terms.settle - age
        quiet = "past it" if left <= 0 else f"unchanged for so long in {show(left)}{moment(left)}"
        facts.append(Fact("settle", f"{show(terms.settle)}: {quiet}"))
    return facts


def moment(seconds: float) -> str:
    """Return the wall-clock time in so many seconds."""
    try:
        return time.strftime(" at %Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    except (OverflowError, OSError, ValueError):
        return ""


def looked_at(status: os.stat_result) -> list[Fact]:
    """Return what lstat(2) tells."""
    facts = [Fact("type", file_type(status)), Fact("owner", _owner(status))]
    if stat.S_ISREG(status.st_mode):
        count = status.st_nlink
        only = "1" if count == 1 else f"{count}: an entry has one name, but where hard_links = true"
        facts += [Fact("links", only), Fact("size", f"{status.st_size} bytes")]
    return facts


def file_type(status: os.stat_result) -> str:
    """Say what kind of file this is."""
    names = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link, never followed",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return names.get(stat.S_IFMT(status.st_mode), "a device")


def _owner(status: os.stat_result) -> str:
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    return f"{user}, mode {stat.S_IMODE(status.st_mode):04o}"
