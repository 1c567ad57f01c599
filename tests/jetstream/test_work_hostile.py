"""Messages of other programs, as no client library would publish them: each is handled, or dead."""

from __future__ import annotations

import json
import socket

import pytest

pytest.importorskip("nats")

from tests.jetstream.work_stand import is_over
from watcher.jetstream.messages import ID, KEY, headers_of
from watcher.rules.dead_letter import size_of

LINE = b"NATS/1.0\r\n"
LARGEST = 1 << 20  # the server's max_payload
HOSTILE = (
    (b"MAIL.a", LINE + b"Watcher-Entry: caf\xe9\r\n\r\n"),
    (b"MAIL.a", b"NATS/1.0 999 \xff\xfe\r\n\r\n"),
    (b"MAIL.a", b"NATS/1.0 404 No Messages\r\n\r\n"),
    (b"MAIL.a", b"NATS/1.0"),
    (b"MAIL.a", b"abc"),
    (b"MAIL.a", LINE + b"Status: 409\r\nDescription: Consumer Deleted\r\n\r\n"),
    (b"MAIL.a", LINE + b"X: 1\r\nX: 2\r\nno colon\r\n: none\r\nodd name: y\r\nb(c: z\r\n\r\n"),
    (b"MAIL.\xff\xfe", b""),
    (b"MAIL.a\x0bb", b""),
    (b"MAIL.a\x0cb", b""),
    (b"MAIL.a\x00b", b""),
    (b"MAIL." + b"x" * 3900, b""),
    (b"MAIL.a", LINE + b"Watcher-Key: a\x00b\r\n\r\n"),
    (b"MAIL.a", LINE + b"Watcher-Key: " + b"k" * 60_000 + b"\r\n\r\n"),
    (b"MAIL.a", LINE + b"Watcher-Queue: %00\r\n\r\n"),
    (b"MAIL.a", LINE + b"Watcher-Queue: " + b"q" * 60_000 + b"\r\n\r\n"),
    (b"MAIL.a", LINE + b"Watcher-Metadata: " + b"[" * 60_000 + b"\r\n\r\n"),
    (
        b"MAIL.a",
        LINE + b"Watcher-Metadata: " + b'{"a":' * 900 + b"1" + b"}" * 900 + b"\r\n\r\n",
    ),
    (b"MAIL.a", LINE + b'Watcher-Metadata: {"a": NaN, "b": 1e999, "c": "\\ud800"}\r\n\r\n'),
    (b"MAIL.a", LINE + b'Watcher-Metadata: {"a": "\\u0000"}\r\n\r\n'),
    (b"MAIL.a", LINE + b"Watcher-Entry: " + b"n" * 255 + b"\r\n\r\n"),
    (b"MAIL.a", LINE + b"Watcher-Entry: a\xc2\x85b\x1b[31m\r\n\r\n"),
)


def publish(server, *messages):
    """Publish subjects, headers and payloads as they are; return once they are stored."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        stream = connection.makefile("rwb")
        stream.readline()
        stream.write(
            b'CONNECT {"verbose": false, "pedantic": false, "headers": true}\r\nSUB in 1\r\n'
        )
        for subject, headers, payload in messages:
            about = b"%s in %d %d" % (subject, len(headers), len(headers) + len(payload))
            stream.write(b"HPUB " if headers else b"PUB ")
            stream.write(about if headers else b"%s in %d" % (subject, len(payload)))
            stream.write(b"\r\n" + headers + payload + b"\r\n")
            stream.flush()
            while not (line := stream.readline()).startswith(b"MSG"):
                assert line in (b"PING\r\n", b"+OK\r\n") or line.startswith(b"INFO"), line
            answer = stream.read(int(line.split()[-1]) + 2)
            assert b"error" not in answer, answer


def test_no_message_stops_a_worker(server, init, work, record, eventually):
    init(server)
    publish(server, *((*about, b"%d" % number) for number, about in enumerate(HOSTILE)))
    daemon = work(server, more="concurrency = 4")
    daemon.wait_for("finish", len(HOSTILE))
    calls = {int(call["body"]): call for call in record()}
    assert sorted(calls) == list(range(len(HOSTILE)))
    assert all(len(call["KEY"]) <= 255 and call["KEY"].isprintable() for call in calls.values())
    assert {call["ATTEMPT"] for call in calls.values()} == {"1"}
    eventually(lambda: is_over(server, len(HOSTILE)))
    assert daemon.events("unhealthy") == []


def test_each_message_can_be_a_dead_letter(server, init, work, letters, eventually):
    init(server)
    reject = b"#\nsys.exit(67)"
    publish(
        server,
        *((*about, reject) for about in HOSTILE),
        (b"MAIL.a", b"", reject.ljust(LARGEST)),
        (b"MAIL.a", LINE + b"X: y\r\n\r\n", reject.ljust(LARGEST - 18)),
        (b"MAIL.a", LINE + b"X: " + b"y" * 65_000 + b"\r\n\r\n", reject),
    )
    count = len(HOSTILE) + 3
    daemon = work(server, more="concurrency = 4\nbreaker = 0")
    daemon.wait_for("reject", count)
    eventually(lambda: is_over(server, count))
    listed = [json.loads(line) for line in letters("list", "--json").stdout.splitlines()]
    assert len(listed) == count
    assert [one["why"] for one in listed].count("exit status 67") >= len(HOSTILE)


def test_a_dead_letter_that_fills_its_size_has_the_name_and_the_metadata_of_its_entry(
    server, init, work, letters, put, record
):
    init(server)
    key, metadata = "k" * 64, json.dumps({"to": "x" * 300})
    about = headers_of(
        key=key, queue="in", name="full.csv", attempt=1, metadata=metadata, stream="MAIL"
    )
    body = b"#\nsys.exit(67)".ljust(LARGEST - size_of(about))
    put(server, body, name="full.csv", metadata=metadata, **{ID: key, KEY: key})
    daemon = work(server)
    daemon.wait_for("reject")
    assert letters("requeue", "full.csv").stdout == "full.csv  dead, requeued\n"
    daemon.wait_for("reject", 2)
    first, second = record()
    assert (second["ENTRY"], second["KEY"], second["QUEUE"]) == ("full.csv", key, "in")
    assert first["METADATA"]
    assert second["METADATA"] == first["METADATA"]
