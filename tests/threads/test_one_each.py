"""Many threads at once: each shared object is made once, and each descriptor is closed once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.spool import last_words, ledger, process_dir
from watcher.spool.part import Part
from watcher.spool.spool import Spool

THREADS = 32


def all_at_once(work: Callable[[int], None]) -> None:
    """Run `work` in many threads that begin at the same moment; what one raises is raised."""
    ready, errors = threading.Barrier(THREADS), []

    def run(number: int) -> None:
        ready.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(os.fsencode(tmp_path), Layout(b"", raw=True))


def test_a_process_makes_one_directory_of_its_own(spool: Spool, tmp_path: Path) -> None:
    found: list[process_dir.ProcessDirectory] = []
    all_at_once(lambda _number: found.append(process_dir.process_dir_for(spool)))
    assert len(set(map(id, found))) == 1
    assert len(os.listdir(tmp_path / ".watcher/inflight")) == 1


def test_one_directory_takes_the_place_of_one_that_was_removed(spool: Spool, tmp_path) -> None:
    process_dir.process_dir_for(spool)
    (name,) = os.listdir(tmp_path / ".watcher/inflight")
    os.rmdir(tmp_path / ".watcher/inflight" / name)
    found: list[process_dir.ProcessDirectory] = []
    all_at_once(lambda _number: found.append(process_dir.process_dir_for(spool, sure=True)))
    assert len(set(map(id, found))) == 1
    assert len(os.listdir(tmp_path / ".watcher/inflight")) == 1


def test_each_thread_has_a_slot_of_its_own_in_one_ledger(spool: Spool) -> None:
    written = threading.Barrier(THREADS)

    def work(number: int) -> None:
        part = Part(b"e%d" % number, -1, 1000 + number, 1, 1, 1)
        spool.ledger.take(spool, part)
        written.wait()

    all_at_once(work)
    slots = ledger.read(process_dir.process_dir_for(spool).fd)
    assert {slot.inode for slot in slots} == {1000 + number for number in range(THREADS)}


def test_the_slots_of_threads_that_ended_are_used_again(spool: Spool) -> None:
    def work(number: int) -> None:
        spool.ledger.take(spool, Part(b"e", -1, number, 1, 1, 1))
        spool.ledger.leave()

    for _ in range(ledger.SLOTS // THREADS + 2):
        all_at_once(work)
    assert not spool.ledger.trouble
    assert ledger.read(process_dir.process_dir_for(spool).fd) == []


def test_what_is_in_hand_goes_into_the_ledger_of_a_new_directory(spool: Spool, tmp_path) -> None:
    held = spool.ledger
    held.take(spool, Part(b"first", -1, 1, 1, 1, 1))
    (name,) = os.listdir(tmp_path / ".watcher/inflight")
    for file in (tmp_path / ".watcher/inflight" / name).iterdir():
        file.unlink()
    os.rmdir(tmp_path / ".watcher/inflight" / name)
    process_dir.process_dir_for(spool, sure=True)
    other = threading.Thread(target=held.take, args=(spool, Part(b"second", -1, 2, 1, 1, 1)))
    other.start()
    other.join()
    assert {slot.inode for slot in ledger.read(process_dir.process_dir_for(spool).fd)} == {1, 2}


def test_a_directory_of_ours_is_opened_once(spool: Spool, descriptors: Callable[[], int]) -> None:
    spool.state_root()
    before = descriptors()
    found: list[int] = []
    all_at_once(lambda _number: found.append(spool.make_state_dir(State.DEFERRED)))
    assert len(set(found)) == 1
    assert descriptors() == before + 1


def test_the_file_for_last_words_is_opened_once_and_closed_once(tmp_path, monkeypatch) -> None:
    """A descriptor that is closed twice is, the second time, another thread's claim."""
    monkeypatch.setattr(last_words, "_armed", [])
    directories = []
    for number in range(THREADS):
        (tmp_path / str(number)).mkdir()
        directories.append(os.open(tmp_path / str(number), os.O_RDONLY))
    closed: list[int] = []
    close = os.close
    monkeypatch.setattr(os, "close", lambda fd: (closed.append(fd), close(fd)))
    all_at_once(lambda number: last_words.arm(directories[number]))
    monkeypatch.undo()
    assert len(set(closed)) == len(closed)
    for directory in directories:
        assert last_words.FAULT in map(os.fsencode, os.listdir(directory))
        close(directory)
