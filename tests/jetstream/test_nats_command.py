"""`watcher nats init` and `check` with a real server: what is made, left, changed, warned of."""

from __future__ import annotations

import json
import os
import time

import pytest

pytest.importorskip("nats")

from nats.js import api

from tests.command_server import run_command
from tests.nats_server import NatsServer, free_port, serving
from watcher.jetstream.stream_setup import CONSUMER, Wanted, configurations, consumer_configuration

MADE = ("{0}", "{0}-DEAD", "{0}-STATE", "{0}, consumer watcher")


@pytest.fixture
def nats(watcher_command, environment):
    """Run `watcher nats`."""

    def run(*arguments):
        argv = [*watcher_command, "nats", *map(str, arguments)]
        return run_command(argv, env=environment, text=True, input="")

    return run


@pytest.fixture
def init(nats, shared_server):
    """Run `watcher nats init` for a stream of the shared server."""

    def run(name, *arguments, code=0):
        ended = nats("init", "--server", shared_server.url, "--stream", name, *arguments)
        assert ended.returncode == code, ended.stderr
        return ended

    return run


@pytest.fixture
def check(nats, shared_server):
    """Run `watcher nats check` for a stream; return its exit code and what it found."""

    def run(name, *arguments, server=shared_server):
        ended = nats("check", "--json", "--server", server.url, "--stream", name, *arguments)
        lines = map(json.loads, ended.stdout.splitlines())
        found = {line["about"]: (line["grade"], line["what"]) for line in lines}
        return ended.returncode, found

    return run


def lines(name, words):
    return "".join(f"{one.format(name)}: {words}\n" for one in MADE)


def stream(server: NatsServer, name: str) -> api.StreamConfig:
    async def look(client):
        return (await client.context.stream_info(name)).config

    return server.call(look)


def consumer(server: NatsServer, name: str) -> api.ConsumerConfig:
    async def look(client):
        return (await client.context.consumer_info(name, CONSUMER)).config

    return server.call(look)


def make_by_hand(server: NatsServer, name: str, of_consumer=None, **changes):
    """Make the streams as `init` does, but for some settings."""

    async def make(client):
        config, *others = configurations(Wanted(name, (f"{name}.>",)))
        await client.context.add_stream(config.evolve(**changes))
        for other in others:
            await client.context.add_stream(other)
        settings = consumer_configuration().evolve(**(of_consumer or {}))
        await client.context.add_consumer(name, settings)

    server.call(make)


def publish(server: NatsServer, subject: str, size: int = 1):
    async def send(client):
        await client.publish(subject, b"x" * size)
        await client.flush()

    server.call(send)


def test_what_init_makes_is_what_the_options_say_and_check_has_nothing_against_it(
    init, check, shared_server
):
    made = init(
        "FIRST", "--window", "3h", "--max-age", "9d", "--max-bytes", "1M", "--max-message", "9K"
    )
    assert made.stdout == lines("FIRST", "made")
    config = stream(shared_server, "FIRST")
    assert (config.duplicate_window, config.max_age, config.max_bytes) == (10800, 777600, 1 << 20)
    assert (config.subjects, config.max_msg_size) == (["FIRST.>"], 9 << 10)
    assert (config.retention, config.storage, config.discard) == ("limits", "file", "new")
    code, found = check("FIRST", "--monitor", shared_server.monitor)
    warned = {about for about, (grade, _) in found.items() if grade != "ok"}
    assert (code, warned) == (0, {"replicas", "sync"})
    assert check("FIRST", "--strict")[0] == os.EX_UNAVAILABLE


def test_init_again_changes_nothing_and_says_what_differs(init, shared_server):
    init("AGAIN")
    before = stream(shared_server, "AGAIN")
    assert init("AGAIN").stdout == lines("AGAIN", "is there")
    other = ("AGAIN", "--window", "3h", "--max-bytes", "1M", "--max-ack-pending", "7")
    differs = init(*other, code=os.EX_UNAVAILABLE)
    assert differs.stdout == lines("AGAIN", "is there")
    workers = MADE[3].format("AGAIN")
    assert differs.stderr.splitlines() == [
        "watcher: AGAIN: max_bytes is without a limit, and not 1048576: --update changes it",
        "watcher: AGAIN: duplicate_window is 2h, and not 3h: --update changes it",
        "watcher: AGAIN-DEAD: duplicate_window is 2h, and not 3h: --update changes it",
        f"watcher: {workers}: max_ack_pending is 10000, and not 7: --update changes it",
    ]
    planned = init(*other, "--update", "--dry-run")
    assert planned.stdout.count("would be changed") == 3
    assert stream(shared_server, "AGAIN") == before
    assert init(*other, "--update").stdout.count(": changed\n") == 3
    changed = stream(shared_server, "AGAIN")
    assert (changed.duplicate_window, changed.max_bytes) == (10800, 1 << 20)
    assert consumer(shared_server, "AGAIN").max_ack_pending == 7
    # What an operator chose is no difference for a later one that does not name it.
    assert init("AGAIN").stdout == lines("AGAIN", "is there")


def test_init_says_what_becomes_of_handled_messages_if_it_is_asked_to(init, check, shared_server):
    def said() -> str | None:
        return (stream(shared_server, "KEEPS").metadata or {}).get("watcher-handled")

    init("KEEPS", "--handled", "keep", "--max-bytes", "1M")
    assert said() == "keep"
    assert check("KEEPS")[1]["handled"][0] == "warning"
    assert init("KEEPS").stderr == ""
    differs = init("KEEPS", "--handled", "remove", code=os.EX_UNAVAILABLE)
    assert "watcher-handled=keep, and not watcher-handled=remove: --update" in differs.stderr
    init("KEEPS", "--handled", "remove", "--update")
    assert said() == "remove"
    assert "handled" not in check("KEEPS")[1]


def test_init_with_dry_run_makes_nothing(init, check):
    assert init("DRY", "--dry-run").stdout == lines("DRY", "would be made")
    assert check("DRY")[1]["stream"][0] == "bad"


def test_update_mends_what_it_can_and_removes_no_message_and_no_subject(init, shared_server):
    make_by_hand(
        shared_server,
        "MEND",
        {"max_deliver": 3, "ack_wait": 77.0},
        subjects=["others", "MEND.a"],
        discard=api.DiscardPolicy.OLD,
        storage=api.StorageType.MEMORY,
        duplicate_window=60.0,
        max_msgs_per_subject=2,
    )
    publish(shared_server, "others", 1000)
    ended = init("MEND", "--max-bytes", "500", "--update", code=os.EX_UNAVAILABLE)
    assert "MEND: changed\n" in ended.stdout
    assert [line.partition(" is ")[0] for line in ended.stderr.splitlines()] == [
        "watcher: MEND: storage",
        "watcher: MEND: max_bytes",
    ]
    assert "it has 10" in ended.stderr.splitlines()[1]
    now = stream(shared_server, "MEND")
    assert now.subjects == ["others", "MEND.>"]
    assert (now.discard, now.duplicate_window, now.max_bytes) == ("new", 7200, -1)
    assert now.max_msgs_per_subject == -1
    assert consumer(shared_server, "MEND").max_deliver == -1
    assert consumer(shared_server, "MEND").ack_wait == 77.0
    assert len(shared_server.bodies("MEND")) == 1


@pytest.mark.slow
def test_a_shorter_age_removes_no_message(init, shared_server):
    init("AGED")
    publish(shared_server, "AGED.x")
    time.sleep(1.1)  # the shortest age, and nothing tells that it is reached
    options = ("--max-age", "1s", "--window", "1s", "--update")
    ended = init("AGED", *options, code=os.EX_UNAVAILABLE)
    assert "max_age is 30d, and not 1s: cannot be changed: that would remove" in ended.stderr
    assert len(shared_server.bodies("AGED")) == 1


def test_what_a_server_refuses_is_said_with_what_to_do(init, shared_server):
    ended = init("THREE", "--replicas", "3", code=os.EX_UNAVAILABLE)
    assert ended.stderr.count("\n") == 1
    assert "--replicas needs a cluster of as many servers" in ended.stderr
    make_by_hand(shared_server, "QUEUED", retention=api.RetentionPolicy.WORK_QUEUE)
    ended = init("QUEUED", "--update", code=os.EX_UNAVAILABLE)
    assert "retention is workqueue, and not limits: cannot be changed" in ended.stderr
    make_by_hand(shared_server, "OVER", subjects=["OVER.>", "WANTED.>"])
    ended = init("WANTED", code=os.EX_UNAVAILABLE)
    assert "another stream takes these subjects already" in ended.stderr


BY_HAND = (  # what differs, what it concerns, how bad it is, and words of it
    ({"retention": api.RetentionPolicy.WORK_QUEUE}, "retention", "warning", "use Limits"),
    ({"storage": api.StorageType.MEMORY}, "storage", "warning", "use file"),
    ({"duplicate_window": 60.0}, "duplicates", "warning", "the duplicate window is 1m"),
    ({"discard": api.DiscardPolicy.OLD, "max_bytes": 1000}, "room", "warning", "discard new"),
    ({"max_msgs": 5}, "room", "warning", "80% full"),
    ({"max_msgs": 4}, "room", "bad", "is full"),
    ({"no_ack": True}, "acknowledgement", "bad", "acknowledges nothing"),
    (
        {"discard": api.DiscardPolicy.OLD, "max_msgs_per_subject": 9},
        *("subject", "bad", "9 messages of each subject"),
    ),
    ({"of_consumer": {"max_deliver": 5}}, "consumer", "warning", "5 times at most"),
    ({"of_consumer": {"headers_only": True}}, "consumer", "bad", "would be empty"),
    ({"of_consumer": {"mem_storage": True}}, "consumer", "warning", "after a restart"),
    ({"of_consumer": {"inactive_threshold": 60.0}}, "consumer", "warning", "worker for 1m"),
    ({"of_consumer": {"filter_subject": "*.a"}}, "consumer", "warning", "delivers *.a alone"),
    ({"of_consumer": {"deliver_subject": "x"}}, "consumer", "bad", "no worker gets any"),
)


@pytest.mark.parametrize(
    ("number", "row"), list(enumerate(BY_HAND)), ids=[f"{row[0]}" for row in BY_HAND]
)
def test_a_stream_made_by_hand_is_warned_of(check, shared_server, number, row):
    changes, about, grade, words = row
    name = f"HAND{number}"
    changes = dict(changes)
    of_consumer = {
        key: value.replace("*", name) if isinstance(value, str) else value
        for key, value in changes.pop("of_consumer", {}).items()
    }
    make_by_hand(shared_server, name, of_consumer, **changes)
    for _ in range(4):
        publish(shared_server, f"{name}.a")
    code, found = check(name)
    assert found[about][0] == grade, found
    assert words.replace("*", name) in found[about][1]
    assert code == (os.EX_UNAVAILABLE if grade == "bad" else os.EX_OK)


def test_the_outage_to_survive_is_compared_with_the_window(init, check):
    init("OUTAGE")
    assert check("OUTAGE", "--outage", "2h")[1]["duplicates"][0] == "ok"
    assert check("OUTAGE", "--outage", "3h")[1]["duplicates"][0] == "warning"


def test_the_monitoring_page_says_how_often_the_disk_is_synced(
    init, check, shared_server, tmp_path
):
    init("SYNC")
    grade, words = check("SYNC", "--monitor", shared_server.monitor)[1]["sync"]
    assert (grade, words.partition(":")[0]) == ("warning", "syncs every 2m")
    away = f"http://127.0.0.1:{free_port()}"
    assert "Connection refused" in check("SYNC", "--monitor", away)[1]["sync"][1]
    assert "(--monitor)" in check("SYNC")[1]["sync"][1]
    with serving(tmp_path, sync="always") as server:
        make_by_hand(server, "SYNC")
        found = check("SYNC", "--monitor", server.monitor, server=server)[1]["sync"]
        assert found == ("ok", "syncs each message to its disk")
        both = f"{server.monitor}, {shared_server.monitor}"
        assert check("SYNC", "--monitor", both, server=server)[1]["sync"][0] == "warning"


WRONG = (
    (("init", "--stream", "X"), "init: name --server and --stream"),
    (("init", "--server", "URL"), "init: --server: name the stream too"),
    (("init", "--server", "URL", "--stream", "a.b"), "init: --stream: expected letters"),
    (("check", "--server", "http://x", "--stream", "X"), "check: --server: expected servers"),
    (("check", "--server", "URL", "--stream", "X", "--config", "x"), "not with --config"),
    (("check", "--config", "x", "--user", "x"), "--user: goes with --server"),
    (("check", "--server", "URL", "--stream", "X", "--monitor", "x"), "--monitor: expected"),
    (("check", "--server", "URL", "--stream", "X", "--outage", "x"), "--outage: expected"),
    (("init", "--server", "URL", "--stream", "X", "--max-age", "1h"), "--max-age: expected at"),
    (("init", "--server", "URL", "--stream", "X", "--window", "0"), "--window: expected"),
    (("init", "--server", "URL", "--stream", "X", "--max-bytes", "x"), "--max-bytes: expected"),
    (("init", "--server", "URL", "--stream", "X", "--user", "x"), "password_file"),
    ((), "expected check or init"),
)


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[f"{row[1]}" for row in WRONG])
def test_a_wrong_option_is_64_and_one_line(nats, arguments, words):
    ended = nats(*(word.replace("URL", "nats://127.0.0.1:1") for word in arguments))
    assert (ended.returncode, ended.stdout) == (os.EX_USAGE, "")
    assert ended.stderr.startswith("watcher: nats")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_server_that_is_away_is_69_and_one_line(nats):
    where = ("--server", f"nats://127.0.0.1:{free_port()}", "--stream", "X")
    ended = nats("init", *where)
    assert (ended.returncode, ended.stderr.count("\n")) == (os.EX_UNAVAILABLE, 1)
    assert "Connection refused" in ended.stderr
    ended = nats("check", *where)
    assert ended.returncode == os.EX_UNAVAILABLE
    assert "Connection refused" in ended.stdout


def test_the_streams_of_a_configuration_are_those_of_its_queues_and_workers(
    nats, shared_server, tmp_path
):
    url = shared_server.url
    config = tmp_path / "watcher.toml"
    config.write_text(
        f"""
[queues.a]
path = "{tmp_path}/a"
max_size = "2M"
handler = {{ nats = "{url}", stream = "CONF", outage = "3h" }}
[queues.b]
path = "{tmp_path}/b"
handler = {{ nats = "{url}", stream = "CONF", subject = "conf.{{metadata.x}}" }}
[work.c]
server = "{url}"
stream = "CONF"
handler = {{ exec = ["true"] }}
[work.d]
server = "{url}"
stream = "CONF2"
handler = {{ exec = ["true"] }}
"""
    )
    ended = nats("init", "--config", config, "--stream", "CONF")
    assert ended.stdout == lines("CONF", "made")
    made = stream(shared_server, "CONF")
    assert (made.subjects, made.duplicate_window) == (["CONF.>", "conf.*"], 10800)
    assert nats("init", "--config", config).stdout == lines("CONF", "is there") + lines(
        "CONF2", "made"
    )
    checked = nats("check", "--config", config)
    assert checked.stdout.count("nats-server 2.") == 2
    assert "a queue takes 2097152" in checked.stdout
    ended = nats("check", "--config", config, "--stream", "CONF3")
    assert (ended.returncode, ended.stderr.count("\n")) == (os.EX_USAGE, 1)
