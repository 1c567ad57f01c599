"""What a daemon says of a queue in `.status`: true within a second or two, without a sweep."""

from __future__ import annotations

import os
import signal
import time

import pytest

import watcher
from watcher.rules.names import Layout
from watcher.spool.daemon_status import read_all, read_last
from watcher.spool.spool import Spool

QUIET = ("--sweep-every", "1h")
SECONDS = 5.0  # in which a change is published, on a loaded machine too


@pytest.fixture
def said(queue, eventually):
    """Wait until the status of the only daemon satisfies a condition; return it."""
    spool = Spool(os.fsencode(queue), Layout())

    def wait(condition=lambda _status: True):
        def found():
            return [status for _, alive, status in read_all(spool) if alive and condition(status)]

        return eventually(found)[0]

    return wait


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_handler_that_runs_long_is_seen_and_so_is_its_end(
    queue, start_daemon, recorder, said, workers
):
    daemon = start_daemon(
        queue, *QUIET, "--concurrency", workers, handler=recorder.argv(gated=True)
    )
    assert said().in_hand == []
    before = time.time()
    name = watcher.enqueue(queue, b"x")
    status = said(lambda status: status.in_hand)
    assert time.time() - before < SECONDS
    (in_hand,) = status.in_hand
    assert name.startswith(in_hand.entry)
    assert in_hand.attempt == 1
    assert before <= in_hand.since <= status.written
    os.kill(in_hand.process, 0)  # it is there
    daemon.send(signal.SIGUSR1)
    assert f"in hand: {in_hand.entry} for " in daemon.wait_for("status")[0]["detail"]
    recorder.open_gate()
    daemon.wait_for("finish")
    ended = time.time()
    status = said(lambda status: not status.in_hand)
    assert time.time() - ended < SECONDS
    assert recorder.calls[0]["key"] == in_hand.key
    assert status.windows["1m"].handled == status.windows["60m"].handled == 1
    daemon.send(signal.SIGUSR1)
    assert "; last minute: handled 1, failed 0" in daemon.wait_for("status", 2)[1]["detail"]
    assert status.times["handler"].p50 > 0
    assert status.last_success == pytest.approx(ended, abs=SECONDS)
    assert (status.process, status.watch) == (daemon.process.pid, "inotify")
    assert status.next_by > status.written + 3600


def test_failures_are_summed_up_by_their_kind(queue, start_daemon, said):
    program = 'echo "10.0.0.$$: connection refused" >&2; exit 75'
    start_daemon(queue, *QUIET, handler=["sh", "-c", program])
    for number in range(3):
        watcher.enqueue(queue, b"%d" % number)
    status = said(lambda status: status.in_a_row == 3)
    (failure,) = status.failures
    assert failure.count == 3
    assert failure.reason.endswith("connection refused")
    assert failure.first <= failure.last <= status.written
    assert (status.windows["5m"].failed, status.last_success) == (3, None)


def test_a_rejected_entry_is_no_failure_and_no_success(queue, start_daemon, said):
    start_daemon(queue, *QUIET, handler=["sh", "-c", "exit 65"])
    watcher.enqueue(queue, b"x")
    status = said(lambda status: status.windows["1m"].rejected)
    assert (status.windows["1m"].failed, status.in_a_row, status.last_success) == (0, 0, None)


def test_a_trouble_is_published_when_it_begins(queue, start_daemon, said):
    start_daemon(queue, *QUIET, handler=["sh", "-c", "exit 78"])
    watcher.enqueue(queue, b"x")
    assert "exit status 78" in said(lambda status: status.troubles).troubles["handler"]


def test_a_sweep_is_a_sign_of_life(queue, start_daemon, recorder, said):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv())
    first = said()
    assert first.last_sweep is None
    daemon.send(signal.SIGUSR2)
    later = said(lambda status: status.last_sweep)
    assert later.written > first.written
    assert later.last_sweep.found == later.missed == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_last_word_of_a_daemon_says_whether_it_stopped(
    queue, start_daemon, recorder, said, number
):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv())
    watcher.enqueue(queue, b"x")
    said(lambda status: status.windows["1m"].handled)
    daemon.end(number)
    last = read_last(Spool(os.fsencode(queue), Layout()))
    assert last.process == daemon.process.pid
    assert last.windows["60m"].handled == 1
    assert (last.stopped is not None) == (number == signal.SIGTERM)
    start_daemon(queue, *QUIET, handler=recorder.argv())  # it clears what the first one left
    assert read_last(Spool(os.fsencode(queue), Layout())) == last


def test_what_was_counted_and_is_in_hand_survives_a_reload(
    tmp_path, queue, start_daemon, recorder, said
):
    config = tmp_path / "w.toml"
    handler = ", ".join(f'"{word}"' for word in recorder.argv(gated=True))
    text = f'[queues.q]\npath = "{queue}"\nsweep_every = "1h"\nhandler = {{ exec = [{handler}] }}\n'
    config.write_text(text)
    daemon = start_daemon(None, "--config", str(config))
    watcher.enqueue(queue, b"x")
    said(lambda status: status.in_hand)
    recorder.open_gate()
    daemon.wait_for("finish")
    watcher.enqueue(queue, b"y")
    before = said(lambda status: status.in_hand and status.windows["1m"].handled)
    config.write_text(text + "concurrency = 2\n")
    daemon.send(signal.SIGHUP)
    status = said(lambda status: status.concurrency == 2)
    assert [each.entry for each in status.in_hand] == [each.entry for each in before.in_hand]
    assert status.windows["60m"].handled == status.totals.handled == 1
    recorder.open_gate()
    last = said(lambda status: not status.in_hand)
    assert last.windows["60m"].handled == last.totals.handled == 2
    assert [sum(each.counts) for each in last.histograms.values()] == [2, 2, 2]
    assert last.histograms["handler"].seconds > 0


def test_a_status_that_cannot_be_written_is_a_trouble_until_it_can(
    queue, start_daemon, recorder, eventually
):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv())
    (file,) = eventually(lambda: list((queue / ".watcher").glob("inflight/*/.status")))
    file.unlink()
    file.mkdir()
    watcher.enqueue(queue, b"x")
    (wrong,) = daemon.wait_for("unhealthy")
    assert "cannot be written" in wrong["detail"]
    file.rmdir()
    watcher.enqueue(queue, b"y")
    daemon.wait_for("recovered")
    assert len(daemon.events("finish")) == 2, "the entries went on"


def test_the_process_of_an_isolated_function_is_named(
    tmp_path, queue, start_daemon, said, environment
):
    (tmp_path / "slow.py").write_text("import time\n\ndef handle(entry):\n    time.sleep(60)\n")
    environment["PYTHONPATH"] = str(tmp_path)
    config = tmp_path / "w.toml"
    config.write_text(
        f'[queues.q]\npath = "{queue}"\nsweep_every = "1h"\n'
        'handler = { python = "slow:handle", isolate = true, timeout = "30s" }\n'
    )
    daemon = start_daemon(None, "--config", str(config))
    watcher.enqueue(queue, b"x")
    status = said(lambda status: status.in_hand and status.in_hand[0].process)
    assert status.timeout == 30.0
    with open(f"/proc/{status.in_hand[0].process}/stat") as file:
        assert int(file.read().rpartition(")")[2].split()[1]) == daemon.process.pid, "our child"
