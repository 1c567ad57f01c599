"""What the worker threads of a queue do whose handler takes several entries in one call.

A thread gathers names (`daemon.gather`), begins an attempt at each, and lets `Batch` make the call.
Guarantees: those of `WorkerLoop`, for each entry of a batch. What does not fit into a batch is
given out again, before all other names.
Fails: never.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from watcher.attempt import Begun
from watcher.batch import Batch, most_in_batch
from watcher.daemon.gather import gather, may_begin
from watcher.daemon.ready import Item
from watcher.daemon.worker_loop import WorkerLoop
from watcher.handle.batch_handler import BatchHandler
from watcher.observe import log
from watcher.rules.names import display
from watcher.rules.results import AttemptEnd, AttemptResult


class BatchLoop(WorkerLoop):
    """The loop of a queue with a `BatchHandler`."""

    def handle_entries(self, wait: Callable[[], None]) -> None:
        """Handle one batch after the other."""
        pending, reader, handler = self.pending, self.reader, self.attempt.handler
        assert isinstance(handler, BatchHandler)  # noqa: S101 - `QueueWorker` chose this class by it
        while (first := pending.pop(wait)) is not None:
            most = min(handler.most, most_in_batch(self.settings.concurrency))
            items = gather(pending, reader, first, most, handler.wait)
            if may_begin(pending, items):
                reader.begin_work()
                self._attempt_together(items, handler)
            elif pending.closed:
                for item in items:
                    self.pass_on(item)

    def _attempt_together(self, items: Sequence[Item], handler: BatchHandler) -> None:
        """Make an attempt at each of some entries, as far as they fit into one batch."""
        by_number: dict[int, Item] = {}

        def settled(begun: Begun, report: AttemptResult) -> None:
            item = by_number.pop(begun.number)
            self.note_end(item, report)
            self.after(item, report)

        batch = Batch(self.attempt, handler, settled, self.stopping.is_set)
        try:
            for place, item in enumerate(items):
                if batch.full():
                    self._give_back(items[place:])
                    break
                begin = functools.partial(self.attempt.begin, number=batch.number)
                found = self.attempt_safely(item, begin)
                if isinstance(found, Begun):
                    by_number[found.number] = item
                    batch.add(found)
                else:
                    self.after(item, found)
            batch.run()
        except Exception as error:  # noqa: BLE001 - a bug of ours: the entries stay, the queue goes on
            log.log.exception("bug")
            batch.let_go()
            for item in by_number.values():
                why = f"{display(item.name)}: {type(error).__name__}: {error}"
                self.after(item, AttemptResult(AttemptEnd.STUCK, why))

    def _give_back(self, items: Sequence[Item]) -> None:
        """Give entries out again before all others: they were taken, and not begun."""
        for item in reversed(items):
            if self.pending.closed:
                self.pass_on(item)
            else:
                self.pending.put_back(item)
