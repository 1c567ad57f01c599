"""A file that was copied in waits: one line says until when, why, and what to change."""

from __future__ import annotations

import os

import pytest

from watcher.config.queue_settings import Queue
from watcher.daemon import waits
from watcher.daemon.timers import Timers
from watcher.daemon.waits import Waits
from watcher.rules.evidence import Proof

RAW = ("--format", "raw", "--suffix", ".csv", "--grace-age", "10m", "--sweep-every", "500ms")


@pytest.mark.parametrize(
    ("options", "name"), [(RAW, "a.csv"), (RAW[4:], "a.pck")], ids=["raw", "mailman"]
)
def test_a_file_that_was_copied_in_is_told_of_once(queue, start_daemon, recorder, options, name):
    daemon = start_daemon(queue, *options, handler=recorder.argv())
    for each in (name, f"b{name}", f"c{name}"):
        (queue / each).write_bytes(b"data")
    (line,) = daemon.wait_for("waits")
    assert line["detail"].split(":")[0] in (name, f"b{name}", f"c{name}")
    for words in (
        "not renamed into it",
        "taken at 20",
        "in 9m5",
        "a shorter grace_age (it is 10m)",
    ):
        assert words in line["detail"]
    (queue / "d").write_bytes(b"data")
    (queue / "d").rename(queue / f"d{name}")
    daemon.wait_for("finish" if options is RAW else "reject")
    assert len(daemon.events("waits")) == 1
    assert len(recorder.calls) == (options is RAW)


def test_one_that_lay_there_half_written_at_the_start_is_told_of(queue, start_daemon, recorder):
    with open(queue / "a.csv", "wb") as file:
        file.write(b"some")
        file.flush()
        os.utime(queue / "a.csv", (1, 1))
        os.utime(queue / "a.csv")  # written to over some time, as far as its times tell
    daemon = start_daemon(queue, *RAW, handler=recorder.argv())
    (line,) = daemon.wait_for("waits")
    assert line["detail"].startswith("a.csv: ")


SETTINGS = Queue(name="q", path="/q", format="raw")


def there(_name):
    return True


class Clock:
    now = 1_000_000_000_000

    def mono(self):
        return self.now

    def real(self):
        return self.now


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(waits.log, "event", lambda *words: lines.append(words))
    return lines


def test_a_rename_that_a_sweep_saw_before_its_event_was_read_is_no_news(told):
    clock, timers = Clock(), Timers()
    telling = Waits(SETTINGS, clock, timers)
    timers.set(b"a", 1290.0, Proof.NONE, young=True)
    telling.found(b"a", 290.0)
    assert telling.due == 1000.0 + waits.EVENT_READ
    timers.cancel(b"a")
    telling.tick(1002.0, there)
    assert not told
    timers.set(b"b", 1290.0, Proof.NONE, young=True)
    telling.found(b"b", 290.0)
    telling.tick(1001.0, there)
    assert not told
    telling.tick(1002.0, there)
    assert len(told) == 1


def test_the_same_reason_is_told_again_after_an_hour_and_another_at_once(told):
    clock = Clock()
    telling = Waits(SETTINGS, clock, Timers())
    for seconds, expected in ((0, 1), (10, 1), (3599, 1), (3600, 2)):
        clock.now = 1_000_000_000_000 + seconds * 1_000_000_000
        telling.tell(b"a", "young", 60.0)
        assert len(told) == expected
    telling.tell(b"b", "another reason", 60.0)
    telling.tell(b"c", "a short wait", 0.5)
    assert len(told) == 3


def test_a_file_that_is_closed_in_place_is_told_of_while_it_is_there(told):
    clock = Clock()
    telling = Waits(SETTINGS, clock, Timers())
    assert telling.closed(b"a")
    assert not telling.closed(b"b")  # one line for both
    telling.tick(1002.0, lambda _name: False)
    assert not told
    assert telling.closed(b"b")
    telling.tick(1002.0, there)
    [(_queue, _event, line)] = told
    assert line.startswith("b: copied or written in place")
    assert 'settle = "10s"' in line
    assert not telling.closed(b"c")


def test_with_settle_no_wait_for_it_is_told_of(told):
    telling = Waits(Queue(name="q", path="/q", format="raw", settle=10.0), Clock(), Timers())
    assert not telling.closed(b"a")
    assert not telling.found(b"a", 9.0)
    telling.tell(b"a", "young", 10.0)
    assert not told
    telling.tell(b"a", "no lease", 300.0)
    assert len(told) == 1


def test_the_option_is_named_when_a_file_that_was_written_in_place_is_closed(
    queue, start_daemon, recorder
):
    daemon = start_daemon(queue, *RAW[:-1], "10m", handler=recorder.argv())
    (queue / "a.csv").write_bytes(b"data")
    (line,) = daemon.wait_for("waits")
    assert line["detail"].startswith("a.csv: copied or written in place")
    assert 'settle = "10s"' in line["detail"]
