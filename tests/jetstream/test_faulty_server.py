"""The handler `nats` with a server that stalls, talks nonsense or lies: each attempt has an end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("nats")

from watcher.errors import BadConfiguration
from watcher.handle.handler_kinds import read_handler
from watcher.jetstream import publish
from watcher.rules.results import HANDLED, Verdict

INFO = b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"headers":true}\r\n'


@pytest.fixture
def handler(handler):
    """Load a handler for a server, as everywhere, which soon gives up."""
    return lambda server, stream="MAIL", **options: handler(
        server, stream, **{"timeout": "250ms", **options}
    )


@pytest.fixture
def faulty():
    """Serve with a function that has each connection; return where."""
    listening = []

    def serve(behave):
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def one(connection):
            with contextlib.suppress(OSError), connection:
                behave(connection)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return SimpleNamespace(url=f"nats://127.0.0.1:{server.getsockname()[1]}")

    yield serve
    for server in listening:
        server.close()


def said(*first):
    """Say something, and then nothing until the other side closes."""

    def behave(connection):
        for data in first:
            connection.sendall(data)
        while connection.recv(65536):
            pass

    return behave


def after_connect(*data):
    """Let the client in, and then say something."""

    def behave(connection):
        connection.sendall(INFO)
        connection.recv(65536)
        connection.sendall(b"PONG\r\n")
        connection.recv(65536)
        said(*data)(connection)

    return behave


def is_held(result, words):
    """Whether the result holds the queue, and says why."""
    assert result.verdict is Verdict.MISCONFIGURED
    assert not result.ran
    assert words in result.reason
    return True


NOT_NATS = "it does not speak the protocol of NATS"


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        pytest.param(said(), "no answer in time", id="nothing"),
        pytest.param(said(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "expecting INFO", id="http"),
        pytest.param(said(b"INFO {" + b"a" * 200_000), NOT_NATS, id="a line without an end"),
        pytest.param(said(b"INFO []\r\n"), NOT_NATS, id="a list"),
        pytest.param(said(b"INFO {{\r\n"), "json parse error", id="no JSON"),
        pytest.param(
            said(INFO.replace(b"1048576", b'"x"')), "protocol error", id="a limit that is text"
        ),
        pytest.param(said(INFO.replace(b"1048576", b"0")), "protocol error", id="a limit of 0"),
        pytest.param(
            said(INFO.replace(b'"headers"', b'"connect_urls":[5],"headers"')),
            "no answer in time",
            id="an address that is a number",
        ),
        pytest.param(after_connect(), "no answer in time", id="nothing afterwards"),
        pytest.param(after_connect(b"INFO {{\r\n"), "protocol error", id="no JSON afterwards"),
        pytest.param(after_connect(b"-ERR '\xff'\r\n"), "protocol error", id="no text"),
        pytest.param(after_connect(b"MSG\r\n"), "protocol error", id="a cut message"),
        pytest.param(
            after_connect(b"MSG a 1 99999999999\r\n"), "protocol error", id="a message of 99 GB"
        ),
        pytest.param(after_connect(b"-ERR 'a\x1b[1m'\r\n"), r"broke: a\x1b[1m", id="an escape"),
    ],
)
def test_a_server_that_is_none_holds_the_queue_in_time(faulty, handler, raw, capfd, behave, words):
    began = time.monotonic()
    assert is_held(handler(faulty(behave)).run(raw()), words)
    assert time.monotonic() - began < 5
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_line_without_an_end_takes_little_memory(faulty, handler, raw):
    sent = []

    def endless(connection):
        for line in (INFO, b"PONG\r\n"):
            connection.sendall(line)
            connection.recv(65536)
        while True:
            connection.sendall(b"a" * 65536)
            sent.append(65536)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert is_held(handler(faulty(endless), timeout="2s").run(raw()), "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB
    assert sum(sent) > 1 << 20


def test_no_descriptor_is_left_of_a_connection_that_came_to_nothing(faulty, handler, raw):
    server = faulty(said())
    there, port = handler(server, timeout="100ms"), int(server.url.rpartition(":")[2])

    def is_to_server(fd):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as one:
            return one.family == socket.AF_INET and one.getpeername()[1] == port
        return False

    there.run(raw())
    assert not [fd for fd in os.listdir("/proc/self/fd") if is_to_server(int(fd))]


def test_a_name_server_that_is_away_delays_no_exit(handler, raw, monkeypatch):
    """Python's exit waits for every thread that is no daemon's."""
    answer, look_up = threading.Event(), socket.getaddrinfo

    def slow(*asked, **options):
        answer.wait(30)
        return look_up(*asked, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    there = handler(SimpleNamespace(url="nats://name.invalid"))
    try:
        assert is_held(there.run(raw()), "name.invalid:4222: no answer in time")
        there._publisher.close()
        begun = [one for one in threading.enumerate() if one is not threading.main_thread()]
        assert [one.name for one in begun if not one.daemon] == []
    finally:
        answer.set()


def test_a_name_that_does_not_exist_is_said(handler, raw):
    there = handler(SimpleNamespace(url="nats://name.invalid"), timeout="1s")
    assert is_held(there.run(raw()), "name.invalid:4222: ")


@pytest.mark.slow
def test_a_stopped_server_holds_no_call_beyond_its_deadline(server, init, handler, raw):
    """More is on its way than the sockets take, and nats-py swallows the end of such a wait."""
    init(server)
    there = handler(server)
    entries = [raw(b"%d" % number + b"x" * 400_000) for number in range(40)]
    assert there.run(entries[0]) == HANDLED
    server.process.send_signal(signal.SIGSTOP)
    began, results = time.monotonic(), []
    try:
        thread = threading.Thread(target=lambda: results.append(there.run_batch(entries)))
        thread.start()
        thread.join(15)
        assert not thread.is_alive()
        assert time.monotonic() - began < 10
        assert is_held(results[0].words[39], "no answer in time")
    finally:
        server.process.send_signal(signal.SIGCONT)
    # The connection is another one: the old one may be one that the server does not know any more.
    assert there.run(entries[1]) == HANDLED


@pytest.mark.slow
def test_what_was_acknowledged_before_the_server_stopped_is_done(server, init, handler, raw):
    init(server)
    there = handler(server, timeout="3s")
    entries = [raw(b"%d" % number + b"x" * 300_000) for number in range(60)]
    thread_results = []
    thread = threading.Thread(target=lambda: thread_results.append(there.run_batch(entries)))
    thread.start()
    while len(server.bodies("MAIL")) < 3:
        pass
    server.process.send_signal(signal.SIGSTOP)
    try:
        thread.join(15)
    finally:
        server.process.send_signal(signal.SIGCONT)
    done = [number for number, word in thread_results[0].words.items() if word == HANDLED]
    assert len(done) >= 3
    stored = {data[:3] for data in server.bodies("MAIL")}
    assert {(b"%d" % number + b"xxx")[:3] for number in done} <= stored


def test_an_answer_that_is_not_the_streams_counts_for_nothing(shared_server, init, handler, raw):
    """A program that subscribed to the subject answers in place of JetStream."""
    connection = shared_server.connection()
    answers = [b'{"stream":"OTHER","seq":1}', b"OK", b'{"stream":"FAKE","seq":0}', b"[" * 100_000]

    async def answer(message):
        await message.respond(answers[0])

    async def subscribe(client):
        await client.subscribe("FAKE.>", cb=answer)
        await client.flush()

    connection.call(subscribe, 5)
    there = handler(shared_server, "FAKE", timeout="300ms")
    assert is_held(there.run(raw()), "OTHER answered, not FAKE")
    del answers[0]
    while answers:
        assert is_held(there.run(raw()), "an answer that is none of JetStream")
        del answers[0]
    connection.close()


PERMISSIONS = """
accounts {
  A { jetstream: enabled, users: [
    {user: all, password: secret},
    {user: nopub, password: secret, permissions: {publish: {deny: ["MAIL.Q"]}}},
    {user: nosub, password: secret, permissions: {subscribe: {deny: ["_INBOX.>"]}}}] }
  S { users: [{user: s, password: secret}] }
}
system_account: S
no_auth_user: all
"""


@pytest.fixture
def permissions_server(tmp_path):
    from tests.nats_server import PROGRAM, serving

    if PROGRAM is None:
        pytest.skip("no nats-server")
    with serving(tmp_path / "nats", PERMISSIONS) as server:
        yield server


@pytest.mark.slow
def test_what_a_user_may_not_do_is_said_at_once(permissions_server, init, handler, raw, tmp_path):
    init(permissions_server)
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o600)
    options = {"password_file": str(password), "timeout": "60s"}
    there = handler(permissions_server, user="nopub", subject="MAIL.Q", **options)
    assert is_held(there.run(raw()), "this user may not publish to MAIL.Q")
    there = handler(permissions_server, user="nosub", **options)
    assert is_held(there.run(raw()), "this user may not subscribe to _INBOX.>")
    password.write_text("wrong")
    assert is_held(handler(permissions_server, user="all", **options).run(raw()), "uthorization")


@pytest.mark.slow
def test_a_limit_that_the_operator_raised_counts(server, init, handler, raw, monkeypatch):
    init(server)
    there = handler(server, timeout="5s")
    entry = raw(b"x" * 2_000_000)
    assert there.run(entry).verdict is Verdict.REJECT
    server.config.write_text(f"{server.config.read_text()}max_payload: 4MB\n")
    server.process.send_signal(signal.SIGHUP)
    while b"Reloaded: max_payload" not in server.log.read_bytes():
        pass
    monkeypatch.setattr(publish, "BELIEVED", 0.0)
    assert there.run(entry) == HANDLED


def test_headers_that_no_stream_takes_are_the_entrys_fault(
    shared_server, init, handler, claimed_entry
):
    init(shared_server, "HEADERS")
    there = handler(shared_server, "HEADERS", timeout="5s")
    result = there.run(claimed_entry(b"x", {"recipients": ["a@example.org"] * 6000}))
    assert result.verdict is Verdict.REJECT
    assert "its metadata is too large" in result.reason


@pytest.mark.parametrize("text", ["", "no credentials", "-----BEGIN NATS USER JWT-----\nabc\n"])
def test_a_file_that_holds_no_credentials_is_refused(tmp_path, text):
    """nats-py reads such a file for ever."""
    pytest.importorskip("nkeys")
    file = tmp_path / "user.creds"
    file.write_text(text)
    file.chmod(0o600)
    table = {"nats": "nats://h", "stream": "S", "credentials_file": str(file)}
    with pytest.raises(BadConfiguration, match=r"credentials_file: .*(empty|JWT and key)"):
        read_handler(table, "handler").load()


@pytest.mark.parametrize(("error", "printed"), [(ConnectionResetError(), ""), (KeyError(), "Key")])
def test_of_tasks_a_broken_connection_prints_nothing(shared_server, error, printed, capfd, caplog):
    """nats-py's read task ends with the error when it closes a connection that broke."""
    connection = shared_server.connection()

    async def leave(_client):
        async def fail():
            raise error

        task = asyncio.ensure_future(fail())
        await asyncio.wait({task})

    connection.call(leave, 5.0)
    gc.collect()
    connection.close()
    assert printed in caplog.text
    assert bool(printed) is bool(caplog.text)


@pytest.mark.slow
def test_an_entry_that_no_file_of_a_stream_takes_is_rejected(tmp_path, init, handler, raw):
    """The server takes the message, and its storage does not."""
    from tests.nats_server import PROGRAM, serving

    if PROGRAM is None:
        pytest.skip("no nats-server")
    with serving(tmp_path / "nats", "max_payload: 64MB") as server:
        init(server)
        result = handler(server, timeout="60s").run(raw(b"x" * (33 << 20)))
        assert result.verdict is Verdict.REJECT
        assert "no message of 32 MB" in result.reason
