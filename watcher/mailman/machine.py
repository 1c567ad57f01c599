"""The state of reading a pickle: a cursor, a stack, marks and a memo.

Guarantees: those of the cursor. Containers, entries, objects, copies and
non-ASCII text are charged to the `budget`. Anything else (a number, a mark, a slot of the stack or
the memo) takes some 50 bytes an opcode, and `pickled.read` executes at most `MAX_OPCODES`.
Fails: Undecodable; IndexError at the end of the stack or the data, which `pickled.read` explains.
"""

from __future__ import annotations

from typing import Any

from watcher.errors import Undecodable
from watcher.mailman.budget import Budget
from watcher.mailman.cursor import Cursor

MAX_GAP = 8  # indices that may be left out: writers count up, from 0 or from 1
_MISSING = object()


class Machine(Cursor):
    """The state of reading one pickle from `data`, beginning at `position`."""

    __slots__ = ("budget", "marks", "memo", "pay", "stack")

    def __init__(self, data: bytes, position: int, budget: Budget) -> None:
        super().__init__(data, position)
        self.budget = budget
        self.pay = budget.pay
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []

    def broken(self) -> Undecodable:
        """Return the error for an index beyond the end of the data or of the stack."""
        if self.position >= len(self.data):
            return Undecodable(f"truncated: the file ends inside a pickle at byte {len(self.data)}")
        return Undecodable(f"damaged: the stack is empty near byte {self.position}")

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
        """Remove what was put on the stack since the last mark, and return it."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def remember(self, index: int) -> None:
        """Put the top of the stack into the memo at `index`."""
        memo = self.memo
        if not 0 <= index <= len(memo) + MAX_GAP:
            raise Undecodable(f"refused: memo index {index} where {len(memo)} is next")
        while len(memo) < index:
            memo.append(_MISSING)
        memo[index : index + 1] = [self.stack[-1]]

    def recall(self, index: int) -> Any:
        """Return what the memo has at `index`; raise Undecodable if nothing."""
        value = self.memo[index] if 0 <= index < len(self.memo) else _MISSING
        if value is _MISSING:
            raise Undecodable(f"damaged: memo {index} is empty at byte {self.position}")
        return value
