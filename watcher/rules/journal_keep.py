"""Which files of the journal are removed when a new one is begun: the option `journal_keep`. PURE.

    "128M"      at least so many bytes of full files stay, beside the newest file
    "90d"       a full file stays until its last line is so old
    "90d 2G"    a file is removed if either of the two allows it

Guarantees: the newest full file always stays.
Fails: `parse` raises ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from watcher import durations
from watcher.rules.option import size

DEFAULT_SIZE = "128M"
EXPECTED = 'a size like "2G", a duration like "90d", or both: "90d 2G"'
_MOST = 2  # words


class Full(NamedTuple):
    """One full file: its number, its bytes, and the time of its last write."""

    number: int
    size: int
    written: float


class Keep(NamedTuple):
    """How long, and how much; None: without limit."""

    seconds: float | None = None
    size: int | None = None


def parse(text: str) -> Keep:
    """Return what `journal_keep` says; raises ValueError."""
    words = text.split()
    seconds: float | None = None
    most: int | None = None
    for word in words:
        if word[-1:] in "KMG" and most is None:
            most = size(word)
        elif word[-1:].isalpha() and seconds is None:
            seconds = durations.parse(word)
        else:
            raise ValueError
    if not 0 < len(words) <= _MOST or seconds == 0:
        raise ValueError
    return Keep(seconds, most)


DEFAULT = parse(DEFAULT_SIZE)


def surplus(files: Sequence[Full], keep: Keep, now: float) -> list[int]:
    """Return the numbers of the files to remove; the one with the lowest number is the newest."""
    found: list[int] = []
    newer = 0  # bytes of the files that are newer
    for position, file in enumerate(sorted(files)):
        too_much = keep.size is not None and newer >= keep.size
        too_old = keep.seconds is not None and file.written < now - keep.seconds
        if position and (too_much or too_old):
            found.append(file.number)
        newer += file.size
    return found
