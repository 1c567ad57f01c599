"""A loop over `watchfiles.watch` that handles what is added, as its documentation shows."""

from __future__ import annotations

import os

from watchfiles import Change, watch  # type: ignore[import-not-found]

from bench.peers import contract


class Watchfiles:
    """The watch of one directory."""

    put = None

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def serve(self, notes: contract.Notes) -> None:
        """Handle what each set of changes says was added; a set has no order."""
        for changes in watch(self._directory, recursive=False, raise_interrupt=False):
            for change, path in changes:
                if change is Change.added and path.endswith(".pck"):
                    with open(path, "rb") as file:
                        file.read()
                    notes.handle(contract.moment_of(os.path.basename(path)))
                    os.unlink(path)
            if notes.full:
                return


if __name__ == "__main__":
    contract.main(Watchfiles)
