"""The machine that a pickle is a program for: a place in the data, a stack, marks and a memo.

Guarantees: a length that the data cannot back and a memo larger than any entry needs are refused,
so that memory is bounded by the size of the input.
Fails: Undecodable; IndexError where the stack or the data ends, which `opcodes.read` explains.
"""

from __future__ import annotations

from typing import Any

from watcher.errors import Undecodable

MAX_MEMO = 1 << 20  # entries; a memo of a genuine entry has thousands at most


class Machine:
    """The state of reading one pickle from `data`, beginning at `position`."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def broken(self) -> Undecodable:
        """Say why an index was beyond what there is."""
        if self.position >= len(self.data):
            return Undecodable(f"truncated: the file ends inside a pickle at byte {len(self.data)}")
        return Undecodable(f"damaged: the stack is empty near byte {self.position}")

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise Undecodable(
                f"truncated: {count} bytes wanted at byte {self.position},"
                f" {len(self.data) - self.position} are there"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, size: int) -> int:
        """Return an unsigned little-endian number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> bytes:
        """Return the bytes up to the next newline."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise Undecodable(f"truncated: no end of line after byte {self.position}")
        piece = self.data[self.position : end]
        self.position = end + 1
        return piece

    def since_mark(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def remember(self, index: int) -> None:
        """Put the top of the stack into the memo."""
        if index > MAX_MEMO or len(self.memo) >= MAX_MEMO:
            raise Undecodable(f"refused: memo index {index} is more than any entry needs")
        self.memo[index] = self.stack[-1]
