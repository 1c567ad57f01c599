"""`.status`: what a daemon says of a queue, read whole or not at all, whatever has its name."""

from __future__ import annotations

import json
import os
import signal

import msgspec
import pytest
from hypothesis import given, strategies as st

from watcher.recovery import recover
from watcher.rules.age import Ages, SystemClock
from watcher.rules.names import Layout
from watcher.rules.retry import Policy
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import ClaimOptions
from watcher.spool.daemon_status import (
    LARGEST,
    LONGEST_TEXT,
    MOST_FAILURES,
    MOST_IN_HAND,
    DaemonStatus,
    Failure,
    Histogram,
    InHand,
    Sweep,
    Times,
    Window,
    decode,
    encode,
    publish,
    read_all,
    read_last,
)
from watcher.spool.process_dir import process_dir_for
from watcher.spool.spool import Spool

NOW = 1_795_741_526.5
PLAIN = DaemonStatus(
    process=4711,
    user="list",
    host="mail1",
    queue="in",
    started=NOW - 60,
    written=NOW,
    next_by=NOW + 150,
)
FULL = msgspec.structs.replace(
    PLAIN,
    troubles={"disk": "in: No space left on device"},
    watch="inotify",
    concurrency=2,
    timeout=30.0,
    in_hand=[InHand("a.pck", 2, NOW - 4, 812, "c0ffee")],
    windows={"1m": Window(3, 2, 1)},
    times={"handler": Times(6, 0.01, 2.5)},
    totals=Window(3, 2, 1),
    histograms={"handler": Histogram([0.01, 3.0], [3, 2, 1], 65.5)},
    failures=[Failure("connection refused", 2, NOW - 50, NOW - 1)],
    last_success=NOW - 55,
    in_a_row=2,
    last_sweep=Sweep(NOW - 9, 0.02, 1),
)


@pytest.fixture
def spool(queue):
    return Spool(os.fsencode(queue), Layout())


@pytest.fixture
def settlement():
    clock = SystemClock()
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    terms = ClaimOptions(0.0, Ages(clock))
    return Finisher("q", terms, Policy(), clock, lambda _told: None, patience)


def test_what_is_published_is_read(spool):
    assert read_all(spool) == []
    publish(spool, PLAIN)
    publish(spool, FULL)
    name = os.fsdecode(process_dir_for(spool).name)
    assert read_all(spool) == [(name, True, FULL)]
    directory = os.path.join(spool.home.path, b"inflight", os.fsencode(name))
    assert os.listdir(directory) == [b".status"]
    assert os.stat(os.path.join(directory, b".status")).st_mode & 0o777 == 0o600


def test_reading_makes_nothing_in_a_queue_that_no_daemon_served(queue, spool):
    assert read_all(spool) == []
    assert read_last(spool) is None
    assert list(queue.iterdir()) == []


@pytest.mark.parametrize("count", [0, MOST_IN_HAND, 1000])
def test_a_file_is_bounded_and_says_how_many_it_leaves_out(count):
    worst = "\\xff" * 255
    many = msgspec.structs.replace(
        PLAIN,
        troubles={str(number): "\N{SNOWMAN}" * 5000 for number in range(count)},
        in_hand=[InHand(worst, 1, NOW) for _ in range(count)],
        failures=[Failure("\N{SNOWMAN}" * 5000, 1, NOW, NOW) for _ in range(count)],
    )
    data = encode(many)
    assert len(data) <= LARGEST
    found = decode(data)
    assert found is not None
    assert len(found.in_hand) + found.in_hand_more == count
    assert len(found.failures) <= MOST_FAILURES
    assert all(each.entry == worst for each in found.in_hand)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"version": 0},
        {"process": -1},
        {"written": 1e300},
        {"started": -1.0},
        {"user": "x" * (LONGEST_TEXT + 1)},
        {"in_hand": [{"entry": "a"}]},
        {"windows": {"1m": {"handled": 0.5}}},
        {"histograms": {"wait": {"bounds": [1, 2], "counts": [1, 1], "seconds": 1}}},
        {"histograms": {"wait": {"bounds": [2, 1], "counts": [1, 1, 1], "seconds": 1}}},
        {"histograms": {"wait": {"bounds": [1, 1], "counts": [1, 1, 1], "seconds": 1}}},
        {"histograms": {"wait": {"bounds": [1], "counts": [1, -1], "seconds": 1}}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_not_read(fields):
    whole = msgspec.to_builtins(PLAIN)
    assert decode(json.dumps(whole).encode()) == PLAIN
    assert decode(json.dumps(whole | fields).encode()) is None


@given(st.binary(max_size=200) | st.just(b"[" * 60_000) | st.just(b'{"a":' * 12_000))
def test_no_bytes_do_harm(data):
    assert decode(data) is None


def test_what_a_later_program_adds_is_passed_over():
    assert decode(json.dumps(msgspec.to_builtins(PLAIN) | {"new": [1]}).encode()) == PLAIN


def test_what_a_program_without_histograms_wrote_is_read():
    fields = msgspec.to_builtins(FULL)
    del fields["totals"], fields["histograms"]
    found = decode(json.dumps(fields).encode())
    assert found == msgspec.structs.replace(FULL, totals=Window(), histograms={})


def test_no_text_can_control_a_terminal():
    odd = msgspec.structs.replace(PLAIN, queue="\x1b[2J\n", host="\udcff")
    for data in (encode(odd), json.dumps(msgspec.to_builtins(PLAIN) | {"queue": "\x1b[2J\n"})):
        found = decode(data if isinstance(data, bytes) else data.encode())
        assert found is not None
        assert found.queue == "\\x1b[2J\\n"


@pytest.mark.parametrize("kind", ["nothing", "FIFO", "link", "directory", "two names", "too large"])
def test_what_is_no_file_of_the_daemon_is_left_out(tmp_path, spool, kind):
    directory = os.path.join(spool.home.path, b"inflight", process_dir_for(spool).name)
    path, other = os.path.join(directory, b".status"), os.fsencode(tmp_path / "other")
    data = encode(PLAIN)
    with open(other, "wb") as file:
        file.write(data.ljust(LARGEST + 1) if kind == "too large" else data)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "link":
        os.symlink(other, path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "two names":
        os.link(other, path)
    elif kind == "too large":
        os.rename(other, path)
    assert read_all(spool) == []
    assert read_last(spool) is None


def test_a_disk_that_takes_a_part_leaves_what_was_said_before(spool, monkeypatch):
    publish(spool, PLAIN)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
    with pytest.raises(OSError, match="a part of the file"):
        publish(spool, FULL)
    monkeypatch.undo()
    assert [status for _, _, status in read_all(spool)] == [PLAIN]


def test_what_a_daemon_said_last_stays_when_its_directory_goes(queue):
    publish(Spool(os.fsencode(queue), Layout()), FULL)
    assert list((queue / ".watcher" / "inflight").iterdir()) == []
    assert read_last(Spool(os.fsencode(queue), Layout())) == FULL


DAEMON = (
    "import os, sys, signal\n"
    "from watcher.rules.names import Layout\n"
    "from watcher.spool.spool import Spool\n"
    "from watcher.spool.daemon_status import decode, publish\n"
    "spool = Spool(os.fsencode(sys.argv[1]), Layout())\n"
    "publish(spool, decode(os.fsencode(sys.argv[2])))\n"
    "print('published', flush=True)\n"
    "signal.pause()\n"
)


def test_a_daemon_that_was_killed_is_told_from_one_that_lives(queue, spool, child, settlement):
    daemon = child(DAEMON, queue, encode(PLAIN).decode())
    assert daemon.hear() == "published"
    ((name, alive, said),) = read_all(spool)
    assert (name.partition(".")[0], alive, said) == (str(daemon.pid), True, PLAIN)
    assert read_last(spool) is None
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.end()
    assert read_all(spool) == [(name, False, PLAIN)]
    assert read_last(spool) == PLAIN
    recover(spool, settlement)
    assert read_all(spool) == []
    assert read_last(spool) == PLAIN


@pytest.mark.parametrize("newer", [True, False])
def test_the_later_word_of_two_daemons_stays(queue, spool, child, settlement, newer):
    daemon = child(DAEMON, queue, encode(PLAIN).decode())
    assert daemon.hear() == "published"
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.end()
    last = queue / ".watcher" / "last-daemon.json"
    last.write_bytes(encode(FULL))
    if not newer:
        os.utime(last, (1, 1))
    recover(spool, settlement)
    assert read_last(spool) == (FULL if newer else PLAIN)
