"""A queue whose attempts all fail alike tries one entry at a time, until one succeeds."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from tests.renaming import rename_in

LIMIT = 5


@pytest.fixture
def serve(queue, tmp_path, start_daemon):
    """Start a daemon whose handler fails until a file is there; a delay is an hour."""

    def start(code, *, count=12, more="", initial="1h"):
        handler, tried = tmp_path / "handler", tmp_path / "tried"
        handler.write_text(
            f'#!/bin/sh\necho "$WATCHER_ENTRY" >> {tried}\ntest -e {tmp_path}/mended && exit 0\n'
            f'echo "connect to 10.0.0.7, try $$: refused" >&2\nexit {code}\n'
        )
        handler.chmod(0o755)
        tried.touch()
        config = tmp_path / "w.toml"
        config.write_text(
            f'[queues.q]\npath = "{queue}"\nformat = "raw"\nwriters = "rename"\n'
            f'handler = {{ exec = ["{handler}"] }}\nbreaker = {LIMIT}\n'
            f'retry = {{ initial = "{initial}", max = "1h" }}\n{more}\n'
        )
        for number in range(count):
            rename_in(queue, f"{number:03}")
        daemon = start_daemon(None, "--config", str(config))
        daemon.tried = lambda: tried.read_text().split()
        daemon.mend = (tmp_path / "mended").touch
        return daemon

    return start


def held(daemon):
    """Wait until one entry at a time is tried; return what the log says of that."""
    said = "trying one entry at a time"
    [record] = daemon.wait(
        lambda: [one for one in daemon.events("unhealthy") if said in one["detail"]]
    )
    return record["detail"]


def status(daemon):
    """Ask the daemon for its status, and return the answer."""
    before = daemon.counts["status"]
    daemon.send(signal.SIGUSR1)
    daemon.wait(lambda: daemon.counts["status"] > before)
    return daemon.events("status")[-1]["detail"]


def all_wait(daemon, count):
    """Wait until so many entries are ready; they stay so while the daemon answers questions."""
    daemon.wait(lambda: f"; {count} ready, 0 claimed" in status(daemon))
    for _ in range(5):
        assert f"; {count} ready, 0 claimed" in status(daemon)


def try_one(daemon, event):
    """Have the daemon try an entry now, and wait until that attempt has ended."""
    before = daemon.counts[event]
    daemon.send(signal.SIGUSR2)
    daemon.wait(lambda: daemon.counts[event] > before)


@pytest.mark.parametrize(
    ("code", "event", "did"), [(75, "defer", "failed"), (65, "reject", "were rejected")]
)
def test_entries_wait_while_all_fail_alike_and_go_on_in_their_order_when_one_succeeds(
    queue, serve, code, event, did
):
    daemon = serve(code)
    words = held(daemon)
    assert re.fullmatch(
        rf"the last {LIMIT} attempts {did} alike: exit status {code}: connect to 10\.0\.0\.7,"
        r" try \d+: refused; trying one entry at a time, next at \d\d:\d\d:\d\d",
        words,
    )
    all_wait(daemon, 12 - LIMIT)
    assert daemon.tried() == [f"{number:03}" for number in range(LIMIT)]
    for more in (1, 2):
        try_one(daemon, event)
        all_wait(daemon, 12 - LIMIT - more)
        assert len(daemon.tried()) == LIMIT + more, "each signal tries one entry, another one"
    rename_in(queue, "new")
    daemon.mend()
    daemon.send(signal.SIGUSR2)
    waited = [f"{number:03}" for number in range(LIMIT + 2, 12)] + ["new"]
    daemon.wait_for("finish", len(waited))
    assert [record["entry"] for record in daemon.events("finish")] == waited
    [over] = daemon.wait_for("recovered")
    assert over["detail"].startswith("over after ")
    assert f"the last {LIMIT} attempts {did} alike" in over["detail"]
    assert daemon.end() == 0
    assert len(daemon.events("unhealthy")) == 1, "it is said once"
    assert daemon.counts[event] == LIMIT + 2, "each attempt is settled as its handler said"


@pytest.mark.parametrize("code", [75, 65])
def test_what_an_operator_requeues_is_tried_at_once(
    queue, serve, watcher_command, environment, code
):
    daemon = serve(code, count=LIMIT)
    held(daemon)
    daemon.mend()
    argv = [*watcher_command, "requeue", str(queue), "ALL"]
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    daemon.wait_for("finish", LIMIT)
    assert daemon.end() == 0


@pytest.mark.parametrize("concurrency", [4])
def test_many_workers_share_the_count(serve, concurrency):
    daemon = serve(65, count=40, more=f"concurrency = {concurrency}")
    held(daemon)
    daemon.mend()
    daemon.send(signal.SIGHUP)  # nothing in the configuration changed: the handler did
    daemon.wait(lambda: daemon.counts["finish"] + daemon.counts["reject"] == 40)
    assert daemon.end() == 0
    assert LIMIT <= daemon.counts["reject"] < LIMIT + concurrency


def test_without_a_signal_the_trials_come_at_the_pace_of_the_retry_policy(serve, eventually):
    daemon = serve(65, initial="100ms")
    said = held(daemon)
    eventually(lambda: len(daemon.tried()) >= LIMIT + 2)
    assert re.match(
        r"the last 5 .*; trying one entry at a time, next at \d\d:\d\d:\d\d; \d+ ready",
        status(daemon),
    )
    assert daemon.events("unhealthy")[0]["detail"] == said
    daemon.mend()
    daemon.wait_for("recovered")
    assert daemon.end() == 0
    assert len(daemon.events("unhealthy")) == 1


def test_a_success_between_failures_keeps_the_queue_going(queue, serve):
    daemon = serve(75, count=LIMIT - 1)
    daemon.wait_for("defer", LIMIT - 1)
    daemon.mend()
    rename_in(queue, "good")
    daemon.wait_for("finish", entry="good")
    assert not daemon.events("unhealthy")
    assert daemon.end() == 0
