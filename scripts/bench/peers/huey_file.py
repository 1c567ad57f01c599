"""huey with its file storage: one task a message, one worker of huey's own consumer."""

from __future__ import annotations

import threading
import time

from huey import FileHuey  # type: ignore[import-not-found]

from bench.peers import contract


class Huey:
    """One queue in one directory."""

    def __init__(self, directory: str) -> None:
        self._huey = FileHuey("bench", path=directory, results=False)
        self._notes: contract.Notes | None = None

        @self._huey.task(name="bench")  # type: ignore[untyped-decorator, unused-ignore]
        def task(data: bytes) -> None:
            if self._notes is not None:
                self._notes.handle(contract.moment_in(data))

        self._task = task

    def put(self, data: bytes) -> None:
        """Commit a task."""
        self._task(data)

    def serve(self, notes: contract.Notes) -> None:
        """Run the consumer's worker until all have come."""
        self._notes = notes
        consumer = self._huey.create_consumer(workers=1, periodic=False)
        for _, thread in consumer.worker_threads:
            if isinstance(thread, threading.Thread):
                thread.daemon = True
            thread.start()
        while not notes.full:
            time.sleep(0.05)


if __name__ == "__main__":
    contract.main(Huey)
