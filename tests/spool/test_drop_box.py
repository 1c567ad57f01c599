"""A drop box: users put entries into a directory that they may not read."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

import watcher
from watcher import cli, commit_many, commit_one, mailman
from watcher.cli import enqueue as command
from watcher.errors import NotPermitted
from watcher.spool import drop_box, libc, mounts, whole_sync

STRANGER = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to play two users")


@pytest.fixture
def box():
    """A directory into which every user may put files, below one that every user can come to."""
    parent = Path(tempfile.mkdtemp(prefix="watcher-test-"))
    parent.chmod(0o755)
    path = parent / "box"
    path.mkdir()
    (path / ".watcher").mkdir(mode=0o700)
    path.chmod(0o1733)
    yield path
    shutil.rmtree(parent)


def as_stranger(work):
    """Return what `work` prints in a child that has become another user, or its error."""
    commit_one.prepare()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(STRANGER, STRANGER, STRANGER)
            os.setresuid(STRANGER, STRANGER, STRANGER)
            os.dup2(write, 1)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open until the child ends
            work()
        except SystemExit:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(write, repr(error).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        said = told.read()
    os.waitpid(pid, 0)
    return said.split()


def say(names):
    os.write(1, " ".join(names).encode())


@AS_ROOT
def test_a_user_commits_with_write_and_search_permission_alone(box):
    assert as_stranger(lambda: say(os.listdir(box)))[0].startswith("PermissionError")
    (one,) = as_stranger(lambda: say([watcher.enqueue(box, b"one")]))
    many = as_stranger(lambda: say(watcher.enqueue_many(box, [(b"x", None)] * 20)))
    assert len(many) == 20
    assert {path.name for path in box.glob("[!.]*")} == {f"{name}.pck" for name in (one, *many)}
    assert mailman.read_pck((box / f"{one}.pck").read_bytes())[0] == b"one"
    assert {path.stat().st_uid for path in box.glob("*.pck")} == {STRANGER}


@AS_ROOT
def test_the_command_needs_no_more_and_does_not_need_the_state_directory(box):
    file = box.parent / "message"
    file.write_bytes(b"message")
    (name,) = as_stranger(lambda: cli.main(["enqueue", str(box), str(file)]))
    assert (box / f"{name}.pck").exists()
    assert list((box / ".watcher").iterdir()) == []
    assert command.command.name == "enqueue"  # imported before the child became another user


@AS_ROOT
def test_without_the_right_to_write_it_is_refused_and_nothing_is_left(box):
    box.chmod(0o1711)
    said = as_stranger(lambda: say([watcher.enqueue(box, b"message")]))
    assert said[0].startswith(NotPermitted.__name__)
    assert [path.name for path in box.iterdir()] == [".watcher"]


@AS_ROOT
def test_a_daemon_of_root_handles_what_users_put_there(box, start_daemon, recorder):
    daemon = start_daemon(box, handler=recorder.argv())
    (name,) = as_stranger(lambda: say([watcher.enqueue(box, b"message")]))
    daemon.wait_for("finish", entry=name)
    assert not list(box.glob("*.pck"))
    assert daemon.end() == 0


@pytest.fixture
def steps(monkeypatch):
    """Every directory is opened as a drop box; what is renamed and synced, in order."""
    noted = []
    monkeypatch.setattr(
        drop_box, "open_to_commit", lambda path: os.open(path, os.O_PATH | os.O_DIRECTORY)
    )
    real = {"rename": os.rename, "fsync": os.fsync}

    def noting(call):
        def noted_call(what, *arguments, **options):
            name = what if isinstance(what, bytes) else os.readlink(f"/proc/self/fd/{what}")
            noted.append((call, Path(os.fsdecode(name)).suffix))
            return real[call](what, *arguments, **options)

        return noted_call

    for call in real:
        monkeypatch.setattr(os, call, noting(call))
    monkeypatch.setattr(libc, "syncfs", lambda _fd: noted.append(("syncfs", "")))
    return noted


@pytest.mark.parametrize("whole", [True, False], ids=["ext4", "another file system"])
def test_the_name_is_synced_through_its_file(queue, steps, monkeypatch, whole):
    monkeypatch.setattr(mounts, "filesystem", lambda _fd: "ext4" if whole else "other")
    watcher.enqueue(queue, b"message")
    last = ("syncfs", "") if whole else ("fsync", ".pck")
    assert steps == [("fsync", ".tmp"), ("rename", ".tmp"), last]


@pytest.mark.parametrize("whole", [True, False], ids=["ext4", "another file system"])
def test_the_names_of_a_group_are_synced_through_its_files(queue, steps, monkeypatch, whole):
    monkeypatch.setattr(mounts, "filesystem", lambda _fd: "ext4" if whole else "other")
    monkeypatch.setattr(commit_many, "FEW", 100)
    watcher.enqueue_many(queue, [(b"x", None), (b"y", None)])
    last = [("syncfs", "")] if whole else [("fsync", ".pck")] * 2
    assert steps == [("fsync", ".tmp")] * 2 + [("rename", ".tmp")] * 2 + last
    assert whole_sync.SYNCED_WHOLE


def test_no_descriptor_stays_open(queue, steps, descriptors):
    watcher.enqueue(queue, b"message")
    before = descriptors()
    watcher.enqueue(queue, b"message")
    watcher.enqueue_many(queue, [(b"x", None)] * 3)
    assert descriptors() == before
    assert steps
