"""A daemon whose handler is `http`: killed, stopped, refused by the server."""

from __future__ import annotations

import signal
import threading

import pytest

pytest.importorskip("httpx2")

from tests.renaming import rename_in
from tests.scripted_http_server import answer, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def serve(queue, tmp_path, start_daemon, server):
    """Start a daemon that posts the entries of the queue."""

    def start(initial="50ms"):
        config = tmp_path / "w.toml"
        config.write_text(
            f'[queues.q]\npath = "{queue}"\nformat = "raw"\nwriters = "rename"\n'
            f'handler = {{ http = "{server.url}" }}\nretry = {{ initial = "{initial}" }}\n'
        )
        return start_daemon(None, "--config", str(config))

    return start


def test_a_daemon_killed_before_it_knows_the_answer_sends_again_with_the_same_key(
    queue, server, serve
):
    daemons = []

    def script(request):
        if len(daemons) == 1 and request.body == b"2":
            daemons[0].process.kill()  # the server has the message: this is its acceptance
            daemons[0].process.wait()
        return answer(201)

    server.script = script
    for number in (1, 2, 3):
        rename_in(queue, f"{number}.csv", b"%d" % number)
    daemons.append(serve())
    daemons[0].process.wait(30)
    daemons.append(serve())
    daemons[1].wait_for("finish", 2)
    assert daemons[1].end() == 0
    requests = [server.requests.get(timeout=10) for _ in range(4)]
    assert server.requests.empty(), "each other entry was sent once"
    keys: dict[bytes, list[str]] = {}
    for request in requests:
        keys.setdefault(request.body, []).append(request.headers["idempotency-key"])
    assert {body: len(found) for body, found in keys.items()} == {b"1": 1, b"2": 2, b"3": 1}
    assert len(set(keys[b"2"])) == 1
    assert len({found[0] for found in keys.values()}) == 3
    assert [path.name for path in queue.iterdir()] == [".watcher"]


def test_a_token_that_the_server_refuses_holds_the_queue_and_costs_no_entry_an_attempt(
    queue, server, serve
):
    refused = []

    def refuse(request):
        refused.append(request)
        return answer(401, b"wrong token")

    server.script = refuse
    for number in range(8):
        rename_in(queue, f"{number}.csv")
    daemon = serve(initial="1h")
    [held] = daemon.wait(
        lambda: [each for each in daemon.events("unhealthy") if "401" in each["detail"]]
    )
    assert "answered 401: wrong token" in held["detail"]
    daemon.wait(lambda: len(refused) == 3)  # then the next one waits for an hour
    server.script = lambda _request: answer(200)
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("finish", 8)
    assert daemon.counts["defer"] == daemon.counts["reject"] == 0
    assert daemon.end() == 0
    attempts = [server.requests.get_nowait().headers["watcher-attempt"] for _ in range(11)]
    assert set(attempts) == {"1"}, "three entries were tried twice, and no attempt was counted"


def test_a_daemon_that_stops_at_once_waits_for_no_server(queue, server, serve):
    asked, ended = threading.Event(), threading.Event()

    def script(_request):
        asked.set()
        ended.wait(30)

    server.script = script
    rename_in(queue, "1.csv")
    daemon = serve()
    assert asked.wait(30)
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    daemon.end(signal.SIGTERM)
    ended.set()
    assert (queue / "1.csv").exists()
