"""`.watcher/paused`: written whole, decided by its name, and never trusted for more."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest

from watcher.errors import NoSpace, Unavailable
from watcher.spool import paused
from watcher.spool.disk import Disk

SAID = {"since": 1.0, "user": "root (uid 0)", "process": 7, "why": "w"}


@pytest.fixture
def spool(open_spool, queue):
    (queue / ".watcher").mkdir(mode=0o700)
    return open_spool()


@pytest.fixture
def file(queue):
    return queue / ".watcher" / "paused"


def test_no_directory_is_made_by_a_look(open_spool, queue):
    spool = open_spool()
    assert paused.read(spool) is None
    assert not paused.is_there(spool)
    assert list(queue.iterdir()) == []


def test_what_is_written_is_read(spool, file):
    assert paused.pause(spool, "root (uid 0)", "why") is None
    found = paused.read(spool)
    assert (found.user, found.process, found.why, found.trouble) == (
        "root (uid 0)", os.getpid(), "why", "",
    )  # fmt: skip
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert paused.pause(spool, "another", "") == found
    assert paused.resume(spool) == found
    assert paused.resume(spool) is None
    assert [path.name for path in file.parent.iterdir()] == []


def test_a_full_disk_is_one_line_and_leaves_nothing(open_spool, queue):
    class Full(Disk):
        def write_record(self, *_arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool = open_spool(disk=Full())
    with pytest.raises(
        NoSpace, match=r"/paused: the file cannot be made: No space left.*free some"
    ):
        paused.pause(spool, "u", "")
    assert paused.read(spool) is None


HOSTILE = {
    "directory": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "two names": lambda path: (path.touch(), os.link(path, path.with_name("other"))),
    "a stranger's": lambda path: (path.touch(), os.chown(path, 12345, 12345)),
    "too large": lambda path: path.write_bytes(b" " * 100_000 + b"{}"),
    "too deep": lambda path: path.write_bytes(b"[" * 4_000),
    "no JSON": lambda path: path.write_bytes(b"\xff\0"),
    "a list": lambda path: path.write_bytes(b"[]"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_has_the_name_is_a_pause_with_a_warning(spool, file, kind):
    if kind == "a stranger's" and os.geteuid() != 0:
        pytest.skip("only root can make it")
    HOSTILE[kind](file)
    found = paused.read(spool)
    assert found.trouble
    assert "\n" not in str(found)
    assert paused.is_there(spool)
    paused.resume(spool)
    assert not os.path.lexists(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_writes_belongs_to_the_queues_owner(open_spool, queue):
    (queue / ".watcher").mkdir(mode=0o700)
    for path in (queue, queue / ".watcher"):
        os.chown(path, 65534, 65534)
    spool = open_spool()
    paused.pause(spool, "root", "")
    assert (queue / ".watcher/paused").stat().st_uid == 65534


def test_a_directory_with_files_is_left_and_said(spool, file):
    (file / "below").mkdir(parents=True)
    with pytest.raises(
        Unavailable, match=r"is a directory, and cannot be removed: .*: move it away"
    ):
        paused.resume(spool)
    assert paused.is_there(spool)


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": "x"}, {"since": float("nan")}, {"since": 1e300}, {"since": -1}, {"user": 1},
        {"user": "a\nb\x1b[31m"}, {"process": "x"}, {"why": ["w"]}, {"why": "x" * 3_000},
    ],
)  # fmt: skip
def test_fields_that_make_no_sense_are_left_out(spool, file, wrong):
    file.write_text(json.dumps(SAID | wrong))
    found = paused.read(spool)
    assert str(found).isprintable()
    assert len(str(found)) < 1_000
    assert found.trouble == ""


def test_a_file_made_by_touch_is_a_pause_without_a_warning(spool, file):
    file.touch()
    assert str(paused.read(spool)).startswith("paused since ")
    assert paused.read(spool).trouble == ""
