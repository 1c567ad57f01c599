"""`watcher work` when the stream, the server or the worker is not as it should be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request

import pytest

pytest.importorskip("nats")

from tests.jetstream.work_stand import is_over, quick_acknowledgement
from watcher.daemon.message_worker import HELD
from watcher.jetstream.stream_setup import STATE
from watcher.rules.delivery import Record


def remove(server, *streams):
    async def delete(client):
        for stream in streams:
            await client.context.delete_stream(stream)

    server.call(delete)


def test_messages_of_a_stream_that_is_made_anew_are_handled_though_their_numbers_are_known(
    server, init, put, work, record, eventually
):
    init(server)
    put(server, "one", "two")
    daemon = work(server)
    daemon.wait_for("finish", 2)
    eventually(lambda: is_over(server, 2))
    remove(server, "MAIL")
    init(server)
    put(server, "other one", "other two", first=11)
    daemon.wait_for("finish", 4)
    assert [call["body"] for call in record()][2:] == ["other one", "other two"]
    eventually(lambda: is_over(server, 2))


def test_a_record_of_another_message_with_that_number_is_not_its_own(
    server, init, put, work, record
):
    """It would be poison at once, or wait for the other one's next attempt."""
    init(server)
    quick_acknowledgement(server, 0.5)
    of_another = Record(attempts=7, crashes=7, begun=1, due_ms=1 << 50, delay_ms=1 << 50)

    async def store(client):
        await client.context.publish(f"MAIL{STATE}.1", of_another.format())

    server.call(store)
    put(server, "#\nif os.environ['WATCHER_ATTEMPT'] == '1': os.kill(os.getppid(), 9)")
    work(server, "first").process.wait(30)
    work(server, "second").wait_for("finish")
    assert [call["ATTEMPT"] for call in record()] == ["1", "2"]


@pytest.mark.slow
def test_a_worker_that_drains_keeps_what_a_long_handler_has(
    server, init, put, work, record, tmp_path
):
    init(server)
    quick_acknowledgement(server)
    go = tmp_path / "go"
    put(server, f"#\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)")
    first = work(server, "first")
    first.wait(record)
    first.send(signal.SIGTERM)
    first.wait_for("draining")
    second = work(server, "second")
    put(server, "#\ntime.sleep(2.5)", "last", first=2)  # longer than the acknowledgement time
    second.wait_for("finish", 2)
    go.touch()
    assert first.process.wait(30) == 0
    assert [call["ENTRY"] for call in record()] == ["1.csv", "2.csv", "3.csv"]


def test_a_stream_that_goes_while_it_is_served_is_asked_for_now_and_then(
    server, init, put, work, record, eventually
):
    init(server)
    daemon = work(server)
    put(server, "one")
    daemon.wait_for("finish")
    remove(server, "MAIL")
    daemon.wait_for("unhealthy")
    before = asked(server)
    daemon.wait(lambda: asked(server) > before)
    assert asked(server) - before < 20
    init(server)
    put(server, "two", first=2)
    daemon.wait_for("finish", 2)


def asked(server):
    """Return how many requests the server has had."""
    with urllib.request.urlopen(f"{server.monitor}/varz", timeout=5) as page:
        return json.load(page)["in_msgs"]


@pytest.mark.slow
def test_a_reload_takes_no_copy_away_from_an_attempt(server, init, put, work, record, tmp_path):
    """New settings emptied the directory that the old ones still used, and the old ones theirs."""
    init(server)
    go = tmp_path / "go"
    put(server, f"#\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)", "two", "three")
    daemon = work(server)
    daemon.wait(record)
    config = tmp_path / "one.toml"
    config.write_text(config.read_text().replace("[work.one]\n", "[work.one]\nconcurrency = 2\n"))
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    assert [path.name for path in (tmp_path / "one").glob("*.csv")]
    go.touch()
    daemon.wait_for("finish", 3)
    put(server, "four", first=4)
    daemon.wait_for("finish", 4)
    assert sorted(call["ENTRY"] for call in record()) == ["1.csv", "2.csv", "3.csv", "4.csv"]
    assert {call["ATTEMPT"] for call in record()} == {"1"}


def test_the_end_of_a_message_whose_stream_went_is_not_that_of_another_message(
    server, init, put, work, record, tmp_path, eventually
):
    """The server takes the acknowledgement of a number, whatever message has it now."""
    init(server)
    go = tmp_path / "go"
    put(server, f"#\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)")
    daemon = work(server, "first")
    daemon.wait(record)
    remove(server, "MAIL")
    init(server)
    put(server, "#\nsys.exit(75 if os.environ['WATCHER_ATTEMPT'] == '1' else 0)", first=2)
    go.touch()
    daemon.wait_for("finish", 2)
    eventually(lambda: is_over(server, 1))
    assert [(call["ENTRY"], call["ATTEMPT"]) for call in record()] == [
        ("1.csv", "1"),
        ("2.csv", "1"),
        ("2.csv", "2"),
    ]


def test_a_handler_whose_stream_is_gone_for_good_holds_no_thread(
    server, init, put, work, record, tmp_path
):
    init(server)
    go = tmp_path / "go"
    put(server, f"#\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)")
    daemon = work(server)
    daemon.wait(record)
    remove(server, "MAIL")
    daemon.wait_for("unhealthy")
    go.touch()
    daemon.wait_for("finish")
    assert daemon.end() == 0


def test_a_worker_that_stops_at_once_gives_back_what_it_has_and_counts_nothing(
    server, init, put, work, record
):
    init(server)  # with 30 s of acknowledgement time
    put(server, "#\ntime.sleep(60) if len(open(sys.argv[1]).readlines()) == 1 else None", "two")
    first = work(server, "first")
    first.wait(record)
    first.send(signal.SIGTERM)
    first.wait_for("draining")
    first.send(signal.SIGTERM)
    assert first.process.wait(30) == os.EX_TEMPFAIL
    second = work(server, "second")
    second.wait_for("finish", 2)
    assert {call["ATTEMPT"] for call in record()} == {"1"}


@pytest.mark.slow
def test_a_message_that_comes_again_while_it_is_in_hand_is_no_attempt_more(
    server, init, put, work, record
):
    """The worker was stopped for longer than the acknowledgement time."""
    init(server)
    quick_acknowledgement(server, 0.5)
    put(server, "#\ntime.sleep(1.5)\nsys.exit(0 if os.environ['WATCHER_ATTEMPT'] == '2' else 75)")
    daemon = work(server)
    daemon.wait(record)
    daemon.send(signal.SIGSTOP)
    time.sleep(1.0)  # what is waited for is that nothing comes
    daemon.send(signal.SIGCONT)
    daemon.wait_for("finish")
    assert [call["ATTEMPT"] for call in record()] == ["1", "2"]


def test_a_queue_that_the_breaker_holds_goes_on_to_try(server, init, put, work, record, tmp_path):
    """Once all messages in hand had failed, no other was asked for."""
    init(server)
    fixed = tmp_path / "fixed"
    program = f"#\nsys.exit(0 if os.path.exists({str(fixed)!r}) else 75)"
    put(server, *[program] * 6)
    more = "breaker = 3"
    daemon = work(server, more=more, retry='initial = "20s", max = "20s", jitter = 0')
    daemon.wait_for("unhealthy")
    fixed.touch()
    daemon.wait(lambda: daemon.send(signal.SIGUSR2) or len(daemon.events("finish")) >= 3)


def test_a_copy_that_its_handler_wrote_to_or_removed_is_over(
    server, init, put, work, tmp_path, eventually
):
    init(server)
    put(
        server,
        "#\nos.unlink(os.environ['WATCHER_PATH'])",
        "#\nopen(os.environ['WATCHER_PATH'], 'a').write('more')",
    )
    daemon = work(server)
    daemon.wait_for("finish", 2)
    eventually(lambda: is_over(server, 2))
    eventually(lambda: not list((tmp_path / "one").glob("*.csv")))


@pytest.fixture
def block(put, tmp_path):
    """Put a message whose handler runs until `go` is there, and others after it."""
    go = tmp_path / "go"

    def publish(server, *others, **options):
        put(
            server,
            f"#\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)",
            *others,
            **options,
        )
        return go

    return publish


def calls(record):
    return [(call["ENTRY"], call["ATTEMPT"]) for call in record()]


def test_a_worker_that_drains_gives_back_at_once_what_it_has_not_begun(
    server, init, block, work, record
):
    init(server)  # with 30 s of acknowledgement time
    go = block(server, "two")
    first = work(server, "first")
    first.wait(record)
    second = work(server, "second")
    first.send(signal.SIGTERM)
    second.wait_for("finish")
    assert calls(record) == [("1.csv", "1"), ("2.csv", "1")]
    go.touch()
    assert first.process.wait(30) == 0


@pytest.mark.slow
def test_a_worker_that_is_paused_gives_back_what_it_has_not_begun(
    server, init, put, block, work, record, tmp_path, watcher_command, environment
):
    init(server)
    go = block(server, "two")
    first = work(server, "first")
    first.wait(record)
    argv = [*watcher_command, "pause", str(tmp_path / "first")]
    subprocess.run(argv, env=environment, check=True)
    second = work(server, "second")
    second.wait_for("finish")
    assert second.end() == 0
    go.touch()
    first.wait_for("finish")
    put(server, "three", first=3)
    argv[-2] = "resume"
    subprocess.run(argv, env=environment, check=True)
    first.wait_for("finish", 2)
    assert calls(record) == [("1.csv", "1"), ("2.csv", "1"), ("3.csv", "1")]
    assert not first.events("unhealthy")


@pytest.mark.slow
def test_a_worker_that_something_holds_keeps_few_messages_from_others(
    server, init, put, work, record, tmp_path
):
    init(server)
    put(server, *["#\nsys.exit(78 if '/first/' in os.environ['WATCHER_PATH'] else 0)"] * 16)
    first = work(server, "first", more="concurrency = 8", retry='initial = "20s", max = "20s"')
    first.wait_for("unhealthy")
    second = work(server, "second")
    second.wait_for("finish", 16 - HELD)
    assert {attempt for _name, attempt in calls(record)} == {"1"}


def test_copies_that_are_removed_before_their_attempt_come_again(
    server, init, block, work, record, tmp_path, eventually
):
    """They stayed in hand until the restart."""
    init(server)
    go = block(server, "two", "three")
    daemon = work(server)
    there = tmp_path / "one"
    eventually((there / "2.csv").exists)
    (there / "2.csv").unlink()
    go.touch()
    daemon.wait_for("finish", 3)
    daemon.wait_for("vanished")
    assert sorted(calls(record)) == [("1.csv", "1"), ("2.csv", "1"), ("3.csv", "1")]
    eventually(lambda: is_over(server, 3))


@pytest.mark.slow
def test_a_copy_that_is_removed_while_its_worker_is_busy_goes_to_another_one(
    server, init, block, work, record, tmp_path, eventually
):
    init(server)
    quick_acknowledgement(server)  # the directory is looked at when the server is told, too
    go = block(server, "two")
    first = work(server, "first")
    eventually((tmp_path / "first" / "2.csv").exists)
    second = work(server, "second")
    (tmp_path / "first" / "2.csv").unlink()
    second.wait_for("finish")
    go.touch()
    first.wait_for("finish")
    assert calls(record) == [("1.csv", "1"), ("2.csv", "1")]
