"""An entry: read through its claim's descriptors, no larger than the limit, under one key."""

from __future__ import annotations

import os
import time

import pytest

from watcher.errors import EntryEnded, Undecodable
from watcher.handle.entry import Entry
from watcher.rules.form import Form
from watcher.spool.birth import birth_ns
from watcher.spool.part import SAMPLE, WHOLE, Part

LIMIT = 100  # bytes


@pytest.fixture
def entry(tmp_path):
    """Make entries of one raw file whose size at the time of the claim is `claimed`."""
    opened = []

    def make(data, *, claimed=None, **facts):
        path = tmp_path / "file.csv"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        opened.append(fd)
        size = len(data) if claimed is None else claimed
        part = Part(b"file.csv", fd, os.fstat(fd).st_ino, size, 1, 1)
        about = {
            "queue": "q",
            "name": b"file",
            "directory": os.fsencode(tmp_path),
            "form": Form.RAW,
        }
        return Entry(**about | {"parts": (part,), "limit": LIMIT} | facts)

    yield make
    for fd in opened:
        os.close(fd)


def test_as_large_as_the_limit_is_read_and_a_byte_more_is_not(entry):
    data = b"x" * LIMIT
    assert entry(data).message == data
    larger = entry(data + b"x")
    with pytest.raises(Undecodable, match=r"101 bytes .* 100 allowed"):
        _ = larger.message
    assert larger.damage is not None
    assert "max_size" in larger.damage


def test_one_that_grew_past_the_limit_after_it_was_claimed_is_not_read(entry):
    grown = entry(b"x" * (LIMIT + 1), claimed=10)
    with pytest.raises(Undecodable, match=r"100 bytes allowed"):
        _ = grown.message


@pytest.mark.parametrize("claimed", [0, 10, 60])
def test_one_whose_size_changed_within_the_limit_is_read_whole(entry, claimed):
    assert entry(b"x" * 50, claimed=claimed).message == b"x" * 50


def test_the_key_is_of_the_name_and_the_bytes_and_of_nothing_else(entry):
    key = entry(b"data").key
    assert entry(b"data", attempt=7, crashes=2, queue="another").key == key
    assert entry(b"data", name=b"another").key != key
    assert entry(b"Data").key != key
    assert entry(b"x" * (LIMIT + 1)).key != entry(b"x" * (LIMIT + 2)).key, "whatever the limit"


def test_the_key_of_a_name_that_comes_again_is_of_the_commit_as_well(entry):
    """The same bytes on another day: another file, made at another time."""
    key = entry(b"data", is_unique_name=False, identity=7).key
    assert entry(b"data", is_unique_name=False, identity=7, attempt=3).key == key
    assert entry(b"data", is_unique_name=False, identity=8).key != key
    assert entry(b"Data", is_unique_name=False, identity=7).key != key, (
        "written to: not handled yet"
    )
    assert entry(b"data", is_unique_name=False, identity=7, name=b"another").key != key
    assert entry(b"data").key != key


def test_neither_a_rename_nor_another_mtime_makes_another_commit(entry, tmp_path):
    first = entry(b"data", is_unique_name=False)
    if birth_ns(first.parts[0].fd) is None:
        pytest.skip("this file system does not tell when a file was made")
    os.utime(tmp_path / "file.csv", ns=(1, 2))
    os.rename(tmp_path / "file.csv", tmp_path / "elsewhere")
    again = Part(b"elsewhere", first.parts[0].fd, 1, 4, 1, 2)
    assert entry(b"data", is_unique_name=False, parts=(again,)).key == first.key


def test_two_files_of_one_name_with_the_same_bytes_and_mtime_are_two_commits(entry, tmp_path):
    keys = set()
    for _ in range(5):
        made = entry(b"data", is_unique_name=False)
        if birth_ns(made.parts[0].fd) is None:
            pytest.skip("this file system does not tell when a file was made")
        os.utime(tmp_path / "file.csv", ns=(1, 2))
        keys.add(made.key)
        (tmp_path / "file.csv").unlink()
        time.sleep(0.02)  # a file's birth is as fine as the kernel's tick, 10 ms at most
    assert len(keys) == 5


def test_where_nothing_tells_when_a_file_was_made_its_mtime_is_the_identity(entry, monkeypatch):
    monkeypatch.setattr("watcher.spool.part.birth_ns", lambda _fd: None)
    part = entry(b"data").parts[0]
    one, other = (
        entry(b"data", is_unique_name=False, parts=(part._replace(mtime_ns=n),)) for n in (5, 6)
    )
    assert (one.identity, other.identity) == (5, 6)
    assert one.key != other.key


def test_the_key_of_a_giant_file_is_read_in_samples_and_tells_what_was_filled_in(entry, tmp_path):
    def key(*written):
        made = entry(b"", is_unique_name=False, identity=1, claimed=3 * WHOLE)
        with open(tmp_path / "file.csv", "r+b") as file:
            file.truncate(3 * WHOLE)
            for offset, data in written:
                file.seek(offset)
                file.write(data)
        return made.key

    hole = key()
    assert key() == hole
    for offset in (0, WHOLE, 3 * WHOLE - 4 * SAMPLE):
        assert key((offset, b"x" * 4 * SAMPLE)) != hole


def test_what_is_read_after_the_handler_returned_raises(entry):
    """A handler may keep its entry: its descriptors are another entry's by then."""
    kept = entry(b"for alice")
    kept.end()
    for read in (lambda: kept.message, lambda: kept.key):
        with pytest.raises(EntryEnded, match="after its handler returned"):
            read()


def test_what_was_read_before_the_handler_returned_stays_readable(entry):
    kept = entry(b"for alice")
    key, message = kept.key, kept.message
    kept.end()
    assert (kept.key, kept.message) == (key, message)


@pytest.mark.parametrize("asked", ["key", "message", "both", "digest", "nothing"])
@pytest.mark.parametrize("data", [b"for alice", b"for Alice"])
def test_it_knows_whether_its_file_still_holds_what_was_read_of_it(entry, asked, data):
    kept = entry(b"for alice")
    for what in ("key", "message"):
        if asked in (what, "both"):
            getattr(kept, what)
    if asked == "digest":
        assert kept.message
        kept.give_up_message()
        assert kept._message is None
    writable = os.open(f"/proc/self/fd/{kept.parts[0].fd}", os.O_WRONLY)
    os.pwrite(writable, data, 0)
    os.close(writable)
    assert kept.is_as_read() is (None if asked == "nothing" else data == b"for alice")


@pytest.mark.parametrize("is_unique_name", [True, False])
def test_who_asks_for_the_path_may_read_the_file_by_it_so_what_it_held_is_known(
    entry, is_unique_name
):
    kept = entry(b"for alice", is_unique_name=is_unique_name)
    assert kept.path
    assert kept.is_as_read() is (None if is_unique_name else True)


def test_what_was_written_between_the_message_and_the_key_is_not_as_it_was_read(entry):
    kept = entry(b"for alice")
    assert kept.message
    writable = os.open(f"/proc/self/fd/{kept.parts[0].fd}", os.O_WRONLY)
    os.pwrite(writable, b"for Alice", 0)
    os.close(writable)
    assert kept.key
    assert kept.is_as_read() is False


def test_of_a_file_that_is_only_sampled_it_is_not_known_that_it_is_as_it_was_read(
    entry, monkeypatch
):
    monkeypatch.setattr("watcher.spool.part.WHOLE", 4)
    monkeypatch.setattr("watcher.handle.entry.WHOLE", 4)
    monkeypatch.setattr("watcher.spool.part.SAMPLE", 1)
    kept = entry(b"for alice")
    assert kept.key
    assert kept.is_as_read() is None
    assert kept.message
    assert kept.is_as_read()
