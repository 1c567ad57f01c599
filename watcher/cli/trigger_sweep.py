"""`watcher sweep` of a queue with a trigger: its command runs once if an entry is ready.

It runs again while each run takes some of the entries and leaves others.
Fails: OSError if the directory cannot be listed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watcher.handle.kinds.run_trigger import TriggerCommand
    from watcher.spool.spool import Spool
    from watcher.trigger import Options, Ran

Show = Callable[[str, dict[str, object]], None]


def sweep_trigger(
    spool: Spool,
    handler: TriggerCommand,
    options: Options,
    show: Show,
    ended: Callable[[], bool],
) -> int:
    """Have the command run; show each run, and return the exit status. `ended`: begin no other."""
    from watcher.rules.evidence import Proof
    from watcher.rules.results import AttemptEnd, Verdict
    from watcher.trigger import NoRecord, TriggerRuns

    ran: list[Ran] = []
    runs = TriggerRuns(handler, options, NoRecord())
    runs.listen = ran.append
    for name in _names(spool, lambda: len(ran)):
        if ended():
            break
        before = len(ran)
        report = runs(spool, name, Proof.NONE)
        # The daemon or another sweep runs the command, or `.watcher/` cannot be used.
        if report.result in (AttemptEnd.RETURNS, AttemptEnd.STUCK):
            busy = report.result is AttemptEnd.RETURNS
            show(report.why, {"result": "busy" if busy else "stuck"})
            return os.EX_TEMPFAIL
        for run in ran[before:]:
            failed = run.run.failed
            result = "failed" if failed else "done"
            show(str(run), {"result": result, "there": run.run.there, "taken": run.taken})
            if failed:
                misconfigured = run.outcome.verdict is Verdict.MISCONFIGURED
                return os.EX_CONFIG if misconfigured else os.EX_TEMPFAIL
    if not ran:
        show("no entry is ready: the command was not run", {"result": "none"})
    return os.EX_OK


def would_run(spool: Spool, options: Options, show: Show) -> int:
    """Show whether a sweep would run the command; change nothing."""
    from watcher.claim.take import take
    from watcher.rules.evidence import Proof
    from watcher.rules.names import display
    from watcher.rules.results import NotClaimed

    for name in _names(spool, lambda: 0):
        claim = take(spool, name, Proof.NONE, options.terms._replace(lock=False))
        if not isinstance(claim, NotClaimed):
            claim.release()
            show(f"{display(name)} is ready: the command would run", {"result": "would run"})
            return os.EX_OK
    show("no entry is ready: the command would not run", {"result": "none"})
    return os.EX_OK


def _names(spool: Spool, runs: Callable[[], int]) -> Iterator[bytes]:
    """Yield the names of entries, the oldest first, and all of them anew after each run."""
    from watcher.arrive.scan import MANY, START, name_in, scan, unpacked

    mark = START
    while True:
        batch = scan(spool, mark, limit=MANY)
        before = runs()
        for position in batch.packed:
            yield name_in(position)
            if runs() > before:
                break
        if runs() > before:
            mark = START
        elif batch.more:
            mark = unpacked(batch.packed[-1])
        else:
            return
