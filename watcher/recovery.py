"""What processes that died left behind: files on their way out, and entries that were in hand.

Guarantees: an entry is counted once for each death, by the very rename that writes the count down;
one whose handler still runs (it inherited the claim) is not judged yet; every process that starts
or sweeps may do this at the same time.
Fails: OSError or WatcherError where `inflight/` itself cannot be read; what cannot be settled now
stays for the next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from watcher.claim import fault, ledger
from watcher.claim.deferred import take_deferred
from watcher.claim.take import Claim, Refusal, Refused, Terms, take
from watcher.errors import WatcherError
from watcher.evidence import Action, How
from watcher.handle.outcome import Outcome, Verdict
from watcher.lifecycle import State
from watcher.settle import aside
from watcher.settlement import Finished, Settlement, told
from watcher.spool import inflight
from watcher.spool.journal import spill_over
from watcher.spool.layout import DEFERRED
from watcher.spool.spool import Spool


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
            files += aside.put_all_back(spool, left.fd)
            death = _death(left)
            counted = [_count(spool, settlement, slot, death) for slot in ledger.read(left.fd)]
            entries += counted.count(True)
            spill_over(left.fd, spool.ours(), spool.layout)
            if None not in counted:
                inflight.clear(left)
        except FileNotFoundError:
            pass  # another has settled it meanwhile
        except (OSError, WatcherError) as error:
            trouble = f"what a process left that died: {told(error)}"
    return Recovered(files, entries, trouble)


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
