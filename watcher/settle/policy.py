"""When an entry is tried again, and when it is given up. PURE."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Policy(NamedTuple):
    """A queue's retry policy; times in seconds."""

    initial: float = 30.0
    max: float = 3600.0
    multiplier: float = 2.0
    jitter: float = 0.1
    give_up_after: float = 432_000.0
    max_attempts: int = 1000
    max_crashes: int = 3

    def next(
        self, attempts: int, waited: float, after: float | None, random: Callable[[], float]
    ) -> float | None:
        """Return the seconds to the next attempt, None to give up."""
        if attempts >= self.max_attempts or waited >= self.give_up_after:
            return None
        return self.initial if after is None else after

    def gave_up(self, attempts: int, waited: float) -> str:
        """Say why it was given up."""
        return f"gave up after {attempts} attempts in {waited:.0f} s"
