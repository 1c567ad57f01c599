"""Durations as people write them: 30s, 5m, 2h, 5d, 1h30m, 250ms, or plain seconds. PURE.

Each unit may come once, the largest first: 5m5m and 30s1h are refused as mistakes.
"""

from __future__ import annotations

import re

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PARTS = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in _UNITS))
LONGEST = 10_000 * 86400.0  # seconds: 27 years; added to the time of day, a float stays exact
EXPECTED = "a duration like 30s, 5m, 2h or 1h30m, at most 10000d"


def parse(text: str) -> float:
    """Return the seconds of `text`; the ValueError it raises says what was expected."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        text += "s"
    parts = _PARTS.fullmatch(text)
    if not text or parts is None:
        raise ValueError(f"expected {EXPECTED}; got {text!r}")
    numbers = (float(number or 0) for number in parts.groups())
    seconds = sum(number * size for number, size in zip(numbers, _UNITS.values(), strict=True))
    if seconds > LONGEST:
        raise ValueError(f"expected at most {show(LONGEST)}; got {text!r}")
    return seconds


def show(seconds: float) -> str:
    """Return a duration as `parse` reads it, in its two largest units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    words = []
    rest = round(seconds)
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_UNITS[unit]))
        if count:
            words.append(f"{count}{unit}")
    return "".join(words[:2]) or "0s"
