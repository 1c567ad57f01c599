"""Where a move changes a file's inode number no queue is served; elsewhere nothing is asked."""

from __future__ import annotations

import os

import pytest

from watcher.errors import CannotCreate, Unavailable
from watcher.inspect.probe import try_directory
from watcher.rules.finding import BAD
from watcher.spool import inode_numbers
from watcher.spool.disk import DISK, Disk


class Renumbering(Disk):
    """As mergerfs: what stands under the new name has another number."""

    moves = 0

    def move(self, name, source, target_name, target):
        self.moves += 1
        fd = os.open(target_name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=target)
        os.close(fd)
        os.unlink(name, dir_fd=source)


def test_a_file_system_that_changes_the_number_is_refused_with_the_reason(open_spool, queue):
    disk = Renumbering()
    spool = open_spool(disk=disk)
    spool.filesystem = "fuse"
    with pytest.raises(Unavailable, match=r"another inode number .* beneath this file system"):
        inode_numbers.check(spool)
    assert os.listdir(queue / ".watcher") == []
    assert disk.moves == 1


def test_one_that_keeps_it_is_served(open_spool, queue):
    spool = open_spool()
    spool.filesystem = "fuse"
    inode_numbers.check(spool)
    assert os.listdir(queue / ".watcher") == []


def test_where_it_is_known_to_stay_nothing_is_tried(open_spool, queue):
    disk = Renumbering()
    spool = open_spool(disk=disk)
    spool.filesystem = "ext4"
    inode_numbers.check(spool)
    assert disk.moves == 0
    assert not (queue / ".watcher").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), CannotCreate("in the way")])
def test_what_cannot_be_tried_is_not_held_against_it(open_spool, monkeypatch, error):
    spool = open_spool()
    spool.filesystem = ""

    def refuse(*_arguments):
        raise error

    monkeypatch.setattr(type(spool), "state_root", refuse)
    inode_numbers.check(spool)


def test_check_tells_of_it(open_spool, monkeypatch):
    monkeypatch.setattr(inode_numbers, "change", lambda disk, _directory: disk is DISK)
    found = {check.about: check for check in try_directory(open_spool())}
    assert found["inode number"].grade == BAD
    assert found["inode number"].what == inode_numbers.WHY
