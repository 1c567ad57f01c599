"""The application without a server: which client may ask for what, and what it is told."""

from __future__ import annotations

import json

import pytest

from watcher.config.page_feed import Feed, decode, encode
from watcher.config.queue_settings import Queue
from watcher.handle.kinds.run_command import Exec
from watcher.rules.retry import Policy
from watcher.web.application import Application
from watcher.web.sampler import Sampler

TOKEN = "s3cret-s3cret-s3cret"
LOCAL = ["localhost", "127.0.0.1", "[::1]"]


class Client:
    """Calls the application as a server does."""

    def __init__(self, *queues, token="", names=None):
        self.sampler = Sampler()
        said = {"process": 1, "host": "h", "user": "u", "started": 1.0, "version": "0"}
        feed = Feed(**said, address="", host_names=names, token=token, queues=list(queues))
        self.application = Application(feed, self.sampler)
        self.application.configure(feed)

    def ask(self, path, query="", method="GET", **headers):
        environ = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        said = []
        body = b"".join(self.application(environ, lambda *given: said.extend(given)))
        status, given = said
        self.headers = dict(given)
        return int(status[:3]), body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost", 200), ("LOCALHOST:9180", 200), ("127.0.0.1:1", 200), ("[::1]:1", 200)),
        *(("[::1]", 200), ("evil.example", 421), ("evil.example:9180", 421), ("", 421)),
        *(("localhost:80@evil.example", 421), ("localhost:", 421)),
        *(("localhost.evil.example", 421), ("127.0.0.1.evil:80", 421), ("[::2]:80", 421)),
    ],
)
def test_a_loopback_page_answers_no_other_host(host, status):
    assert Client(names=LOCAL).ask("/healthz", host=host)[0] == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        *((f"Bearer {TOKEN}", 200), (f"bearer {TOKEN} ", 200), ("", 401), (TOKEN, 401)),
        *((f"Bearer {TOKEN}x", 401), ("Bearer ", 401), (f"Basic {TOKEN}", 401)),
        *((f"Bearer {TOKEN[:-1]}", 401), ("Bearer \xff\u0100", 401), ("Bearer", 401)),
    ],
)
def test_data_needs_the_token(header, status):
    client = Client(token=TOKEN)
    for path in ("/status.json", "/history.json", "/entry.json", "/metrics"):
        known = client.ask(path, authorization=header)[0]
        assert (known == 401) == (status == 401), path
        if known == 401:
            assert client.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_probe_without_the_token_is_told_the_status_alone():
    client = Client(Queue(name="secret", path="/none"), token=TOKEN)
    assert client.ask("/readyz") == (503, b"service unavailable\n")
    status, body = client.ask("/readyz", authorization=f"Bearer {TOKEN}")
    assert status == 503
    assert body == b"secret: not looked at yet\n"


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        *(("/status.json", "", 200), ("/status.json", "x=%ff&&;=", 200), ("", "", 404)),
        *(("/history.json", "queue=none", 404), ("/history.json", "queue=%ff%00", 404)),
        *(("/history.json", "&".join(9 * ["a=b"]), 400), ("/entry.json", "queue=q", 400)),
        *(("/entry.json", "queue=q&entry=%00", 404), ("/entry.json", "queue=q&entry=a/../b", 404)),
        *(("/entry.json", f"queue=q&entry={5000 * 'a'}", 404), ("/status.json/", "", 404)),
        *(("//status.json", "", 404), ("/../page.js", "", 404), ("/page/../x\xff", "", 404)),
    ],
)
def test_whatever_is_asked_is_answered(tmp_path, path, query, status):
    client = Client(Queue(name="q", path=str(tmp_path)))
    assert client.ask(path, query)[0] == status
    assert client.ask(path, query, "HEAD") == (status, b"")
    assert int(client.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "\xff"])
def test_the_page_can_be_read_only(method):
    client = Client()
    assert client.ask("/status.json", method=method)[0] == 405


def test_a_bug_is_a_500_and_no_traceback():
    client = Client()
    client.sampler.snapshots = lambda: 1 / 0
    assert client.ask("/status.json") == (500, b"an error in this program\n")


def test_a_queue_that_cannot_be_read_says_why(tmp_path):
    client = Client(Queue(name="q", path=str(tmp_path / "none")))
    client.sampler.look()
    (found,) = json.loads(client.ask("/status.json")[1])["queues"]
    assert "does not exist" in found["error"]
    assert client.ask("/readyz")[0] == 503
    assert client.ask("/healthz")[0] == 200  # a restart of the daemon would not help


def test_what_the_daemon_tells_comes_back_but_for_its_handlers():
    queue = Queue(
        name="q/\udcff",
        path="/srv/\udcff",
        handler=Exec(("deliver", "--password=hush")),
        retry=Policy(initial=2.0),
        match=("*.csv",),
    )
    feed = Feed(
        process=1, host="h", user="u", started=1.5, version="0", address="a", queues=[queue]
    )
    sent = encode(feed)
    assert b"hush" not in sent
    (got,) = decode(sent).queues
    assert (got.name, got.path, got.retry, got.match) == (
        queue.name,
        queue.path,
        queue.retry,
        queue.match,
    )
    assert got.handler is None
