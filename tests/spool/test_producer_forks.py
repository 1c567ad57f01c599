"""`enqueue` beside threads and forks, of what is larger than memory, and what it must refuse."""

from __future__ import annotations

import enum
import io
import os
import random
import resource
import signal
import subprocess
import sys
import threading

import pytest

from watcher import commit_one, enqueue, enqueue_many, mailman
from watcher.errors import NoSuch, Usage

ROUNDS = 200
MB = 1 << 20


@pytest.fixture
def queue(tmp_path):
    directory = tmp_path / "queue"
    directory.mkdir()
    return directory


def drawn_in_child(count):
    """Fork; return the names that the child drew, or none if it hung."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os.write(writing, "\n".join(commit_one.new_name(b"x") for _ in range(count)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        names = stream.read().split("\n")
    os.waitpid(child, 0)
    return names


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_was_forked_beside_threads_draws_names_of_its_own():
    names, ended = [], threading.Event()

    def draw():
        while not ended.is_set():
            names.append(commit_one.new_name(b"x"))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        children = [name for _ in range(ROUNDS) for name in drawn_in_child(3)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert len(children) == 3 * ROUNDS
    assert len(set(names) | set(children)) == len(names) + len(children)


def test_a_lock_that_another_thread_has_at_the_fork_holds_no_child_up(queue):
    with commit_one._lock[0]:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                enqueue(queue, b"x")
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(queue.iterdir())) == 1


# -- streams ---------------------------------------------------------------------------------------


def test_a_raw_message_may_be_a_file(queue):
    data = random.Random(1).randbytes(3 * MB + 1)
    name = enqueue(queue, io.BytesIO(data), raw=True, suffix=".bin")
    assert (queue / name).read_bytes() == data
    (second,) = enqueue_many(queue, [(io.BytesIO(data), None)], raw=True, suffix=".bin")
    assert (queue / second).read_bytes() == data


class Broken(io.RawIOBase):
    """A file whose disk fails after its first piece."""

    def __init__(self):
        self.pieces = [b"x" * 10]

    def read(self, _size=-1):
        if not self.pieces:
            raise OSError(5, "Input/output error")
        return self.pieces.pop()


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing(queue):
    with pytest.raises(NoSuch, match="cannot be read"):
        enqueue(queue, Broken(), raw=True, suffix="")
    assert list(queue.iterdir()) == []
    entries = [(b"first", None), (Broken(), None)]
    with pytest.raises(NoSuch, match="cannot be read") as caught:
        enqueue_many(queue, entries, raw=True, suffix="")
    assert [path.read_bytes() for path in queue.iterdir()] == [b"first"]
    assert len(caught.value.committed) == 1


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (400 * MB, 400 * MB))


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-P", "-m", "watcher", "enqueue", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        **options,
    )


@pytest.mark.parametrize("through", ["file", "standard input"])
def test_a_raw_file_larger_than_memory_is_committed_in_pieces(queue, tmp_path, through):
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(450 * MB)
        stream.seek(0)
        stream.write(b"head")
        stream.seek(450 * MB - 4)
        stream.write(b"tail")
    with large.open("rb") as stream:
        file = large if through == "file" else "-"
        ended = command(queue, file, "--format", "raw", "--suffix", ".tiff", stdin=stream)
    assert ended.returncode == 0, ended.stderr
    entry = queue / ended.stdout.strip()
    assert entry.stat().st_size == 450 * MB
    with entry.open("rb") as stream:
        assert stream.read(4) == b"head"
        stream.seek(-4, os.SEEK_END)
        assert stream.read() == b"tail"
    entry.unlink()
    large.unlink()


@pytest.mark.parametrize(("size", "code"), [(300, os.EX_USAGE), (200, os.EX_TEMPFAIL)])
def test_a_message_too_large_is_refused_in_one_line(queue, tmp_path, size, code):
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(size * MB)
    ended = command(queue, large)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr
    assert list(queue.iterdir()) == []


# -- what is refused before anything is there ------------------------------------------------------


class Name(enum.StrEnum):
    """A key as programs have them."""

    KEY = "key"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "metadata",
    [
        {Name.KEY: 1},
        {"k": Name.KEY},
        {Text("k"): 1},
        {"k": {Name.KEY: 1}},
        {"k": enum.IntEnum("E", "A").A},
        {"k": 1 << 8_000},
        {"k": {"n" * 20_000: 1}},
        {"n" * 20_000: 1},
    ],
    ids=str,
)
def test_what_the_reader_would_refuse_is_not_written(queue, metadata):
    with pytest.raises(Usage):
        enqueue(queue, b"x", metadata)
    with pytest.raises(Usage):
        enqueue_many(queue, [(b"x", metadata)])
    assert list(queue.iterdir()) == []


def test_a_large_message_with_a_few_odd_bytes_is_read_again():
    data = mailman.write_pck(b"a" * (120 * MB) + b"\xff", {})
    assert len(mailman.read_pck(data).message) == 120 * MB + 1


def test_an_entry_larger_than_its_reader_reads_is_refused(queue):
    with pytest.raises(Usage, match="max_size"):
        enqueue(queue, b"x" * 1_000, max_size=1_000)
    with pytest.raises(Usage, match="max_size"):
        enqueue_many(queue, [(b"x" * 1_000, None)], max_size=1_000)
    assert list(queue.iterdir()) == []


@pytest.mark.parametrize(
    "message", ["text", 1, None, io.BytesIO(b"x")], ids=["text", "number", "none", "stream"]
)
def test_a_message_that_is_no_bytes_is_refused(queue, message):
    with pytest.raises(Usage, match="expected to be bytes"):
        enqueue(queue, message)
    assert list(queue.iterdir()) == []


@pytest.mark.parametrize("suffix", ["json", "*.csv", "n", "[ct]sv", ".tmp"])
def test_an_ending_that_is_none_is_refused(queue, suffix):
    with pytest.raises(Usage, match="expected an ending"):
        enqueue(queue, b"x", raw=True, suffix=suffix)
    ended = command(queue, "-", "--format", "raw", "--suffix", suffix, stdin=subprocess.DEVNULL)
    assert ended.returncode == os.EX_USAGE, ended.stderr
    assert list(queue.iterdir()) == []


AT_ONCE = """
import os, sys, threading, time, watcher

begun = threading.Barrier(4)
def put():
    begun.wait()
    for _ in range(5):
        watcher.enqueue(sys.argv[1], b"x", {"a": 1})
threads = [threading.Thread(target=put) for _ in range(3)]
for thread in threads:
    thread.start()
begun.wait()
for number in range(10):
    time.sleep(0.001 * number)
    child = os.fork()
    if child == 0:
        watcher.enqueue(sys.argv[1], b"x")
        os._exit(0)
    os.waitpid(child, 0)
for thread in threads:
    thread.join()
"""


def test_a_fork_waits_until_another_threads_first_import_is_complete(queue):
    """The child would wait without end for a module that a thread of its parent was importing."""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", AT_ONCE, queue], check=True, timeout=60)
    assert len(os.listdir(queue)) == 3 * (3 * 5 + 10)
