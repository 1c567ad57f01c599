"""When a disk counts as nearly full."""

from __future__ import annotations

import pytest

from watcher.rules.space import ENOUGH, nearly_full

TB, MB = 1 << 40, 1 << 20


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ((TB // 2, TB, 10**6, 10**7), ""),
        ((TB // 200, TB, 10**6, 10**7), ""),  # half a percent, and still 5 GB
        ((ENOUGH - 1, TB, 10**6, 10**7), "nearly full: 1048575 KiB are free (0.1%)"),
        ((MB, 100 * MB, 9, 10), ""),
        ((MB - 1, 100 * MB, 9, 10), "nearly full: 1023 KiB are free (1.0%)"),
        ((0, 256 << 10, 9, 10), "nearly full: 0 KiB are free (0.0%)"),
        ((TB // 2, TB, 0, 10**6), "has 0 inodes left (0.0%)"),
        ((TB // 2, TB, 9_999, 10**6), "has 9999 inodes left (1.0%)"),
        ((TB // 2, TB, 10_000, 10**6), ""),
        ((TB // 2, TB, 2_000_000, 10**9), ""),
        ((0, 0, 0, 0), ""),  # a file system that reports no sizes
        ((TB // 2, TB, 0, 0), ""),  # btrfs makes inodes as it needs them
    ],
)
def test_a_disk_is_nearly_full_when_little_is_left_of_it_and_that_is_not_much(facts, said):
    assert said in nearly_full(*facts)
    assert bool(nearly_full(*facts)) == bool(said)
