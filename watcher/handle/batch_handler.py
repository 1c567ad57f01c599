"""The interface of a handler that handles several entries in one call.

Fails: `run_batch` never raises; what went wrong is in the result that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from watcher.handle.entry import Entry
from watcher.handle.handler import Handler
from watcher.rules.results import HandlerResult, Verdict


class BatchResult(NamedTuple):
    """What a handler reported of a batch: of single entries, by their number, and of the others."""

    whole: HandlerResult
    words: Mapping[int, HandlerResult]
    # Whether a failure as a whole is the result of each entry, and no entry alone is its cause.
    unsplit: bool = False


@runtime_checkable
class BatchHandler(Handler, Protocol):
    """Handles entries in batches; `most` is how many are in one call, at most.

    `wait` is how many seconds a worker with fewer entries waits for others. `run` is a call with
    one entry.
    """

    most: int
    wait: float

    def run_batch(self, entries: Sequence[Entry]) -> BatchResult:
        """Handle some entries; never raises. Called from several threads at once."""


def is_unsplit(result: HandlerResult) -> bool:
    """Whether a batch that failed so is not split: no entry is the cause, or all have to wait."""
    match result.verdict:
        case Verdict.STOPPED:
            return True
        case Verdict.MISCONFIGURED:
            return not result.ran  # a command that is not there; what ran may have missed a tool
        case Verdict.RETRY:
            return not result.attempted
        case Verdict.DONE | Verdict.REJECT | Verdict.CRASHED:
            return False
