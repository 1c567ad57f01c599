"""Entries committed in groups: the promise of one commit, for each, and what a failure leaves."""

from __future__ import annotations

import errno
import os

import pytest

import watcher
from watcher import commit_many, mailman
from watcher.errors import NoSuch, Unavailable, Usage, WatcherError
from watcher.spool import mounts, whole_sync

MANY = [(b"message %d" % number, {"number": number}) for number in range(20)]


def read(queue, names):
    return [mailman.read_pck((queue / f"{name}.pck").read_bytes()) for name in names]


def scratch(queue):
    return [name for name in os.listdir(queue) if name.endswith(".tmp")]


@pytest.fixture
def calls(monkeypatch, queue):
    """Note every call that writes, renames or syncs, in order; `refuse` may refuse one."""
    noted: list[str] = []
    refused: dict[str, tuple[int, int]] = {}
    real = {name: getattr(os, name) for name in ("fsync", "rename", "write")}

    def noting(name):
        def call(*arguments, **options):
            noted.append(name)
            after, code = refused.get(name, (-1, 0))
            if noted.count(name) - 1 == after:
                raise OSError(code, os.strerror(code))
            return real[name](*arguments, **options)

        return call

    for name in real:
        monkeypatch.setattr(os, name, noting(name))
    whole = commit_many.sync_file_system

    def syncing(directory):
        noted.append("syncfs")
        return whole(directory)

    monkeypatch.setattr(commit_many, "sync_file_system", syncing)
    return noted, refused


def test_every_entry_is_there_in_order_when_it_returns(queue):
    names = watcher.enqueue_many(queue, MANY)
    assert read(queue, names) == MANY
    assert sorted(names) == names
    assert len(os.listdir(queue)) == len(MANY)


@pytest.mark.parametrize("whole", [True, False], ids=["syncfs", "fsync of each"])
def test_all_is_synced_before_the_first_rename_and_the_names_after_the_last(
    queue, calls, monkeypatch, whole
):
    noted, _ = calls
    if not whole:
        monkeypatch.setattr(whole_sync, "SYNCED_WHOLE", frozenset())
    elif not commit_many.sync_file_system(os.open(queue, os.O_RDONLY)):
        pytest.skip("this file system is not trusted with syncfs(2)")
    noted.clear()
    watcher.enqueue_many(queue, MANY)
    synced = ["syncfs"] if whole else ["syncfs"] + ["fsync"] * len(MANY)
    written = ["write"] * len(MANY)
    assert noted == [*written, *synced, *["rename"] * len(MANY), "fsync"]


def test_where_the_file_system_cannot_be_told_each_file_is_synced(queue, calls, monkeypatch):
    noted, _ = calls

    def refuse(_directory):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(mounts, "filesystem", refuse)
    assert len(watcher.enqueue_many(queue, MANY)) == len(MANY)
    assert noted.count("fsync") == len(MANY) + 1


def test_groups_are_bounded_and_each_is_told_when_it_is_there(queue, monkeypatch):
    monkeypatch.setattr(commit_many, "GROUP", 8)
    seen = 0
    for names in commit_many.in_groups(queue, MANY):
        seen += len(names)
        assert len(os.listdir(queue)) == seen
    assert seen == len(MANY)
    assert watcher.enqueue_many(queue, []) == []


def test_a_group_that_cannot_be_written_leaves_nothing_and_tells_of_those_before(
    queue, calls, monkeypatch
):
    monkeypatch.setattr(commit_many, "GROUP", 8)
    noted, refused = calls
    refused["write"] = (12, errno.ENOSPC)
    with pytest.raises(WatcherError, match="No space left") as raised:
        watcher.enqueue_many(queue, MANY)
    assert read(queue, raised.value.committed) == MANY[:8]
    assert len(os.listdir(queue)) == 8
    assert noted.count("rename") == 8


def test_a_rename_that_is_refused_tells_which_were_not(queue, calls):
    noted, refused = calls
    refused["rename"] = (5, errno.EIO)
    with pytest.raises(WatcherError, match="Input/output") as raised:
        watcher.enqueue_many(queue, MANY)
    assert read(queue, raised.value.committed) == MANY[:5]
    assert len(os.listdir(queue)) == 5
    assert noted[-1] == "fsync"


def test_a_sync_that_is_refused_leaves_nothing(queue, calls, monkeypatch):
    _, refused = calls
    monkeypatch.setattr(whole_sync, "SYNCED_WHOLE", frozenset())
    refused["fsync"] = (3, errno.EIO)
    with pytest.raises(WatcherError, match="Input/output") as raised:
        watcher.enqueue_many(queue, MANY)
    assert raised.value.committed == ()
    assert os.listdir(queue) == []


def test_names_that_cannot_be_synced_are_not_told_as_committed(queue, calls, monkeypatch):
    _, refused = calls
    monkeypatch.setattr(whole_sync, "SYNCED_WHOLE", frozenset())
    refused["fsync"] = (len(MANY), errno.EIO)
    with pytest.raises(Unavailable, match="20 entries may be there") as raised:
        watcher.enqueue_many(queue, MANY)
    assert raised.value.committed == ()


def test_what_the_caller_does_wrong_costs_none_before_it(queue):
    def entries():
        yield from MANY[:3]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as raised:
        watcher.enqueue_many(queue, entries())
    assert read(queue, raised.value.committed) == MANY[:3]
    with pytest.raises(Usage) as refused:
        watcher.enqueue_many(queue, [(b"raw", None), (b"raw", {"a": 1})], raw=True, suffix=".csv")
    (name,) = refused.value.committed
    assert (queue / name).read_bytes() == b"raw"
    assert scratch(queue) == []


def test_an_interrupt_leaves_no_scratch_files(queue):
    def entries():
        yield from MANY[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watcher.enqueue_many(queue, entries())
    assert os.listdir(queue) == []


def test_no_directory_is_said(tmp_path):
    with pytest.raises(NoSuch, match="the queue directory does not exist") as raised:
        watcher.enqueue_many(tmp_path / "none", MANY)
    assert raised.value.committed == ()
