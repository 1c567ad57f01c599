"""When a file was made: neither a rename nor a time set by hand changes it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from watcher.spool.birth import birth_ns


def test_neither_a_rename_nor_utimes_changes_when_a_file_was_made(tmp_path: Path) -> None:
    before = time.time_ns()
    file = tmp_path / "a"
    file.write_bytes(b"x")
    fd = os.open(file, os.O_RDONLY)
    try:
        born = birth_ns(fd)
        if born is None:
            pytest.skip("this file system does not tell when a file was made")
        assert abs(born - before) < 2_000_000_000
        os.utime(file, ns=(0, 0))
        file.rename(tmp_path / "b")
        assert birth_ns(fd) == born
    finally:
        os.close(fd)


def test_what_has_no_birth_has_none() -> None:
    read, write = os.pipe()
    try:
        assert birth_ns(read) is None
    finally:
        os.close(read)
        os.close(write)


def test_a_descriptor_that_is_closed_has_none() -> None:
    assert birth_ns(-1) is None
