"""Why is this file ready, or not? Each piece of evidence, and the verdict on them.

Guarantees: the verdict is that of `evidence.rule`, on the same evidence as a sweep's; nothing is
locked, moved or written. For any file, in or out of a queue.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import NamedTuple

from watcher import contents
from watcher.claim import lease
from watcher.claim.holders import holders
from watcher.claim.take import Refused, Terms, take
from watcher.durations import show
from watcher.entry import read_part
from watcher.errors import NoSuch, Undecodable
from watcher.evidence import Action, How
from watcher.inspect.census import read_note
from watcher.spool import mounts
from watcher.spool.disk import DIRECTORY, LOOK
from watcher.spool.layout import OURS, Kind, Layout, display
from watcher.spool.spool import Spool

_KINDS = {
    Kind.ENTRY: "an entry",
    Kind.MESSAGE_HALF: "the message half of a legacy pair",
    Kind.METADATA_HALF: "the metadata half of a legacy pair",
    Kind.TEMPORARY: "being written: never touched; rename it to its final name to commit it",
    Kind.LEFTOVER: "a Mailman runner's backup (.bak) or preserved file (.psv): never touched;"
    " once no Mailman runner serves this directory, rename it to NAME.pck to have it handled",
    Kind.FOREIGN: "no entry's name: never touched",
}


class Fact(NamedTuple):
    """One piece of evidence."""

    about: str
    what: str


class Explanation(NamedTuple):
    """The verdict on a file, and the evidence."""

    verdict: str
    facts: list[Fact]


def explain(path: bytes, layout: Layout, terms: Terms) -> Explanation:
    """Explain one file; raise NoSuch when there is none of this name."""
    path = os.path.abspath(path)
    try:
        status = os.lstat(path)
    except OSError as error:
        raise NoSuch(f"{display(path)}: {error.strerror}") from None
    directory, name = os.path.split(path)
    facts = [Fact("type", _type(status)), Fact("owner", _owner(status))]
    if OURS in directory.split(b"/"):
        return Explanation(*_put_away(directory, name, layout, facts))
    spool = Spool(directory or b"/", layout)
    kind = layout.kind(name)
    facts += [
        Fact("name", _KINDS[kind]),
        Fact("queue", display(directory)),
        Fact("file system", spool.filesystem or "unknown"),
        Fact("inotify", "blind here" if spool.filesystem in mounts.EVENTS_BLIND else "sees"),
        Fact("leases", "to be had" if spool.leases else "not to be trusted here"),
    ]
    facts += _ages(name, status, terms)
    if not stat.S_ISREG(status.st_mode) or kind not in (
        Kind.ENTRY,
        Kind.MESSAGE_HALF,
        Kind.METADATA_HALF,
    ):
        return Explanation("left alone: not an entry", facts)
    facts += _open_file(spool, name, status, layout)
    verdict = _verdict(spool, name, kind, terms)
    return Explanation(verdict, facts)


def _verdict(spool: Spool, name: bytes, kind: Kind, terms: Terms) -> str:
    """Rule as a sweep would, now."""
    if kind is Kind.METADATA_HALF:
        for message in spool.layout.message_halves(name):
            if spool.stat(message) is not None:
                name = message
                break
    held = holders()
    claim = take(spool, name, How.SWEEP, terms._replace(lock=False))
    if isinstance(claim, Refused):
        wait = f", of age in {show(claim.wait)}" if claim.wait else ""
        seen = "; a daemon that sees its rename takes it at once"
        return f"left: {claim.why}{wait}{seen if kind is Kind.ENTRY and wait else ''}"
    try:
        for part in claim.parts:
            if pid := held.get((spool.identity[0], part.ino)):
                return f"claimed by process {pid}"
        if claim.action is Action.ORPHAN:
            return f"to orphans/: {claim.why}"
        return f"ready: {claim.why}"
    finally:
        claim.release()


def _open_file(spool: Spool, name: bytes, status: os.stat_result, layout: Layout) -> list[Fact]:
    """Tell what an open descriptor can: the writer, and the contents."""
    try:
        fd = os.open(name, LOOK, dir_fd=spool.fd)
    except OSError as error:
        return [Fact("contents", f"cannot be opened: {error.strerror}")]
    facts = []
    try:
        writer = lease.writer(fd).value if spool.leases else "unknown (no leases here)"
        facts.append(Fact("writer", f"{writer}{_writers(status)}"))
        pid = holders().get((status.st_dev, status.st_ino))
        facts.append(Fact("claimed", f"by process {pid}" if pid else "no"))
        facts.append(Fact("contents", _contents(fd, name, status, layout)))
    finally:
        os.close(fd)
    if layout.legacy:
        facts += _partners(spool, name, layout)
    return facts


def _partners(spool: Spool, name: bytes, layout: Layout) -> list[Fact]:
    others = layout.message_halves(name) if name.endswith(b".db") else (layout.metadata_half(name),)
    found = [display(other) for other in others if spool.stat(other) is not None]
    return [Fact("other half", ", ".join(found) or "not there")]


def _contents(fd: int, name: bytes, status: os.stat_result, layout: Layout) -> str:
    from watcher.entry import Part

    if layout.raw or name.endswith(b".msg"):
        return f"{status.st_size} bytes, taken as they are"
    part = Part(name, fd, status.st_ino, status.st_size, status.st_ctime_ns)
    try:
        data = read_part(part, contents.MAX_SIZE)
        if name.endswith(b".db"):
            return f"{status.st_size} bytes, metadata of {len(contents.read_db(data))} keys"
        count = contents.pickles(data)
    except Undecodable as error:
        return f"{status.st_size} bytes, {error}"
    words = {0: "empty", 1: "one pickle: the metadata belongs in a .db beside it"}
    return f"{status.st_size} bytes, {words.get(count, 'message and metadata')}"


def _ages(name: bytes, status: os.stat_result, terms: Terms) -> list[Fact]:
    age = terms.ages.age(name, status.st_ctime_ns)
    left = terms.grace - age
    of_age = "past it" if left <= 0 else f"of age in {show(left)}"
    return [
        Fact("age", f"{show(age)}, {terms.ages.why(status.st_ctime_ns)} (mtime does not count)"),
        Fact("grace age", f"{show(terms.grace)}: {of_age}"),
    ]


def _put_away(
    directory: bytes, name: bytes, layout: Layout, facts: list[Fact]
) -> tuple[str, list[Fact]]:
    state = display(os.path.basename(directory))
    fd = os.open(directory, DIRECTORY)
    try:
        stem = layout.stem(name).removesuffix(b".msg").removesuffix(b".db")
        note = read_note(fd, stem)
    finally:
        os.close(fd)
    facts += [Fact(str(key), " ".join(str(value).split())) for key, value in note.items()]
    return f"put away in {state}/: {note.get('why', 'no note beside it says why')}", facts


def _type(status: os.stat_result) -> str:
    names = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link, never followed",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    links = f", {status.st_nlink} links" if stat.S_ISREG(status.st_mode) else ""
    return names.get(stat.S_IFMT(status.st_mode), "a device") + links


def _owner(status: os.stat_result) -> str:
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    return f"{user}, mode {stat.S_IMODE(status.st_mode):04o}"


def _writers(status: os.stat_result) -> str:
    """Say which processes have the file open for writing, as far as /proc tells us."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")) if os.path.isdir("/proc") else ():
        try:
            if any(_writes(pid, fd, status) for fd in os.listdir(f"/proc/{pid}/fd")):
                found.append(pid)
        except OSError:
            continue
    return f", by process {', '.join(found)}" if found else ""


def _writes(pid: str, fd: str, status: os.stat_result) -> bool:
    try:
        there = os.stat(f"/proc/{pid}/fd/{fd}")
        if (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino):
            return False
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii", errors="replace") as info:
            flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags"))
    except (OSError, StopIteration, ValueError):
        return False
    return flags & os.O_ACCMODE != os.O_RDONLY
