"""A real `watcher run --http`: what its paths answer, and how the page's process lives and ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import stat

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import gone


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(self.host)


class Page:
    """The page of a daemon, as a client sees it."""

    def __init__(self, daemon, number=0):
        self.daemon = daemon
        (*_, said) = daemon.wait_for("page", number + 1)
        self.address = said["detail"].rpartition(" ")[2]

    def connect(self):
        if self.address.startswith("unix:"):
            return UnixConnection(self.address.removeprefix("unix:"))
        host, _, port = self.address.rpartition(":")
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=20)

    def ask(self, path, method="GET", headers=None):
        connection = self.connect()
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        answer.text = answer.read()
        connection.close()
        return answer

    def json(self, path):
        answer = self.ask(path)
        assert answer.status == 200, answer.text
        return json.loads(answer.text)

    def process(self, eventually):
        """The page's process; it lives under the daemon."""
        return eventually(lambda: children(self.daemon.process.pid, b"watcher.web"))[0]


def children(parent, word):
    found = []
    with open(f"/proc/{parent}/task/{parent}/children", "rb") as file:
        for pid in map(int, file.read().split()):
            with open(f"/proc/{pid}/cmdline", "rb") as command:
                if word in command.read():
                    found.append(pid)
    return found


def entry(queue, name="a.pck"):
    (queue / f"{name}.tmp").write_bytes(b"x")
    os.rename(queue / f"{name}.tmp", queue / name)


ANYWHERE = ("--http", "127.0.0.1:0")


def test_the_paths_answer_with_what_the_commands_say(start_daemon, queue, recorder, eventually):
    daemon = start_daemon(queue, "--format", "raw", *ANYWHERE, handler=recorder.argv())
    page = Page(daemon)
    entry(queue)
    daemon.wait_for("finish")

    def sampled():
        (found,) = page.json("/status.json")["queues"]
        return found if found["sampled"] and found["daemons"][0]["windows"]["1m"]["handled"] else 0

    seen = eventually(sampled)
    assert seen["queue"] == "queue"
    assert seen["condition"] == "ok"
    assert seen["error"] is None
    assert page.json("/status.json")["daemon"]["process"] == daemon.process.pid
    past = page.json("/history.json?queue=queue")
    assert past["depth"]["ready"] == [0] * len(past["time"])
    assert len(past["oldest"]) >= 1
    life = page.json("/entry.json?queue=queue&entry=a.pck")
    assert [step["move"] for each in life["lives"] for step in each["steps"]][-1] == "finish"
    assert not life["truncated"]
    for path, words in (("/healthz", b"healthy\n"), ("/readyz", b"ready\n")):
        assert (answer := page.ask(path)).status == 200
        assert answer.text == words
    metrics = page.ask("/metrics")
    found = {each.name for each in text_string_to_metric_families(metrics.text.decode())}
    assert "watcher_entries" in found
    assert page.ask("/entry.json?queue=queue&entry=none").status == 404
    assert page.ask("/history.json?queue=other").status == 404
    assert page.ask("/../../etc/passwd").status == page.ask("/%2e%2e/x").status == 404
    head = page.ask("/status.json", "HEAD")
    assert head.status == 200
    assert not head.text
    assert int(head.headers["Content-Length"]) > 100
    refused = page.ask("/status.json", "POST")
    assert refused.status == 405
    assert refused.headers["Allow"] == "GET, HEAD"
    for name in ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"):
        assert refused.headers[name]
    assert refused.headers["Cache-Control"] == "no-store"
    assert not any("Access-Control" in name for name in refused.headers)
    assert page.ask("/status.json", headers={"Host": "evil.example"}).status == 421
    assert page.ask("/status.json", headers={"Host": "localhost:1"}).status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_page_ends_with_its_daemon(start_daemon, queue, recorder, eventually, number):
    daemon = start_daemon(queue, *ANYWHERE, handler=recorder.argv())
    child = Page(daemon).process(eventually)
    daemon.end(number)
    eventually(lambda: gone(child))


def test_a_unix_socket_replaces_that_of_a_dead_daemon_and_goes_with_its_own(
    start_daemon, queue, recorder, tmp_path
):
    place = tmp_path / "page.sock"
    first = start_daemon(queue, "--http", f"unix:{place}", handler=recorder.argv())
    assert Page(first).ask("/healthz").status == 200
    assert stat.S_IMODE(place.stat().st_mode) == 0o660
    first.end(signal.SIGKILL)
    assert place.exists()
    second = start_daemon(queue, "--http", f"unix:{place}", handler=recorder.argv())
    assert Page(second).ask("/healthz").status == 200
    assert second.end() == 0
    assert not place.exists()


def test_an_address_that_cannot_be_had_is_refused_at_once(start_daemon, queue, recorder, tmp_path):
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for address, status, words in (
            (f"127.0.0.1:{taken.getsockname()[1]}", 69, "in use"),
            (f"unix:{tmp_path}/file", 73, "no socket"),
            (f"unix:{tmp_path}/none/page", 73, "No such file"),
            ("0.0.0.0:0", 78, "http_token_file"),
            ("example.com:80", 78, "no IP address"),
        ):
            options = ("--http", address)
            daemon = start_daemon(queue, *options, handler=recorder.argv(), ready=False)
            assert daemon.process.wait(30) == status, daemon.log()
            assert re.search(words, daemon.log()), daemon.log()
    assert (tmp_path / "file").exists()
