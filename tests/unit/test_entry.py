"""An entry: read through its claim's descriptors, no larger than the limit, under one key."""

from __future__ import annotations

import os

import pytest

from watcher.entry import Entry, Part
from watcher.errors import Undecodable

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
        part = Part(b"file.csv", fd, os.fstat(fd).st_ino, size, 1)
        about = {"queue": "q", "name": b"file", "directory": os.fsencode(tmp_path), "kind": "raw"}
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
