"""Gather the entries of a batch: what waits now, and what comes within `batch_wait`.

While a worker gathers it is idle: it waits for events as any idle worker, and holds no claim.
Guarantees: the end of the queue's work, a pause and a hold are not delayed: the names are given
back, or go to the settings after a reload. A name that is gathered is in the worker's hands, so no
other worker takes it.
Fails: never.
"""

from __future__ import annotations

import time

from watcher.daemon.event_reader import EventReader
from watcher.daemon.ready import Item, Ready


def gather(ready: Ready, reader: EventReader, first: Item, most: int, seconds: float) -> list[Item]:
    """Return up to `most` items, `first` among them; wait at most so long for more."""
    items, deadline = [first], time.monotonic() + seconds
    while ready.gives_out():
        items += ready.pop_more(most - len(items))
        left = deadline - time.monotonic()
        if len(items) >= most or left <= 0:
            break
        reader.wait(ready, left)
    return items


def may_begin(ready: Ready, items: list[Item]) -> bool:
    """Whether the entries may be begun; if the queue is held or paused, they are given back.

    A single one was given out as such, by a permit if the queue is held.
    """
    if len(items) == 1 and not ready.closed:
        return True
    if ready.gives_out():
        return True
    if not ready.closed:
        for item in reversed(items):
            ready.put_back(item)
    return False
