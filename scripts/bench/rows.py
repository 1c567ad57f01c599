"""The results: one row for each number, to be printed, kept as JSON, and put on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.figures import Spread


class Target(NamedTuple):
    """The target of a row: at most or at least `value`."""

    most: float | None = None
    least: float | None = None
    of: str = "ratio"  # or "ours": which number is compared with it

    def met(self, row: Row) -> bool | None:
        """Whether it is met; None if there is no number."""
        found = row.ratio if self.of == "ratio" else row.ours
        if found is None or (self.most is None and self.least is None):
            return None
        if self.most is not None:
            return found.median <= self.most
        return self.least is None or found.median >= self.least

    def told(self, unit: str) -> str:
        """Return the target in words."""
        if self.most is None and self.least is None:
            return ""
        times = "x" if self.of == "ratio" else f" {unit}"
        bound = "at most" if self.most is not None else "at least"
        return f"{bound} {number(self.most if self.most is not None else self.least or 0)}{times}"


class Row(NamedTuple):
    """One number: watcher's, the other program's, and their ratio."""

    measure: int  # 1 to 11
    what: str
    unit: str
    ours: Spread | None
    other: Spread | None = None
    against: str = ""  # the name of the other side
    ratio: Spread | None = None
    target: Target = Target()
    note: str = ""
    table: Sequence[Sequence[str]] = ()  # the first row is the heading
    plot: str = ""  # the plot that it is in

    def line(self) -> str:
        """Return it as one line for a person."""
        parts = [f"{self.measure}  {self.what:<58}", f"{shown(self.ours)} {self.unit}"]
        if self.other is not None:
            parts.append(f"{self.against} {shown(self.other)}")
        if self.ratio is not None:
            parts.append(f"ratio {shown(self.ratio)} ({band(self.ratio)})")
        if told := self.target.told(self.unit):
            parts.append(f"{told}: {verdict(self)}")
        if self.note:
            parts.append(self.note)
        return "  ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        values = self._asdict()
        for key in ("ours", "other", "ratio"):
            found: Spread | None = values[key]
            values[key] = found and {name: round(one, 4) for name, one in found._asdict().items()}
        values["target"] = self.target.told(self.unit)
        values["met"] = self.target.met(self)
        values["table"] = [list(line) for line in self.table]
        return values


def number(value: float) -> str:
    """Return a number with three significant figures."""
    if value == 0 or abs(value) >= 100:  # noqa: PLR2004 - three figures
        return f"{value:,.0f}"
    return f"{value:.3g}"


def shown(found: Spread | None) -> str:
    """Return the median of a spread as text."""
    return "-" if found is None else number(found.median)


def band(found: Spread) -> str:
    """Return the lowest and the highest of a spread as text."""
    return f"{number(found.low)} to {number(found.high)}"


def verdict(row: Row) -> str:
    """Return in words whether a row's target is met."""
    met = row.target.met(row)
    return "not measured" if met is None else "met" if met else "NOT MET"
