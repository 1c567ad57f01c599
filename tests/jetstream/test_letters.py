"""`watcher work list|requeue|delete` with a real server: which letters, and what of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time

import pytest

pytest.importorskip("nats")

from tests.command_server import run_command
from watcher.jetstream import dead_letters

LETTERS = (  # entry, why, stderr, metadata, and the seconds since its death are those of the test
    ("a.csv", "exit status 67: no such user", "", {"lang": "de"}),
    ("b.csv", "gave up after 2 attempts", "disk full", {"lang": "en", "tags": ["x", "y"]}),
    ("b.csv", "poison: it was 2 times with a worker that died", "", {}),
    ("odd\nname", "rejected", "", {}),
)


@pytest.fixture
def letters(shared_server, watcher_command, environment):
    """Run a command for the dead letters of a stream."""

    def run(command, stream, *arguments, code=0):
        where = ("--server", shared_server.url, "--stream", stream)
        argv = [*watcher_command, "work", command, *where, *arguments]
        ended = run_command(argv, env=environment, text=True, input="")
        assert ended.returncode == code, ended.stderr
        return ended

    return run


@pytest.fixture
def bury(shared_server, init):
    """Make a stream and its dead letters; return the stream's name."""

    def make(stream, *some, subject=None, **changes):
        init(shared_server, stream, **changes)

        async def publish(client):
            for number, (name, why, stderr, metadata) in enumerate(some or LETTERS, 1):
                headers = {
                    "Nats-Msg-Id": f"key{number}.{number}",
                    "Watcher-Key": f"key{number}",
                    "Watcher-Queue": "in",
                    "Watcher-Entry": name.replace("\n", "%0A"),
                    "Watcher-Subject": subject or f"{stream}.in",
                    "Watcher-Reason": why,
                    "Watcher-Facts": json.dumps({"attempts": number, "stderr": stderr}),
                    "Watcher-Metadata": json.dumps(metadata),
                }
                body = f"body {number}".encode()
                await client.context.publish(f"{stream}-DEAD.in", body, headers=headers)

        shared_server.call(publish)
        return stream

    return make


def names(ended):
    return [json.loads(line)["entry"] for line in ended.stdout.splitlines()]


def headers_in(server, stream):
    """Return the headers of each message in a stream."""

    async def read(client):
        info = await client.context.stream_info(stream)
        first, last = info.state.first_seq, info.state.last_seq
        found = [await client.context.get_msg(stream, seq=n) for n in range(first, last + 1)]
        return [message.headers for message in found]

    return server.call(read)


SELECTIONS = (
    ((), [1, 2, 3, 4]),
    (("--error", "disk full"), [2]),
    (("--error", "2 "), [2, 3]),
    (("--where", "lang=de"), [1]),
    (("--where", 'tags=["x", "y"]', "--where", "lang=en"), [2]),
    (("--older-than", "1h"), []),
    (("--newer-than", "1h", "--limit", "3"), [1, 2, 3]),
)


def test_letters_are_selected_as_entries_are(letters, bury):
    bury("SELECT")
    for arguments, expected in SELECTIONS:
        listed = letters("list", "SELECT", "--json", *arguments)
        assert [json.loads(line)["number"] for line in listed.stdout.splitlines()] == expected
        tried = letters("requeue", "SELECT", "ALL", "--dry-run", "--json", *arguments)
        found = [json.loads(line) for line in tried.stdout.splitlines()]
        assert [one["number"] for one in found] == expected
        assert all(one["dry_run"] and one["to"] == "ready" for one in found)
    for chosen, expected in ((("b.csv",), [2, 3]), (("#4", "a.csv"), [1, 4])):
        tried = letters("delete", "SELECT", "--dry-run", "--json", *chosen)
        assert [json.loads(line)["number"] for line in tried.stdout.splitlines()] == expected
    assert len(letters("list", "SELECT").stdout.splitlines()) == len(LETTERS)


def test_a_line_has_number_age_size_name_and_why(letters, bury):
    bury("LINE")
    first, second, _third, last = letters("list", "LINE").stdout.splitlines()
    assert first.split()[:1] + first.split()[2:] == (
        ["#1", "6", "a.csv", *["exit", "status", "67:", "no", "such", "user"]]
    )
    assert second.endswith("b.csv  gave up after 2 attempts; 2 attempts")
    assert "odd\\nname" in last or "odd\\x0aname" in last


def test_what_is_requeued_has_its_key_its_body_and_a_new_id(letters, bury, shared_server):
    bury("AGAIN")
    ended = letters("requeue", "AGAIN", "b.csv", "nothing", code=os.EX_NOINPUT)
    assert ended.stdout == "b.csv  dead, requeued\n" * 2
    assert ended.stderr == "watcher: nothing: no dead letter of this name\n"
    found = headers_in(shared_server, "AGAIN")
    assert [headers["Watcher-Key"] for headers in found] == ["key2", "key3"]
    assert len({headers["Nats-Msg-Id"] for headers in found} | {"key2", "key3"}) == 4
    assert not [name for headers in found for name in headers if name == "Watcher-Reason"]
    assert shared_server.bodies("AGAIN") == [b"body 2", b"body 3"]
    ended = letters("requeue", "AGAIN", "ALL", "--limit", "1")
    assert ended.stderr == "1 requeued, 1 left; the same command goes on with these\n"
    assert names(letters("list", "AGAIN", "--json")) == ["odd\\nname"]
    assert letters("requeue", "AGAIN", "odd\\nname").stdout == "odd\\nname  dead, requeued\n"
    assert letters("requeue", "AGAIN", "ALL").stderr == "AGAIN: no dead letters\n"
    assert letters("requeue", "AGAIN", "ALL", "--json").stderr == ""


def test_delete_asks_and_says_what_it_did(letters, bury, shared_server):
    bury("DELETE")
    assert "say --yes" in letters("delete", "DELETE", "ALL", code=os.EX_USAGE).stderr
    ended = letters("delete", "DELETE", "ALL", "--yes", "--error", "poison")
    assert (ended.stdout, ended.stderr) == ("b.csv  dead, deleted\n", "1 deleted, 0 left\n")
    assert len(letters("list", "DELETE").stdout.splitlines()) == 3
    assert shared_server.bodies("DELETE") == []


def test_a_requeue_that_was_killed_before_it_removed_a_letter_is_made_once(
    letters, bury, shared_server
):
    bury("KILLED")

    async def publish_only(client):
        listed = letters("list", "KILLED", "--json").stdout.splitlines()
        assert len(listed) == len(LETTERS)
        for letter in found:
            message = await dead_letters._read(client, "KILLED", letter)
            subject, headers = dead_letters._again("KILLED", letter, message)
            await client.context.publish(subject, message.data, headers=dict(headers))

    connection = shared_server.connection()
    try:
        found = list(dead_letters.letters(connection, "KILLED"))
        connection.call(publish_only, 10)
    finally:
        connection.close()
    letters("requeue", "KILLED", "ALL")
    assert len(shared_server.bodies("KILLED")) == len(LETTERS)
    assert letters("list", "KILLED", "--json").stdout == ""


@pytest.mark.slow
def test_a_requeue_that_is_killed_loses_and_doubles_nothing(
    bury, shared_server, watcher_command, environment, letters
):
    some = [(f"{number}.csv", "why", "", {}) for number in range(60)]
    bury("KILL", *some)
    where = ("--server", shared_server.url, "--stream", "KILL")
    argv = [*watcher_command, "work", "requeue", *where, "--rate", "100/s", "ALL"]
    for _ in range(3):
        with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as running:
            for _line in range(10):
                running.stdout.readline()
            running.send_signal(signal.SIGKILL)
    letters("requeue", "KILL", "ALL")
    found = headers_in(shared_server, "KILL")
    assert sorted(headers["Watcher-Key"] for headers in found) == sorted(
        f"key{number}" for number in range(1, 61)
    )
    assert shared_server.bodies("KILL-DEAD") == []


def test_ctrl_c_ends_it_between_two_letters(bury, shared_server, watcher_command, environment):
    bury("STOP")
    where = ("--server", shared_server.url, "--stream", "STOP")
    argv = [*watcher_command, "work", "requeue", *where, "--rate", "1/h", "ALL"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, env=environment, text=True, **pipes) as running:
        assert running.stdout.readline() == "a.csv  dead, requeued\n"
        running.send_signal(signal.SIGINT)
        _out, error = running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGINT
    assert error == "1 requeued, 3 left; the same command goes on with these\n"


def test_what_the_server_does_not_take_is_left_and_said(letters, bury, shared_server):
    bury("FULL", max_bytes=1000)

    async def fill(client):
        await client.context.publish("FULL.x", b"x" * 800)

    shared_server.call(fill)
    ended = letters("requeue", "FULL", "a.csv", "#4", code=os.EX_TEMPFAIL)
    assert ended.stdout.splitlines()[0].startswith("a.csv  dead, left: maximum bytes exceeded")
    bury("NONE", subject="of.no.stream")
    ended = letters("requeue", "NONE", "ALL", code=os.EX_TEMPFAIL)
    assert ended.stdout.count("left: no stream takes its subject of.no.stream\n") == len(LETTERS)
    assert ended.stderr == "0 requeued, 4 left; the same command goes on with these\n"
    bury("OTHER", subject="FULL.x")
    ended = letters("requeue", "OTHER", "a.csv", code=os.EX_TEMPFAIL)
    assert "expected stream does not match" in ended.stdout
    for stream in ("FULL", "NONE", "OTHER"):
        assert len(shared_server.bodies(f"{stream}-DEAD")) == len(LETTERS)


def test_a_letter_that_the_server_would_not_take_again_keeps_no_other_from_it(
    letters, init, shared_server
):
    init(shared_server, "LARGE")

    async def send(client):
        most = client.max_payload
        await client.context.publish("LARGE-DEAD.x", b"x" * most)
        about = {"Watcher-Key": "k", "Watcher-Subject": "LARGE.x", "Watcher-Reason": "why " * 50}
        await client.context.publish("LARGE-DEAD.y", b"y" * (most - 400), headers=about)
        await client.context.publish("LARGE-DEAD.z", b"z")
        return most

    most = shared_server.call(send)
    begun = time.monotonic()
    ended = letters("requeue", "LARGE", "ALL", code=os.EX_TEMPFAIL)
    first, *others = ended.stdout.splitlines()
    assert re.fullmatch(
        rf"1  dead, left: it has {str(most)[:4]}\d+ bytes with its headers: "
        rf"raise max_payload \({most}\)",
        first,
    )
    assert others == ["2  dead, requeued", "3  dead, requeued"]
    assert ended.stderr == "2 requeued, 1 left; the same command goes on with these\n"
    assert shared_server.bodies("LARGE") == [b"y" * (most - 400), b"z"]
    assert time.monotonic() - begun < 20  # 30 s where the server ends the connection


def test_a_letter_of_another_program_does_no_harm(letters, init, shared_server):
    init(shared_server, "FOREIGN")

    async def send(client):
        await client.context.publish("FOREIGN-DEAD.x", b"bare")
        odd = {"Watcher-Facts": "[1]", "Watcher-Metadata": "{", "Nats-Msg-Size": "x"}
        odd |= {"Watcher-Entry": "%FF%2F..", "Watcher-Reason": "a\tb"}
        await client.context.publish("FOREIGN-DEAD.y", b"odd", headers=odd)

    shared_server.call(send)
    listed = letters("list", "FOREIGN")
    assert listed.stdout.splitlines()[0].split()[3:] == ["1"]
    assert letters("requeue", "FOREIGN", "ALL").stdout.count("dead, requeued") == 2
    assert shared_server.bodies("FOREIGN") == [b"bare", b"odd"]


def test_of_several_streams_each_is_named(
    bury, shared_server, watcher_command, environment, tmp_path
):
    bury("MANY1")
    bury("MANY2")
    config = tmp_path / "work.toml"
    config.write_text(
        "".join(
            f'[work.{name}]\nserver = "{shared_server.url}"\nstream = "{name}"\n'
            'handler = { exec = ["true"] }\n'
            for name in ("MANY1", "MANY2", "MANY3")
        )
    )

    def run(command, *arguments):
        argv = [*watcher_command, "work", command, "--config", str(config), *arguments]
        return run_command(argv, env=environment, text=True, input="")

    ended = run("list", "--limit", "1")
    heads = [line for line in ended.stdout.splitlines() if line.endswith(":")]
    assert (heads, ended.returncode) == (["MANY1:", "MANY2:", "MANY3:"], os.EX_UNAVAILABLE)
    assert ended.stderr == (
        "watcher: MANY3-DEAD: there is no such stream; `watcher nats init` makes it\n"
    )
    assert run("requeue", "a.csv").returncode == os.EX_USAGE
    assert run("requeue", "--stream", "MANY2", "a.csv").stdout == "a.csv  dead, requeued\n"
    done = run("requeue", "--json", "ALL").stdout.splitlines()
    assert [json.loads(line)["stream"] for line in done] == ["MANY1"] * 4 + ["MANY2"] * 3


@pytest.mark.long
def test_five_thousand_letters_need_little_time_and_memory(
    init, shared_server, watcher_command, environment
):
    init(shared_server, "MASS")

    async def fill(client):
        for part in range(50):
            sent = [
                await client.replies.send(f"MASS-DEAD.{part}", b"x" * 1000, {"Watcher-Key": "k"})
                for _ in range(100)
            ]
            for answer in sent:
                await answer

    shared_server.call(fill)
    where = ("--server", shared_server.url, "--stream", "MASS")
    begun = time.monotonic()
    ended = subprocess.run(
        [*watcher_command, "work", "requeue", *where, "ALL"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == "5000 requeued, 0 left\n"
    assert time.monotonic() - begun < 60  # 70 s where the server overwrites each, on a busy machine


WRONG = (
    (("requeue",), "work requeue: expected the names of entries, or ALL"),
    (("requeue", "ALL", "x"), "work requeue: ALL stands alone"),
    (("list", "--older-than", "x"), "work list: --older-than: expected"),
    (("list", "--where", "x"), "work list: --where: expected KEY=VALUE"),
    (("requeue", "--rate", "x", "ALL"), "work requeue: "),
    (("list", "--no-such-option"), "work list: No such option"),
)


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[f"{row[0]}" for row in WRONG])
def test_a_wrong_option_is_64_and_one_line(letters, arguments, words):
    command, *rest = arguments
    ended = letters(command, "X", *rest, code=os.EX_USAGE)
    assert ended.stderr.startswith(f"watcher: {words}")
    assert ended.stderr.count("\n") == 1
