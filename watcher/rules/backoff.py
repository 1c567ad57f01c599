"""How long to wait before the next try: tenacity's wait objects, used as a calculator. PURE.

tenacity is imported at the first failure, not at start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenacity import RetryCallState

INITIAL = 0.2  # seconds
LONGEST = 30.0  # seconds
UNTOLD = 1.0  # seconds to wait if tenacity cannot be imported


def failed(attempts: int, seconds: float = 0.0) -> RetryCallState:
    """Return what tenacity's objects ask about: so many failures, so long since the first.

    No call is retried by tenacity, so its record of one is filled in by hand; it starts at 0, for
    a difference of large numbers would lose the fractions of a second.
    """
    from tenacity import RetryCallState

    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = attempts
    state.start_time, state.outcome_timestamp = 0.0, seconds
    return state


def delay(attempt: int, initial: float = INITIAL, longest: float = LONGEST) -> float:
    """Return the seconds to wait after the `attempt`th failure (1 is the first): doubling.

    The first failure of a process may be that it can open nothing, and so import nothing.
    """
    try:
        from tenacity import wait_exponential
    except OSError:
        return min(UNTOLD, longest)
    return float(wait_exponential(multiplier=initial, max=longest)(failed(attempt)))
