"""`state_dir`: the state directory of a queue, outside of it."""

from __future__ import annotations

import os
import subprocess

import pytest

from watcher.errors import BadConfiguration, NotPermitted
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.spool.spool import Spool
from watcher.spool.state_home import MARK, Outside

OWNER = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def base(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


def spool_of(queue, base, below="q"):
    outside = Outside(os.fsencode(base), os.fsencode(below))
    return Spool(os.fsencode(queue), Layout(), outside=outside)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_state_directories_are_made_there_and_none_in_the_queue(queue, base):
    spool = spool_of(queue, base)
    assert spool.state_dir(State.DEAD) is None
    assert spool.home.stat() is None
    spool.make_state_dir(State.DEAD)
    assert names(base / "q") == ["dead", MARK.decode()]
    assert (base / "q" / MARK.decode()).read_text() == f"{queue}\n"
    assert (base / "q").stat().st_mode & 0o777 == 0o700
    assert names(queue) == []
    assert spool.state_dir(State.DEAD) is not None


def test_each_level_of_a_pattern_is_made_below_the_base(queue, base):
    spool = spool_of(queue, base, "front/2026")
    spool.inflight()
    assert names(base / "front" / "2026") == ["inflight", MARK.decode()]


def test_two_queues_never_share_one(queue, base, tmp_path):
    (tmp_path / "other").mkdir()
    spool_of(queue, base).inflight()
    with pytest.raises(BadConfiguration, match=f"belongs to the queue {queue}, not to"):
        spool_of(tmp_path / "other", base).inflight()
    with pytest.raises(BadConfiguration, match="belongs to the queue"):
        spool_of(tmp_path / "other", base).home.open()
    spool_of(queue, base).inflight()


def test_a_queue_that_was_moved_has_its_state_when_the_mark_is_removed(queue, base, tmp_path):
    spool_of(queue, base).inflight()
    queue.rename(tmp_path / "moved")
    with pytest.raises(BadConfiguration, match=MARK.decode()):
        spool_of(tmp_path / "moved", base).inflight()
    (base / "q" / MARK.decode()).unlink()
    spool_of(tmp_path / "moved", base).inflight()


def test_a_state_directory_that_was_in_the_queue_may_be_moved_out(queue, base):
    Spool(os.fsencode(queue), Layout()).make_state_dir(State.HELD)
    (queue / ".watcher" / "held" / "a.pck").write_bytes(b"")
    with pytest.raises(BadConfiguration, match=r"mv .*/queue/\.watcher .*/state/q"):
        spool_of(queue, base).inflight()
    (queue / ".watcher").rename(base / "q")
    assert spool_of(queue, base).state_dir(State.HELD) is not None
    spool_of(queue, base).inflight()


def test_a_replacement_in_a_dead_process_directory_is_not_forgotten_either(queue, base):
    left = queue / ".watcher" / "inflight" / "1.dead"
    left.mkdir(parents=True)
    (left / ".ledger").write_bytes(b"")
    spool_of(queue, base).inflight()
    (left / "a.pck").write_bytes(b"")
    with pytest.raises(BadConfiguration, match="entries lie in"):
        spool_of(queue, base).inflight()


@pytest.mark.parametrize(
    ("where", "wanted"),
    [("queue/x", "outside the queue"), ("queue", "outside the queue"), ("no/x", "make it: mkdir")],
)
def test_a_place_that_cannot_be_is_refused_with_what_to_do(queue, tmp_path, where, wanted):
    directory = tmp_path / where
    with pytest.raises(BadConfiguration, match=wanted):
        spool_of(queue, directory.parent, directory.name).inflight()
    assert names(queue) == []


def test_a_directory_with_other_files_is_refused(queue, base):
    (base / "q").mkdir(mode=0o700)
    (base / "q" / "mine").write_bytes(b"")
    with pytest.raises(BadConfiguration, match="there is mine in it"):
        spool_of(queue, base).inflight()
    assert names(base / "q") == ["mine"]


@AS_ROOT
def test_another_file_system_is_refused(queue, base):
    subprocess.run(["mount", "-t", "tmpfs", "none", base], check=True)
    try:
        with pytest.raises(BadConfiguration, match="on the file system of"):
            spool_of(queue, base).inflight()
    finally:
        subprocess.run(["umount", base], check=True)


@AS_ROOT
def test_a_bind_mount_of_the_same_file_system_is_refused(queue, base, tmp_path):
    """rename(2) does not go from one mount to another, though st_dev is the same."""
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "elsewhere", base], check=True)
    try:
        with pytest.raises(BadConfiguration, match="on the file system of"):
            spool_of(queue, base).inflight()
    finally:
        subprocess.run(["umount", base], check=True)


@AS_ROOT
def test_what_root_makes_there_belongs_to_the_queues_owner(queue, base):
    os.chown(queue, OWNER, OWNER)
    spool_of(queue, base).make_state_dir(State.DEFERRED)
    made = [base / "q", base / "q" / "deferred", base / "q" / MARK.decode()]
    assert {path.stat().st_uid for path in made} == {OWNER}


@AS_ROOT
def test_a_directory_of_a_third_user_is_refused(queue, base):
    os.chown(queue, OWNER, OWNER)
    (base / "q").mkdir(mode=0o700)
    os.chown(base / "q", 1, 1)
    with pytest.raises(NotPermitted, match="belongs to user 1"):
        spool_of(queue, base).inflight()
