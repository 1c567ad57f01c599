"""The machine that a pickle is a program for: a place in the data, a stack, marks and a memo.

Guarantees: a length that the data cannot back is refused, and so is whatever makes more than the
input explains: each container that is made, and each value that is copied, is paid for out of an
allowance of the input's size. So time and memory are bounded by the size of the input.
Fails: Undecodable; IndexError where the stack or the data ends, which `pickled.read` explains.
"""

from __future__ import annotations

from typing import Any

from watcher.errors import Undecodable

MAX_GAP = 8  # indices of the memo left out: writers count, from 0 or from 1
SPARE = 1 << 16  # allowance beyond the input's size
CONTAINER = 6  # what a list, dict, set or object costs: its opcode and its place in the memo
_MISSING = object()


class Machine:
    """The state of reading one pickle from `data`, beginning at `position`."""

    __slots__ = ("allowance", "data", "marks", "memo", "position", "stack")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.allowance = len(data) - position + SPARE
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []

    def broken(self) -> Undecodable:
        """Say why an index was beyond what there is."""
        if self.position >= len(self.data):
            return Undecodable(f"truncated: the file ends inside a pickle at byte {len(self.data)}")
        return Undecodable(f"damaged: the stack is empty near byte {self.position}")

    def pay(self, cost: int) -> None:
        """Pay for something made, in bytes of the input that explain it."""
        self.allowance -= cost
        if self.allowance < 0:
            raise Undecodable(
                f"refused: more objects than {len(self.data)} bytes explain,"
                f" at byte {self.position}"
            )

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
        memo = self.memo
        if not 0 <= index <= len(memo) + MAX_GAP:
            raise Undecodable(f"refused: memo index {index} where {len(memo)} is next")
        while len(memo) < index:
            memo.append(_MISSING)
        memo[index : index + 1] = [self.stack[-1]]

    def recall(self, index: int) -> Any:
        """Return what was put into the memo."""
        value = self.memo[index] if 0 <= index < len(self.memo) else _MISSING
        if value is _MISSING:
            raise Undecodable(f"damaged: memo {index} is empty at byte {self.position}")
        return value
