"""What `sweep --metrics-file` writes: what became of each queue's sweep, and what is there now.

Guarantees: the file is written also if a queue could not be swept, or a signal ended the sweep
early. A sweep that is killed leaves the file of the one before, whose moment tells.
Fails: Unavailable, Usage, NoSuch or CannotCreate (`metrics_file`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from watcher.cli import metrics_file, parameters
from watcher.errors import WatcherError, one_line

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.inspect.queue_status import QueueStatus
    from watcher.sweep import Sweep
    from watcher.web.sweep_metrics import SweepRun


class SweepRecord:
    """The sweeps of one command, for the file at `path`."""

    def __init__(self, path: str) -> None:
        metrics_file.check(path)
        self._path = path
        self._runs: list[SweepRun] = []

    def sweep(
        self, settings: Queue, work: Callable[[Queue], int], made: Callable[[], Sweep | None]
    ) -> int:
        """Sweep one queue by `work`, and note what came of it; `made` returns the sweep."""
        began, code = time.monotonic(), os.EX_SOFTWARE
        try:
            code = work(settings)
        except WatcherError as error:
            code = error.exit_code
            raise
        finally:
            self._add(settings, made(), time.monotonic() - began, code)
        return code

    def _add(self, settings: Queue, sweep: Sweep | None, seconds: float, code: int) -> None:
        from watcher.web.sweep_metrics import SweepRun

        run = SweepRun(one_line(settings.name), time.time(), seconds, code)
        if sweep is not None:
            complete = sweep.summary.complete and code != os.EX_SOFTWARE
            run = run._replace(counts=sweep.summary.counts, complete=complete)
        self._runs.append(run._replace(status=_status(settings)))

    def write(self) -> None:
        """Write the file."""
        from watcher.web.sweep_metrics import sweep_families

        metrics_file.write(self._path, sweep_families(self._runs))


def _status(settings: Queue) -> QueueStatus | None:
    from watcher.inspect.queue_status import queue_status
    from watcher.rules.condition import Limits

    with contextlib.suppress(WatcherError, OSError):
        return queue_status(parameters.open_spool(settings), one_line(settings.name), Limits())
    return None
