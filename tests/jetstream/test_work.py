"""`watcher work` with a real server: the results of the same handlers, whatever dies."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

pytest.importorskip("nats")

from tests.jetstream.work_stand import is_over, quick_acknowledgement


def test_a_message_is_handled_as_the_entry_that_it_was(server, init, put, work, record, eventually):
    init(server)
    put(server, "hello", metadata='{"lang": "de"}')
    daemon = work(server)
    daemon.wait_for("finish")
    eventually(lambda: is_over(server, 1))
    (call,) = record()
    assert call == {
        "QUEUE": "in",
        "ENTRY": "1.csv",
        "KEY": "key1",
        "ATTEMPT": "1",
        "METADATA": '{"lang": "de"}',
        "body": "hello",
        "file": "1.csv",
    }
    (line,) = daemon.events("finish")
    assert (line["entry"], line["key"], line["queue"]) == ("1.csv", "key1", "one")
    assert daemon.end() == 0
    assert server.bodies("MAIL-STATE") == []


def test_a_message_of_another_program_is_handled_too(server, init, work, record):
    init(server)

    async def send(client):
        await client.context.publish("MAIL.x", b"one")
        await client.context.publish("MAIL.x", b"two", headers={"Nats-Msg-Id": "their-id"})

    server.call(send)
    daemon = work(server)
    daemon.wait_for("finish", 2)
    first, second = record()
    assert (first["ENTRY"], first["METADATA"]) == ("1", "{}")
    assert re.fullmatch(r"MAIL\.1\.\d{16}", first["KEY"])  # its number, and when it was stored
    assert (second["ENTRY"], second["KEY"]) == ("2", "their-id")


def test_a_retry_comes_after_its_delay_and_counts(server, init, put, work, record, eventually):
    init(server)
    put(server, "#\nsys.exit(75 if os.environ['WATCHER_ATTEMPT'] != '3' else 0)")
    daemon = work(server)
    daemon.wait_for("finish")
    assert [call["ATTEMPT"] for call in record()] == ["1", "2", "3"]
    assert {call["KEY"] for call in record()} == {"key1"}
    first, second = daemon.events("defer")
    assert second["time"] - first["time"] >= 0.05
    eventually(lambda: is_over(server, 1))
    eventually(lambda: server.bodies("MAIL-STATE") == [])


def test_what_is_given_up_or_rejected_is_a_dead_letter_that_goes_on_when_it_is_asked_to(
    server, init, put, work, record, letters, eventually
):
    init(server)
    put(server, "#\nsys.stderr.write('no such user'); sys.exit(67)", "#\nsys.exit(75)", "fine")
    daemon = work(server, retry='initial = "10ms", max_attempts = 2')
    daemon.wait_for("reject", 2)
    eventually(lambda: is_over(server, 3))
    listed = [json.loads(line) for line in letters("list", "--json").stdout.splitlines()]
    why = {one["entry"]: one["why"] for one in listed}
    assert why["1.csv"] == "exit status 67: no such user"
    assert why["2.csv"].startswith("gave up after 2 attempts in ")
    assert why["2.csv"].endswith("(max_attempts): exit status 75")
    assert [one["facts"]["attempts"] for one in listed] == [1, 2]
    assert letters("list", "--error", "such user").stdout.count("\n") == 1
    assert letters("list", "--older-than", "1h").stdout == ""
    assert letters("requeue", "--dry-run", "ALL").stdout.count("would be requeued") == 2
    assert letters("requeue", "nothing").returncode == os.EX_NOINPUT
    done = letters("requeue", "1.csv")
    assert (done.returncode, done.stdout) == (0, "1.csv  dead, requeued\n")
    daemon.wait_for("reject", 3)  # as if for the first time
    assert [call["ATTEMPT"] for call in record() if call["ENTRY"] == "1.csv"] == ["1", "1"]
    assert {call["KEY"] for call in record() if call["ENTRY"] == "1.csv"} == {"key1"}
    assert letters("delete", "ALL").returncode == os.EX_USAGE
    assert letters("delete", "--yes", "--limit", "1", "ALL").stdout == "2.csv  dead, deleted\n"
    assert letters("list").stdout.split()[3:4] == ["1.csv"]


def test_a_worker_that_dies_costs_an_attempt_and_another_one_goes_on(
    server, init, put, work, record, eventually
):
    init(server)
    quick_acknowledgement(server)
    put(server, "#\ntime.sleep(60) if os.environ['WATCHER_ATTEMPT'] == '1' else None")
    first = work(server, "first")
    eventually(record)
    os.killpg(first.process.pid, signal.SIGKILL)
    second = work(server, "second")
    second.wait_for("finish")
    assert [call["ATTEMPT"] for call in record()] == ["1", "2"]
    eventually(lambda: is_over(server, 1))


@pytest.mark.slow
def test_poison_is_counted_across_workers(server, init, put, work, record, letters, eventually):
    init(server)
    quick_acknowledgement(server)
    put(server, "#\nos.kill(os.getppid(), 9)", "fine")
    for name in ("a", "b"):
        work(server, name, retry="max_crashes = 2").process.wait(30)
    last = work(server, "c", retry="max_crashes = 2")
    last.wait_for("reject")
    assert [call["ATTEMPT"] for call in record() if call["ENTRY"] == "1.csv"] == ["1", "2"]
    (dead,) = [json.loads(line) for line in letters("list", "--json").stdout.splitlines()]
    assert dead["why"].startswith("poison: it was 2 times with a worker that died")
    last.wait(lambda: "fine" in [call["body"] for call in record()])
    eventually(lambda: is_over(server, 2))


def test_a_worker_that_stops_gives_back_what_it_has_not_begun(
    server, init, put, work, record, eventually
):
    init(server)  # with 30 s of acknowledgement time
    put(server, "#\ntime.sleep(0.3)", "two", "three")
    first = work(server, "first")
    first.wait(record)
    assert first.end() == 0
    second = work(server, "second")
    second.wait_for("finish", 2)
    assert [(call["body"][:1], call["ATTEMPT"]) for call in record()] == [
        ("#", "1"),
        ("t", "1"),
        ("t", "1"),
    ]
    eventually(lambda: is_over(server, 3))


@pytest.mark.slow
def test_a_long_handler_keeps_its_message(server, init, put, work, record):
    init(server)
    quick_acknowledgement(server)
    put(server, "#\ntime.sleep(3)")
    daemon = work(server)
    daemon.wait_for("finish")
    assert len(record()) == 1


@pytest.mark.slow
def test_what_is_handled_leaves_the_stream_after_the_window(server, init, put, work, eventually):
    """Else the stream is full one day, of handled messages, and takes no entry any more."""
    init(server, window=0.5)
    put(server, "a", "b", "c")
    work(server)
    eventually(lambda: server.bodies("MAIL") == [])


def test_a_server_that_dies_while_a_handler_runs_is_told_when_it_is_back(
    server, init, put, work, record, eventually
):
    init(server)
    put(
        server,
        "#\nimport pathlib\nwhile not pathlib.Path('%s').exists(): time.sleep(0.01)"
        % (server.config.parent / "go"),
        "two",
    )
    daemon = work(server)
    daemon.wait(record)
    server.kill()
    (server.config.parent / "go").touch()
    daemon.wait_for("unhealthy")
    server.start()
    daemon.wait_for("finish", 2)
    assert [call["ENTRY"] for call in record()] == ["1.csv", "2.csv"]
    eventually(lambda: is_over(server, 2))
    daemon.wait_for("recovered")


def test_entries_of_one_name_are_handled_in_their_order(server, init, put, work, record):
    init(server)
    put(server, *(f"{number}" for number in range(20)), name="same")
    daemon = work(server, more="concurrency = 4")
    daemon.wait_for("finish", 20)
    assert [call["body"] for call in record()] == [f"{number}" for number in range(20)]
    assert {call["file"] for call in record()} == {"same"}


HOSTILE = (
    *("a/b", "..", ".hidden", "x" * 300, "%00", "%2E%2E%2Fetc", "a%0Ab", "%FF", ".watcher"),
    *("made-by-watcher-work", "a.tmp", "", " ", "%"),
)


def test_a_name_of_any_kind_does_no_harm(server, init, put, work, record, tmp_path, eventually):
    init(server)
    for number, name in enumerate(HOSTILE, 1):
        put(server, f"body {number}", first=number, **{"Watcher-Entry": name})
    daemon = work(server)
    daemon.wait_for("finish", len(HOSTILE))
    assert sorted(call["body"] for call in record()) == sorted(
        f"body {number}" for number in range(1, len(HOSTILE) + 1)
    )
    eventually(lambda: is_over(server, len(HOSTILE)))
    assert sorted(os.listdir(tmp_path / "one")) == [".watcher", "made-by-watcher-work"]
    assert daemon.end() == 0


def test_while_the_handler_cannot_be_run_no_attempt_counts(
    server, init, put, work, record, tmp_path
):
    init(server)
    fixed = tmp_path / "fixed"
    program = f"#\nsys.exit(0 if os.path.exists({str(fixed)!r}) else 78)"
    put(server, *[program] * 8)
    daemon = work(server, retry='initial = "1h", max = "1h"')
    daemon.wait_for("unhealthy")
    daemon.wait(lambda: len(record()) >= 1)
    fixed.touch()
    daemon.wait(lambda: daemon.send(signal.SIGUSR2) or len(daemon.events("finish")) == 8)
    assert {call["ATTEMPT"] for call in record()} == {"1"}
    assert server.bodies("MAIL-DEAD") == server.bodies("MAIL-STATE") == []


def test_a_directory_with_files_of_others_is_refused(server, init, work, tmp_path):
    init(server)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "thesis.txt").write_text("mine")
    daemon = work(server, ready=False)
    assert daemon.process.wait(30) == os.EX_CONFIG
    assert "thesis" not in daemon.log()
    assert (tmp_path / "one" / "thesis.txt").read_text() == "mine"


def test_without_streams_it_says_what_to_do_and_goes_on_when_they_are_there(
    server, init, put, work, record
):
    daemon = work(server)
    (line,) = daemon.wait_for("unhealthy")
    assert "`watcher nats init`" in line["detail"]
    init(server)
    put(server, "late")
    daemon.wait_for("finish")
    assert [call["body"] for call in record()] == ["late"]
