"""`journal_dir`: the journal lies outside the queue, for one queue, and outlives `.watcher`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

import writers
from tests.command_server import run_command

LETTER = writers.message_for(1, 1)
OFTEN = ("--sweep-every", "200ms")


def commit(queue):
    return writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log" / "q"


@pytest.fixture
def audit(watcher_command, environment):
    """Return the exit status of an audit, its sum, and the names that are missing."""

    def run(queue, *options):
        argv = [*watcher_command, "audit", str(queue), "--json", *map(str, options)]
        ended = run_command(argv, env=environment, capture_output=True, text=True)
        if not ended.stdout:
            return ended.returncode, ended.stderr, set()
        *lines, total = [json.loads(line) for line in ended.stdout.splitlines()]
        return ended.returncode, total, {line["missing"] for line in lines if "missing" in line}

    return run


def test_commands_find_it_without_a_flag(queue, outside, start_daemon, recorder, run, audit):
    daemon = start_daemon(queue, "--journal-dir", str(outside), handler=recorder.argv(status=65))
    name = commit(queue)
    daemon.wait_for("reject", entry=name)
    assert daemon.end() == 0
    assert json.loads((queue / ".watcher/queue.json").read_text())["journal_dir"] == str(outside)
    run("requeue", queue, "ALL")
    assert not list((queue / ".watcher").glob("journal*"))
    assert b" dead requeue " in (outside / "journal").read_bytes()
    assert audit(queue)[0] == 0
    assert "requeued" in run("history", queue, name)
    other = start_daemon(queue, handler=recorder.argv())  # as recorded
    other.wait_for("finish", entry=name)
    assert other.end() == 0
    status, total, _ = audit(queue)
    assert (status, total["seen"], total["done"]) == (0, 1, 1)


def test_two_queues_never_mix(queue, outside, tmp_path, start_daemon, recorder, audit):
    start_daemon(queue, "--journal-dir", str(outside), handler=recorder.argv()).end()
    before = (outside / "journal").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    daemon = start_daemon(other, "--journal-dir", str(outside), handler=recorder.argv())
    (said,) = daemon.wait_for("unhealthy")
    assert f"has the journal of {queue}" in said["detail"]
    daemon.wait_for("finish", entry=commit(other))
    daemon.end()
    assert (outside / "journal").read_bytes() == before
    assert audit(other, "--journal-dir", outside)[0] == os.EX_UNAVAILABLE


def test_while_it_is_away_the_daemon_goes_on_and_gathers_lines(
    queue, outside, tmp_path, start_daemon, recorder, audit
):
    daemon = start_daemon(queue, *OFTEN, "--journal-dir", str(outside), handler=recorder.argv())
    outside.rename(tmp_path / "away")
    names = {commit(queue) for _ in range(5)}
    for name in names:
        daemon.wait_for("finish", entry=name)
    (said,) = daemon.wait_for("unhealthy")
    assert f"{outside}: journal_dir: does not exist: mount its disk" in said["detail"]
    assert not outside.exists()
    (tmp_path / "away").rename(outside)
    daemon.wait_for("recovered")
    assert daemon.end() == 0
    status, total, _ = audit(queue)
    assert (status, total["done"], total["lost_lines"]) == (0, 5, 0)


def test_where_it_was_once_an_empty_directory_is_no_place_to_begin_another(
    queue, outside, start_daemon, recorder, audit
):
    start_daemon(queue, "--journal-dir", str(outside), handler=recorder.argv()).end()
    shutil.rmtree(outside)
    outside.mkdir(mode=0o700)  # as a mount point without its disk
    daemon = start_daemon(queue, *OFTEN, "--journal-dir", str(outside), handler=recorder.argv())
    (said,) = daemon.wait_for("unhealthy")
    assert "has no journal of this queue: mount its disk" in said["detail"]
    daemon.wait_for("finish", entry=commit(queue))
    assert list(outside.iterdir()) == []
    assert audit(queue)[0] == os.EX_UNAVAILABLE
    command = said["detail"].partition("begin one there: ")[2]
    subprocess.run(command, shell=True, check=True)
    daemon.wait_for("recovered")
    assert daemon.end() == 0
    assert audit(queue)[1]["done"] == 1


@pytest.mark.parametrize("at_work", [True, False])
def test_it_outlives_the_state_directory_and_counts_each_entry_once(
    queue, outside, start_daemon, recorder, audit, eventually, at_work
):
    where = ("--journal-dir", str(outside), "--sweep-every", "200ms")
    daemon = start_daemon(queue, *where, handler=recorder.argv(status=65))
    names = {commit(queue) for _ in range(3)}
    for name in names:
        daemon.wait_for("reject", entry=name)
    if at_work:
        aside = queue / ".aside"  # first: the daemon may make files in it meanwhile
        (queue / ".watcher").rename(aside)
        shutil.rmtree(aside)
        eventually(lambda: b"; 3 entries were known before" in (outside / "journal").read_bytes())
        daemon.end()
    else:
        daemon.end()
        shutil.rmtree(queue / ".watcher")
        start_daemon(queue, *where, handler=recorder.argv(status=65)).end()
    status, total, missing = audit(queue)
    assert (status, missing, total["seen"]) == (65, names, 3)
    assert len(total["anew"]) == 1


def test_check_says_whether_it_can_be_written(
    queue, outside, start_daemon, recorder, watcher_command, environment
):
    def checked():
        argv = [*watcher_command, "check", str(queue), "--journal-dir", str(outside), "--json"]
        ended = run_command(argv, env=environment, capture_output=True, text=True)
        lines = map(json.loads, ended.stdout.splitlines())
        return [(line["grade"], line["what"]) for line in lines if line["about"] == "journal"]

    assert checked() == [("ok", f"{outside}: made by the daemon when it starts")]
    assert not outside.exists()
    start_daemon(queue, "--journal-dir", str(outside), handler=recorder.argv()).end()
    assert checked() == [("ok", f"{outside}: the journal lies there")]
    shutil.rmtree(outside)
    ((grade, what),) = checked()
    assert (grade, "does not exist: mount its disk" in what) == ("bad", True)
