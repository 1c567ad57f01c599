"""What every measure is given: where to work, how long, and how to tell."""

from __future__ import annotations

import sys
from typing import NamedTuple

from bench.rows import Row


class Stand(NamedTuple):
    """The bench that the measures are made on."""

    base: str  # the directory in which everything happens
    reference: str | None  # the compiled program; None without a compiler
    quick: bool

    def pick(self, full: int, quick: int) -> int:
        """Return the size of something, by how long this run may take."""
        return quick if self.quick else full

    @property
    def rounds(self) -> int:
        """How often each side is measured."""
        return 2 if self.quick else 5


def tell(row: Row) -> Row:
    """Print a row as soon as it is known."""
    print(row.line(), flush=True)
    return row


def warn(text: str) -> None:
    """Say what is left out, and why."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
