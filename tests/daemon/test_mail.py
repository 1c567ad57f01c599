"""Mail by a daemon: what it knows of recipients survives it; a server that is down holds all."""

from __future__ import annotations

import signal

import pytest

import watcher
from tests.mail_server import MailServer

ANN, BOB = "ann@example.org", "bob@example.org"


@pytest.fixture
def server():
    made = MailServer(lmtp=True)
    yield made
    made.close()


@pytest.fixture
def start(queue, tmp_path, server, start_daemon):
    """Start a daemon that sends to the server."""

    def started():
        file = tmp_path / "watcher.toml"
        file.write_text(
            f'[queues.q]\npath = "{queue}"\nhandler = {{ lmtp = "{server.address}" }}\n'
            'breaker = 5\n[queues.q.retry]\ninitial = "300ms"\n'
        )
        return start_daemon(None, "--config", str(file))

    return started


def put(queue, *recipients):
    return watcher.enqueue(queue, b"hello\n", {"recipients": list(recipients), "sender": ANN})


@pytest.mark.slow
def test_after_a_kill_only_those_are_sent_to_that_did_not_accept(queue, server, start):
    server.answers["END"] = lambda to: b"451 not now" if to == BOB else None
    put(queue, ANN, BOB)
    daemon = start()
    daemon.wait_for("defer")
    daemon.end(signal.SIGKILL)
    server.answers.clear()
    start().wait_for("finish")
    assert server.recipients == [ANN, BOB]
    assert len({each.key for each in server.accepted}) == 1


@pytest.mark.slow
def test_a_server_that_is_down_costs_few_entries_an_attempt(queue, server, start):
    server.close()
    for number in range(30):
        put(queue, "user" + "x" * number)  # the reasons are alike, whatever the recipient
    daemon = start()
    (tripped,) = daemon.wait_for("unhealthy")
    assert "the last 5 attempts failed alike: " in tripped["detail"]
    assert "Connection refused" in tripped["detail"]
    assert len(list(queue.glob("*.pck"))) > 15
