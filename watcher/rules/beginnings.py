"""Which beginning of a name stands for the whole name on a command line. PURE.

    1795741526.59    for 1795741526.5912345+c0ffee..., if no other entry begins so
    report           for report-of-monday.csv; report.csv comes first

A script gives whole names, and the entry of such a name may be handled already. Then its name must
not stand for another entry that only begins so:

    report.csv       a name with an ending of the queue's entries is whole; so is one of Mailman's
    order-1          stands for no order-10: a number is not cut, but in names like Mailman's
    x                stands for no x~1, which is the second entry of the name x
    ab               a beginning has at least `SHORTEST` bytes
"""

from __future__ import annotations

from watcher.rules.names import Layout
from watcher.rules.pair_names import SUFFIXES

SHORTEST = 3  # bytes


def may_begin(wanted: bytes, layout: Layout) -> bool:
    """Whether a name may be the beginning of another one, and lack more than the ending."""
    unique = not layout.raw and layout.is_unique_name(wanted + SUFFIXES[0])
    return len(wanted) >= SHORTEST and not unique


def lacks_ending(wanted: bytes, own: bytes, layout: Layout) -> bool:
    """Whether `wanted` is the name `own` without the ending of the queue's entries."""
    return own.startswith(wanted) and own[len(wanted) :] in _endings(layout)


def begins(wanted: bytes, own: bytes, layout: Layout) -> bool:
    """Whether `wanted` stands for the entry whose file has the name `own` in the queue."""
    if not own.startswith(wanted) or wanted.endswith(_endings(layout)):
        return False
    if lacks_ending(wanted, own, layout):
        return True
    rest = own[len(wanted) :]
    if not may_begin(wanted, layout) or rest[:1] == b"~":
        return False
    in_number = wanted[-1:].isdigit() and rest[:1].isdigit()
    return not in_number or layout.is_unique_name(own)


def _endings(layout: Layout) -> tuple[bytes, ...]:
    return tuple(filter(None, layout.endings())) if layout.raw else SUFFIXES
