"""What processes that died left behind: files on their way out, and entries that were in hand.

A done file that lay aside when its process died goes back into the queue. Where a newcomer has its
name there, it does as an operator's requeue does: it waits in `deferred/`, due now, under its own
name, for another name would be another key. It did not fail, so no attempt is counted.

Guarantees: an entry is counted once for each death, by the very rename that writes the count down;
one whose handler still runs (it inherited the claim) is not judged yet; every process that starts
or sweeps may do this at the same time.
Fails: OSError or WatcherError where `inflight/` itself cannot be read; what cannot be settled now
stays for the next.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from watcher import contents
from watcher.claim import fault, ledger
from watcher.claim.deferred import take_deferred
from watcher.claim.take import Claim, Refusal, Refused, Terms, take
from watcher.entry import read_part
from watcher.errors import WatcherError
from watcher.evidence import Action, How, Shape, rule
from watcher.handle.outcome import Outcome, Verdict
from watcher.lifecycle import Move, State
from watcher.settle import aside, settle
from watcher.settlement import Finished, Settlement, told
from watcher.spool import inflight
from watcher.spool.journal import spill_over
from watcher.spool.layout import DEFERRED, INFLIGHT, Kind
from watcher.spool.schedule import Schedule
from watcher.spool.spool import Spool

_WHY = "its process died before it was removed; the queue has a newer file of its name"


class Recovered(NamedTuple):
    """How many files were put back, how many entries were in hand, and what was in the way."""

    files: int = 0
    entries: int = 0
    trouble: str = ""


def recover(spool: Spool, settlement: Settlement) -> Recovered:
    """Settle what dead processes left; return what that was."""
    files = entries = 0
    trouble = ""
    for left in inflight.dead(spool):
        try:
            slots, death = ledger.read(left.fd), _death(left)
            beside = functools.partial(_defer_beside_newcomer, spool, settlement, left.fd, slots)
            files += aside.put_all_back(spool, left.fd, beside)
            counted = [_count(spool, settlement, slot, death) for slot in slots]
            entries += counted.count(True)
            spill_over(left.fd, spool.ours(), spool.layout)
            if None not in counted:
                _sync_deferred(spool)
                inflight.clear(left)
        except FileNotFoundError:
            pass  # another has settled it meanwhile
        except (OSError, WatcherError) as error:
            trouble = f"what a process left that died: {told(error)}"
    return Recovered(files, entries, trouble)


def _defer_beside_newcomer(
    spool: Spool,
    settlement: Settlement,
    directory: int,
    slots: Sequence[ledger.InHand],
    name: bytes,
) -> bool:
    """Have a file that lay aside wait in `deferred/`, due now; False if it cannot, or may not yet.

    Then it goes into the queue beside the newcomer, under a name that is free there.
    """
    terms = settlement.terms._replace(lock=False)  # a child of its handler may keep it claimed
    claim = Claim(spool, INFLIGHT + b"/" + name, terms, asks=True)
    now_ms = settlement.clock.real() // 1_000_000
    facts = {"queue": settlement.queue, "next_attempt_ms": now_ms}
    try:
        if claim.add(name, directory, name) is not None or not _is_complete(claim, slots):
            return False
        settlement.record(claim, State.CLAIMED, Move.DEFER, _WHY)
        settle.defer(spool, claim.parts, Schedule(now_ms), _WHY, facts)
        settlement.tell(claim, State.CLAIMED, Move.DEFER, _WHY)
    except (OSError, WatcherError):
        return aside.inode(name, directory) is None
    finally:
        claim.release()
    return True


def _sync_deferred(spool: Spool) -> None:
    """Make what came to `deferred/` from a directory durable before that one goes.

    It may have been moved by a recovery that died before it came to this.
    """
    deferred = None
    with contextlib.suppress(WatcherError):  # to where we cannot look nothing came
        deferred = spool.peek(State.DEFERRED)
    if deferred is not None:
        spool.disk.sync(deferred)


def _is_complete(claim: Claim, slots: Sequence[ledger.InHand]) -> bool:
    """Whether an entry may be deferred: there nobody asks for evidence any more.

    What was in hand and was not written to since was complete then. Anything else is a newcomer,
    which is judged as by a scan. Of a pair it cannot be told whose the `.db` in the queue is.
    """
    message, layout = claim.parts[0], claim.spool.layout
    if layout.kind(message.name) is not Kind.ENTRY:
        return False
    if layout.legacy and contents.pickles(read_part(message, claim.terms.max_size)) == 1:
        return False
    in_hand = (message.ino, ledger.QUEUE, message.name)
    known = any(
        (slot.inode, slot.place, slot.name) == in_hand and message.mtime_ns <= slot.ctime_ns
        for slot in slots
    )
    age = math.inf if known else claim.age()
    ruling = rule(Shape.WHOLE, How.CATCH_UP, claim.writer, age, claim.terms.grace)
    return ruling.action is Action.TAKE


def _count(
    spool: Spool, settlement: Settlement, slot: ledger.InHand, death: Outcome
) -> bool | None:
    """Count one death against an entry: True if it was in hand, None if that is not settled yet."""
    directory = spool.peek(State.DEFERRED) if slot.place == DEFERRED else -1
    there = None if directory is None else spool.stat(slot.name, directory)
    if there is None or (there.st_ino, there.st_ctime_ns) != (slot.inode, slot.ctime_ns):
        return False  # it went its way
    terms = Terms(0.0, settlement.terms.ages, settlement.terms.max_size)  # it was complete then
    claim = _take(spool, slot, terms)
    if isinstance(claim, Refused):
        return None if claim.refusal in (Refusal.BUSY, Refusal.WRITER, Refusal.ERROR) else False
    try:
        if claim.action is not Action.TAKE or claim.parts[0].ctime_ns != slot.ctime_ns:
            return False
        if claim.schedule is not None and claim.schedule.crashes > 0:
            death = replace(death, after=None)  # not the first: at the policy's pace from now on
        settlement.retry(Finished(claim, death))
        now = spool.stat(slot.name, directory if directory is not None else -1)
        return None if now is not None and now.st_ino == slot.inode else True
    finally:
        claim.release()


def _death(left: inflight.Left) -> Outcome:
    """Say what is known of how a process died; the first death may be no fault of the entry's."""
    pid = left.name.partition(b".")[0].decode("ascii", "replace")
    how, said = fault.read(left.fd)
    why = f"process {pid} died with it in hand" + (f": {how}" if how else "")
    return Outcome(Verdict.CRASHED, why, 0.0, said)


def _take(spool: Spool, slot: ledger.InHand, terms: Terms) -> Claim | Refused:
    if slot.place == DEFERRED:
        return take_deferred(spool, DEFERRED + slot.name, terms)
    return take(spool, slot.name, How.SWEEP, terms)
