"""A rate as people write it: 5/s, 10/m, 200/h. PURE."""

from __future__ import annotations

import re

_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)/(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
EXPECTED = "entries a second, minute or hour, like 5/s, 10/m or 200/h"


def parse_rate(text: str) -> float:
    """Return the entries a second; the ValueError it raises says what was expected."""
    found = _RATE.fullmatch(text.strip())
    rate = 0.0 if found is None else float(found[1]) / _SECONDS[found[2]]
    if rate <= 0:
        raise ValueError(f"expected {EXPECTED}; got {text!r}")
    return rate
