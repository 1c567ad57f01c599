"""Abort a running attempt: end the handler of one entry, and no other process.

    find      the process that has the entry claimed and in its ledger, and its child that has the
              entry's file open (`operate.handler_process`)
    request   the file that tells the worker the reason (`spool.abort_request`)
    end       TERM to the handler's process group, KILL after the handler's stop time
    settle    the worker does: the attempt failed, and the entry is deferred (or given up)

Guarantees: nothing is signalled but that process group. If no such process is found, nothing is
changed.
Fails: NoSuch, TryAgain (the entry is not in a handler's hands), Unavailable (a Python function in
the process itself), NotPermitted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from watcher.claim.holders import described, holders
from watcher.errors import NotPermitted, TryAgain, Unavailable
from watcher.handle.command import KILL_AFTER
from watcher.inspect.find_entry import EntryLocation, look_up, no_such, resolve, several
from watcher.operate import handler_process
from watcher.operate.in_hand import Holder, holder_of, stem_at
from watcher.rules.lifecycle import State
from watcher.rules.names import INFLIGHT, STATE_DIRECTORIES, display, in_deferred
from watcher.spool import abort_request, state_files
from watcher.spool.abort_request import AbortRequest
from watcher.spool.spool import Spool

LOOK = 1.0  # seconds: a worker that has just claimed the entry starts its command within that
SETTLE = 5.0  # seconds for the worker to settle the entry after its handler's end
_PAUSE = 0.02  # seconds between two looks


class Aborted(NamedTuple):
    """The process that was ended and the last signal to it, and where the entry is now."""

    name: bytes  # the entry's NAME
    process: int
    by: str
    settled: bool  # whether the worker has let go of the entry
    now: EntryLocation | None  # None: it is handled


def abort(spool: Spool, wanted: bytes, request: AbortRequest) -> Aborted:
    """Abort the attempt at the entry called `wanted`."""
    location = _locate(spool, wanted)
    holder, handler = _handler(spool, wanted, location)
    try:
        with _process_dir(spool, holder) as directory:
            numbers = _numbers(holder)
            try:
                abort_request.write(directory, *numbers, request)
            except PermissionError:
                raise _not_permitted(holder) from None
            try:
                by = handler.end(KILL_AFTER)
                settled = _let_go(spool, location, holder)
            finally:
                abort_request.withdraw(directory, *numbers)
    finally:
        handler.close()
    name = stem_at(spool, location)
    (found,) = look_up(spool, [name], (State.READY, *STATE_DIRECTORIES))
    return Aborted(name, handler.pid, by, settled, found[0] if found else None)


def _locate(spool: Spool, wanted: bytes) -> bytes:
    (found,) = resolve(spool, [wanted], (State.READY, *STATE_DIRECTORIES))
    if not found:
        raise no_such(spool, wanted)
    if len(found) > 1 and any(each.begins for each in found):
        raise several(wanted, found)
    locations = {each: _location(each) for each in found}
    held = [
        each
        for each, location in locations.items()
        if location is not None and holder_of(spool, location) is not None
    ]
    if len(held) > 1:
        raise several(wanted, held)
    if not held or (location := locations[held[0]]) is None:
        raise TryAgain(
            f"{display(wanted)}: is {found[0].state.value}, and no process has it in hand: there is"
            " nothing to abort"
        )
    return location


def _location(lying: EntryLocation) -> bytes | None:
    """Return where a worker may claim the entry; None if it may not there."""
    if lying.state is State.DEFERRED:
        return in_deferred(lying.files[0])
    return None if lying.state in STATE_DIRECTORIES else lying.files[0]


def _handler(
    spool: Spool, wanted: bytes, location: bytes
) -> tuple[Holder, handler_process.HandlerProcess]:
    """Return the process that has the entry in hand, and the handler's; raise if there is none."""
    deadline = time.monotonic() + LOOK
    while True:
        holder, status = holder_of(spool, location), spool.stat_at(location)
        if holder is None or status is None:
            raise TryAgain(f"{display(wanted)}: the attempt has ended just now")
        if holder.pid > 0 and not _is_ours(holder.pid):
            raise _not_permitted(holder)
        if holder.slot is not None:
            found = handler_process.find(holder.pid, status.st_dev, status.st_ino)
            if found is not None:
                return holder, found
        if time.monotonic() >= deadline:
            raise _none_found(wanted, holder)
        time.sleep(_PAUSE)


def _none_found(wanted: bytes, holder: Holder) -> TryAgain | Unavailable:
    name, process = display(wanted), described(holder.pid)
    if holder.slot is not None:
        return Unavailable(
            f"{name}: {process} has it in hand, and no child process of it: a Python function in"
            " the process itself cannot be ended: set isolate = true for the next time; now stop"
            f" the process: TERM waits for the function, a second TERM does not (kill {holder.pid})"
        )
    return TryAgain(f"{name}: claimed by {process}, which hands it to no handler; try again")


def _is_ours(pid: int) -> bool:
    try:
        return os.geteuid() in (0, os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return True


def _not_permitted(holder: Holder) -> NotPermitted:
    return NotPermitted(
        f"{described(holder.pid)} has it in hand, and this user may not end its handler: run this"
        " as that user or as root"
    )


def _numbers(holder: Holder) -> tuple[int, int]:
    return (0, 0) if holder.slot is None else (holder.slot.inode, holder.slot.ctime_ns)


@contextmanager
def _process_dir(spool: Spool, holder: Holder) -> Iterator[int]:
    """Open the process directory of the holder, and check that the holder has its lock."""
    inflight = spool.home.open(INFLIGHT)
    try:
        directory = state_files.open_directory(holder.process_dir or b"", inflight)
    except PermissionError:
        raise _not_permitted(holder) from None
    finally:
        os.close(inflight)
    try:
        status = os.fstat(directory)
        if holders().get((status.st_dev, status.st_ino)) != holder.pid:
            raise TryAgain(f"{described(holder.pid)}: has just ended; its entry is handled again")
        yield directory
    finally:
        os.close(directory)


def _let_go(spool: Spool, location: bytes, holder: Holder) -> bool:
    """Wait until the worker has settled the entry; return whether it has."""
    deadline = time.monotonic() + SETTLE
    while time.monotonic() < deadline:
        now = holder_of(spool, location)
        if now is None or now.pid != holder.pid:
            return True
        time.sleep(_PAUSE)
    return False
