"""When the command of a trigger runs again: after each run, by what it took and left. PURE.

A run takes an entry if the entry's file is gone afterwards. Entries that the run left:

| the run   | took     | left              | the next run                                          |
|-----------|----------|-------------------|-------------------------------------------------------|
| failed    | nothing  | any               | after the next delay, also for entries that come now  |
| failed    | some     | any               | after the first delay, also for entries that come now |
| succeeded | any      | nothing           | when an entry comes                                   |
| succeeded | some     | some              | at once                                               |
| succeeded | nothing  | some              | after the next delay; at once for an entry that comes |
| succeeded | the new  | only those before | when it was to be; at once for an entry that comes    |

The delays are those of the retry policy, `initial` to `max`. *Those before* are the entries that
wait for a delay already, and that the run was not for. `SPINS` runs in a row, each of them for an
entry that came during the run before, and with no fewer entries there, look like a command that
puts back what it takes: the next run waits for `SPIN_DELAY`.
Guarantees: no clock is read; an entry that a run left has a next run within the longest delay. So
an entry is only late, and not forgotten, if a clock or a file's time is wrong.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from watcher.rules.evidence import QUIET, TICK, Proof
from watcher.rules.retry import Policy

SPINS = 10  # runs
SPIN_DELAY = 1.0  # seconds: as a consumer that polls
_SECOND = 1_000_000_000
_ENDLESS = float("inf")


class Run(NamedTuple):
    """One run that ended: when, on the monotonic clock (seconds), and in nanoseconds since 1970."""

    began: float
    ended: float
    began_ns: int
    ended_ns: int
    ready_ns: int  # when the entry that it was for became ready (`ready_since`)
    failed: bool
    there: int  # entries in the directory when it began
    took: bool  # whether an entry that was there is gone
    left_new: bool  # whether it left the entry that it was for, which had not waited before
    left: int  # entries that it left: those that wait, and the one that it was for


class Pace(NamedTuple):
    """What is remembered of the runs before."""

    began_ns: int = 0  # when the last one began (nanoseconds since the epoch; 0: none has)
    ended_ns: int = 0  # when it ended
    there: int = 0  # entries in the directory when it began
    failures: int = 0  # in a row
    idle: int = 0  # in a row: succeeded, took nothing, and left entries
    spins: int = 0  # in a row: for an entry that came during the run before, with no fewer there
    hold_until: float = 0.0  # no run before this moment (monotonic, seconds)
    left_until: float = 0.0  # none before this moment for an entry that a run left


def after_run(pace: Pace, run: Run, policy: Policy, random: Callable[[], float]) -> Pace:
    """Return what is to be remembered after a run; `random` returns 0 to 1."""
    put_back = pace.began_ns <= run.ready_ns < pace.ended_ns and run.there >= pace.there
    spins = pace.spins + 1 if put_back else 0
    after = pace._replace(
        began_ns=run.began_ns, ended_ns=run.ended_ns, spins=spins, there=run.there
    )
    if run.failed:
        failures = 1 if run.took else pace.failures + 1
        hold = run.ended + _delay(policy, failures, random)
        return after._replace(failures=failures, idle=0, hold_until=hold, left_until=0.0)
    hold = run.ended + SPIN_DELAY if spins >= SPINS else 0.0
    after = after._replace(failures=0, hold_until=hold)
    due = run.began >= pace.left_until
    if not run.left or (run.took and (due or run.left_new)):
        return after._replace(idle=0, left_until=0.0)
    if run.took:
        return after
    until = run.ended + _delay(policy, pace.idle + 1, random)
    return after._replace(idle=pace.idle + 1, left_until=until)


def _delay(policy: Policy, failures: int, random: Callable[[], float]) -> float:
    """Return the policy's delay after so many failures; it never gives up."""
    endless = policy._replace(give_up_after=_ENDLESS, max_attempts=failures + 1)
    return endless.next(failures, 0.0, None, random) or policy.max


def wait_for(pace: Pace, ready_ns: int, real_ns: int, now: float) -> float:
    """Return in how many seconds the command may run for an entry; 0: now.

    `ready_ns` is the latest moment at which the entry may have become ready (nanoseconds since the
    epoch). A run that began later had its chance to take it, so that it is one that a run left.
    """
    if now < pace.hold_until:
        return pace.hold_until - now
    stepped = real_ns < pace.began_ns  # the clock was set back: it says nothing of this entry
    if ready_ns >= pace.began_ns or stepped:
        return 0.0
    return max(0.0, pace.left_until - now)


def ready_since(
    proof: Proof, event_time_ns: int, ctime_ns: int, real_ns: int, limits: tuple[float, float, bool]
) -> int:
    """Return the latest moment at which an entry that is ready now may have become so.

    `limits` are the grace age, `settle`, and whether the format is raw. An event of a rename or a
    link says it. Of an entry that was found otherwise, its ctime and the age at which the evidence
    lets it pass do; a ctime in the future says nothing (0).
    """
    if event_time_ns:
        return event_time_ns
    if ctime_ns > real_ns:
        return 0
    grace, settle, raw = limits
    lag = settle
    if proof is Proof.NONE:
        lag = max(settle, grace)
    elif proof is Proof.NO_WRITER and raw:
        lag = max(settle, min(QUIET, grace))
    return min(real_ns, ctime_ns + TICK + int(lag * _SECOND))
