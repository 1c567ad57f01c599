"""How long a worker waits for a disk that refuses the last step of an entry.

The worker waits for as long as the process lives, also after a reload: the entry is done, and a
worker of the new settings that found it without a claim would handle it again. If the process is
about to end, the worker waits for `END_PATIENCE` seconds more.
Fails: never.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

END_PATIENCE = 3.0  # seconds that an ending process waits
END_LOOK = 0.2  # seconds between two tries then


class DiskPatience:
    """The patience of one queue's workers."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ending = threading.Event()  # the process is about to end
        self._end_by = math.inf

    def pause(self, seconds: float) -> bool:
        """Wait; return whether to try again. A worker calls this."""
        if not self._ending.wait(seconds):
            return True
        left = self._end_by - self._now()
        time.sleep(max(0.0, min(seconds, left, END_LOOK)))
        return left > 0

    def end(self) -> None:
        """Wait no longer than `END_PATIENCE` from now on: the process ends."""
        self._end_by = self._now() + END_PATIENCE
        self._ending.set()
