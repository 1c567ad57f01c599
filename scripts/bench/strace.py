"""System calls of a program, counted by strace. The parsing is PURE.

The calls at start and end do not depend on the number of entries. So two runs are made, and the
difference of their calls is divided by the difference of their entries.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence

_LINE = re.compile(r"^\s*[0-9.]+\s+[0-9.]+\s+[0-9]+\s+([0-9]+)\s+(?:[0-9]+\s+)?([a-z_0-9]+)\s*$")


def here() -> bool:
    """Whether strace is installed."""
    return shutil.which("strace") is not None


def counting(argv: Sequence[str], output: str) -> list[str]:
    """Return the command that runs `argv` and its threads under strace -c."""
    return ["strace", "-f", "-c", "-o", output, *argv]


def parsed(text: str) -> dict[str, int]:
    """Return how often each call was made, from the summary of strace -c."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and match[2] != "total":
            found[match[2]] = int(match[1])
    return found


def between(few: Mapping[str, int], many: Mapping[str, int], entries: int) -> dict[str, float]:
    """Return calls an entry; fewer than a hundredth are left out."""
    each = {name: (many.get(name, 0) - few.get(name, 0)) / entries for name in {*few, *many}}
    kept = {name: count for name, count in each.items() if count >= 0.01}  # noqa: PLR2004 - a hundredth
    return dict(sorted(kept.items(), key=lambda item: -item[1]))
