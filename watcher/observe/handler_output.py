"""What a handler printed, as lines of the log: PURE.

Guarantees: at most `MOST` lines an attempt and stream, the last ones, each of at most `LONGEST`
characters and printable, whatever bytes the handler wrote. If lines are left out, the first line
says how many.
Fails: never.
"""

from __future__ import annotations

from watcher.errors import counted, one_line

MOST = 100  # lines
LONGEST = 1000  # characters


def lines_of(text: str) -> list[str]:
    """Return the lines of a text as they are to be logged; empty ones are left out."""
    lines = [line for line in text.split("\n") if line.strip()]
    kept = lines[-MOST:]
    shown = [one_line(_cut(line.rstrip("\r"))) for line in kept]
    left_out = len(lines) - len(kept)
    if left_out:
        earlier = counted(left_out, "earlier line is", "earlier lines are")
        shown.insert(0, f"({earlier} left out)")
    return shown


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
