"""What became of every entry, a line a transition (docs/spool-format.md)."""

from __future__ import annotations

from collections.abc import Callable

from watcher.lifecycle import Move, State


class Journal:
    """The journal of one queue directory."""

    def __init__(self, ours: Callable[[], int]) -> None:
        self._ours = ours
        self.trouble = ""

    def record(
        self, state: State, move: Move | str, inode: int, name: bytes, detail: str = ""
    ) -> None:
        """Write a line."""
