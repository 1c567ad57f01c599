"""dirq's simple queue: lock, get, remove in a loop; it cannot wait, so the loop sleeps."""

from __future__ import annotations

import time

from dirq.QueueSimple import QueueSimple  # type: ignore[import-not-found]

from bench.peers import contract

SLEEP = 0.1  # seconds; the package says nothing, its users choose


class Dirq:
    """One queue directory."""

    def __init__(self, directory: str) -> None:
        self._queue = QueueSimple(directory)

    def put(self, data: bytes) -> None:
        """Commit a message."""
        self._queue.add(data)

    def serve(self, notes: contract.Notes) -> None:
        """Take what is there, then sleep, until all have come."""
        while not notes.full:
            found = False
            for name in self._queue:
                if self._queue.lock(name):
                    data = self._queue.get(name)
                    notes.handle(contract.moment_in(data))
                    self._queue.remove(name)
                    found = True
            if not found:
                time.sleep(SLEEP)


if __name__ == "__main__":
    contract.main(Dirq)
