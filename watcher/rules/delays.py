"""Where the time of an entry went, from its commit to the end of an attempt: PURE.

    commit ... due | due ... claimed | the handler | journal, unlink or move
       earlier     |      wait       |   handler   |        settle

At a first attempt an entry is due when it is committed, so `earlier` is 0. Later it is due at the
moment that its schedule says: `earlier` has the attempts before and the delays between them.

Guarantees: no part is negative, whatever the wall clock did meanwhile; `total` is their sum.
Fails: never.
"""

from __future__ import annotations

from typing import NamedTuple


class Delays(NamedTuple):
    """The parts of an entry's time, in seconds."""

    earlier: float
    wait: float
    handler: float
    settle: float = 0.0

    @property
    def total(self) -> float:
        """The time since the commit."""
        return self.earlier + self.wait + self.handler + self.settle


def before_claim(now: float, committed: float, due: float | None) -> tuple[float, float]:
    """Return `earlier` and `wait` of an entry that is claimed at `now`; all are wall-clock times.

    `due` is None at the first attempt.
    """
    if due is None:
        return 0.0, max(0.0, now - committed)
    return max(0.0, due - committed), max(0.0, now - due)
