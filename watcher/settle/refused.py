"""Repeat the last step of an entry while the disk refuses it, or keep its claim for a later try.

Guarantees: the claim is held meanwhile, so no process handles the entry again. A refusal that
concerns this entry alone blocks no worker, if there is a list for such entries (`Unremovable`).
Fails: the OSError or WatcherError of the step, if `DiskRetry.pause` returns False, or if only this
entry is refused and there is no such list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from watcher.errors import WatcherError
from watcher.rules.backoff import delay
from watcher.rules.names import display
from watcher.rules.results import AttemptEnd, AttemptResult
from watcher.settle.unremovable import Unremovable
from watcher.spool.claimed import Claim

_CURE = (
    "see lsattr(1), its owner and the system's log; tried again, and not handled again meanwhile"
)
Step = Callable[[], AttemptResult]


class DiskRetry(NamedTuple):
    """What to do while the disk refuses a step.

    `pause` waits for some seconds and returns whether to try again. `trouble` is called with what
    is wrong, and with None when it is over.
    """

    pause: Callable[[float], bool]
    trouble: Callable[[str | None], None]


def insist(
    claim: Claim,
    step: Step,
    error: OSError | WatcherError,
    patience: DiskRetry,
    unremovable: Unremovable | None,
) -> AttemptResult:
    """Repeat a step that the disk refused with `error`, while the claim is held.

    If only this entry is refused, its claim is kept for later, and the worker goes on.
    """
    tried = 0
    while True:
        if (kept := put_by(claim, step, error, unremovable)) is not None:
            return kept
        tried += 1
        patience.trouble(describe_error(error))
        if not patience.pause(delay(tried)):
            raise error
        try:
            value = step()
        except (OSError, WatcherError) as again:
            error = again
        else:
            patience.trouble(None)
            return value


def put_by(
    claim: Claim, step: Step, error: OSError | WatcherError, unremovable: Unremovable | None
) -> AttemptResult | None:
    """Keep an entry's claim for a later try, if only this entry is refused; else None."""
    if not isinstance(error, PermissionError) or not claim.spool.writable():
        return None
    if unremovable is None:
        raise error
    if not unremovable.keep(claim, step):
        return None
    why = f"{display(claim.name)}: finished with, but it cannot be moved: "
    return AttemptResult(AttemptEnd.KEPT, f"{why}{describe_error(error)}; {_CURE}")


def describe_error(error: OSError | WatcherError) -> str:
    """Return what went wrong, in one line."""
    if isinstance(error, OSError):
        return f"{error.strerror or error} (errno {error.errno})"
    return str(error)
