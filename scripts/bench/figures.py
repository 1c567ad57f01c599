"""Medians, percentiles, and ratios with their spread. PURE.

A measure is made in rounds; in each, watcher and the other program run in turn, so that other load
on the machine affects both. The ratio is computed for each round; reported are the median ratio,
the lowest and the highest.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The median, the lowest and the highest of several rounds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the lowest and the highest; raises ValueError for no values."""
    if not values:
        raise ValueError("no rounds")
    return Spread(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], others: Sequence[float]) -> Spread:
    """Return the spread of ours / other, round by round."""
    return spread([one / other for one, other in zip(ours, others, strict=True)])


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the nearest rank: the smallest value with this percentage at or below it."""
    if not values:
        raise ValueError("no values")
    ranked = sorted(values)
    rank = -(-len(ranked) * percent // 100)
    return ranked[max(rank, 1) - 1]


def rate(count: int, began_ns: int, ended_ns: int) -> float:
    """Return entries in a second; 0 for no entries."""
    return count * 1e9 / (ended_ns - began_ns) if count else 0.0
