"""The evidence that one file gives by itself: its type, age, writer, claim and contents.

Guarantees: a file is opened for reading only, never waited for; the read lease is given back at
once. Fails: never; what cannot be found out is said.
"""

from __future__ import annotations

import os
import pwd
import stat
import time
from typing import NamedTuple

from watcher import contents
from watcher.claim import lease
from watcher.claim.take import Terms
from watcher.durations import show
from watcher.entry import Part, read_part
from watcher.errors import Undecodable
from watcher.evidence import Writer
from watcher.inspect.census import Held, by_process
from watcher.inspect.openers import writers
from watcher.spool.disk import LOOK
from watcher.spool.layout import Layout
from watcher.spool.spool import Spool


class Fact(NamedTuple):
    """One piece of evidence."""

    about: str
    what: str


def opened(
    spool: Spool, name: bytes, status: os.stat_result, terms: Terms, held: Held
) -> list[Fact]:
    """Tell what an open descriptor can: the writer, the claim, and the contents."""
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
    if not spool.leases:
        return f"unknown: no leases to be trusted here{by}"
    try:
        fd = os.open(name, LOOK, dir_fd=spool.fd)
    except OSError as error:
        return f"unknown: cannot be opened: {error.strerror}{by}"
    try:
        found = lease.writer(fd)
    finally:
        os.close(fd)
    if found is Writer.SOME:
        return "open for writing" + (by or ", by a process or mapping that /proc does not show us")
    word = "none" if found is Writer.NONE else "unknown: no lease to be had"
    return word + by


def holds(directory: int, name: bytes, layout: Layout, limit: int) -> str:
    """Say what is in a file, as far as it can be decoded."""
    try:
        fd = os.open(name, LOOK, dir_fd=directory)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    status = os.fstat(fd)
    part = Part(name, fd, status.st_ino, status.st_size, status.st_ctime_ns)
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
        return f"metadata of {len(contents.read_db(data))} keys"
    count = contents.pickles(data)
    if count == 1:
        return "one pickle: the metadata belongs in a .db beside it"
    if count == 0:
        return "empty: nothing was ever written to it"
    found = contents.read_pck(data)
    return f"message of {len(found.message)} bytes and metadata of {len(found.metadata)} keys"


def ages(name: bytes, status: os.stat_result, terms: Terms) -> list[Fact]:
    """Say how old a file is, by which clock, and when it comes of age."""
    age = terms.ages.age(name, status.st_ctime_ns)
    left = terms.grace - age
    of_age = "past it" if left <= 0 else f"of age in {show(left)}{moment(left)}"
    changed = time.time() - status.st_mtime
    said = f"{show(changed)} ago" if changed >= 0 else f"{show(-changed)} in the future"
    return [
        Fact("age", f"{show(age)}, {terms.ages.why(status.st_ctime_ns)}"),
        Fact("mtime", f"{said}; does not count: a writer can set it"),
        Fact("grace age", f"{show(terms.grace)}: {of_age}"),
    ]


def moment(seconds: float) -> str:
    """Say when so many seconds will have passed."""
    try:
        return time.strftime(" at %Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    except (OverflowError, OSError, ValueError):
        return ""


def looked_at(status: os.stat_result) -> list[Fact]:
    """Tell what lstat(2) tells."""
    facts = [Fact("type", file_type(status)), Fact("owner", _owner(status))]
    if stat.S_ISREG(status.st_mode):
        count = status.st_nlink
        only = "1" if count == 1 else f"{count}: an entry has one name only"
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
