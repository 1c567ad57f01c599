"""Which process has an entry in hand, since when, and which slot of its ledger says so.

Guarantees: nothing is locked, opened for writing or changed.
Fails: never; what /proc and the files in `inflight/` do not show is None.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from watcher.claim.holders import described, holders
from watcher.durations import show
from watcher.errors import WatcherError
from watcher.rules.lifecycle import State
from watcher.rules.names import DEFERRED, INFLIGHT, Location, display
from watcher.rules.stamp import parse
from watcher.spool import daemon_status, ledger
from watcher.spool.dirs import names_in, open_dir
from watcher.spool.spool import Spool


class Holder(NamedTuple):
    """The process that has an entry claimed."""

    pid: int  # 0 or less: not visible here
    process_dir: bytes | None = None  # its name in `inflight/`; None: it has no ledger of the entry
    slot: ledger.InHand | None = None
    since: float | None = None  # seconds since the epoch, if its status says so


def holder_of(spool: Spool, location: bytes) -> Holder | None:
    """Return the process that has the entry at a location claimed; None if none has."""
    try:
        status = spool.stat_at(location)
    except (OSError, WatcherError):
        return None
    pid = None if status is None else holders().get((status.st_dev, status.st_ino))
    if status is None or pid is None:
        return None
    found = Holder(pid)
    with contextlib.suppress(OSError, WatcherError):
        fd = spool.home.open(INFLIGHT)
        try:
            found = _with_slot(spool, location, status.st_ino, found, fd)
        finally:
            os.close(fd)
    return found


def _with_slot(spool: Spool, location: bytes, inode: int, found: Holder, inflight: int) -> Holder:
    state, name = Location.parse(location)
    place = DEFERRED if state is State.DEFERRED else ledger.QUEUE
    for process_dir in names_in(inflight):
        if not process_dir.startswith(b"%d." % found.pid):
            continue
        with contextlib.suppress(OSError):
            fd = open_dir(process_dir, inflight)
            try:
                slots = ledger.read(fd)
            finally:
                os.close(fd)
            for slot in slots:
                if (slot.inode, slot.place, slot.name) == (inode, place, name):
                    found = found._replace(process_dir=process_dir, slot=slot)
                    return _with_status(
                        spool, process_dir, display(stem_at(spool, location)), found
                    )
    return found


def stem_at(spool: Spool, location: bytes) -> bytes:
    """Return the NAME of the entry at a location."""
    state, name = Location.parse(location)
    found = parse(name) if state is State.DEFERRED else None
    layout = spool.layout
    return layout.stem(name) if found is None else layout.in_state_dir().stem(found[1])


def _with_status(spool: Spool, process_dir: bytes, entry: str, found: Holder) -> Holder:
    with contextlib.suppress(OSError, WatcherError):
        for name, alive, status in daemon_status.read_all(spool):
            if os.fsencode(name) != process_dir or not alive:
                continue
            for each in status.in_hand:
                if each.entry == entry:
                    return found._replace(since=each.since)
    return found


def in_hand_words(spool: Spool, location: bytes) -> str:
    """Return which process has an entry in hand, and for how long; "" if none has."""
    found = holder_of(spool, location)
    if found is None:
        return ""
    since = "" if found.since is None else f", for {show(max(0.0, time.time() - found.since))}"
    ends = "" if found.slot is None else "; `watcher abort` ends the attempt"
    return f"claimed by {described(found.pid)}{since}{ends}"
