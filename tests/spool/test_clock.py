"""The system's clock, beside the one by which the kernel stamps files."""

from __future__ import annotations

from watcher.rules import age
from watcher.rules.age import SECOND


def test_the_system_clock_is_the_clock_of_ctime(tmp_path):
    clock = age.SystemClock()
    before = clock.real()
    (tmp_path / "x").touch()
    ctime = (tmp_path / "x").stat().st_ctime_ns
    # The kernel stamps files with the time of its last tick.
    assert before - SECOND // 10 <= ctime <= clock.real()
    one = clock.mono()
    assert clock.mono() >= one > 0
