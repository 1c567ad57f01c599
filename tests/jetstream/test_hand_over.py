"""The handler `nats` with a real server: stored once, held, refused, and away for a while."""

from __future__ import annotations

import contextlib
import threading

import pytest

pytest.importorskip("nats")

from tests.nats_server import free_port
from watcher.handle import nats_handler
from watcher.handle.handler_kinds import read_handler
from watcher.rules.results import HANDLED, Verdict


def message_at(server, stream, number):
    async def look(client):
        return await client.context.get_msg(stream, seq=number)

    return server.call(look)


def messages(server, stream):
    async def look(client):
        return (await client.context.stream_info(stream)).state.messages

    return server.call(look)


def test_an_entry_is_a_message_with_its_key_name_and_metadata(
    shared_server, init, handler, claimed_entry
):
    init(shared_server, "ONE")
    entry = claimed_entry(b"message", {"lang": "de", "n": 1})
    assert handler(shared_server, "ONE").run(entry) == HANDLED
    message = message_at(shared_server, "ONE", 1)
    assert message.subject == "ONE.q"
    assert message.data == b"message"
    headers = message.headers
    assert headers["Nats-Msg-Id"] == headers["Watcher-Key"] == entry.key
    assert headers["Watcher-Queue"] == "q"
    assert headers["Watcher-Entry"] == entry.name
    assert headers["Watcher-Attempt"] == "1"
    assert headers["Watcher-Metadata"] == '{"lang": "de", "n": 1}'


def test_a_name_of_any_bytes_comes_through(shared_server, init, handler, raw):
    from watcher.jetstream.messages import decoded

    init(shared_server, "NAMES")
    entry = raw(b"x", stem=b"a \xff\r\n%41\xc3\xa4: b")
    assert handler(shared_server, "NAMES").run(entry) == HANDLED
    assert decoded(message_at(shared_server, "NAMES", 1).headers["Watcher-Entry"]) == entry.name


def test_an_entry_that_the_server_knows_is_done_and_stored_once(shared_server, init, handler, raw):
    """A crash between the acknowledgement and the unlink: the entry comes again."""
    init(shared_server, "TWICE")
    entry = raw()
    first, second = handler(shared_server, "TWICE"), handler(shared_server, "TWICE")
    assert [first.run(entry), second.run(entry), first.run(entry)] == [HANDLED] * 3
    assert messages(shared_server, "TWICE") == 1


def test_a_batch_has_one_result_for_each_entry(shared_server, init, handler, claimed_entry, raw):
    init(shared_server, "BATCH")

    async def limit(client):
        config = (await client.context.stream_info("BATCH")).config
        await client.context.update_stream(config.evolve(max_msg_size=10_000))

    shared_server.call(limit)
    entries = [raw(b"%d" % number) for number in range(50)]
    entries[7] = raw(b"x" * 20_000)  # more than the stream takes
    entries[9] = raw(b"x" * 2_000_000)  # more than the server takes
    entries[11] = claimed_entry(b"message")
    with open(entries[11].path, "wb") as damaged:
        damaged.write(b"no pickle")
    result = handler(shared_server, "BATCH").run_batch(entries)
    words = {number: word for number, word in result.words.items() if word != HANDLED}
    assert len(result.words) == len(entries)
    assert sorted(words) == [7, 9, 11]
    assert {word.verdict for word in words.values()} == {Verdict.REJECT}
    assert "raise the stream's maximum message size" in words[7].reason
    assert "raise its max_payload (1048576)" in words[9].reason
    assert shared_server.bodies("BATCH") == [
        b"%d" % number for number in range(50) if number not in words
    ]


def test_a_large_entry_is_not_read_once_the_limit_is_known(shared_server, init, handler, raw):
    init(shared_server, "LARGE")
    there = handler(shared_server, "LARGE")
    assert there.run(raw()) == HANDLED
    entry = raw(b"x" * 2_000_000)
    assert there.run(entry).verdict is Verdict.REJECT
    assert entry._message is None


def test_of_a_large_batch_only_a_part_is_in_memory(shared_server, init, handler, raw, monkeypatch):
    init(shared_server, "MEMORY")
    monkeypatch.setattr(nats_handler, "MOST_BYTES", 50_000)
    entries = [raw(b"%d" % number + b"x" * 20_000) for number in range(10)]
    assert set(handler(shared_server, "MEMORY").run_batch(entries).words.values()) == {HANDLED}
    assert sum(len(entry._message or b"") for entry in entries) < 50_000
    assert all(entry.is_as_read() for entry in entries)


def test_the_subject_is_made_of_metadata(shared_server, init, handler, claimed_entry):
    init(shared_server, "WORDS")
    there = handler(shared_server, "WORDS", subject="WORDS.{metadata.lang}.{queue}")
    assert there.run(claimed_entry(b"x", {"lang": "a.b"})) == HANDLED
    assert there.run(claimed_entry(b"y", {})) == HANDLED
    assert message_at(shared_server, "WORDS", 1).subject == "WORDS.a%2Eb.q"
    assert message_at(shared_server, "WORDS", 2).subject == "WORDS._.q"


def held(result, words):
    """Whether the result holds the queue, and says why."""
    assert result.verdict is Verdict.MISCONFIGURED
    assert not result.ran
    assert words in result.reason
    return True


def test_what_concerns_every_entry_holds_the_queue(shared_server, init, handler, raw):
    missing = handler(shared_server, "MISSING", timeout="200ms")
    assert held(missing.run(raw()), "no stream takes the subject MISSING.q")
    init(shared_server, "FULL", max_bytes=2000)
    full = handler(shared_server, "FULL")
    assert full.run(raw(b"x" * 1000)) == HANDLED
    assert held(full.run(raw(b"y" * 1000)), "maximum bytes exceeded: the stream is full")
    other = handler(shared_server, "OTHER", subject="FULL.{queue}")
    assert held(other.run(raw()), "see `subject`")


class Nowhere:
    """No server."""

    def __init__(self):
        self.url = f"nats://127.0.0.1:{free_port()}"


def test_no_server_holds_the_queue_within_the_timeout(handler, raw):
    assert held(handler(Nowhere(), timeout="300ms").run(raw()), "Connection refused")


def test_a_server_that_dies_in_the_midst_of_a_batch_has_each_entry_once(server, init, handler, raw):
    init(server)
    entries = [raw(b"%d" % number) for number in range(400)]
    there, results = handler(server, timeout="20s"), []
    assert there.run(entries[0]) == HANDLED
    thread = threading.Thread(target=lambda: results.append(there.run_batch(entries)))
    thread.start()
    while messages(server, "MAIL") < 20:
        pass
    server.kill()
    server.start()
    thread.join(30)
    assert set(results[0].words.values()) == {HANDLED}
    # The killed server had not synced: what it lost, it was sent again, or it was done before.
    found = server.bodies("MAIL")
    assert len(found) == len(set(found)) == 400


def test_terminate_ends_the_wait_and_the_entry_stays(handler, raw):
    there, results = handler(Nowhere(), timeout="60s"), []
    thread = threading.Thread(target=lambda: results.append(there.run(raw())))
    thread.start()
    there.terminate()
    thread.join(5)
    assert results[0].verdict is Verdict.STOPPED


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"nats": "http://h", "stream": "S"}, "neither nats:// nor tls://"),
        ({"nats": "nats://u:p@h", "stream": "S"}, "a secret does not belong here"),
        ({"nats": "nats://h,tls://h", "stream": "S"}, "either nats:// or tls://"),
        ({"nats": "nats://h:x", "stream": "S"}, "no URL"),
        ({"nats": "nats://h"}, "stream: expected the name"),
        ({"nats": "nats://h", "stream": "a.b"}, "stream: expected the name"),
        ({"nats": "nats://h", "stream": "S", "user": "u"}, "password_file beside it"),
        ({"nats": "nats://h", "stream": "S", "key_file": "/k"}, "cert_file beside it"),
        (
            {"nats": "nats://h", "stream": "S", "token_file": "/t", "credentials_file": "/c"},
            "one of",
        ),
        ({"nats": "nats://h", "stream": "S", "subject": "a b"}, "a subject"),
    ],
)
def test_a_wrong_setting_is_named(table, words):
    from watcher.errors import BadConfiguration

    with pytest.raises(BadConfiguration, match=words):
        read_handler(table, "handler")


def test_a_secret_that_all_may_read_is_refused(tmp_path):
    from watcher.errors import BadConfiguration

    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    table = {"nats": "nats://h", "stream": "S", "token_file": str(token)}
    with pytest.raises(BadConfiguration, match="every user may read"):
        read_handler(table, "handler").load()


def test_the_thread_of_a_connection_ends_when_it_is_idle(
    shared_server, init, handler, raw, monkeypatch
):
    from watcher.jetstream import connection

    init(shared_server, "IDLE")
    monkeypatch.setattr(connection, "IDLE", 0.05)
    there = handler(shared_server, "IDLE")
    for _ in range(2):  # and a call begins another one
        assert there.run(raw()) == HANDLED
        (thread,) = [one for one in threading.enumerate() if one.name == "nats"]
        thread.join(10)
        assert not thread.is_alive()


def test_many_threads_share_one_connection(shared_server, init, handler, raw):
    init(shared_server, "SHARED")
    there, results = handler(shared_server, "SHARED"), []

    def work(entries):
        results.extend(there.run(entry) for entry in entries)

    batches = [[raw(b"%d %d" % (one, two)) for two in range(20)] for one in range(8)]
    threads = [threading.Thread(target=work, args=(entries,)) for entries in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [HANDLED] * 160
    assert messages(shared_server, "SHARED") == 160
    with contextlib.suppress(RuntimeError):
        assert len([one for one in threading.enumerate() if one.name == "nats"]) == 1


@pytest.mark.parametrize("swallowed", [False, True], ids=["no responders", "no answer"])
def test_a_stream_without_a_leader_for_a_moment_holds_nothing(
    shared_server, init, handler, raw, monkeypatch, swallowed
):
    """A cluster whose leader died says that no stream has the subject, or never answers."""
    from watcher.jetstream import publish

    name = f"LATE{swallowed:d}"
    monkeypatch.setattr(publish, "QUIET", 0.2)
    there, results = handler(shared_server, name, timeout="20s"), []
    connection = shared_server.connection()
    if swallowed:

        async def swallow(client):
            return await client.subscribe(f"{name}.>")

        connection.call(swallow, 5.0)
    thread = threading.Thread(target=lambda: results.append(there.run(raw())))
    thread.start()
    thread.join(0.3)
    assert not results
    init(shared_server, name)
    thread.join(10)
    connection.close()
    assert results == [HANDLED]
    assert messages(shared_server, name) == 1
