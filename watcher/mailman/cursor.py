"""A position in the bytes of a file, and the taking of pieces from there. PURE.

Guarantees: a length beyond the end of the data is refused before anything is copied.
Fails: Undecodable.
"""

from __future__ import annotations

from watcher.errors import Undecodable


class Cursor:
    """The bytes `data`, read from `position` on."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes; raise Undecodable if there are fewer, or below zero."""
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise Undecodable(
                f"truncated: {count} bytes wanted at byte {self.position},"
                f" {len(self.data) - self.position} are there"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece
