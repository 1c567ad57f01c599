"""The scan of a real directory: everything once, oldest first, in bounded batches and memory."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from watcher.arrive.scan import START, ScanPosition, scan
from watcher.rules.kinds import Kind
from watcher.rules.names import Layout

LEGACY = Layout(legacy=True)
RAW = Layout(b"", raw=True)


def names(batch):
    return [mark.name for mark in batch.entries]


def whole_pass(spool, limit, between=lambda: None):
    """Scan batch after batch; return the names in the order they came."""
    mark, found = START, []
    while True:
        batch = scan(spool, mark, limit=limit)
        assert len(batch.entries) <= limit
        found += names(batch)
        if not batch.more:
            return found
        mark = batch.entries[-1]
        between()


def test_the_order_is_that_of_commit_whatever_the_names(open_spool, put, queue):
    written = [b"%d.pck" % (number * 7919 % 100) for number in range(100)]
    for name in written:
        put(name)
    ctimes = {name: os.stat(os.path.join(os.fsencode(queue), name)).st_ctime_ns for name in written}
    batch = scan(open_spool())
    assert names(batch) == sorted(written, key=lambda name: (ctimes[name], name))
    assert not batch.more
    assert batch.total == 100
    assert batch.entries == sorted(batch.entries)
    # The kernel's stamps may tie within a tick; an entry a tick older is always before.
    position = {name: number for number, name in enumerate(names(batch))}
    assert all(position[a] < position[b] for a in written for b in written if ctimes[a] < ctimes[b])


def test_an_old_entry_that_is_renamed_in_now_comes_last(open_spool, put, queue):
    put(b"b.pck")
    (queue.parent / "old").touch()
    os.utime(queue.parent / "old", (0, 0))
    late = put(b"late.pck")
    while (
        os.stat(os.path.join(os.fsencode(queue), late)).st_ctime_ns
        == (queue.parent / "old").stat().st_ctime_ns
    ):
        put(late)
    os.rename(queue.parent / "old", queue / "a.pck")
    assert names(scan(open_spool()))[0] == b"b.pck"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 30), st.sampled_from([LEGACY, Layout(), RAW]))
def test_batches_of_any_size_bring_each_entry_once(open_spool, put, queue, limit, layout):
    if not any(queue.iterdir()):
        for number in range(25):
            put(b"%d.%s" % (number, [b"pck", b"msg", b"db", b"pck"][number % 4]))
        put(b"1.db")
        put(b"5.db")
    expected = names(scan(open_spool(layout)))
    assert len(expected) == len(set(expected)) > 10
    assert whole_pass(open_spool(layout), limit) == expected


def test_what_comes_during_a_pass_is_in_it_and_what_goes_is_not_missed_for(open_spool, put, queue):
    for number in range(20):
        put(b"%02d.pck" % number)
    spool = open_spool()
    expected = names(scan(spool))
    came: list[bytes] = []

    def between():
        came.append(put(b"new%02d.pck" % len(came)))
        os.unlink(queue / os.fsdecode(expected[len(came) - 1]))  # it was handled

    assert len(expected) == 20
    found = whole_pass(spool, 3, between)
    assert found[:20] == expected
    assert set(came[:-1]) <= set(found)
    assert len(found) == len(set(found))


def test_names_that_are_known_are_skipped(open_spool, put):
    put(b"a.pck")
    put(b"b.pck")
    batch = scan(open_spool(), skip=lambda name: name == b"a.pck")
    assert names(batch) == [b"b.pck"]
    assert batch.total == 1


def test_memory_is_for_one_batch_whatever_the_directory_holds(open_spool, queue):
    def peak(count):
        for number in range(count):
            os.close(os.open(queue / f"{number:0200d}.pck", os.O_CREAT | os.O_WRONLY))
        spool = open_spool()
        scan(spool, limit=50)  # what is allocated once and for all
        tracemalloc.start()
        batch = scan(spool, limit=50)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(batch.entries), batch.more, batch.total) == (50, True, count)
        return most

    small, large = peak(200), peak(8_000)
    assert large < small + 100_000  # 8,000 names alone are 1.6 MB


def test_bystanders_are_named_to_a_bound_and_counted_beyond(open_spool, queue, monkeypatch):
    monkeypatch.setattr("watcher.arrive.scan.MAX_NAMED", 5)
    for number in range(20):
        (queue / f"{number}.txt").touch()
    batch = scan(open_spool())
    assert batch.counts == {Kind.FOREIGN: 20}
    assert len(batch.bystanders) == 5


def test_odd_things_are_bystanders_and_say_what_they_are(open_spool, odd_file, put):
    name, kind = odd_file
    put(b"good.pck")
    batch = scan(open_spool())
    assert names(batch) == [b"good.pck"]
    (other,) = batch.bystanders
    assert (other.name, other.kind) == (name, Kind.FOREIGN)
    word = {"hard link": "2 hard links", "device without driver": "device"}.get(kind, kind)
    word = "symbolic link" if "symlink" in kind else word
    assert word in other.why


def test_other_files_are_told_apart(open_spool, put, queue):
    for name in (b"x.pck.tmp", b".hidden", b"x.bak", b"x.psv", b"x.txt", b"x.msg"):
        put(name)
    (queue / "folder").mkdir()
    open_spool().inflight()  # .watcher is ours and no bystander
    batch = scan(open_spool())
    assert names(batch) == []
    assert batch.counts == {Kind.TEMPORARY: 2, Kind.LEFTOVER: 2, Kind.FOREIGN: 3}
    assert b".watcher" not in {item.name for item in batch.bystanders}


BAD_NAMES = [b"\xff\xfe.pck", b"n" * 251 + b".pck", b"two\nlines.pck", b"-rf.pck", b"noplus.pck"]


def test_any_name_is_found(open_spool, put):
    for name in BAD_NAMES:
        put(name)
    assert set(names(scan(open_spool()))) == set(BAD_NAMES)


@pytest.mark.parametrize("suffix", [b".db", b".msg", b".pck"])
def test_a_half_with_the_longest_of_names_does_not_stop_a_scan(open_spool, put, suffix):
    name = put(b"n" * (255 - len(suffix)) + suffix)
    put(b"good.pck")
    assert set(names(scan(open_spool(LEGACY)))) == {name, b"good.pck"}


def test_a_pair_has_one_place_that_of_its_younger_half(open_spool, put, queue):
    def later(name, than):
        put(name)
        while (queue / name.decode()).stat().st_ctime_ns <= (queue / than).stat().st_ctime_ns:
            put(name)

    put(b"x.msg")
    later(b"y.pck", "x.msg")
    later(b"x.db", "y.pck")
    put(b"alone.db")
    batch = scan(open_spool(LEGACY))
    assert [name for name in names(batch) if name != b"alone.db"] == [b"y.pck", b"x.msg"]
    assert batch.entries[1].ctime_ns == (queue / "x.db").stat().st_ctime_ns
    assert b"alone.db" in names(batch)


def test_scanning_opens_and_changes_nothing_and_leaves_no_descriptor(
    open_spool, put, behind, descriptors
):
    put(b"x.pck")
    spool = open_spool(disk=behind)
    before = descriptors()
    for _ in range(3):
        scan(spool)
    assert descriptors() == before
    assert behind.calls == []


def test_a_directory_that_cannot_be_read_raises(open_spool, put, monkeypatch):
    put(b"x.pck")
    spool = open_spool()

    def broken(_fd):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(OSError, match="Input/output"):
        scan(spool)


def test_a_file_that_goes_while_we_look_is_just_not_there(open_spool, put, queue):
    put(b"x.pck")
    put(b"y.pck")

    def skip(name):
        (queue / os.fsdecode(name)).unlink()
        return False

    assert names(scan(open_spool(), skip=skip)) == []


def test_marks_order_by_time_then_name():
    assert (
        START
        < ScanPosition(-5, b"z")
        < ScanPosition(0, b"a")
        < ScanPosition(0, b"b")
        < ScanPosition(1, b"")
    )


def test_a_file_of_one_name_may_be_an_entry_and_of_more_where_the_queue_says_so(queue, put):
    path, linked = queue / "x.pck", Layout(hard_links=True)
    put(b"x.pck")
    assert Layout().may_be_entry(path.stat())
    (queue / "y").hardlink_to(path)
    assert not Layout().may_be_entry(path.stat())
    assert linked.may_be_entry(path.stat())
    assert not linked.may_be_entry(queue.stat())
