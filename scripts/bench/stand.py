"""What each measure is given: its directory, its duration, and how to print a row."""

from __future__ import annotations

import sys
from typing import NamedTuple

from bench.rows import Row


class Stand(NamedTuple):
    """The settings of a run."""

    base: str  # the directory of all files
    reference: str | None  # the compiled program; None without a compiler
    quick: bool

    def pick(self, full: int, quick: int) -> int:
        """Return the full size, or the smaller one of a quick run."""
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
    """Print what is left out, and why."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
