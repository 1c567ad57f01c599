"""What each result of a handler does to its entry, and names that are used again meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

import writers

LETTER = writers.letter(1, 1)


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
    assert len(count.read_text().split()) == 1  # not twenty times
    mark.touch()
    daemon.wait_for("finish", len(names))
    assert [record["entry"] for record in daemon.events("finish")] == names
    assert daemon.events("reject") == []
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
    handler = script(tmp_path, f'mv "$WATCHER_FILE" {kept}/\n')
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
    daemon.wait_for("finish", entry="a")
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
    (record,) = daemon.wait_for("finish", entry="a")
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
    daemon.wait_for("not reloaded")
    file.write_text(first + f'[queues.b]\npath = "{second}"\nhandler = {{ exec = {argv} }}\n')
    daemon.send(signal.SIGHUP)
    daemon.wait_for("ready", queue="b")
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
