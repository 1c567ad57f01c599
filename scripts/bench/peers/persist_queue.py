"""persist-queue's SQLite queue with acknowledgements, the one that loses nothing in a crash.

Its `get` waits for a `put` in its own process only; between processes this program polls.
"""

from __future__ import annotations

import time

import persistqueue  # type: ignore[import-not-found]

from bench.peers import contract

SLEEP = 0.01  # seconds


class Persist:
    """One queue in one directory."""

    def __init__(self, directory: str) -> None:
        self._queue = persistqueue.SQLiteAckQueue(directory, auto_commit=True, multithreading=True)

    def put(self, data: bytes) -> None:
        """Commit a message."""
        self._queue.put(data)

    def serve(self, notes: contract.Notes) -> None:
        """Get and acknowledge until all have come."""
        while not notes.full:
            try:
                data = self._queue.get(block=False)
            except persistqueue.Empty:
                time.sleep(SLEEP)
                continue
            notes.handle(contract.moment_in(data))
            self._queue.ack(data)


if __name__ == "__main__":
    contract.main(Persist)
