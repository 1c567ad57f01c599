"""Medians, percentiles, and ratios with their spread. PURE.

A measure is made in rounds, ours and the other side in turn, so that what else the machine does
falls on both; a ratio is taken within each round, and the median of those is reported with the
lowest and the highest.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The middle of several rounds, and how far they lie apart."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the middle, the lowest and the highest; raises ValueError when there are none."""
    if not values:
        raise ValueError("no rounds")
    return Spread(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], others: Sequence[float]) -> Spread:
    """Return the spread of ours / other, round by round."""
    return spread([one / other for one, other in zip(ours, others, strict=True)])


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the nearest rank: the smallest value that so many percent are not above."""
    if not values:
        raise ValueError("no values")
    ranked = sorted(values)
    rank = -(-len(ranked) * percent // 100)
    return ranked[max(rank, 1) - 1]


def rate(count: int, began_ns: int, ended_ns: int) -> float:
    """Return entries a second; none at all are 0 a second."""
    return count * 1e9 / (ended_ns - began_ns) if count else 0.0
