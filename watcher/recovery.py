"""Recover what dead processes left: files that were being removed, entries that were in hand.

A done file that was aside when its process died goes back into the queue. If the queue now has a
newer file of that name (a replacement), the recovered file goes to `deferred/`, due at once, with
no attempt counted. It keeps its name, because the idempotency key is made from it.

Guarantees: each death is counted once, by the rename that records the count. An entry whose handler
still runs (it inherited the claim) is left for later. Any number of processes may recover at the
same time.
Fails: OSError or WatcherError if `inflight/` cannot be read. What cannot be settled now is left for
the next recovery.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from watcher import mailman
from watcher.claim.claim import add_part
from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.errors import WatcherError
from watcher.rules.evidence import Action, Finish, Proof, Shape, Writer, rule
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import DEFERRED, INFLIGHT, display, in_deferred
from watcher.rules.results import HandlerResult, NotClaimed, Reason, Verdict
from watcher.rules.stamp import Schedule
from watcher.settle import moves
from watcher.settle.finish import FinishedAttempt, Finisher
from watcher.settle.put_back import mark_as_written, put_all_back
from watcher.settle.refused import DiskRetry, describe_error
from watcher.settle.remove_marker import covers, forget_marker, put_back_markers
from watcher.spool import last_words, ledger, process_dir, state_files
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.dirs import exists, inode_of, stat_or_none
from watcher.spool.journal_spill import SPILL, append_spill
from watcher.spool.namesakes import namesakes
from watcher.spool.part import read_part
from watcher.spool.spool import Spool

_WHY = "its process died before it was removed; the queue has a newer file of its name"
_WHY_MARKED = "its process died before it was removed; its marker is gone, and not needed here"


class Recovered(NamedTuple):
    """How many files were put back, how many entries were in hand, and what went wrong."""

    files: int = 0
    entries: int = 0
    trouble: str = ""
    uncounted: frozenset[bytes] = frozenset()  # entries of which a death cannot be counted yet


class Deaths:
    """The deaths that one queue's daemon has not counted yet, because a handler still runs.

    The entry of a dead process may stay claimed by the command that the process started. A worker
    that finds such an entry free counts the death first: else an entry that kills its process each
    time would be tried without end.
    """

    def __init__(self) -> None:
        self.uncounted: frozenset[bytes] = frozenset()  # replaced whole: readers need no lock
        self._lock = threading.Lock()  # one recovery at a time: a second would find nothing

    def count(self, spool: Spool, settlement: Finisher) -> Recovered:
        """Do as `recover`, and remember what could not be counted.

        A disk that refuses is not waited for: other entries, or the whole queue, would wait too.
        """
        troubles: list[str | None] = []
        at_once = DiskRetry(lambda _seconds: False, troubles.append)
        with self._lock:
            found = recover(spool, settlement.with_patience(at_once))
            self.uncounted = found.uncounted
        refused = next(filter(None, troubles), "")  # a deferral raises nothing
        return found._replace(trouble=found.trouble or refused)


def recover(spool: Spool, settlement: Finisher) -> Recovered:
    """Settle what dead processes left; return what it was."""
    files = entries = 0
    trouble = ""
    uncounted: set[bytes] = set()
    for left in process_dir.dead(spool):
        try:
            trouble = _odd(left) or trouble
            slots, death = ledger.read(left.fd), _death(left)
            defer = functools.partial(_defer_replaced, spool, settlement, left.fd, slots)
            with _marked_as_written(spool, left.fd, slots):
                files += put_all_back(spool, left.fd, defer)
            counted = [_count(spool, settlement, slot, death) for slot in slots]
            entries += counted.count(True)
            append_spill(left.fd, spool.journal_files())
            uncounted.update(
                _called(slot) for slot, known in zip(slots, counted, strict=True) if known is None
            )
            if None not in counted:
                put_back_markers(spool, left.fd)
                _sync_targets(spool)
                process_dir.clear(left)
        except FileNotFoundError:
            pass  # another process has settled it
        except (OSError, WatcherError) as error:
            trouble = f"what a process left that died: {describe_error(error)}"
    return Recovered(files, entries, trouble, frozenset(uncounted))


@contextlib.contextmanager
def _marked_as_written(
    spool: Spool, directory: int, slots: Sequence[ledger.InHand]
) -> Iterator[None]:
    """Mark what is aside and was written to while it was in hand, as its process would have done.

    Before it goes back, because a worker may take it at once, and after, because that sets ctime.
    """
    opened = []
    try:
        for slot in slots if not spool.layout.marker else ():
            there = stat_or_none(slot.name, directory) if slot.place == ledger.QUEUE else None
            if there and there.st_ino == slot.inode and there.st_mtime_ns > slot.ctime_ns:
                opened.append(spool.disk.open(slot.name, directory))
        for fd in opened:
            mark_as_written(fd)
        yield
        for fd in opened:
            mark_as_written(fd)
    finally:
        for fd in opened:
            os.close(fd)


def _called(slot: ledger.InHand) -> bytes:
    """Return the name by which a worker knows what was in hand."""
    return in_deferred(slot.name) if slot.place == DEFERRED else slot.name


def _odd(left: process_dir.Left) -> str:
    """Return which file of a process directory is not to be trusted, and is not read; else ""."""
    names = {process_dir.LEDGER: 1, SPILL: 1, last_words.FAULT: None}
    found = [state_files.odd(name, left.fd, names=most) for name, most in names.items()]
    odd = next(filter(None, found), "")
    return f"inflight/{display(left.name)}/{odd}: not read" if odd else ""


def _defer_replaced(
    spool: Spool,
    settlement: Finisher,
    directory: int,
    slots: Sequence[ledger.InHand],
    name: bytes,
) -> bool:
    """Move a file that was aside to `deferred/`, due now; return False if it is to go back.

    Then `put_back` links it into the queue, under the next free number if its name is taken.
    Raises OSError or WatcherError in a queue with markers: there a complete file must not go back,
    because it would wait for a marker.
    """
    why = _WHY_MARKED if spool.layout.marker else _WHY
    terms = settlement.terms._replace(lock=False)  # a child of its handler may hold the lock
    stem = spool.layout.stem(name)
    claim = Claim(spool, INFLIGHT + b"/" + name, stem, terms, asks=True)
    now_ms = settlement.clock.real() // 1_000_000
    facts = {"queue": settlement.queue, "next_attempt_ms": now_ms}
    try:
        if add_part(claim, name, directory, name) is not None or not _is_complete(claim, slots):
            return False
        settlement.record(claim, State.CLAIMED, Move.DEFER, why)
        due = Schedule(now_ms, identity=claim.identity())
        moves.defer(spool, claim.parts, due, why, facts)
        settlement.emit(claim, State.CLAIMED, Move.DEFER, why)
    except (OSError, WatcherError):
        if spool.layout.marker and exists(name, directory):
            raise
        return not exists(name, directory)
    finally:
        claim.release()
    return True


def _sync_targets(spool: Spool) -> None:
    """Sync `deferred/` and the archive before a dead process's directory is removed.

    Another recovery may have moved a file to `deferred/`, or the dead process a done file to the
    archive, and died before its sync.
    """
    for archive in spool.archives:
        with contextlib.suppress(WatcherError):  # it cannot be used: reported elsewhere
            archive.sync(spool)
    deferred = None
    with contextlib.suppress(WatcherError):  # then nothing can have been moved there
        deferred = spool.state_dir(State.DEFERRED)
    if deferred is not None:
        spool.disk.sync(deferred)


def _is_complete(claim: Claim, slots: Sequence[ledger.InHand]) -> bool:
    """Whether an entry is complete, and so may be deferred: no evidence is asked for there.

    A file that was in hand, and was not written to since, was complete then. Any other file is a
    replacement: the evidence table decides as for a scan, but its ctime shows no rename, because
    the move aside changed it. In a queue with markers, the marker aside decides. A pair is not
    complete: its `.db` may belong to either message.
    """
    message, layout = claim.parts[0], claim.spool.layout
    if layout.kind(message.name) is not Kind.ENTRY:
        return False
    if layout.legacy and mailman.pickles(read_part(message, claim.terms.max_size)) == 1:
        return False
    in_hand = (message.ino, ledger.QUEUE, message.name)
    known = any(
        (slot.inode, slot.place, slot.name) == in_hand and message.mtime_ns <= slot.ctime_ns
        for slot in slots
    )
    if layout.marker:
        directory = message.directory
        known = known or (directory is not None and covers(claim.spool, message, directory))
        return known and claim.writer is not Writer.SOME
    age = math.inf if known else claim.age()
    renames = claim.terms.renames or not layout.raw
    finish = Finish.COMMITTED if renames else Finish.OVER_TIME
    ruling = rule(Shape.WHOLE, Proof.NO_WRITER, claim.writer, age, claim.terms.limits, finish)
    return ruling.action is Action.TAKE


def _count(
    spool: Spool, settlement: Finisher, slot: ledger.InHand, death: HandlerResult
) -> bool | None:
    """Count one death against an entry; True if it was in hand, None if it is not settled yet."""
    directory = spool.state_dir(State.DEFERRED) if slot.place == DEFERRED else spool.fd
    there = None if directory is None else stat_or_none(slot.name, directory)
    if (
        directory is None
        or there is None
        or (there.st_ino, there.st_ctime_ns) != (slot.inode, slot.ctime_ns)
    ):
        _forget_moved(spool, slot)
        return False  # it went its way
    # It was complete then.
    terms = ClaimOptions(0.0, settlement.terms.ages, settlement.terms.max_size, complete=True)
    claim = _take(spool, slot, terms)
    if isinstance(claim, NotClaimed):
        return None if claim.refusal in (Reason.BUSY, Reason.WRITER, Reason.ERROR) else False
    try:
        if claim.action is not Action.TAKE or claim.parts[0].ctime_ns != slot.ctime_ns:
            return False
        if claim.schedule is not None and claim.schedule.crashes > 0:
            death = replace(death, after=None)  # not the first: at the policy's pace from now on
        settlement.retry(FinishedAttempt(claim, death))
        now = stat_or_none(slot.name, directory)
        return None if now is not None and now.st_ino == slot.inode else True
    finally:
        claim.release()


def _forget_moved(spool: Spool, slot: ledger.InHand) -> None:
    """Remove the marker of an entry that its process moved to a state directory before it died."""
    if not spool.layout.marker or slot.place == DEFERRED:
        return
    for state in (State.DEFERRED, State.DEAD):
        directory = spool.state_dir(state)
        if directory is not None and any(
            inode_of(name, directory) == slot.inode
            for name in namesakes(spool, directory, slot.name)
        ):
            forget_marker(spool, slot.name)


def _death(left: process_dir.Left) -> HandlerResult:
    """Return how a process died, as a result that is due again at once: it may not be at fault."""
    pid = left.name.partition(b".")[0].decode("ascii", "replace")
    proof, said = last_words.read(left.fd)
    why = f"process {pid} died with it in hand" + (f": {proof}" if proof else "")
    return HandlerResult(Verdict.CRASHED, why, 0.0, said)


def _take(spool: Spool, slot: ledger.InHand, terms: ClaimOptions) -> Claim | NotClaimed:
    if slot.place == DEFERRED:
        return take_deferred(spool, _called(slot), terms)
    return take(spool, slot.name, Proof.NONE, terms)
