"""A plain watchdog observer with the handler in its callback, as its documentation shows."""

from __future__ import annotations

import os
import time

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from bench.peers import contract


class Handler(FileSystemEventHandler):
    """Reads and removes what appears; a rename into the directory is a creation to watchdog."""

    def __init__(self, notes: contract.Notes) -> None:
        self._notes = notes

    def on_created(self, event: FileSystemEvent) -> None:
        """Handle one file."""
        path = os.fsdecode(event.src_path)
        if path.endswith(".pck"):
            with open(path, "rb") as file:
                file.read()
            self._notes.handle(contract.moment_of(os.path.basename(path)))
            os.unlink(path)


class Watchdog:
    """The observer of one directory."""

    put = None

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def serve(self, notes: contract.Notes) -> None:
        """Let the observer's thread work until all have come."""
        observer = Observer()
        observer.schedule(Handler(notes), self._directory)
        observer.start()
        while not notes.full:
            time.sleep(0.05)


if __name__ == "__main__":
    contract.main(Watchdog)
