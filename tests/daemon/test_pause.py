"""`watcher pause` and `watcher resume`: on disk, heard at once, survived by everything."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

import watcher
from tests.command_server import run_command
from watcher.rules.stamp import parse

QUIET = ("--sweep-every", "1h")


@pytest.fixture
def paused(queue):
    return queue / ".watcher" / "paused"


def commit(queue, count=1):
    return [watcher.enqueue(queue, b"%d" % number) for number in range(count)]


def settled(daemon):
    """Wait until the daemon has taken every event until now: a status comes after them."""
    seen = daemon.counts["status"]
    daemon.send(signal.SIGUSR1)
    return daemon.wait_for("status", seen + 1)[-1]["detail"]


def test_no_attempt_begins_until_resume_and_then_all_come_in_order(
    queue, start_daemon, recorder, run, paused
):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv())
    said = run("pause", queue, "--reason", "the target is down")
    assert said == "paused; entries in hand are finished, and no other is begun\n"
    detail = daemon.wait_for("paused")[0]["detail"]
    assert "the target is down; entries in hand are finished; `watcher resume` goes on" in detail
    names = commit(queue, 5)
    status = settled(daemon)
    assert "; paused since " in status
    assert "5 ready, 0 claimed" in status
    assert recorder.calls == []
    assert json.loads(paused.read_text())["why"] == "the target is down"
    assert run("resume", queue).startswith("resumed; it was paused since ")
    daemon.wait_for("finish", 5)
    assert [record["entry"] for record in daemon.events("finish")] == [*names]
    assert len(daemon.events("paused")) == len(daemon.events("resumed")) == 1
    assert not paused.exists()


def test_the_entry_in_hand_is_finished_and_no_other_is_begun(
    queue, start_daemon, recorder, run, eventually
):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv(gated=True))
    commit(queue, 3)
    eventually(lambda: recorder.calls)
    run("pause", queue)
    daemon.wait_for("paused")
    recorder.open_gate()
    daemon.wait_for("finish")
    assert "2 ready" in settled(daemon)
    assert len(recorder.calls) == 1


def test_a_pause_survives_a_restart_and_a_reload(queue, tmp_path, start_daemon, recorder, run):
    run("pause", queue)
    file = tmp_path / "w.toml"
    text = f"[queues.q]\npath = '{queue}'\nsweep_every = '1h'\n"
    file.write_text(f"{text}handler = {{ exec = {json.dumps(recorder.argv())} }}\n")
    commit(queue)
    daemon = start_daemon(None, "--config", str(file))
    assert daemon.wait_for("paused")
    file.write_text(f"{file.read_text()}concurrency = 2\n")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    commit(queue)
    # The scan after a reload may find the second one before its event is read.
    daemon.wait(lambda: "2 ready" in settled(daemon))
    assert recorder.calls == []
    run("resume", queue)
    daemon.wait_for("finish", 2)


def test_deferred_entries_that_fall_due_wait_too(queue, tmp_path, start_daemon, run):
    gate = tmp_path / "open"
    config = tmp_path / "w.toml"
    config.write_text(
        f"[queues.q]\npath = '{queue}'\nsweep_every = '1h'\nretry = {{ initial = '100ms' }}\n"
        f"handler = {{ exec = ['sh', '-c', '[ -e {gate} ] || exit 75'] }}\n"
    )
    daemon = start_daemon(None, "--config", str(config))
    commit(queue)
    daemon.wait_for("defer")
    run("pause", queue)
    daemon.wait_for("paused")
    tries = len(daemon.events("defer"))
    gate.touch()
    daemon.wait(lambda: all(overdue(file) for file in (queue / ".watcher/deferred").glob("*.pck")))
    assert "1 deferred" in settled(daemon)
    assert (len(daemon.events("defer")), daemon.events("finish")) == (tries, [])
    run("resume", queue)
    daemon.wait_for("finish")


def overdue(file):
    """Whether a deferred entry is due."""
    schedule, _name = parse(os.fsencode(file.name))
    return time.time() * 1000 > schedule.due_ms


def test_without_a_watch_a_sweep_sees_it(queue, start_daemon, recorder, run):
    daemon = start_daemon(queue, *QUIET, "--source", "polling", handler=recorder.argv())
    run("pause", queue)
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("paused")
    run("resume", queue)
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("resumed")


def test_a_directory_that_is_taken_away_takes_no_pause_with_it(
    queue, tmp_path, start_daemon, recorder, run, paused
):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv())
    run("pause", queue, "--reason", "maintenance")
    daemon.wait_for("paused")
    os.rename(queue / ".watcher", tmp_path / "away")
    daemon.wait(paused.exists)
    os.rename(queue, tmp_path / "old")
    queue.mkdir()
    daemon.send(signal.SIGUSR2)
    daemon.wait(paused.exists)
    commit(queue)
    assert "maintenance" in settled(daemon)
    assert recorder.calls == []


def test_whatever_has_the_name_pauses_and_can_be_removed(
    queue, start_daemon, recorder, run, paused
):
    """A wait loses nothing; an attempt cannot be taken back."""
    paused.parent.mkdir(mode=0o700)
    paused.mkdir()
    commit(queue)
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv())
    record = daemon.wait_for("paused")[0]
    assert record["level"] == "warning"
    assert ".watcher/paused is not a regular file; `watcher resume` removes it" in record["detail"]
    assert recorder.calls == []
    run("resume", queue)
    daemon.wait_for("finish")


def test_twice_is_a_plain_answer(queue, run):
    assert run("resume", queue) == "it was not paused\n"
    run("pause", queue, "--reason", "first")
    again = run("pause", queue, "--reason", "second")
    assert again.startswith("it was paused since ")
    assert again.endswith(": first; nothing was changed\n")


def test_every_queue_of_a_configuration(tmp_path, watcher_command, environment):
    file = tmp_path / "w.toml"
    for name in ("a/1", "a/2", "b"):
        (tmp_path / name).mkdir(parents=True)
    file.write_text(
        "".join(
            f"[queues.{name}]\npath = '{tmp_path}/{path}'\nhandler = {{ exec = ['true'] }}\n"
            for name, path in (("a", "a/*"), ("b", "b"))
        )
    )

    def run(*arguments):
        argv = [*watcher_command, *arguments, "--config", str(file)]
        ended = run_command(argv, env=environment, text=True, capture_output=True)
        return ended.returncode, ended.stdout.splitlines()

    code, lines = run("pause")
    assert (code, sorted(line.partition(":")[0] for line in lines)) == (0, ["a/1", "a/2", "b"])
    assert len(list(tmp_path.glob("**/.watcher/paused"))) == 3
    assert run("resume", "a")[0] == 0
    assert list(tmp_path.glob("**/.watcher/paused")) == [tmp_path / "b/.watcher/paused"]


def test_a_sweep_does_nothing_and_says_so(queue, recorder, watcher_command, environment, run):
    def sweep(*options):
        argv = [*watcher_command, "sweep", str(queue), "--grace-age", "0s", *options]
        return run_command(
            [*argv, "--", *recorder.argv()], env=environment, text=True, capture_output=True
        )

    commit(queue)
    run("pause", queue)
    ended = sweep()
    assert (ended.returncode, ended.stdout, recorder.calls) == (os.EX_TEMPFAIL, "", [])
    assert "; no entry is begun: `watcher resume`, or --even-if-paused\n" in ended.stderr
    assert sweep("--even-if-paused").returncode == 0
    assert len(recorder.calls) == 1


def test_a_sweep_under_way_ends_after_the_entry_in_hand(queue, watcher_command, environment, run):
    commit(queue, 3)
    argv = [*watcher_command, "sweep", str(queue), "--grace-age", "0s", "--"]
    pausing = " ".join([*watcher_command, "pause", str(queue)])
    ended = run_command(
        [*argv, "sh", "-c", pausing], env=environment, text=True, capture_output=True
    )
    assert ended.returncode == os.EX_TEMPFAIL
    assert "1 handled" in ended.stdout
    assert len(list(queue.glob("*.pck"))) == 2


def test_list_check_and_explain_say_it(queue, watcher_command, environment, run, tmp_path):
    (name,) = commit(queue)
    state = tmp_path / "state"

    def said(command, *arguments, directory=queue):
        argv = [*watcher_command, command, str(directory), *arguments]
        ended = run_command(argv, env=environment, text=True, capture_output=True)
        return ended.stdout + ended.stderr

    run("pause", queue, "--reason", "why not")
    for command, directory in (
        ("list", queue), ("check", queue), ("explain", queue / f"{name}.pck"),
    ):  # fmt: skip
        assert ": why not; no attempt begins: `watcher resume`" in said(
            command, directory=directory
        ), command
    assert "the queue is paused while it is here" in said(
        "explain", directory=queue / ".watcher" / "paused"
    )
    run("resume", queue)
    state.mkdir()
    (queue / ".watcher").rename(tmp_path / "before")
    assert said("pause", "--state-dir", str(state)).startswith("paused")
    assert (state / "paused").exists()
    assert "paused since" in said("list", "--state-dir", str(state))
