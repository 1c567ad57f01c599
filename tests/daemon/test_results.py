"""What each result of a handler does to its entry, and names that are used again meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

import writers
from watcher.rules.doubt import EAGER

LETTER = writers.message_for(1, 1)


def commit(queue):
    return writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)


def script(tmp_path, text):
    path = tmp_path / "handler"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.parametrize("status", [64, 65, 70, 76])
def test_a_reject_goes_to_dead_with_reason_status_and_stderr(queue, tmp_path, start_daemon, status):
    handler = script(tmp_path, f"echo no such user >&2; exit {status}\n")
    daemon = start_daemon(queue, handler=handler)
    name = commit(queue)
    daemon.wait_for("reject", entry=name)
    assert daemon.end() == 0
    note = json.loads((queue / ".watcher" / "dead" / f"{name}.json").read_text())
    assert note["exit_status"] == status
    assert "no such user" in note["stderr"]
    assert (queue / ".watcher" / "dead" / f"{name}.pck").exists()


@pytest.mark.parametrize("end", ["exit 75", "exit 71", "exit 1", "exit 99", "kill -9 $$"])
def test_a_retry_leaves_the_entry_and_comes_again_after_the_delay(
    queue, tmp_path, start_daemon, end
):
    mark = tmp_path / "tried"
    handler = script(tmp_path, f"test -e {mark} && exit 0\n: > {mark}\n{end}\n")
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = ["{handler[0]}"] }}\n'
        'retry = { initial = "300ms" }\n'
    )
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    name = commit(queue)
    (deferred,) = daemon.wait_for("defer", entry=name)
    (finished,) = daemon.wait_for("finish", entry=name)
    assert finished["time"] - deferred["time"] >= 0.29
    assert os.listdir(queue / ".watcher/deferred") == []
    assert daemon.end() == 0


@pytest.mark.parametrize("status", [126, 127, 78])
def test_an_operators_mistake_holds_the_queue_and_loses_nothing(
    queue, tmp_path, start_daemon, status
):
    mark, count = tmp_path / "mended", tmp_path / "count"
    handler = script(tmp_path, f"echo x >> {count}\ntest -e {mark} || exit {status}\n")
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = ["{handler[0]}"] }}\n'
        'retry = { initial = "500ms" }\n'
    )
    names = [commit(queue) for _ in range(20)]
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"), ready=False)
    daemon.wait_for("unhealthy")
    assert len(count.read_text().split()) <= EAGER  # not twenty times
    mark.touch()
    daemon.wait_for("finish", len(names))
    first, *others = [record["entry"] for record in daemon.events("finish")]
    assert [first, *others] == [first, *(name for name in names if name != first)]
    assert daemon.events("reject") == []
    assert daemon.events("defer") == []
    daemon.wait_for("recovered")
    assert daemon.end() == 0


def one_bad(tmp_path, queue, status, more):
    """Write a configuration whose handler fails so for the entry called bad, and for no other."""
    record = tmp_path / "tried"
    handler = script(
        tmp_path,
        f'echo "$WATCHER_ENTRY $WATCHER_ATTEMPT" >> {record}\n'
        f"case $WATCHER_ENTRY in bad*) exit {status}; esac\n",
    )
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nformat = "raw"\nsuffix = ".job"\n'
        f'handler = {{ exec = ["{handler[0]}"] }}\n{more}\n'
    )
    return ["--config", str(tmp_path / "w.toml")]


def put(queue, name):
    scratch = queue.parent / "scratch"
    scratch.write_bytes(b"x")
    os.utime(scratch, (0, 0))  # a scan, too, sees that it was renamed since it was written
    scratch.rename(queue / f"{name}.job")


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("status", [126, 127, 78])
def test_one_bad_entry_keeps_no_other_from_being_handled(
    queue, tmp_path, start_daemon, status, concurrency
):
    more = f"concurrency = {concurrency}\nretry = {{ initial = '1h' }}"
    config = one_bad(tmp_path, queue, status, more)
    put(queue, "bad")
    daemon = start_daemon(None, *config)
    daemon.wait_for("unhealthy")
    for number in range(5):
        put(queue, f"good{number}")
    daemon.wait_for("finish", 5)
    assert daemon.wait_for("defer", entry="bad.job")
    daemon.wait_for("recovered")
    assert daemon.end() == 0
    assert not (queue / "bad.job").exists()


def test_a_bad_entry_is_dead_in_the_end_and_its_attempts_count(queue, tmp_path, start_daemon):
    config = one_bad(tmp_path, queue, 127, "retry = { initial = '10ms', max_attempts = 3 }")
    for name in ("bad", "good"):
        put(queue, name)
    daemon = start_daemon(None, *config)
    daemon.wait_for("reject", entry="bad.job")
    daemon.wait_for("finish", entry="good.job")
    assert daemon.end() == 0
    tried = (tmp_path / "tried").read_text().splitlines()
    # Once in doubt, which counts nothing, then as the policy says.
    assert [line for line in tried if line.startswith("bad")] == [
        *("bad.job 1", "bad.job 1", "bad.job 2", "bad.job 3"),
    ]
    assert (queue / ".watcher/dead/bad.job").exists()


def test_a_bad_entry_that_was_deferred_holds_up_nothing_after_a_restart(
    queue, tmp_path, start_daemon
):
    config = one_bad(tmp_path, queue, 127, "retry = { initial = '200ms', max = '200ms' }")
    put(queue, "bad")
    put(queue, "good")
    daemon = start_daemon(None, *config)
    daemon.wait_for("defer", entry="bad.job")
    daemon.wait_for("finish", entry="good.job")
    daemon.process.kill()
    daemon.process.wait()
    daemon = start_daemon(None, *config)
    daemon.wait_for("unhealthy")
    for number in range(4):
        put(queue, f"more{number}")
    daemon.wait_for("finish", 4)
    daemon.wait_for("defer", entry="bad.job")
    assert daemon.end() == 0


def test_each_probe_of_a_held_queue_is_another_entry(queue, tmp_path, start_daemon, eventually):
    config = one_bad(tmp_path, queue, 127, "retry = { initial = '20ms' }")
    names = {f"bad{number}.job" for number in range(6)}
    for name in names:
        put(queue, name.removesuffix(".job"))
    daemon = start_daemon(None, *config)
    record = tmp_path / "tried"
    eventually(lambda: record.exists() and len(record.read_text().splitlines()) >= 12)
    tried = [line.split()[0] for line in record.read_text().splitlines()]
    assert set(tried[:6]) == names == set(tried[6:12])
    assert daemon.events("defer") == daemon.events("reject") == []
    assert daemon.end() == 0


def test_a_file_renamed_over_the_one_being_handled_is_handled_as_an_entry_of_its_own(
    queue, start_daemon, recorder, eventually
):
    daemon = start_daemon(
        queue, "--format", "raw", "--suffix", ".csv", handler=recorder.argv(gated=True)
    )

    def put(text):
        (queue / "report.csv.tmp").write_text(text)
        (queue / "report.csv.tmp").rename(queue / "report.csv")

    put("monday")
    eventually(lambda: len(recorder.calls) == 1)
    put("tuesday")
    recorder.open_gate()
    eventually(lambda: len(recorder.calls) == 2)
    assert (queue / "report.csv").read_text() == "tuesday"
    recorder.open_gate()
    daemon.wait_for("finish", 2)
    assert daemon.end() == 0
    monday, tuesday = recorder.calls
    assert monday["key"] != tuesday["key"]
    assert not (queue / "report.csv").exists()


def test_a_handler_that_moves_the_file_away_has_done_it(queue, tmp_path, start_daemon):
    kept = tmp_path / "kept"
    kept.mkdir()
    handler = script(tmp_path, f'mv "$WATCHER_PATH" {kept}/\n')
    daemon = start_daemon(queue, handler=handler)
    name = commit(queue)
    daemon.wait_for("finish", entry=name)
    assert daemon.end() == 0
    assert (kept / f"{name}.pck").exists()


@pytest.mark.parametrize("source", ["inotify", "polling"])
def test_a_raw_drop_folder_works_from_either_source(queue, start_daemon, recorder, source):
    daemon = start_daemon(
        queue, "--format", "raw", "--suffix", ".csv", "--source", source, handler=recorder.argv()
    )
    (queue / "a.csv.tmp").write_bytes(b"1,2\n")
    if source == "polling":  # it must have seen the file under its first name to call it a rename
        daemon.process.poll()
        import time

        time.sleep(1.5)
    (queue / "a.csv.tmp").rename(queue / "a.csv")
    daemon.wait_for("finish", entry="a.csv")
    assert daemon.end() == 0


def test_a_file_copied_in_waits_for_its_grace_age_and_no_longer(queue, start_daemon, recorder):
    """cp gives no rename: a sweep finds it young, and a timer, not the next sweep, takes it."""
    daemon = start_daemon(
        queue, "--format", "raw", "--suffix", ".csv", "--grace-age", "2s",
        "--sweep-every", "1h", handler=recorder.argv(),
    )  # fmt: skip
    (queue / "a.csv").write_bytes(b"1,2\n")
    born = os.stat(queue / "a.csv").st_ctime
    daemon.send(signal.SIGUSR2)
    (record,) = daemon.wait_for("finish", entry="a.csv")
    assert 2.0 <= record["time"] - born < 4.0
    assert daemon.end() == 0


def test_hup_takes_up_a_changed_configuration_and_survives_a_wrong_one(
    queue, tmp_path, start_daemon, recorder
):
    file = tmp_path / "w.toml"
    second = tmp_path / "second"
    second.mkdir()
    argv = json.dumps(recorder.argv())
    first = f'[queues.a]\npath = "{queue}"\nhandler = {{ exec = {argv} }}\n'
    file.write_text(first)
    daemon = start_daemon(None, "--config", str(file))
    file.write_text("[queues.a\n")
    daemon.send(signal.SIGHUP)
    [told] = daemon.wait_for("not reloaded")
    assert told["level"] == "error"
    daemon.send(signal.SIGUSR1)
    [status] = daemon.wait_for("status")
    assert "the configuration was not reloaded at 2" in status["detail"]
    assert f"{file}: not TOML" in status["detail"]
    file.write_text(first + f'[queues.b]\npath = "{second}"\nhandler = {{ exec = {argv} }}\n')
    daemon.send(signal.SIGHUP)
    daemon.wait_for("ready", queue="b")
    daemon.send(signal.SIGUSR1)
    healthy = daemon.wait_for("status", 3)[1:]
    assert all(record["detail"].startswith("healthy; ") for record in healthy), "until it is cured"
    daemon.wait_for("finish", entry=commit(second), queue="b")
    daemon.wait_for("finish", entry=commit(queue), queue="a")
    assert len(daemon.events("armed", queue="a")) == 1
    assert daemon.end() == 0


def test_a_second_term_stops_at_once_and_the_entry_stays(queue, start_daemon, recorder, eventually):
    daemon = start_daemon(queue, handler=recorder.argv(gated=True))
    name = commit(queue)
    eventually(lambda: recorder.calls)
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    daemon.send(signal.SIGTERM)
    assert daemon.process.wait(10) == os.EX_TEMPFAIL
    assert (queue / f"{name}.pck").exists()


def test_a_dry_run_says_what_the_sweep_then_does_and_does_nothing(
    queue, recorder, watcher_command, environment
):
    name = commit(queue)
    (queue / "lone.db").write_bytes(b"{0")
    (queue / "bad.pck").write_bytes(b"")
    with open(queue / "open.pck", "wb") as writing:
        writing.write(b"x")
        writing.flush()

        def sweep(*options):
            ended = subprocess.run(
                [
                    *(*watcher_command, "sweep", str(queue), "--legacy", "--grace-age", "0s"),
                    *("--json", *options, "--", *recorder.argv()),
                ],
                env=environment, capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            assert ended.returncode == 0, ended.stderr
            *lines, summary = map(json.loads, ended.stdout.splitlines())
            return {line["entry"]: line["result"] for line in lines}, summary

        before = sorted(path.name for path in queue.iterdir())
        said, _ = sweep("--dry-run")
        assert sorted(path.name for path in queue.iterdir()) == before
        assert recorder.calls == []
        done, summary = sweep()
    assert said == done == {name: "done", "lone": "orphaned", "bad": "rejected", "open": "writer"}
    assert summary["found"] == 4
    assert len(recorder.calls) == 1


def test_a_raw_entry_is_too_large_only_where_that_is_said(queue, start_daemon):
    """A command reads it by itself: none of it is in our memory."""

    def put(name):
        with open(queue.parent / "scratch", "wb") as file:
            file.truncate(300 << 20)  # sparse, and more than the default of max_size
        (queue.parent / "scratch").rename(queue / name)

    daemon = start_daemon(queue, "--format", "raw", handler=["true"])
    put("any")
    daemon.wait_for("finish", entry="any")
    assert daemon.end() == 0
    daemon = start_daemon(queue, "--format", "raw", "--max-size", "256M", handler=["true"])
    put("large")
    [rejected] = daemon.wait_for("reject", entry="large")
    assert "max_size" in rejected["detail"]
    assert daemon.end() == 0
    assert (queue / ".watcher/dead/large").stat().st_size == 300 << 20


def test_a_command_is_told_the_entrys_own_name_at_every_attempt(queue, start_daemon, tmp_path):
    record = tmp_path / "record"
    long = "x" * 240  # with a stamp in front it is cut
    handler = script(
        tmp_path,
        f'echo "$WATCHER_ENTRY $WATCHER_KEY" >> {record}; cat "$WATCHER_FILE" >> {record}\n'
        "test $WATCHER_ATTEMPT = 3\n",
    )
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nformat = "raw"\nhandler = {{ exec = ["{handler[0]}"] }}\n'
        'retry = { initial = "10ms" }\n'
    )
    for name in (long, "short~1"):
        (queue.parent / "scratch").write_bytes(name.encode() + b"\n")
        (queue.parent / "scratch").rename(queue / name)
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    daemon.wait_for("finish", 2)
    assert daemon.end() == 0
    lines = record.read_text().splitlines()
    for name in (long, "short~1"):
        assert lines.count(name) == 3, "the file is its own at each attempt"
        told = [line for line in lines if line.startswith(f"{name} ")]
        assert len(told) == 3
        assert len(set(told)) == 1, "name and key stay the same"


def keys_told(tmp_path, queue, more="", status=0):
    """Write a configuration whose handler records its keys; return its flags, and a reader."""
    record = tmp_path / "keys"
    record.touch()
    handler = script(tmp_path, f'echo "$WATCHER_ENTRY $WATCHER_KEY" >> {record}\nexit {status}\n')
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nformat = "raw"\n'
        f'handler = {{ exec = ["{handler[0]}"] }}\n{more}'
    )
    return ["--config", str(tmp_path / "w.toml")], lambda: record.read_text().splitlines()


def same_again(queue):
    """Commit a file of the same name, with the same bytes and the same mtime, as `cp -p` would."""
    (queue.parent / "scratch").write_bytes(b"pay 100 to 4711\n")
    os.utime(queue.parent / "scratch", ns=(10**18, 10**18))
    (queue.parent / "scratch").rename(queue / "orders.csv")


def test_the_same_file_again_on_another_day_has_another_key(queue, tmp_path, start_daemon):
    flags, keys = keys_told(tmp_path, queue)
    daemon = start_daemon(None, *flags)
    for day in range(3):
        same_again(queue)
        daemon.wait_for("finish", day + 1)
    assert daemon.end() == 0
    assert len(set(keys())) == 3


def test_the_key_stays_though_the_file_is_copied_and_its_times_change_between_attempts(
    queue, tmp_path, start_daemon, watcher_command
):
    flags, keys = keys_told(tmp_path, queue, "retry = { initial = '1h' }\n", 75)
    daemon = start_daemon(None, *flags)
    same_again(queue)
    daemon.wait_for("defer")
    assert daemon.end() == 0
    shown = subprocess.run(
        [*watcher_command, "cat", str(queue), "orders.csv", "--raw", *flags], capture_output=True
    )
    assert shown.stdout == b"pay 100 to 4711\n", "it goes by its own name"
    [file] = (queue / ".watcher/deferred").glob("*.csv")
    data, stamp = file.read_bytes(), file.name.partition("-")[2]
    file.unlink()
    (file.parent / f"20200101T000000.000Z-{stamp}").write_bytes(data)  # cp -a of the spool, later
    daemon = start_daemon(None, *flags)
    daemon.wait_for("defer")
    assert daemon.end() == 0
    told = keys()
    assert len(told) == 2
    assert len(set(told)) == 1
