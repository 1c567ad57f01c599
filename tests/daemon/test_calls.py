"""How many system calls an entry costs: a count, not a time, so that it is the same everywhere.

The table of what each is for is in docs/architecture.md, "The hot path".
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter

import pytest

from bench.measures.calls import per_entry
from bench.stand import Stand

LOOKS = "stat"  # which of these calls the C library makes of stat(2) and fstat(2) is its own
HOT_PATH = {"openat": 1, "flock": 1, LOOKS: 3, "unlinkat": 1, "close": 1}
PAIR = {"openat": 2, "flock": 2, "fcntl": 4, LOOKS: 6, "unlinkat": 2, "close": 2}
ENTRIES = 250
# By no rule: how often two threads want one lock, and how many events one wake-up reads. In a storm
# they are hundredths an entry; where the daemon is quicker than who writes, one for each event.
NOW_AND_THEN = {"futex", "poll", "read", "readv", "write"}
EVENTS = {False: 1, True: 2}


@pytest.fixture(scope="module", autouse=True)
def tracing():
    """Skip where nothing can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("nothing can be traced here")


@pytest.mark.parametrize(
    ("legacy", "known"), [(False, HOT_PATH), (True, PAIR)], ids=["entry", "pair"]
)
def test_an_entry_costs_these_calls_and_no_others(tmp_path, legacy, known):
    counted = per_entry(Stand(str(tmp_path), None, quick=True), ENTRIES, 0, legacy=legacy)
    by_rule: Counter[str] = Counter()
    for name, count in counted.items():
        if name not in NOW_AND_THEN and count > 0.1:
            by_rule[LOOKS if name.endswith(("stat", "statat", "statx")) else name] += count
    assert {name: round(count) for name, count in by_rule.items()} == known, counted
    assert all(abs(by_rule[name] - count) < 0.2 for name, count in known.items()), counted
    by_luck = NOW_AND_THEN - {"futex"}
    assert all(counted.get(name, 0) < EVENTS[legacy] + 0.2 for name in by_luck), counted
