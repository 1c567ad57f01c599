"""The writers make the system calls of the programs they stand for, as the kernel reports them."""

from __future__ import annotations

import hashlib
import marshal
import os
import pickle
import signal
import subprocess
import sys

import pyinotify
import pytest

import writers

LETTER = writers.TestMessage(b"Subject: x\n\nhello\n", {"listname": "test", "tolist": 1})
PROGRAM = writers.__file__
EVENTS = pyinotify.IN_CREATE | pyinotify.IN_CLOSE_WRITE | pyinotify.IN_MOVED_TO


@pytest.fixture
def events(tmp_path):
    """Give a function that returns what happened in the directory: (event, suffix) in order."""
    manager = pyinotify.WatchManager()
    seen = []

    def take(event):
        seen.append((event.maskname, event.name[event.name.index(".", 12) :]))

    manager.add_watch(str(tmp_path), EVENTS, quiet=False)
    notifier = pyinotify.Notifier(manager, take, timeout=0)

    def drained():
        while notifier.check_events():
            notifier.read_events()
            notifier.process_events()
        happened = list(seen)
        seen.clear()
        return happened

    yield drained
    notifier.stop()


def test_2_0_8_closes_the_metadata_and_then_writes_the_message_in_place(tmp_path, events):
    first = []
    name = writers.commit_2_0_8(str(tmp_path), LETTER, lambda _: first.extend(events()))
    assert first == [("IN_CREATE", ".db"), ("IN_CLOSE_WRITE", ".db")]
    assert events() == [("IN_CREATE", ".msg"), ("IN_CLOSE_WRITE", ".msg")]
    assert (tmp_path / f"{name}.msg").read_bytes() == LETTER.message


def test_2_0_8_as_the_report_has_it_closes_the_metadata_last(tmp_path, events):
    writers.commit_2_0_8(str(tmp_path), LETTER, writers.no_pause, db_closed_last=True)
    assert events() == [
        ("IN_CREATE", ".db"),
        ("IN_CREATE", ".msg"),
        ("IN_CLOSE_WRITE", ".msg"),
        ("IN_CLOSE_WRITE", ".db"),
    ]


def test_2_0_13_renames_the_message_in(tmp_path, events):
    first = []
    name = writers.commit_2_0_13(str(tmp_path), LETTER, lambda _: first.extend(events()))
    assert first == [("IN_CREATE", ".db"), ("IN_CLOSE_WRITE", ".db")]
    assert events() == [
        ("IN_CREATE", ".msg.tmp"),
        ("IN_CLOSE_WRITE", ".msg.tmp"),
        ("IN_MOVED_TO", ".msg"),
    ]
    assert (tmp_path / f"{name}.msg").read_bytes() == LETTER.message


@pytest.mark.parametrize(("plaintext", "suffix"), [(False, ".pck"), (True, ".msg")])
def test_2_1_4_writes_the_message_first_and_renames_the_metadata(
    tmp_path, events, plaintext, suffix
):
    first = []
    name = writers.commit_2_1_4(
        str(tmp_path), LETTER, lambda _: first.extend(events()), plaintext=plaintext
    )
    assert first == [("IN_CREATE", suffix), ("IN_CLOSE_WRITE", suffix)]
    assert events()[-1] == ("IN_MOVED_TO", ".db")
    data = (tmp_path / (name + suffix)).read_bytes()
    message = data if plaintext else pickle.loads(data, encoding="bytes")
    assert message == LETTER.message


def test_2_1_5_shows_nothing_under_the_final_name_before_the_rename(tmp_path, events):
    first = []
    name = writers.commit_2_1_5(str(tmp_path), LETTER, lambda _: first.extend(events()))
    assert first == [("IN_CREATE", ".pck.tmp")]
    assert events() == [("IN_CLOSE_WRITE", ".pck.tmp"), ("IN_MOVED_TO", ".pck")]
    with open(tmp_path / f"{name}.pck", "rb") as both:
        assert pickle.load(both) == LETTER.message
        assert pickle.load(both) == LETTER.metadata


def test_metadata_has_the_type_codes_of_python_2(tmp_path):
    name = writers.commit_2_0_8(str(tmp_path), LETTER, writers.no_pause)
    data = (tmp_path / f"{name}.db").read_bytes()
    assert data == b"{s\x08\0\0\0listnames\x04\0\0\0tests\x06\0\0\0tolisti\x01\0\0\x000"
    assert marshal.loads(data) == {b"listname": b"test", b"tolist": 1}


def run(*arguments):
    argv = [sys.executable, PROGRAM, *map(str, arguments)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("protocol", writers.PROTOCOLS)
def test_the_program_names_each_entry_it_committed(tmp_path, protocol):
    names = [line.removeprefix("committed ") for line in run(protocol, tmp_path, "--count", 3)]
    assert len(names) == 3
    assert sorted({os.path.splitext(each)[0] for each in os.listdir(tmp_path)}) == sorted(names)


@pytest.mark.parametrize(
    ("protocol", "left"),
    [("2.0.8", ".db"), ("2.0.13", ".db"), ("2.1.4", ".pck"), ("2.1.5", ".pck.tmp")],
)
def test_an_abandoned_entry_leaves_its_first_half(tmp_path, protocol, left):
    half, abandoned = run(protocol, tmp_path, "--abandon", "--show-halves")
    name = half.removeprefix("half ")
    assert abandoned == f"abandoned {name}"
    assert os.listdir(tmp_path) == [name + left]


def test_term_ends_the_program_between_two_entries_and_never_within_one(tmp_path):
    argv = [sys.executable, PROGRAM, "2.0.8", tmp_path, "--count", "1000", "--interval", "600"]
    with subprocess.Popen(
        [*argv, "--pause", "0.2", "--show-halves"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("half ")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().startswith("committed ")
    assert process.returncode == 0
    assert sorted(os.path.splitext(each)[1] for each in os.listdir(tmp_path)) == [".db", ".msg"]


def test_messages_differ_by_number_and_process():
    messages = [
        writers.message_for(number, process).message for number in (0, 1) for process in (7, 8)
    ]
    assert len({hashlib.sha256(message).digest() for message in messages}) == 4
