"""Which beginning of a name stands for the whole name."""

from __future__ import annotations

import pytest

from watcher.rules.beginnings import begins
from watcher.rules.names import Layout

PCK = Layout().in_state_dir()
CSV = Layout(raw=True, suffix=b".csv")
EVERY = Layout(raw=True, suffix=b"")
DRAWN = b"1795741526.5912345+" + b"c0" * 20


@pytest.mark.parametrize(
    ("wanted", "own", "layout", "stands"),
    [
        (b"179", DRAWN + b".pck", PCK, True),  # within a number, but of a name that is unique
        (DRAWN[:30], DRAWN + b".pck", PCK, True),
        (DRAWN, DRAWN + b".db", PCK, True),
        (DRAWN, DRAWN + b"x.pck", PCK, False),  # a whole name of Mailman's
        (b"17", DRAWN + b".pck", PCK, False),  # too short
        (b"a", b"a.pck", PCK, True),  # only the ending is missing
        (b"order-1", b"order-10.pck", PCK, False),
        (b"order-1", b"order-1b.pck", PCK, True),
        (b"order", b"order~1.pck", PCK, False),
        (b"order.pck", b"order.pck.pck", PCK, False),
        (b"report", b"report-of-monday.csv", CSV, True),
        (b"report", b"report.csv", CSV, True),
        (b"report.csv", b"report.csv.csv", CSV, False),
        (b"report-1", b"report-12.csv", CSV, False),
        (b"reports", b"report.csv", CSV, False),
        (b"report.csv", b"report.csv-2", EVERY, True),
        (b"", b"a", EVERY, False),
    ],
)
def test_a_beginning_stands_for_a_name_or_for_none(wanted, own, layout, stands):
    assert begins(wanted, own, layout) is stands
