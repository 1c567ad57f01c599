"""Check a queue directory: file system, permissions, space, what it supports, and its files.

Guarantees: as probe.py; memory for one batch of a scan's names, however large the directory is.
Fails: OSError if the directory cannot be read to its end.
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
from watcher.inspect.check_daemon import check_daemon, check_files, check_leases, stat_entry_files
from watcher.inspect.mirrors import check_mirrors
from watcher.inspect.neighbours import another_programs, mailman_queues, mailman_runners, tree
from watcher.inspect.notes_view import entries_in, open_state_dir
from watcher.inspect.probe import try_directory
from watcher.rules.finding import BAD, OK, WARNING, Check
from watcher.rules.kinds import ENTRY_KINDS, KIND_INFO, Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout, display
from watcher.spool import mounts, paused, queue_file, removable
from watcher.spool.archive import Archive
from watcher.spool.dirs import names_in
from watcher.spool.journal_home import JournalUnreachable
from watcher.spool.marker_files import waits_for
from watcher.spool.spool import Spool

LITTLE = 0.05  # of a disk
SHOWN = 5  # names of each kind
_SCRATCH = re.compile(rb"\.([0-9]{1,9})\.[0-9a-f]+\.tmp")  # as `Disk.write_note` calls it
_NOTES = "their processes died while writing them. No process reads them: you may remove them"
_STICKY = (
    "sticky, and another user's: other users' files cannot be removed by us, so they are not"
    " handled: chmod -t it, or have its owner run the daemon"
)
_ODD = "never handled: only a regular file with one name is an entry; move them away, or see why"


def check_directory(spool: Spool, grace: float) -> Iterator[Check]:
    """Inspect a queue directory, try what it supports, and yield the findings."""
    blind = spool.filesystem in mounts.EVENTS_BLIND
    name = spool.filesystem or "unknown"
    yield Check(
        WARNING if blind else OK,
        "file system",
        f"{name}: changes made elsewhere raise no events; it is polled" if blind else name,
    )
    yield from _paused(spool)
    yield from _permissions(spool)
    yield from _space(spool)
    yield from check_mirrors(spool)
    for archive in spool.archives:
        yield from _archive(spool, archive)
    yield from _journal(spool)
    program = another_programs(spool)
    if program:
        words = f"this is {program}'s own queue: do not serve it: a claim locks its files, and"
        yield Check(BAD, "another program's", f"{words} a handled file is removed")
        return  # nothing may be created or tried in another program's queue
    seen = stat_entry_files(spool)
    for check in try_directory(spool):
        works = check.about == "lease" and check.grade == OK
        yield check_leases(spool, seen) if works else check
    yield from check_files(spool, seen)
    yield from _entries(spool, grace)
    yield from _put_away(spool)
    yield from _scratch(spool, grace)


def _journal(spool: Spool) -> Iterator[Check]:
    """Say whether a journal outside `.watcher` can be written; its directory is not made."""
    outside = spool.journal_home.outside
    if outside is None or not spool.journal.enabled:
        return
    shown = display(outside.path)
    recorded = ""
    with contextlib.suppress(OSError, WatcherError):
        record = queue_file.read(spool.path, spool.home.outside)
        recorded = "" if record is None else record.journal_dir
    try:
        spool.journal_home.files(spool.fd)
    except JournalUnreachable as error:
        new = not os.path.lexists(outside.path) and os.fsencode(recorded) != outside.path
        if new and os.path.isdir(outside.base):
            yield Check(OK, "journal", f"{shown}: made by the daemon when it starts")
        else:
            yield Check(BAD, "journal", str(error), os.EX_UNAVAILABLE)
    else:
        yield Check(OK, "journal", f"{shown}: the journal lies there")


def _paused(spool: Spool) -> Iterator[Check]:
    with contextlib.suppress(OSError):  # what cannot be looked at is reported as a permission
        if (found := paused.read(spool)) is not None:
            words = f"{str(found).removeprefix('paused ')}; no attempt begins: `watcher resume`"
            yield Check(WARNING, "paused", words)


def _permissions(spool: Spool) -> Iterator[Check]:
    modes = ((os.R_OK, "read"), (os.W_OK, "write"), (os.X_OK, "search"))
    refused = [what for mode, what in modes if not os.access(spool.path, mode)]
    if refused:
        words = f"we may not {' or '.join(refused)} it: check its owner and mode"
        yield Check(BAD, "permission", words, os.EX_NOPERM)
    if not spool.writable() and not refused:
        words = f"it is {removable.pinned(spool.fd)}: no entry could be removed; see chattr(1)"
        yield Check(BAD, "permission", words, os.EX_NOPERM)
    if spool.sticky:
        yield Check(WARNING, "permission", _STICKY)
    elif os.fstat(spool.fd).st_mode & 0o002:
        yield Check(
            WARNING, "permission", "any user may write here: chmod o-w unless that is intended"
        )
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


def _archive(spool: Spool, archive: Archive) -> Iterator[Check]:
    """Say whether handled entries can be moved to the archive; it is not made."""
    own, keep_for = archive.options.own_name, archive.options.keep_for
    about = "handler" if archive.options.crossing else "archive"  # crossing: of a `move` handler
    if own is not None and spool.stat(own) is None:
        yield Check(OK, "archive", f"{archive.where()}: made by the daemon when it starts")
        return
    try:
        archive.check(spool)
    except WatcherError as error:
        yield Check(BAD, about, str(error), error.exit_code)
        return
    if archive.options.crossing:
        yield Check(OK, about, _way(spool, archive))
        return
    kept = "without limit" if keep_for is None else f"for {show(keep_for)}"
    yield Check(
        OK, "archive", f"{archive.where()}: handled entries are moved there, and kept {kept}"
    )


def _way(spool: Spool, archive: Archive) -> str:
    """Return how entries get to the target of a `move` handler."""
    target = archive.open(spool)
    try:
        one = mounts.are_one(target, spool.fd)
    finally:
        os.close(target)
    way = "moved there by a rename" if one else "copied there: it is on another file system"
    return f"{archive.where()}: entries are {way}"


def size(count: float) -> str:
    """Show a number of bytes in the largest unit that leaves it above one."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - the step between units
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.0f} TiB"


def _patterns(layout: Layout) -> Iterator[Check]:
    """Say which names are entries, and which are ignored."""
    if layout.raw:
        ending = f"*{display(layout.suffix)}"
        yield Check(OK, "match", ending if layout.match is None else str(layout.match))
        yield Check(OK, "ignore", str(layout.ignore or "nothing but .* and *.tmp"))
    for about, templates in (("marker", (layout.marker,)), ("companions", layout.companions)):
        if any(templates):
            yield Check(OK, about, " ".join(map(display, templates)))


def _entries(spool: Spool, grace: float) -> Iterator[Check]:
    yield from _patterns(spool.layout)
    waiting: list[Bystander] = []
    batch = scan(spool, skip=lambda name: _waits(spool, name, waiting), limit=1)
    if waiting:
        old, shown = _oldest(waiting), ", ".join(display(item.name) for item in waiting[:SHOWN])
        words = f"{_number(waiting, len(waiting))}: {shown}{_more(waiting)}: {waiting[0].why}"
        yield Check(OK if old < grace else WARNING, "not complete", words)
    oldest = f", the oldest for {show(_age(batch.entries[0].ctime_ns))}" if batch.entries else ""
    yield Check(OK, "entries", f"{batch.total}{oldest}")
    waits = _age(batch.entries[0].ctime_ns) if batch.entries else None
    yield check_daemon(spool, waits, grace)
    if words := tree(spool):
        yield Check(WARNING, "Mailman's tree", words)
        queues = set(mailman_queues(spool))
        batch.bystanders = [item for item in batch.bystanders if item.name not in queues]
        batch.counts[Kind.FOREIGN] = batch.counts.get(Kind.FOREIGN, 0) - len(queues)
    odd = [item for item in batch.bystanders if spool.layout.kind(item.name) in ENTRY_KINDS]
    if odd:
        shown = ", ".join(f"{display(item.name)} ({item.why})" for item in odd[:SHOWN])
        yield Check(WARNING, "odd", f"{_number(odd, len(odd))}: {shown}{_more(odd)}. {_ODD}")
    for kind, info in KIND_INFO.items():
        of_kind = [item for item in batch.bystanders if item.kind is kind and item not in odd]
        if not of_kind:
            continue
        total = batch.counts[kind] - (len(odd) if kind is Kind.FOREIGN else 0)
        if info.by_ending:
            yield from _by_ending(kind, of_kind, total)
        else:
            shown = ", ".join(display(item.name) for item in of_kind[:SHOWN])
            words = f"{_number(of_kind, total)}: {shown}{_more(of_kind)}"
            young = info.normal_when_young and _oldest(of_kind) < grace
            remedy = "" if young else f". {info.remedy}"
            fine = young or info.normal
            yield Check(OK if fine else WARNING, kind.value, words + remedy)
        if kind is Kind.LEFTOVER:
            yield from _mailman_runner(of_kind, grace)


def _waits(spool: Spool, name: bytes, waiting: list[Bystander]) -> bool:
    """Whether an entry waits for its marker, or for a companion to go; then note it."""
    layout = spool.layout
    if not (layout.marker or layout.companions) or layout.kind(name) is not Kind.ENTRY:
        return False
    why, status = waits_for(layout, spool.fd, name), spool.stat(name)
    if not why or status is None or not layout.may_be_entry(status):
        return False
    waiting.append(Bystander(name, Kind.ENTRY, why, status.st_ctime_ns))
    return True


def _by_ending(kind: Kind, items: list[Bystander], total: int) -> Iterator[Check]:
    """Report the files of each ending apart, each with what an operator can do about them."""
    for advice in KIND_INFO[kind].advice:
        some = [item for item in items if item.name.endswith(advice.endings)]
        if some:
            count = len(some) if total == len(items) else f"{len(some)} of {total}"
            shown = ", ".join(display(item.name) for item in some[:SHOWN]) + _more(some)
            words = f"{count}, the oldest for {show(_oldest(some))}: {shown}: {advice.text}"
            yield Check(WARNING, kind.value, words)


def _mailman_runner(leftovers: list[Bystander], grace: float) -> Iterator[Check]:
    """Warn of a Mailman runner that seems to be at work in this directory."""
    young = [each for each in leftovers if each.name.endswith(b".bak")]
    young = [each for each in young if _age(each.ctime_ns) < grace]
    runners = sorted(mailman_runners())
    if young or runners:
        by = f" (process {', '.join(runners)})" if runners else ""
        backup = f", which keeps a backup of what it has in hand: {display(young[0].name)}"
        words = f"a Mailman runner seems to be at work here{by}{backup if young else ''}"
        yield Check(WARNING, "a runner", f"{words}: one of the two must stop, or entries are lost")


def _number(items: list[Bystander], total: int) -> str:
    return f"{total}, the oldest for {show(_oldest(items))}"


def _more(items: Sized) -> str:
    return ", ..." if len(items) > SHOWN else ""


def _oldest(items: list[Bystander]) -> float:
    return max(_age(item.ctime_ns) for item in items)


def _age(ctime_ns: int) -> float:
    return max(0.0, time.time() - ctime_ns / 1e9)


def _scratch(spool: Spool, grace: float) -> Iterator[Check]:
    """Report the temporary files of notes whose writers died. No process reads them."""
    for state, place in STATE_DIRECTORIES.items():
        with contextlib.suppress(WatcherError):  # reported where the entries are counted
            directory = open_state_dir(spool, state)
            if directory is None:
                continue
            try:
                left = [name for name in names_in(directory) if _is_left(name, directory, grace)]
            finally:
                os.close(directory)
            if left:
                shown = ", ".join(map(display, left[:SHOWN])) + _more(left)
                words = f"{len(left)} in {spool.home.label}{place.decode()}/: {shown}"
                yield Check(WARNING, "unfinished notes", f"{words}. {_NOTES}")


def _is_left(name: bytes, directory: int, grace: float) -> bool:
    """Whether a file is the temporary file of a note whose process died, by its name and age."""
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
            directory = open_state_dir(spool, state)
        except WatcherError as error:
            yield Check(BAD, state.value, str(error), error.exit_code)
            return  # the other states' directories fail in the same way
        if directory is None:
            continue
        try:
            count = sum(1 for _ in entries_in(directory, spool.layout, state))
        finally:
            os.close(directory)
        if count and state in (State.DEAD, State.ORPHAN):
            words = f"{count}: watcher list --state {state.value} says why"
            yield Check(WARNING, state.value, words)
        elif count:
            yield Check(OK, state.value, str(count))
