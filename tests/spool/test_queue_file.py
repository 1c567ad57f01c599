"""`.watcher/queue.json`: written whole, replaced whole, and believed only if it may be."""

from __future__ import annotations

import errno
import os

import pytest

from watcher.errors import BadConfiguration
from watcher.rules.names import Layout
from watcher.rules.queue_record import LARGEST, QueueRecord, encode
from watcher.spool.disk import Disk
from watcher.spool.queue_file import Hidden, NotBelieved, check_version, keep, read
from watcher.spool.spool import Spool

RAW = QueueRecord("raw", ("*.csv",), ("*.part",))
OWNER, OTHER = 1111, 2222
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to play two users")


@pytest.fixture
def ours(queue):
    """The directory of the record."""
    directory = queue / ".watcher"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def there(ours):
    """A record that is believed."""
    file = ours / "queue.json"
    file.write_bytes(encode(RAW))
    file.chmod(0o600)
    return file


def test_a_queue_without_a_record_says_nothing(queue, tmp_path):
    assert read(os.fsencode(queue)) is None
    assert list(queue.iterdir()) == []
    assert read(os.fsencode(tmp_path / "none")) is None
    (queue / ".watcher").write_text("in the way")
    assert read(os.fsencode(queue)) is None


def test_what_is_kept_is_read_and_only_a_change_writes(queue, behind):
    spool = Spool(os.fsencode(queue), Layout(), behind)
    assert keep(spool, RAW) == ""
    assert read(os.fsencode(queue)) == RAW
    behind.calls.clear()
    assert keep(spool, RAW) == ""
    assert "write_record" not in behind.calls
    other = RAW._replace(match=("*.txt",))
    assert keep(spool, other).endswith("said match *.csv, not *.txt: it is written anew")
    assert read(os.fsencode(queue)) == other
    assert [path.name for path in (queue / ".watcher").iterdir()] == ["queue.json"]


def test_the_record_is_read_by_a_relative_path_too(queue, there, monkeypatch):
    monkeypatch.chdir(queue.parent)
    assert read(os.fsencode(queue.name)) == RAW
    monkeypatch.chdir(queue)
    assert read(b".") == RAW


@pytest.mark.parametrize("call", ["rename", "fsync", "write"])
def test_a_refused_write_leaves_the_record_before(queue, there, monkeypatch, call):
    spool = Spool(os.fsencode(queue), Layout())
    spool.state_root()

    def refused(*_arguments, **_options):
        raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(os, call, refused)
    with pytest.raises(OSError, match="refused"):
        keep(spool, RAW._replace(hard_links=True))
    monkeypatch.undo()
    assert read(os.fsencode(queue)) == RAW
    assert [path.name for path in there.parent.iterdir()] == ["queue.json"]


@pytest.mark.parametrize(
    "kind", ["link", "second name", "fifo", "directory", "open", "huge", "cut"]
)
def test_a_file_that_may_not_be_believed_is_said_with_what_to_do(queue, there, tmp_path, kind):
    if kind == "link":
        there.rename(tmp_path / "else")
        there.symlink_to(tmp_path / "else")
    elif kind == "second name":
        os.link(there, tmp_path / "else")
    elif kind == "open":
        there.chmod(0o666)
    elif kind == "huge":
        there.write_bytes(b" " * (LARGEST * 4))
    elif kind == "cut":
        there.write_bytes(encode(RAW)[:-20])
    else:
        there.unlink()
        (os.mkfifo if kind == "fifo" else os.mkdir)(there)
    with pytest.raises(NotBelieved) as refused:
        read(os.fsencode(queue))
    assert str(refused.value).startswith(f"{there}: not believed: ")
    assert "remove it" in str(refused.value)
    spool = Spool(os.fsencode(queue), Layout())
    if kind == "directory":
        with pytest.raises(IsADirectoryError):
            keep(spool, RAW)
    else:
        assert "written anew" in keep(spool, RAW)
        assert read(os.fsencode(queue)) == RAW


def test_a_directory_that_others_may_write_to_is_not_believed(queue, there):
    there.parent.chmod(0o770)
    with pytest.raises(NotBelieved, match="others may write to it"):
        read(os.fsencode(queue))


def test_a_newer_programs_queue_is_refused_and_left_as_it_is(queue, there):
    newer = encode(RAW).replace(b'"version": 1', b'"version": 9')
    there.write_bytes(newer)
    spool = Spool(os.fsencode(queue), Layout())
    for look in (lambda: read(os.fsencode(queue)), lambda: check_version(spool),
                 lambda: keep(spool, RAW)):  # fmt: skip
        with pytest.raises(BadConfiguration, match=r"version 9.* a newer watcher made this queue"):
            look()
    assert there.read_bytes() == newer


@AS_ROOT
@pytest.mark.parametrize("whose", ["file", "directory"])
def test_a_strangers_record_is_not_believed_and_the_owners_is(queue, there, whose):
    for path in (queue, there.parent, there):
        os.chown(path, OWNER, OWNER)
    assert read(os.fsencode(queue)) == RAW
    os.chown(there if whose == "file" else there.parent, OTHER, OTHER)
    with pytest.raises(NotBelieved, match=f"user {OTHER}"):
        read(os.fsencode(queue))


@AS_ROOT
def test_what_root_writes_belongs_to_the_queues_owner(queue):
    os.chown(queue, OWNER, OWNER)
    keep(Spool(os.fsencode(queue), Layout()), RAW)
    status = (queue / ".watcher" / "queue.json").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (OWNER, OWNER, 0o600)


@AS_ROOT
def test_a_user_who_may_not_read_the_record_is_told_so(queue, there):
    os.chown(queue, OWNER, OWNER)
    os.seteuid(OTHER)
    try:
        with pytest.raises(Hidden, match="we may not read it"):
            read(os.fsencode(queue))
    finally:
        os.seteuid(0)
    assert there.exists()


def test_a_disk_calls_the_rename_after_the_sync_and_syncs_the_directory_last(queue, monkeypatch):
    calls = []
    spool = Spool(os.fsencode(queue), Layout())
    root = spool.state_root()
    for call in ("fsync", "rename"):
        real = getattr(os, call)

        def noting(*arguments, call=call, real=real, **options):
            calls.append((call, arguments[0] == root))
            return real(*arguments, **options)

        monkeypatch.setattr(os, call, noting)
    Disk().write_record(b"queue.json", root, encode(RAW))
    assert calls == [("fsync", False), ("rename", False), ("fsync", True)]
