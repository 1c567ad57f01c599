"""The calls that change a spool: nothing is overwritten, followed, or left half done."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

import pytest

from watcher.spool import libc
from watcher.spool.disk import DISK, Disk


@pytest.fixture
def there(tmp_path):
    """Two directories with a descriptor each, and their paths."""
    paths = tmp_path / "one", tmp_path / "two"
    fds = []
    for path in paths:
        path.mkdir()
        fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
    yield *paths, *fds
    for fd in fds:
        os.close(fd)


def without_noreplace(number):
    """Return a renameat2 for a kernel, C library or file system that does not have the flag."""

    def call(_source, _name, _target, _target_name, _flags):
        return number

    return call


@pytest.fixture(params=["renameat2", "EINVAL", "ENOSYS", "EOPNOTSUPP"])
def any_kernel(request, monkeypatch):
    if request.param != "renameat2":
        call = without_noreplace(getattr(errno, request.param))
        monkeypatch.setattr(libc, "renameat2", call)
    return request.param


NAMES = [b"x.pck", b"\xff\xfe\n.pck", b"n" * 255, b"-rf"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_move_moves(there, any_kernel, name):
    one, two, source, target = there
    path = os.path.join(os.fsencode(one), name)
    with open(path, "wb") as file:
        file.write(b"data")
    inode = os.stat(path).st_ino
    DISK.move(name, source, name, target)
    assert os.listdir(os.fsencode(one)) == []
    moved = os.stat(os.path.join(os.fsencode(two), name))
    assert (moved.st_ino, moved.st_nlink) == (inode, 1)


@pytest.mark.parametrize("taken_by", ["file", "directory", "dangling symlink", "itself"])
def test_move_never_overwrites(there, any_kernel, taken_by):
    one, two, source, target = there
    (one / "x").write_bytes(b"old")
    if taken_by == "file":
        (two / "x").write_bytes(b"waits here")
    elif taken_by == "directory":
        (two / "x").mkdir()
    elif taken_by == "itself":
        (two / "x").hardlink_to(one / "x")
    else:
        (two / "x").symlink_to("nowhere")
    before = (two / "x").lstat()
    with pytest.raises(FileExistsError):
        DISK.move(b"x", source, b"x", target)
    assert (two / "x").lstat() == before  # first: to read it may set its atime
    assert (one / "x").read_bytes() == b"old"


def test_move_of_what_is_gone_says_so(there, any_kernel):
    _, two, source, target = there
    with pytest.raises(FileNotFoundError):
        DISK.move(b"x", source, b"x", target)
    assert list(two.iterdir()) == []


def test_move_to_another_file_system_is_refused_whole(there, any_kernel):
    one, _, source, _ = there
    (one / "x").write_bytes(b"old")
    shm = os.open("/dev/shm", os.O_RDONLY | os.O_DIRECTORY)
    try:
        if os.fstat(shm).st_dev == os.fstat(source).st_dev:
            pytest.skip("one file system")
        with pytest.raises(OSError, match="cross-device") as caught:
            DISK.move(b"x", source, b"watcher-test-x", shm)
    finally:
        os.close(shm)
    assert caught.value.errno == errno.EXDEV
    assert (one / "x").read_bytes() == b"old"
    assert not os.path.lexists("/dev/shm/watcher-test-x")


def test_a_move_whose_unlink_is_refused_leaves_one_name(there, monkeypatch):
    """Else every new try would add a name: NAME~1, NAME~2, as long as the disk refuses."""
    one, two, source, target = there
    (one / "x").write_bytes(b"old")
    unlink = os.unlink

    def refuse(name, *, dir_fd):
        if dir_fd == source:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="Input/output"):
        DISK.link_and_unlink(b"x", source, b"x", target)
    assert (one / "x").stat().st_nlink == 1
    assert list(two.iterdir()) == []


def test_a_library_without_renameat2_is_one_without_the_flag(monkeypatch):
    monkeypatch.setattr(libc, "library", object)
    assert use(libc.renameat2) == errno.ENOSYS


def use(call):
    return call(-1, b"x", -1, b"y", 1)


def test_open_never_follows_blocks_or_is_inherited(there):
    one, _, source, _ = there
    (one / "link").symlink_to(one)
    with pytest.raises(OSError, match="symbolic links"):
        DISK.open(b"link", source)
    os.mkfifo(one / "fifo")
    os.close(DISK.open(b"fifo", source))
    (one / "x").touch()
    fd = DISK.open(b"x", source)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_a_lock_is_one_holders_until_the_last_copy_is_closed(there):
    one, _, source, _ = there
    (one / "x").touch()
    first, second = DISK.open(b"x", source), DISK.open(b"x", source)
    copy = os.dup(first)
    DISK.lock(first)
    with pytest.raises(BlockingIOError):
        DISK.lock(second)
    os.close(first)
    with pytest.raises(BlockingIOError):
        DISK.lock(second)
    os.close(copy)
    DISK.lock(second)
    os.close(second)


def test_a_refused_unlock_is_tried_again(there, monkeypatch):
    """What a handler left running has the descriptor too: the claim would stay as long as that."""
    one, _, source, _ = there
    (one / "x").touch()
    fd = DISK.open(b"x", source)
    copy = os.dup(fd)
    DISK.lock(fd)
    refusals = [OSError(errno.EIO, "Input/output error"), OSError(errno.ENOLCK, "No locks")]
    flock = fcntl.flock

    def refuse(of, operation):
        if refusals:
            raise refusals.pop()
        flock(of, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)
    DISK.unlock(fd)
    other = DISK.open(b"x", source)
    DISK.lock(other)
    for each in (fd, copy, other):
        os.close(each)


def test_make_directory_is_for_its_owner_and_an_existing_one_is_as_good(there):
    one, _, source, _ = there
    before = os.umask(0)
    try:
        DISK.make_directory(b"ours", source)
        DISK.make_directory(b"ours", source)
    finally:
        os.umask(before)
    assert stat.S_IMODE((one / "ours").stat().st_mode) == 0o700


def test_a_note_is_there_whole(there):
    one, _, source, _ = there
    DISK.write_note(b"x.json", source, b"{}" * 100_000)
    assert (one / "x.json").read_bytes() == b"{}" * 100_000
    assert stat.S_IMODE((one / "x.json").stat().st_mode) == 0o600
    assert [path.name for path in one.iterdir()] == ["x.json"]


def test_a_note_never_overwrites_another(there):
    one, _, source, _ = there
    (one / "x.json").write_bytes(b"the first")
    with pytest.raises(FileExistsError):
        DISK.write_note(b"x.json", source, b"the second")
    assert (one / "x.json").read_bytes() == b"the first"
    assert [path.name for path in one.iterdir()] == ["x.json"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_note_that_cannot_be_written_is_not_there_at_all(there, monkeypatch, call, descriptors):
    one, _, source, _ = there
    before = descriptors()

    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        DISK.write_note(b"x.json", source, b"{}")
    assert list(one.iterdir()) == []
    assert descriptors() == before


def test_a_note_goes_on_after_a_short_write(there, monkeypatch):
    one, _, source, _ = there
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    DISK.write_note(b"x.json", source, b"0123456789")
    assert (one / "x.json").read_bytes() == b"0123456789"


def test_unlink_and_sync_are_the_kernels(there, monkeypatch):
    one, _, source, _ = there
    (one / "x").touch()
    DISK.unlink(b"x", source)
    assert list(one.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        DISK.unlink(b"x", source)
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    DISK.sync(source)
    assert synced == [source]


def test_an_old_name_goes_only_when_the_new_one_is_durable(there, monkeypatch):
    """A disk may keep the second of two changes only: the file would have no name at all."""
    one, two, source, target = there
    (one / "x").write_bytes(b"precious")
    steps = []

    def note(call):
        real = getattr(os, call)

        def noting(first, **options):
            steps.append((call, first))
            assert (two / "y").exists()
            return real(first, **options)

        monkeypatch.setattr(os, call, noting)

    note("fsync")
    note("unlink")
    DISK.link_and_unlink(b"x", source, b"y", target)
    monkeypatch.undo()
    assert steps == [("fsync", target), ("unlink", b"x")]
    assert (two / "y").read_bytes() == b"precious"


def test_every_call_can_be_stood_before_and_behind(behind):
    """The tests' own `Behind` knows every call there is: a new one must be added to it."""
    ours = {name for name in vars(Disk) if not name.startswith("_")}
    assert ours - {"link_and_unlink"} <= set(vars(type(behind)))
