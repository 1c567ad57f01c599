"""Draw bars as SVG: a label, a bar, a number; without a library. PURE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from bench.rows import number

WIDTH, LABELS, NUMBERS = 720, 230, 110  # pixels
BAR, GAP, HEAD = 18, 8, 34
OURS, OTHERS = "#2b6cb0", "#a0aec0"


class Bar(NamedTuple):
    """One bar."""

    label: str
    value: float
    ours: bool = False


def bars(title: str, unit: str, found: Sequence[Bar], *, logarithmic: bool = False) -> str:
    """Return an SVG document; a logarithmic scale says so in the title."""
    height = HEAD + len(found) * (BAR + GAP) + GAP
    most = max((bar.value for bar in found), default=1.0)
    least = min((bar.value for bar in found if bar.value > 0), default=1.0)
    scale = ", logarithmic" if logarithmic else ""
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
            f' width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        (
            f'<text x="8" y="20" font-size="14" font-weight="bold">{escape(title)}'
            f" ({escape(unit)}{scale})</text>"
        ),
    ]
    for place, bar in enumerate(found):
        top = HEAD + place * (BAR + GAP)
        length = _length(bar.value, least, most, logarithmic=logarithmic)
        base = top + BAR - 5
        lines += [
            f'<text x="{LABELS - 8}" y="{base}" text-anchor="end">{escape(bar.label)}</text>',
            (
                f'<rect x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}"'
                f' fill="{OURS if bar.ours else OTHERS}"/>'
            ),
            f'<text x="{LABELS + length + 6:.1f}" y="{base}">{number(bar.value)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _length(value: float, least: float, most: float, *, logarithmic: bool) -> float:
    room = WIDTH - LABELS - NUMBERS
    if value <= 0:
        return 0.0
    if not logarithmic:
        return room * value / most
    decades = math.log10(most / least) + 1  # the smallest bar is one decade long
    return room * (math.log10(value / least) + 1) / decades
