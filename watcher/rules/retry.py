"""When an entry is tried again, and when it is given up: tenacity's objects, as a calculator. PURE.

Guarantees: the random source and every duration come from the caller, no clock is read; a delay is
never negative, never longer than `max` and its jitter (or than what the handler asked for), and
never reaches beyond `give_up_after`: one that would is cut, so that the last attempt is made at
that age. The delays of one entry never shrink but by jitter.
Fails: never, whatever the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from watcher.durations import LONGEST, show
from watcher.rules.backoff import failed

if TYPE_CHECKING:
    from tenacity import RetryCallState

ROUNDING = 0.01  # seconds: what is left of give_up_after when that is all that is left is nothing


class Policy(NamedTuple):
    """A queue's retry policy; times in seconds.

    `max_attempts` stops an entry whose handler asks for such short delays that its age hardly
    grows. Five days of the default delays are some 130 attempts, so that by default it is the age
    that decides, as people expect; 1000 is far above that, and soon reached by a loop.
    """

    initial: float = 30.0
    max: float = 3600.0
    multiplier: float = 2.0
    jitter: float = 0.1  # of a delay, added at most
    give_up_after: float = 5 * 86400.0
    max_attempts: int = 1000
    max_crashes: int = 3

    def next(
        self,
        attempts: int,
        waited: float,
        after: float | None,
        random: Callable[[], float],
        at_least: float = 0.0,
    ) -> float | None:
        """Return the seconds to the next attempt; None to give up.

        `attempts` have failed, the last just now, and `waited` seconds were lived through since the
        first; `after` is the handler's wish, which counts as it is; `random` returns 0 to 1;
        `at_least` is a delay below which the policy's must not be.
        """
        from tenacity import stop_after_attempt, stop_after_delay, wait_combine, wait_exponential

        last = stop_after_attempt(self.max_attempts) | stop_after_delay(
            max(0.0, self.give_up_after - ROUNDING)
        )
        state = failed(attempts, waited)
        if last(state):
            return None
        left = self.give_up_after - max(0.0, waited)
        if after is not None:
            return min(max(0.0, after), LONGEST, left)
        growing = wait_exponential(self.initial, self.max, self.multiplier)

        def jittered(state: RetryCallState) -> float:
            return growing(state) * self.jitter * random()

        delay = wait_combine(growing, jittered)(state)
        return min(max(delay, at_least), LONGEST, left)

    def gave_up(self, attempts: int, waited: float) -> str:
        """Say how much was tried before it was given up, and which limit that is."""
        limit = "max_attempts" if attempts >= self.max_attempts else "give_up_after"
        times = f"{attempts} attempts" if attempts != 1 else "1 attempt"
        return f"gave up after {times} in {show(waited)} ({limit})"
