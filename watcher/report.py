"""What became of an entry in one attempt, and when to look again. PURE."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from watcher.claim.take import Refusal
from watcher.evidence import Shape
from watcher.lifecycle import Transition


class Result(enum.Enum):
    """How an attempt ended."""

    DONE = "done"
    RETRY = "left for a later try"
    DEFERRED = "deferred"
    REJECTED = "moved to dead/"
    ORPHANED = "moved to orphans/"
    REUNITED = "reunited with its other half"
    FOLLOWED = "moved after its message"
    MISCONFIGURED = "the handler cannot be run"
    STUCK = "the disk refuses"
    STOPPED = "stopped at once"
    GONE = Refusal.GONE.value
    BUSY = Refusal.BUSY.value
    YOUNG = Refusal.YOUNG.value
    WRITER = Refusal.WRITER.value
    FOREIGN = Refusal.FOREIGN.value
    ERROR = Refusal.ERROR.value


class Report(NamedTuple):
    """What became of an entry, why, and in how many seconds to look again."""

    result: Result
    why: str = ""
    wait: float | None = None
    shape: Shape = Shape.WHOLE
    name: bytes = b""  # of a deferred entry: its file in deferred/


DONE = Report(Result.DONE)
Listener = Callable[[Transition], None]


class Patience(NamedTuple):
    """What to do while the disk refuses.

    `pause` waits so many seconds and says whether to go on; `trouble` is told what is wrong, and
    None when it is over.
    """

    pause: Callable[[float], bool]
    trouble: Callable[[str | None], None]
