"""How long to wait before the next try: tenacity's wait objects, used as a calculator. PURE.

tenacity is imported at the first failure, not at start.
"""

from __future__ import annotations

INITIAL = 0.2  # seconds
LONGEST = 30.0  # seconds


def delay(attempt: int, initial: float = INITIAL, longest: float = LONGEST) -> float:
    """Return the seconds to wait after the `attempt`th failure (1 is the first): doubling."""
    from tenacity import RetryCallState, wait_exponential

    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = min(attempt, 64)
    return float(wait_exponential(multiplier=initial, max=longest)(state))
