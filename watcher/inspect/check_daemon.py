"""Check what a daemon of a queue depends on: leases, readable files; and whether one is running.

Guarantees: only directories are opened; nothing is changed. Claims and running processes are read
from /proc.
Fails: OSError if the directory cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.durations import show
from watcher.errors import WatcherError
from watcher.inspect.daemon_user import Viewer, has_cap_lease, user, viewer_of
from watcher.inspect.limits import watching
from watcher.inspect.notes_view import files_of, open_state_dir
from watcher.rules.finding import BAD, OK, WARNING, Check
from watcher.rules.kinds import ENTRY_KINDS
from watcher.rules.names import INFLIGHT, STATE_DIRECTORIES, display, is_note
from watcher.spool.spool import Spool

LONG = 600.0  # seconds that an entry may wait before `check` warns that no daemon runs
_SHOWN = 5  # users
_ALL = os.R_OK | os.W_OK | os.X_OK


class EntryFiles(NamedTuple):
    """The files of the entries in a queue, and which of them the daemon's user may not open."""

    viewer: Viewer
    owners: Counter[int]
    refused: int = 0  # files that this user cannot open
    first: tuple[bytes, os.stat_result] | None = None  # the first of these


def stat_entry_files(spool: Spool) -> EntryFiles:
    """Read the owner and mode of each entry's file, in the queue and in the states' directories."""
    viewer = viewer_of(os.fstat(spool.fd))
    owners: Counter[int] = Counter()
    first, refused = None, 0
    for place, directory in _places(spool):
        for name, status in files_of(directory):
            if place and (name[:1] == b"." or is_note(name, spool.layout)):
                continue
            if not place and spool.layout.kind(name) not in ENTRY_KINDS:
                continue
            if stat.S_ISREG(status.st_mode):
                owners[status.st_uid] += not place
                if not _may_open(viewer, directory, name, status):
                    refused += 1
                    first = first or (place + name, status)
    return EntryFiles(viewer, owners, refused, first)


def _places(spool: Spool) -> Iterator[tuple[bytes, int]]:
    """Yield the queue and the directories of the states, each open until the next one."""
    yield b"", spool.fd
    for state, name in STATE_DIRECTORIES.items():
        with contextlib.suppress(WatcherError):  # reported where these entries are counted
            directory = open_state_dir(spool, state)
            if directory is None:
                continue
            try:
                yield name + b"/", directory
            finally:
                os.close(directory)


def _may_open(viewer: Viewer, directory: int, name: bytes, status: os.stat_result) -> bool:
    """Whether the user may read a file; for this process's user the kernel says so, with ACLs."""
    if viewer.may(status, os.R_OK):
        return True
    itself = viewer.uid == os.geteuid()
    return itself and os.access(name, os.R_OK, dir_fd=directory, effective_ids=True)


def check_files(spool: Spool, seen: EntryFiles) -> Iterator[Check]:
    """Report what the daemon's user may not use."""
    viewer = seen.viewer
    yield from _rights(spool, os.fstat(spool.fd), viewer)
    if seen.first is not None:
        name, status = seen.first
        mode, owner = stat.S_IMODE(status.st_mode), user(status.st_uid)
        yield Check(
            BAD,
            "entries",
            f"{seen.refused} cannot be opened by {viewer.name}, whose daemon serves this queue:"
            f" {display(name)} (of {owner}, mode {mode:04o}): chown or chmod",
            os.EX_NOPERM,
        )


def _rights(spool: Spool, directory: os.stat_result, viewer: Viewer) -> Iterator[Check]:
    """Report, to root, the directories that the queue's owner may not use."""
    if viewer.uid == os.geteuid():
        return  # `try_directory` has tried it
    if not viewer.may(directory, _ALL):
        words = f"{viewer.name} may not read, write and search it: check its owner and mode"
        yield Check(BAD, "permission", words, os.EX_NOPERM)
    state_root = spool.home.stat()
    if state_root is not None and state_root.st_uid != viewer.uid:
        owner = user(state_root.st_uid)
        words = f"{spool.home.label} belongs to {owner}, not to {viewer.name}: chown it"
        yield Check(BAD, "permission", words, os.EX_NOPERM)


def check_leases(spool: Spool, seen: EntryFiles) -> Check:
    """Say for which users' files a lease works, after it worked for this process's own file.

    If daemons run, their capabilities count, which a unit may have given them.
    """
    directory, viewer, owners = os.fstat(spool.fd), seen.viewer, seen.owners
    known = {pid: has_cap_lease(pid) for pid in sorted(at_work(spool))}
    running = {pid: capable for pid, capable in known.items() if capable is not None}
    if running and all(running.values()):
        words = f"works, for other users' files too (process {next(iter(running))} has CAP_LEASE)"
        return Check(OK, "lease", words)
    if viewer.any_lease and not running:
        return Check(OK, "lease", "works, for other users' files too (CAP_LEASE)")
    others = [f"{count} of {user(uid)}" for uid, count in owners.most_common() if uid != viewer.uid]
    may = []
    if directory.st_uid != viewer.uid and directory.st_mode & stat.S_IWUSR:
        may.append(user(directory.st_uid))
    if directory.st_mode & stat.S_IWGRP:
        may.append(f"group {directory.st_gid}")
    if directory.st_mode & stat.S_IWOTH:
        may.append("any user")
    if not others and not may:
        words = f"works for files of {viewer.name}, and no other user may put any here"
        return Check(OK, "lease", words)
    here = f"files here: {', '.join(others[:_SHOWN])}; " if others else ""
    writers = f"{' and '.join(may)} may put files here; " if may else ""
    return Check(
        WARNING,
        "lease",
        f"works for files of {viewer.name} only, without CAP_LEASE ({here}{writers}it was tried"
        " with a file of our own): whether a process still writes to another's file cannot be"
        " asked, and one that was not renamed in is taken at its grace age, also when its upload"
        " only pauses. Under systemd, AmbientCapabilities=CAP_LEASE in the unit gives it",
    )


# -- running daemons ------------------------------------------------------------------------------


def check_daemon(spool: Spool, oldest: float | None, grace: float) -> Check:
    """Say which daemons serve this queue; `oldest`: seconds that the oldest entry has waited."""
    pids = sorted(at_work(spool) | set(watching(os.fstat(spool.fd))))
    if pids:
        shown = ", ".join(map(str, pids[:_SHOWN])) + (", ..." if len(pids) > _SHOWN else "")
        return Check(OK, "daemon", f"at work: process {shown}")
    if oldest is not None and oldest > max(grace, LONG):
        words = f"none is seen at work, and the oldest entry waits for {show(oldest)}: start one"
        return Check(WARNING, "daemon", words)
    return Check(OK, "daemon", "none is seen at work")


def at_work(spool: Spool) -> set[int]:
    """Return the processes that hold the lock of their directory in `inflight/`."""
    try:
        fd = spool.home.open(INFLIGHT)
    except OSError:
        return set()
    held = holders()
    try:
        own = (held.get((status.st_dev, status.st_ino)) for _, status in files_of(fd))
        return {pid for pid in own if pid is not None and pid != os.getpid()}
    finally:
        os.close(fd)
