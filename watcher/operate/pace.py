"""Cut a command's entries into groups, at most so many a second.

Guarantees: the order stays. What was late is not made up for: at no time do entries come faster
than the rate, but for those of one group, which is a tenth of a second's. After `stop` is set no
group begins, and a wait ends at once.
Fails: never.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from watcher.operate.operator_moves import BATCH

T = TypeVar("T")
_GROUP = 0.1  # seconds between two groups, at least


def groups(
    entries: Sequence[T], rate: float | None, stop: threading.Event
) -> Iterator[Sequence[T]]:
    """Yield the entries in groups; `rate`: entries a second, None for as fast as they go."""
    most = BATCH if rate is None else max(1, min(BATCH, int(rate * _GROUP)))
    due = time.monotonic()
    for start in range(0, len(entries), most):
        if stop.wait(max(0.0, due - time.monotonic())):
            return
        group = entries[start : start + most]
        if rate is not None:
            due = max(due, time.monotonic()) + len(group) / rate
        yield group
