"""One attempt at one entry, now and in this process, on an operator's word (`watcher attempt`).

The entry is ready, or deferred and due at any time. Its age does not count, but a writer that has
it open does. The pause of a queue and the doubt about its handler do not count either.
Guarantees: the claim, the ledger, the journal and what follows from the result are those of the
daemon (`watcher.attempt`), so this is safe beside any number of daemons. The handler's standard
error is copied to this process's as it comes; its end is in the note as well.
Fails: `locate` raises NoSuch or Usage for a name without such an entry; `make_attempt` never raises
for an entry.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from watcher import mailman
from watcher.attempt import Attempt
from watcher.config.queue_settings import Queue
from watcher.errors import NotPermitted, Undecodable, Usage
from watcher.handle.entry import Entry
from watcher.handle.handler import Handler
from watcher.inspect.find_entry import no_such, resolve, several
from watcher.recovery import recover
from watcher.rules.age import SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State, Transition
from watcher.rules.names import STATE_DIRECTORIES, display, in_deferred
from watcher.rules.results import AttemptResult, HandlerResult
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool import inode_numbers
from watcher.spool.claimed import ClaimOptions
from watcher.spool.spool import Spool

PATIENCE = 3.0  # seconds: how long it waits in all for a disk that refuses
_BACK = {State.HELD: "release", State.DEAD: "requeue", State.ORPHAN: "requeue"}


def finisher(
    settings: Queue, terms: ClaimOptions, listen: Callable[[Transition], None]
) -> Finisher:
    """Return what ends the attempt as the queue's daemon would."""
    if not settings.legacy:  # of a pair, the age says whether the other half still comes
        terms = terms._replace(grace=0.0)
    deadline = time.monotonic() + PATIENCE

    def pause(seconds: float) -> bool:
        time.sleep(seconds)
        return time.monotonic() < deadline

    patience = DiskRetry(pause, lambda _text: None)
    return Finisher(settings.name, terms, settings.retry, SystemClock(), listen, patience)


def locate(spool: Spool, settlement: Finisher, wanted: bytes) -> bytes:
    """Return where the entry is, as `Location` formats it, after what dead processes left."""
    if not spool.writable():
        raise NotPermitted(
            f"{display(spool.path)}: not writable by this user, so the entry could not be removed"
            " when done; check its owner and mode"
        )
    inode_numbers.check(spool)
    spool.check_archives()
    recover(spool, settlement)
    (found,) = resolve(spool, [wanted], (State.READY, *STATE_DIRECTORIES))
    if not found:
        raise no_such(spool, wanted)
    right = [each for each in found if each.state not in _BACK]
    begins = any(each.begins for each in found)
    if len(right) > 1 or (begins and len(found) > 1):
        raise several(wanted, found if begins else right)
    if not right:
        state, name = found[0].state, display(wanted)
        where = display(spool.path)
        cure = f"`watcher {_BACK[state]} {where} {name}` first"
        raise Usage(f"{name}: is {state.value}: {cure}")
    file = right[0].files[0]
    return in_deferred(file) if right[0].state is State.DEFERRED else file


def make_attempt(
    spool: Spool, location: bytes, settlement: Finisher, handler: Handler
) -> AttemptResult:
    """Make the attempt; the journal has its lines when this returns."""
    try:
        return Attempt(handler, settlement)(spool, location, Proof.NO_WRITER)
    finally:
        spool.ledger.leave()
        spool.journal.flush()


class Shown:
    """A handler whose output an operator sees as it comes; `show` is called with each variable."""

    def __init__(self, handler: Handler, show: Callable[[str], None] | None) -> None:
        self._handler = handler
        self._show = show
        if hasattr(handler, "copy_stderr_to"):
            handler.copy_stderr_to = 2

    def run(self, entry: Entry) -> HandlerResult:
        """Show what the handler is given, and have it run."""
        if self._show is not None:
            for line in variables(entry):
                self._show(line)
        return self._handler.run(entry)

    def terminate(self) -> None:
        """End what is running."""
        self._handler.terminate()


def variables(entry: Entry) -> Iterator[str]:
    """Yield what a command is given in its environment, without the numbers of descriptors."""
    yield f"WATCHER_QUEUE={entry.queue}"
    yield f"WATCHER_ENTRY={os.fsdecode(entry.name)}"
    yield f"WATCHER_ATTEMPT={entry.attempt}"
    yield f"WATCHER_PATH={os.fsdecode(entry.path)}"
    with contextlib.suppress(OSError, Undecodable):  # the attempt itself says what is wrong
        yield f"WATCHER_KEY={entry.key}"
        yield f"WATCHER_METADATA={mailman.to_json(entry.metadata)}"
