"""What a look at a queue's watch finds, and when the next one is."""

import pytest

from watcher.arrive import kernel_watches
from watcher.arrive.kernel_watches import KernelWatches, masks_in
from watcher.rules.sight import (
    Sight,
    is_due_with_sweep,
    is_silent,
    is_with_sweep,
    judge,
    next_look,
    scan_gap,
    spacing,
)


@pytest.mark.parametrize(
    ("watched", "deaf", "sight"),
    [
        (True, False, Sight.SEES),
        (None, False, Sight.SEES),  # a kernel that lists nothing makes no queue blind
        (True, True, Sight.DEAF),
        (None, True, Sight.DEAF),
        (False, False, Sight.UNWATCHED),
        (False, True, Sight.UNWATCHED),
    ],
)
def test_what_a_look_finds(watched, deaf, sight):
    assert judge(watched=watched, deaf=deaf) is sight


def test_queues_with_one_interval_are_looked_at_in_one_moment():
    assert {next_look(moment, 60.0) for moment in (120.0, 121.5, 179.9)} == {180.0}


def test_a_look_comes_with_a_sweep_if_sweeps_are_often_enough():
    assert is_with_sweep(60.0, 60.0)
    assert is_with_sweep(60.0, 1.0)
    assert not is_with_sweep(60.0, 61.0)


@pytest.mark.parametrize(
    ("interval", "sweep_every", "sweeps"), [(60, 60, 1), (60, 59.9, 1), (60, 25, 2), (60, 1, 60)]
)
def test_the_sweep_that_is_nearest_to_the_interval_has_the_look(interval, sweep_every, sweeps):
    first = next(
        number
        for number in range(1, 100)
        if is_due_with_sweep(number * sweep_every, 0.0, interval, sweep_every)
    )
    assert first == sweeps
    assert spacing(interval, sweep_every) == sweeps * sweep_every


def test_the_canary_of_the_last_look_is_no_reason_to_send_none_at_this_one():
    assert is_silent(60.0, 0.0, 60.0)
    assert is_silent(59.0, 0.0, 60.0)  # a sweep came a little sooner
    assert not is_silent(60.0, 30.0, 60.0)  # the look at another queue sent one


def test_a_blind_queue_is_scanned_every_few_seconds_and_a_large_one_less_often():
    assert scan_gap(0.001, 60.0, 60.0) == 5.0
    assert scan_gap(0.001, 1.0, 3600.0) == 1.0
    assert scan_gap(2.0, 60.0, 3600.0) == 20.0
    assert scan_gap(100.0, 60.0, 60.0) == 60.0  # it is swept as often


def test_the_kernels_listing_is_read():
    text = (
        b"pos:\t0\nflags:\t02004000\nmnt_id:\t15\nino:\t1057\n"
        b"inotify wd:a ino:26400e sdev:fe00000 mask:800 ignored_mask:0 fhandle-bytes:8\n"
        b"inotify wd:1 ino:264003 sdev:fe00000 mask:c80 ignored_mask:0 \n"
    )
    assert masks_in(text) == {10: 0x800, 1: 0xC80}
    assert masks_in(b"pos:\t0\nflags:\t02\n") == {}


@pytest.mark.parametrize(
    ("listings", "found"),
    [
        ([None], None),  # no /proc
        ([{}], None),  # a kernel that never listed a watch
        ([{1: 0x80, 2: 0x80}], True),
        ([{1: 0x8C0}], True),
        ([{2: 0x80}], False),  # removed
        ([{1: 0xC00}], False),  # another mask, without IN_MOVED_TO
        ([{1: 0x80}, {}], False),  # every watch was removed
        ([{1: 0x80}, None], None),
    ],
)
def test_a_watch_is_missed_only_if_the_kernel_lists_watches(monkeypatch, listings, found):
    watches = KernelWatches()
    for listing in listings:
        monkeypatch.setattr(kernel_watches, "listed", lambda _fd, found=listing: found)
        watches.forget()
        last = watches.has(7, 3, {1: 7, 2: 8})
    assert last is found
