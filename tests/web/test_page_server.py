"""A real `watcher run --http`: what its paths answer, and how the page's process lives and ends."""

from __future__ import annotations

import os
import signal
import socket
import stat

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import gone
from tests.web.client import WITH_PAGE, Page, entry
from watcher.config.daemon_settings import daemon_settings
from watcher.daemon.listening import Listening
from watcher.errors import BadConfiguration, WatcherError
from watcher.rules.http_address import parse


def test_the_paths_answer_with_what_the_commands_say(start_daemon, queue, recorder, eventually):
    daemon = start_daemon(queue, *WITH_PAGE, handler=recorder.argv())
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


def test_a_unix_socket_replaces_that_of_a_dead_daemon_and_goes_with_its_own(
    start_daemon, queue, recorder, tmp_path, eventually
):
    place = tmp_path / "page.sock"
    first = start_daemon(queue, "--http", f"unix:{place}", handler=recorder.argv())
    page = Page(first)
    assert page.ask("/healthz").status == 200
    child = page.process(eventually)
    assert stat.S_IMODE(place.stat().st_mode) == 0o660
    first.end(signal.SIGKILL)
    try:
        eventually(lambda: gone(child))  # the end of its standard input ends it
    finally:
        if not gone(child):
            os.kill(child, signal.SIGKILL)
    assert place.exists()
    second = start_daemon(queue, "--http", f"unix:{place}", handler=recorder.argv())
    assert Page(second).ask("/healthz").status == 200
    assert second.end() == 0
    assert not place.exists()


@pytest.mark.slow
def test_an_address_that_cannot_be_had_is_refused_at_once(start_daemon, queue, recorder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ("--http", f"127.0.0.1:{taken.getsockname()[1]}")
        daemon = start_daemon(queue, *options, handler=recorder.argv(), ready=False)
        assert daemon.process.wait(30) == 69
        assert "Address already in use: name another address" in daemon.log()


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("unix:{}/file", 73, "no socket is there"),
        ("unix:{}/link", 73, "no socket is there"),
        ("unix:{}/none/page", 73, "No such file"),
        ("unix:{}/served", 69, "another process serves there"),
        ("192.0.2.77:1", 69, "Cannot assign"),
    ],
)
def test_what_is_there_already_is_not_replaced(tmp_path, address, status, words):
    (tmp_path / "file").touch()
    with Listening(parse(f"unix:{tmp_path}/served")) as served:
        (tmp_path / "link").symlink_to(tmp_path / "served")
        with pytest.raises(WatcherError, match=words) as refused:
            Listening(parse(address.format(tmp_path)))
        assert refused.value.exit_code == status
        assert len(os.listdir(tmp_path)) == 3
        os.replace(tmp_path / "file", tmp_path / "served")  # another program's
    assert (tmp_path / "served").exists()
    assert served.socket.fileno() < 0


def test_a_page_is_served_on_ipv6_too():
    try:
        served = Listening(parse("[::1]:0"))
    except WatcherError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with served, socket.create_connection(("::1", served.address.port)):
        assert str(served.address) == f"[::1]:{served.socket.getsockname()[1]}"


@pytest.mark.parametrize(
    ("lines", "token", "mode", "words"),
    [
        ('http = "0.0.0.0:1"', None, 0, "can be reached from other machines: set http_token_file"),
        ('http = "[::]:1"\nhttp_token_file = "{}"', None, 0, "cannot be read: No such file"),
        ('http = "[::]:1"\nhttp_token_file = "{}"', "0123456789abcdef", 0o644, "chmod o="),
        ('http = "[::]:1"\nhttp_token_file = "{}"', "short", 0o600, "expected a first line of 16"),
        ('http = "[::]:1"\nhttp_token_file = "{}"', 20 * "\xe4", 0o600, "expected a first line"),
        ('http = "[::]:1"\nhttp_token_file = "token"', None, 0, "it is not absolute"),
        ("http = 9180", None, 0, "expected"),
        ('htpp = "127.0.0.1:1"', None, 0, "unknown key; expected one of http, http_token_file"),
    ],
)
def test_settings_of_the_daemon_are_refused_with_the_cure(tmp_path, lines, token, mode, words):
    file, secret = tmp_path / "w.toml", tmp_path / "token"
    if token is not None:
        secret.write_text(token)
        secret.chmod(mode)
    file.write_text(f"[daemon]\n{lines.format(secret)}\n")
    with pytest.raises(BadConfiguration) as refused:
        daemon_settings(str(file), {}, {})
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"{file}: daemon.")


def test_flags_beat_the_environment_which_beats_the_file(tmp_path):
    file = tmp_path / "w.toml"
    file.write_text('[daemon]\nhttp = "127.0.0.1:1"\n')
    environment = {"WATCHER_HTTP": "127.0.0.1:2"}
    ports = (
        daemon_settings(str(file), {"http": None}, {}).http.port,
        daemon_settings(str(file), {}, environment).http.port,
        daemon_settings(str(file), {"http": "127.0.0.1:3"}, environment).http.port,
    )
    assert ports == (1, 2, 3)
    assert daemon_settings(str(file), {}, {"WATCHER_HTTP": ""}).http is None
    assert daemon_settings(None, {}, {}).http is None
