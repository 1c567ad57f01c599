"""`http`: what is sent, what each answer comes to, and what a hostile or slow server can do."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("httpx2")

from tests.scripted_http_server import answer, make_certificates, server_context, serving
from watcher.errors import BadConfiguration
from watcher.handle.kinds.http_post import Http
from watcher.rules.results import HandlerResult, Verdict

ROOT = Path(__file__).parents[2]
DEADLINES = "http-deadline"  # the thread that looks at them


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def load():
    """Load a handler; end what it left at the end of the test."""
    loaded = []

    def make(url, **settings):
        read = Http(url, **settings)
        assert read.mistake() is None
        loaded.append(read.load())
        return loaded[-1]

    yield make
    for each in loaded:
        each.terminate()
    for thread in threading.enumerate():
        if thread.name == DEADLINES:
            thread.join(10)


@pytest.fixture
def secret(tmp_path):
    """Write a secret to a file that its owner alone may read, and return its path."""

    def write(text, name="secret"):
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o600)
        return str(file)

    return write


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory)
    return directory


def connections_of(server, number):
    """The connections on which the next requests came."""
    return [server.requests.get(timeout=10).connection for _ in range(number)]


# -- what is sent -----------------------------------------------------------------------------


def test_the_message_is_the_body_and_the_headers_say_which_entry_it_is(server, load, claimed_entry):
    entry = claimed_entry(b"To: a\n\nbody\n", {"listname": "a"}, stem=b"1.5+ab")
    assert load(server.url).run(entry) == HandlerResult(Verdict.DONE)
    request = server.requests.get(timeout=10)
    assert (request.method, request.path, request.body) == ("POST", "/in", b"To: a\n\nbody\n")
    expected = {
        "content-type": "message/rfc822",
        "content-length": "12",
        "idempotency-key": f'"{entry.key}"',
        "watcher-queue": "q",
        "watcher-entry": "1.5%2Bab",
        "watcher-attempt": "1",
        "accept-encoding": "identity",
        "host": f"127.0.0.1:{server.port}",
    }
    assert expected.items() <= request.headers.items()
    assert "transfer-encoding" not in request.headers


def test_every_attempt_has_the_same_key_and_says_which_it_is(server, load, claimed_entry):
    handler, entry = load(server.url), claimed_entry(b"x", form="raw")
    for entry.attempt in (1, 2):
        handler.run(entry)
    first, second = server.requests.get(timeout=10), server.requests.get(timeout=10)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert second.headers["watcher-attempt"] == "2"


def test_a_name_of_any_bytes_is_percent_encoded(server, load, claimed_entry):
    name = b"a\r\nX-Injected: 1\xff\xc3\xa9 b"
    assert load(server.url).run(claimed_entry(b"x", form="raw", stem=name)).verdict is Verdict.DONE
    headers = server.requests.get(timeout=10).headers
    assert headers["watcher-entry"] == "a%0D%0AX-Injected%3A%201%FF%C3%A9%20b"
    assert "x-injected" not in headers


def test_the_body_as_json_has_metadata_and_message(server, load, claimed_entry):
    entry = claimed_entry(b"\xff\0message", {"recips": ["a@example.org"]})
    assert load(server.url, body="json").run(entry).verdict is Verdict.DONE
    request = server.requests.get(timeout=10)
    assert request.headers["content-type"] == "application/json"
    sent = json.loads(request.body)
    assert sent["metadata"]["recips"] == ["a@example.org"]
    assert base64.b64decode(sent["message_base64"]) == b"\xff\0message"


def test_headers_and_the_token_are_sent_and_a_new_token_needs_no_reload(
    server, load, claimed_entry, secret
):
    token = Path(secret("first-token\n", "token"))
    more = secret("X-Api-Key: k-1\n\nX-Two:  words here \n")
    files = {"token_file": str(token), "headers_file": more}
    handler = load(server.url, headers={"X-Own": "own"}, content_type="text/csv", **files)
    assert handler.run(claimed_entry(form="raw")).verdict is Verdict.DONE
    headers = server.requests.get(timeout=10).headers
    expected = {
        "authorization": "Bearer first-token",
        "x-api-key": "k-1",
        "x-two": "words here",
        "x-own": "own",
        "content-type": "text/csv",
    }
    assert expected.items() <= headers.items()
    token.write_text("second-token")
    assert handler.run(claimed_entry(form="raw")).verdict is Verdict.DONE
    assert server.requests.get(timeout=10).headers["authorization"] == "Bearer second-token"
    token.unlink()
    result = handler.run(claimed_entry(form="raw"))
    assert result.verdict is Verdict.MISCONFIGURED
    assert (
        result.reason == f"handler.token_file: {token}: cannot be read: No such file or directory"
    )
    assert server.requests.empty()


def test_neither_proxies_of_the_environment_nor_cookies_are_used(
    server, load, claimed_entry, monkeypatch
):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.script = lambda _request: answer(200, b"", "Set-Cookie: a=b; Path=/")
    handler = load(server.url)
    for _ in range(2):
        assert handler.run(claimed_entry()).verdict is Verdict.DONE
        assert "cookie" not in server.requests.get(timeout=10).headers


def test_a_large_file_is_never_whole_in_memory(server, load, claimed_entry):
    size, got = 48 << 20, []

    def discard(connected):
        with connected.makefile("rb", buffering=0) as stream:
            data = stream.read(65536)
            head, _, rest = data.partition(b"\r\n\r\n")
            count, buffer = len(rest), memoryview(bytearray(1 << 20))
            while count < size:
                count += stream.readinto(buffer)
        got.append((head, count))
        connected.sendall(answer(204))
        return False

    server.before = discard
    entry = claimed_entry(b"", form="raw")
    os.truncate(entry.path, size)
    part = entry.parts[0]._replace(size=size)
    entry.parts = (part,)
    handler = load(server.url)
    tracemalloc.start()
    try:
        assert handler.run(entry).verdict is Verdict.DONE
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert b"content-length: %d" % size in got[0][0].lower()
    assert got[0][1] == size
    assert peak < 8 << 20


def test_a_file_that_becomes_shorter_is_tried_again(server, load, claimed_entry):
    entry = claimed_entry(b"x" * 1000, form="raw")
    os.truncate(entry.path, 10)
    result = load(server.url).run(entry)
    assert result.verdict is Verdict.RETRY
    assert result.reason == "cannot be sent: the file became shorter while it was sent"


def test_what_cannot_be_decoded_is_rejected_without_a_request(server, load, claimed_entry):
    entry = claimed_entry(b"x" * 100, limit=10)
    assert load(server.url).run(entry).verdict is Verdict.REJECT
    assert server.connections == 0


def test_the_server_that_the_page_shows_stores_a_message_once(load, claimed_entry, tmp_path):
    section = (ROOT / "docs/handlers.md").read_text().split("\n## http\n")[1].partition("\n## ")[0]
    (program,) = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    (tmp_path / "server.py").write_text(program)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    handler = load(f"http://127.0.0.1:{port}/in")
    with subprocess.Popen(
        [sys.executable, "server.py", str(port)], cwd=tmp_path, stderr=subprocess.PIPE
    ) as process:
        entries = [claimed_entry(b"one"), claimed_entry(b"two")]
        until = time.monotonic() + 30
        while handler.run(entries[0]).verdict is not Verdict.DONE:  # until it listens
            assert time.monotonic() < until
            time.sleep(0.02)
        assert handler.run(entries[0]).verdict is handler.run(entries[1]).verdict is Verdict.DONE
        process.kill()
        said = process.stderr.read().decode()
    assert re.findall('" ([0-9]+) -', said) == ["201", "200", "201"]
    with contextlib.closing(sqlite3.connect(tmp_path / "messages.db")) as store:
        rows = store.execute("SELECT * FROM message ORDER BY body").fetchall()
    assert rows == [(f'"{entry.key}"', entry.message) for entry in entries]


# -- what an answer comes to ------------------------------------------------------------------

ANSWERS = {
    "accepted": (answer(202, b"queued"), HandlerResult(Verdict.DONE)),
    "refused": (
        answer(422, b"\n  no such list: a \nmore\n"),
        HandlerResult(Verdict.REJECT, "answered 422: no such list: a"),
    ),
    "refused, hostile": (
        answer(400, b"a\x1b[31m\xff\x00b"),
        HandlerResult(Verdict.REJECT, "answered 400: a\\x1b[31m\\xff\\x00b"),
    ),
    "too many": (
        answer(429, b"", "Retry-After: 17"),
        HandlerResult(Verdict.RETRY, "answered 429", at_least=17.0),
    ),
    "down, with a date by its own clock": (
        answer(
            *(503, b"later", "Date: Sun, 06 Nov 1994 08:49:37 GMT"),
            "Retry-After: Sun, 06 Nov 1994 08:50:07 GMT",
        ),
        HandlerResult(Verdict.RETRY, "answered 503: later", at_least=30.0),
    ),
    "full": (answer(507, b"no space"), HandlerResult(Verdict.RETRY, "answered 507: no space")),
    "a wrong token": (
        answer(401, b"who are you"),
        HandlerResult(Verdict.MISCONFIGURED, "answered 401: who are you"),
    ),
    "a conflict": (answer(409), HandlerResult(Verdict.REJECT, "answered 409")),
    "moved for browsers": (
        answer(302, b"", "Location: /login?next=secret"),
        HandlerResult(
            Verdict.MISCONFIGURED,
            "answered 302 to /login: only 307 and 308 say that the message is to be sent elsewhere",
        ),
    ),
}


@pytest.mark.parametrize(("said", "result"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_has_its_result(server, load, claimed_entry, said, result):
    server.script = lambda _request: said
    assert load(server.url).run(claimed_entry()) == result


def test_a_conflict_at_a_later_attempt_may_be_with_the_first_request(server, load, claimed_entry):
    server.script = lambda _request: answer(409, b"in progress")
    handler = load(server.url)
    for late in ({"attempt": 2}, {"crashes": 1}):
        result = handler.run(claimed_entry(**late))
        assert result == HandlerResult(Verdict.RETRY, "answered 409: in progress")


def test_an_answer_that_repeats_a_secret_does_not_bring_it_into_the_reason(
    server, load, claimed_entry, secret
):
    token, headers = secret("s3cret-token", "token"), secret("X-Api-Key: k3y-value")
    handler = load(server.url, token_file=token, headers_file=headers)
    server.script = lambda request: answer(
        *(400, f"bad: {request.headers['authorization']} {request.headers['x-api-key']}".encode())
    )
    reason = handler.run(claimed_entry()).reason
    assert reason == "answered 400: bad: [secret] [secret]"
    server.script = lambda request: answer(400, f"{request.headers['authorization'][7:]}!".encode())
    assert handler.run(claimed_entry()).reason == "answered 400: [secret]!"


def test_a_redirect_on_the_same_server_gets_the_whole_message_again(server, load, claimed_entry):
    def script(request):
        if request.path == "/new":
            return answer(200)
        return answer(308, b"", "Location: /new")

    server.script = script
    entry = claimed_entry(b"m" * 100_000, form="raw")
    assert load(server.url).run(entry).verdict is Verdict.DONE
    first, second = server.requests.get(timeout=10), server.requests.get(timeout=10)
    assert first.body == second.body == b"m" * 100_000
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert second.method == "POST"


def test_a_redirect_to_another_server_is_refused_and_nothing_is_sent_there(
    server, load, claimed_entry
):
    with serving() as other:
        for number, location in enumerate(
            [other.url, other.url.replace("127.0.0.1", "localhost"), f"https{server.url[4:]}"]
        ):
            server.script = lambda _request, to=location: answer(307, b"", f"Location: {to}")
            result = load(server.url).run(claimed_entry())
            assert result.verdict is Verdict.MISCONFIGURED, number
            assert result.reason.startswith(f"answered 307 to {location}: another server")
        assert other.connections == 0


def test_redirects_without_end_are_not_followed(server, load, claimed_entry):
    server.script = lambda _request: answer(307, b"", "Location: /in")
    result = load(server.url).run(claimed_entry())
    assert result.verdict is Verdict.MISCONFIGURED
    assert result.reason == "answered with more than 3 redirects"
    assert server.requests.qsize() == 4


# -- a server that is down, slow, hostile -----------------------------------------------------

NONSENSE = {
    "no HTTP": b"220 mail.example.org ESMTP\r\n\r\n",
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a header": b"HTTP/1.1 200 OK\r\nConte",
    "a wrong length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "a status that is none": b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    "zeros": b"\0" * 1000,
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_tried_again(server, load, claimed_entry, said):
    def script(request):
        request.socket.sendall(said)

    server.script = script
    result = load(server.url).run(claimed_entry())
    assert result.verdict is Verdict.RETRY
    assert result.reason.isprintable()
    assert len(result.reason) < 600
    assert server.requests.qsize() == 1, "a fresh connection is no reason to send twice"


def test_an_answer_that_breaks_off_after_its_status_is_an_answer(server, load, claimed_entry):
    def script(request):
        request.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    server.script = script
    assert load(server.url).run(claimed_entry()).verdict is Verdict.DONE


def test_of_a_body_without_end_little_is_read_and_nothing_decoded(server, load, claimed_entry):
    sent = []

    def script(request):
        head = b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: 999999999999\r\n\r\n"
        request.socket.sendall(head + b"first line\n")
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                request.socket.sendall(bytes(65536))
                sent.append(1)

    server.script = script
    result = load(server.url).run(claimed_entry())
    assert result == HandlerResult(Verdict.REJECT, "answered 400: first line")
    server.close()  # waits for the script, which ends because the connection is closed
    assert len(sent) < 1000


def test_a_success_before_the_whole_message_was_sent_is_none(server, load, claimed_entry):
    def early(connected):
        connected.recv(100)
        connected.sendall(answer(200))
        return False  # closed, with most of the message unread

    server.before = early
    entry = claimed_entry(b"m" * (16 << 20), form="raw")
    result = load(server.url).run(entry)
    assert result.verdict is Verdict.RETRY
    assert "before it had the whole message" in result.reason or "reset" in result.reason


def test_a_server_that_is_not_there_is_tried_again_later(load, claimed_entry):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    result = load(f"http://127.0.0.1:{port}/in").run(claimed_entry())
    assert result == HandlerResult(
        Verdict.RETRY, f"127.0.0.1:{port}: [Errno 111] Connection refused"
    )


def drip(said):
    """Return a script that sends an answer byte by byte, for three seconds without an end."""

    def script(request):
        with contextlib.suppress(OSError):
            for byte in itertools.chain(said, itertools.repeat(ord("x"), 300)):
                request.socket.sendall(bytes([byte]))
                time.sleep(0.01)

    return script


def never(request):
    """Read until the client ends the connection."""
    with contextlib.suppress(OSError):
        while request.socket.recv(1000):
            pass


SLOW = {
    "silent": never,
    "a slow status": drip(b"HTTP/1.1 200 O"),
    "a slow header": drip(b"HTTP/1.1 200 OK\r\nX: "),
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
def test_a_slow_server_is_given_up_at_the_deadline(server, load, claimed_entry, script):
    server.script = script
    began = time.monotonic()
    result = load(server.url, timeout=0.3).run(claimed_entry())
    assert result == HandlerResult(Verdict.RETRY, "timeout: no answer after 300ms")
    assert 0.25 < time.monotonic() - began < 2.5  # the server goes on for three seconds


def test_a_server_that_reads_nothing_is_given_up_at_the_deadline(server, load, claimed_entry):
    ended = threading.Event()
    server.before = lambda _connected: not ended.wait(10)
    result = load(server.url, timeout=0.3).run(claimed_entry(b"m" * (16 << 20), form="raw"))
    ended.set()
    assert result == HandlerResult(Verdict.RETRY, "timeout: no answer after 300ms")


def test_a_slow_body_of_an_answer_holds_up_nothing_beyond_the_deadline(server, load, claimed_entry):
    def script(request):
        request.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n")
        drip(b"")(request)

    server.script = script
    began = time.monotonic()
    assert load(server.url, timeout=0.5).run(claimed_entry()).verdict is Verdict.DONE
    assert time.monotonic() - began < 2.5


def test_terminate_ends_a_request_and_those_that_come(server, load, claimed_entry):
    server.script = never
    handler = load(server.url)
    entry, results = claimed_entry(), []
    running = threading.Thread(target=lambda: results.append(handler.run(entry)))
    running.start()
    server.requests.get(timeout=10)
    handler.terminate()
    running.join(10)
    assert [result.verdict for result in results] == [Verdict.STOPPED]
    assert handler.run(claimed_entry()).verdict is Verdict.STOPPED


# -- connections ------------------------------------------------------------------------------


def test_entries_one_after_the_other_share_a_connection(server, load, claimed_entry):
    handler = load(server.url)
    for status in (200, 503, 422, 204):
        server.script = lambda _request, status=status: answer(status, b"words")
        handler.run(claimed_entry())
    assert connections_of(server, 4) == [1, 1, 1, 1]


def test_a_connection_that_the_server_closes_meanwhile_is_replaced_at_once(
    server, load, claimed_entry
):
    def script(request):
        if request.connection == 1 and server.requests.qsize() == 2:
            return None  # the second request on it: closed without an answer
        return answer(204)

    server.script = script
    handler = load(server.url)
    for _ in range(2):
        assert handler.run(claimed_entry()).verdict is Verdict.DONE
    requests = [server.requests.get(timeout=10) for _ in range(3)]
    assert [request.connection for request in requests] == [1, 1, 2]
    assert requests[1].headers["idempotency-key"] == requests[2].headers["idempotency-key"]
    assert server.requests.empty()


def test_several_at_once_have_a_connection_each(server, load, claimed_entry):
    both = threading.Barrier(2, timeout=10)

    def script(_request):
        both.wait()
        return answer(204)

    server.script = script
    handler, results = load(server.url), []
    entries = [claimed_entry(), claimed_entry()]
    threads = [
        threading.Thread(target=lambda entry=entry: results.append(handler.run(entry)))
        for entry in entries
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [result.verdict for result in results] == [Verdict.DONE, Verdict.DONE]
    assert sorted(connections_of(server, 2)) == [1, 2]


def test_no_failure_leaves_a_descriptor(server, load, claimed_entry):
    server.script = lambda request: request.socket.sendall(b"nonsense\r\n\r\n")
    handler, entry = load(server.url), claimed_entry()
    for _ in range(5):
        assert handler.run(entry).verdict is Verdict.RETRY
    assert [
        name for name in os.listdir("/proc/self/fd") if is_connected_to(name, server.port)
    ] == []


def test_an_idle_connection_is_closed_and_then_no_thread_is_left(
    server, load, claimed_entry, monkeypatch
):
    monkeypatch.setattr("watcher.handle.http_pool.IDLE", 0.2)
    closed = threading.Event()

    def script(request):
        if request.connection == 1:
            request.socket.sendall(answer(204))
            never(request)
            closed.set()
            return None
        return answer(204)

    server.script = script
    handler = load(server.url)
    assert handler.run(claimed_entry()).verdict is Verdict.DONE
    (watching,) = [each for each in threading.enumerate() if each.name == DEADLINES]
    assert closed.wait(10)
    watching.join(10)
    assert not watching.is_alive()
    assert handler.run(claimed_entry()).verdict is Verdict.DONE
    assert connections_of(server, 2) == [1, 2]


def is_connected_to(name, port):
    try:
        with socket.socket(fileno=os.dup(int(name))) as found:
            return found.getpeername()[1] == port
    except (OSError, IndexError):
        return False


# -- TLS --------------------------------------------------------------------------------------


def test_a_server_whose_certificate_is_trusted_gets_the_message(load, claimed_entry, certificates):
    with serving(server_context(certificates)) as server:
        handler = load(server.url, ca_file=str(certificates / "ca.pem"))
        for _ in range(2):
            assert handler.run(claimed_entry(b"secret")).verdict is Verdict.DONE
        assert connections_of(server, 2) == [1, 1]


def test_a_server_whose_certificate_is_not_trusted_gets_nothing(load, claimed_entry, certificates):
    with serving(server_context(certificates)) as server:
        result = load(server.url).run(claimed_entry(b"secret"))
        assert result.verdict is Verdict.MISCONFIGURED
        assert "its certificate is not trusted: " in result.reason
        assert server.requests.empty()


def test_a_certificate_of_another_name_is_not_trusted(load, claimed_entry, certificates):
    with serving(server_context(certificates, name="client")) as server:
        result = load(server.url, ca_file=str(certificates / "ca.pem")).run(claimed_entry())
        assert result.verdict is Verdict.MISCONFIGURED
        assert "not valid for '127.0.0.1'" in result.reason
        assert server.requests.empty()


def test_a_certificate_is_shown_to_a_server_that_asks_for_one(load, claimed_entry, certificates):
    with serving(server_context(certificates, ask_client=True)) as server:
        ca, own = str(certificates / "ca.pem"), str(certificates / "client.pem")
        assert load(server.url, ca_file=ca).run(claimed_entry()).verdict is Verdict.RETRY
        result = load(server.url, ca_file=ca, cert_file=own).run(claimed_entry())
        assert result.verdict is Verdict.DONE


def test_a_handshake_that_never_ends_is_given_up_at_the_deadline(load, claimed_entry, certificates):
    ended = threading.Event()
    with serving(server_context(certificates)) as server:
        server.before = lambda _connected: not ended.wait(10)
        result = load(server.url, timeout=0.3).run(claimed_entry())
        ended.set()
    assert result == HandlerResult(Verdict.RETRY, "timeout: no answer after 300ms")


def test_a_request_over_tls_ends_by_terminate(load, claimed_entry, certificates):
    with serving(server_context(certificates)) as server:
        server.script = never
        handler = load(server.url, ca_file=str(certificates / "ca.pem"))
        entry, results = claimed_entry(), []
        running = threading.Thread(target=lambda: results.append(handler.run(entry)))
        running.start()
        server.requests.get(timeout=10)
        handler.terminate()
        running.join(10)
        assert [result.verdict for result in results] == [Verdict.STOPPED]


# -- the settings -----------------------------------------------------------------------------

GOOD = "https://h.example/in"
MISTAKES = {
    "no URL": ({"http": "h.example/in"}, "http"),
    "no host": ({"http": "https:///in"}, "http"),
    "another scheme": ({"http": "ftp://h.example/in"}, "http"),
    "a user": ({"http": "https://u:p@h.example/in"}, "http"),
    "a fragment": ({"http": "https://h.example/in#x"}, "http"),
    "a space": ({"http": "https://h.example/i n"}, "http"),
    "a line end": ({"http": "https://h.example/in\r\nX: y"}, "http"),
    "a wrong port": ({"http": "https://h.example:99999/in"}, "http"),
    "a wrong address": ({"http": "https://[::1/in"}, "http"),
    "a capital scheme": ({"http": "HTTPS://h.example/in"}, "http"),
    "certificates without TLS": ({"http": "http://h.example/in", "ca_file": "/c"}, "ca_file"),
    "a key alone": ({"http": GOOD, "key_file": "/k"}, "key_file"),
    "two authorizations": (
        {"http": GOOD, "token_file": "/t", "headers": {"Authorization": "x"}},
        "token_file",
    ),
}


@pytest.mark.parametrize(("settings", "key"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_without_a_request(settings, key):
    found = Http(**settings).mistake()
    assert found is not None
    assert found[0] == key


def test_a_url_may_have_a_port_an_address_and_a_query():
    for url in ("http://h", GOOD, "https://[::1]:8443/in?list=a", "http://10.0.0.1:80/"):
        assert Http(url).mistake() is None
    assert Http(GOOD).endless() == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("Host", "x"), ("content-length", "1"), ("Watcher-Entry", "x"), ("a b", "x"), ("", "x"),
     ("X", "a\r\nY: b"), ("X", ""), ("X", "é"), ("Idempotency-Key", "x"), ("X", 1)],
)  # fmt: skip
def test_a_header_that_is_none_or_not_the_operators_is_refused(name, value, secret):
    with pytest.raises(ValueError):  # noqa: PT011 - a reader of an option raises it without text
        Http.OPTIONS["headers"].read({name: value})
    if isinstance(value, str) and "\n" not in value:
        file = secret(f"X-Good: 1\n{name}: {value}\n")
        with pytest.raises(BadConfiguration, match="line 2: expected NAME: VALUE"):
            Http(GOOD, headers_file=file).load()


def test_a_file_that_cannot_be_used_is_named_and_not_shown(secret):
    empty, wrong = secret("\n", "empty"), secret("s3cret\ns3cret", "wrong")
    for settings, said in [
        ({"token_file": empty}, f"handler.token_file: {empty}: is empty"),
        ({"token_file": wrong}, f"handler.token_file: {wrong}: expected one line of ASCII"),
        ({"token_file": "/no/file"}, "handler.token_file: /no/file: cannot be read: No such"),
        ({"headers_file": wrong}, f"handler.headers_file: {wrong}: line 1: expected NAME"),
        ({"ca_file": wrong}, f"handler.ca_file: {wrong}: no certificates can be read"),
        ({"cert_file": wrong}, f"handler.cert_file: {wrong}: no certificate with its key"),
    ]:
        with pytest.raises(BadConfiguration) as caught:
            Http(GOOD, **settings).load()
        assert str(caught.value).startswith(said)
        assert "s3cret" not in str(caught.value)


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("watcher.handle.kinds.http_post.find_spec", lambda _name: None)
    with pytest.raises(BadConfiguration) as caught:
        Http(GOOD).load()
    assert str(caught.value) == (
        "handler.http: needs the package httpx2: pip install 'spool-watcher[http]'"
    )


# -- a look without an entry ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "grade", "said"),
    [
        (204, "ok", "the server answers OPTIONS with 204"),
        (405, "ok", "the server answers OPTIONS with 405"),
        (401, "warning", "it does not accept the credentials"),
        (404, "warning", "it knows no such path"),
        (302, "warning", "may be redirected"),
        (503, "warning", "it does not work"),
    ],
)
def test_a_look_says_what_the_server_answers_and_sends_no_message(server, status, grade, said):
    server.script = lambda _request: answer(status, b"words", "Location: /x")
    (found,) = Http(server.url).try_target()
    assert (found.grade, found.about) == (grade, "handler")
    assert said in found.what
    request = server.requests.get(timeout=10)
    assert (request.method, request.body) == ("OPTIONS", b"")
    assert not {"idempotency-key", "transfer-encoding"} & request.headers.keys()
    assert server.requests.empty()


def test_a_look_says_that_a_server_is_not_there_or_not_trusted(certificates):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (found,) = Http(f"http://127.0.0.1:{port}/in").try_target()
    assert (found.grade, found.code) == ("bad", os.EX_UNAVAILABLE)
    assert "Connection refused" in found.what
    with serving(server_context(certificates)) as server:
        (found,) = Http(server.url).try_target()
        assert (found.grade, found.code) == ("bad", os.EX_CONFIG)
        assert "its certificate is not trusted" in found.what


def test_a_look_says_that_a_secret_goes_unencrypted(server, secret):
    found = [check.what for check in Http(server.url, token_file=secret("word")).try_target()]
    assert found[0] == "what is secret goes through the network unencrypted"
    assert server.requests.get(timeout=10).headers["authorization"] == "Bearer word"
    assert len(found) == 2


def test_a_secret_that_every_user_may_read_is_refused(server, load, claimed_entry, secret):
    file = secret("word")
    handler = load(server.url, token_file=file)
    os.chmod(file, 0o644)
    said = f"handler.token_file: {file}: every user may read or write it; chmod 600 {file}"
    assert handler.run(claimed_entry()) == HandlerResult(Verdict.MISCONFIGURED, said, ran=False)
    for option in ("token_file", "headers_file", "cert_file"):
        with pytest.raises(BadConfiguration, match=f"handler.{option}: {file}: every user may"):
            Http(GOOD, **{option: file}).load()
    assert server.connections == 0
