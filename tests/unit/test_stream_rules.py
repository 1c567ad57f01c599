"""What of a server and a stream breaks the promise: each row of the table."""

from __future__ import annotations

import pytest

from watcher.rules.finding import BAD, OK, WARNING
from watcher.rules.stream_rules import (
    ConsumerFacts,
    Facts,
    ServerFacts,
    StreamFacts,
    findings,
)

HOUR = 3600.0
SERVER = ServerFacts((2, 12, 1), 1 << 20, servers=3, sync=0.0)
DEAD = StreamFacts("MAIL-DEAD", ("MAIL-DEAD.>",))
STREAM = StreamFacts("MAIL", ("MAIL.>",), replicas=3, window=2 * HOUR, max_age=720 * HOUR)
STREAM = STREAM._replace(removes_handled=True, consumers=1)
CONSUMER = ConsumerFacts("watcher", 5, 60.0, 1, 10_000)
GOOD = Facts(SERVER, STREAM, 2 * HOUR, ("MAIL.*",), 1000, CONSUMER, DEAD)


def found(facts):
    """Return what is not all right, by what it is about."""
    return {
        check.about: (check.grade, check.what) for check in findings(facts) if check.grade != OK
    }


def with_server(**changes):
    return GOOD._replace(server=SERVER._replace(**changes))


def with_stream(**changes):
    return GOOD._replace(stream=STREAM._replace(**changes))


def with_consumer(**changes):
    return GOOD._replace(consumer=CONSUMER._replace(**changes))


def test_what_is_as_init_makes_it_is_all_right():
    assert found(GOOD) == {}
    assert len(list(findings(GOOD))) > 5


@pytest.mark.parametrize(
    ("facts", "about", "grade", "words"),
    [
        (with_server(version=(2, 9, 25)), "server", WARNING, "before 2.10"),
        (with_server(sync=None), "sync", WARNING, "not known"),
        (with_server(sync=120.0), "sync", WARNING, "every 2m"),
        (with_stream(acknowledges=False), "acknowledgement", BAD, "no_ack"),
        (with_stream(sealed=True), "sealed", BAD, "sealed"),
        (with_stream(copied_from="OTHER"), "mirror", BAD, "OTHER"),
        (with_stream(subjects=("x.>",)), "subject", BAD, "takes x.>"),
        (with_stream(retention="workqueue"), "retention", WARNING, "stored twice"),
        (with_stream(retention="interest"), "retention", WARNING, "stored twice"),
        (with_stream(storage="memory"), "storage", WARNING, "restart"),
        (with_stream(replicas=2), "replicas", WARNING, "2 replicas"),
        (with_stream(replicas=1), "replicas", WARNING, "3 servers"),
        (with_stream(window=60.0), "duplicates", WARNING, "1m"),
        (with_stream(max_age=HOUR), "age", WARNING, "shorter"),
        (with_consumer(oldest=700 * HOUR), "age", BAD, "removes it"),
        (with_stream(max_bytes=100, bytes=100), "room", BAD, "full"),
        (with_stream(max_bytes=100, bytes=85), "room", WARNING, "85%"),
        (with_stream(max_messages=10, messages=10), "room", BAD, "full"),
        (with_stream(discards_old=True, max_bytes=1 << 30), "room", WARNING, "discard new"),
        (with_stream(max_bytes=1 << 30, removes_handled=False), "handled", WARNING, "for 30d"),
        (
            with_stream(max_messages=9, max_age=0.0, removes_handled=False),
            "handled",
            WARNING,
            "for ever",
        ),
        (with_stream(consumers=2), "handled", WARNING, "2 consumers"),
        (with_stream(max_message=500), "size", WARNING, "500 bytes"),
        (with_server(max_payload=999), "size", WARNING, "999 bytes"),
        (GOOD._replace(dead_letters=None), "dead letters", WARNING, "init"),
        (
            GOOD._replace(dead_letters=DEAD._replace(max_age=60.0)),
            "dead letters",
            WARNING,
            "after 1m",
        ),
        (GOOD._replace(consumer=None), "consumer", WARNING, "init"),
        (with_consumer(explicit=False), "consumer", BAD, "acknowledge"),
        (with_consumer(deliveries=5), "consumer", WARNING, "5 times"),
        (with_consumer(on_the_way=10_000), "consumer", WARNING, "max_ack_pending"),
    ],
)
def test_what_breaks_the_promise_is_said(facts, about, grade, words):
    others = found(facts)
    said = others.pop(about)
    assert said[0] == grade
    assert words in said[1]
    assert others == {}


def test_one_server_is_told_apart_from_a_cluster():
    alone = with_stream(replicas=1)._replace(server=SERVER._replace(servers=1))
    assert "one server" in found(alone)["replicas"][1]


def test_without_limits_nothing_is_full_or_too_old():
    assert found(with_stream(max_age=0.0, bytes=1 << 40, messages=10**9)) == {}
