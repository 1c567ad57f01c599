"""A real daemon, a sweep and an operator's commands, with an archive."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.command_server import run_command
from tests.renaming import rename_in
from watcher.config.expand import expand
from watcher.config.queue_settings import Queue

RAW = ("--format", "raw", "--grace-age", "10ms", "--sweep-every", "100ms")


def archived(queue):
    return sorted(str(path.relative_to(queue)) for path in queue.glob("archive/**/*.csv"))


@pytest.fixture
def run(watcher_command, environment):
    """Run one command to its end; return what it printed."""

    def running(*arguments, status=0):
        argv = [*watcher_command, *map(str, arguments)]
        ended = run_command(argv, env=environment, capture_output=True, timeout=60)
        assert ended.returncode == status, (ended.stdout, ended.stderr)
        return ended.stdout.decode()

    return running


def test_a_handled_file_is_in_the_archive_and_old_ones_are_removed(
    queue, start_daemon, recorder, run, eventually
):
    options = ("--archive", "archive/", "--archive-for", "1s")
    daemon = start_daemon(queue, *RAW, *options, handler=recorder.argv())
    for data in (b"first", b"second"):
        rename_in(queue, "report.csv", data)
        daemon.wait_for("finish", 1 if data == b"first" else 2)
    (said,) = daemon.wait_for("archive", 1)[:1]
    assert "removed, archived more than 1s ago" in said["detail"]
    eventually(lambda: archived(queue) == [])
    assert len(recorder.calls) == 2
    assert "left alone" not in {record["event"] for record in daemon.records}
    assert daemon.end() == os.EX_OK
    assert "every entry is accounted for" in run("audit", queue, "--format", "raw")


def test_a_reload_takes_another_archive_and_one_that_cannot_be_is_told(
    queue, start_daemon, tmp_path
):
    config = tmp_path / "watcher.toml"
    text = f"""[queues.q]
path = "{queue}"
format = "raw"
sweep_every = "100ms"
archive = "archive/"
handler = {{ exec = ["true"] }}
"""
    config.write_text(text)
    daemon = start_daemon(None, "--config", str(config))
    rename_in(queue, "a.csv")
    daemon.wait_for("finish", entry="a.csv")
    config.write_text(text.replace('"archive/"', '"archive/later"') + "archive_dated = true\n")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    rename_in(queue, "b.csv")
    daemon.wait_for("finish", entry="b.csv")
    assert len(archived(queue)) == 2
    assert archived(queue)[0] == "archive/a.csv"
    assert archived(queue)[1].startswith("archive/later/20")
    config.write_text(text.replace('"archive/"', f'"{tmp_path}/missing"'))
    daemon.send(signal.SIGHUP)
    (said,) = daemon.wait_for("unhealthy")
    assert f"archive = {tmp_path}/missing: does not exist; make it first" in said["detail"]
    rename_in(queue, "c.csv", later=True)  # no event tells of it: a scan finds it
    (tmp_path / "missing").mkdir()
    daemon.wait_for("finish", entry="c.csv")
    assert os.listdir(tmp_path / "missing") == ["c.csv"]
    assert daemon.end() == os.EX_OK


def test_nothing_is_handled_until_the_archive_can_be_used(queue, start_daemon, recorder):
    (queue / "archive").write_bytes(b"in the way")
    options = (*RAW, "--archive", "archive")
    daemon = start_daemon(queue, *options, handler=recorder.argv(), ready=False)
    (said,) = daemon.wait_for("unhealthy")
    assert "archive = archive: archive is no directory" in said["detail"]
    rename_in(queue, "a.csv")
    assert recorder.calls == []
    (queue / "archive").unlink()
    daemon.wait_for("finish", entry="a.csv")
    assert archived(queue) == ["archive/a.csv"]
    assert daemon.end() == os.EX_OK


def test_a_sweep_archives_a_pair_and_removes_what_is_older(queue, run, eventually):
    (queue / "x.db").write_bytes(b"{0")
    (queue / "x.msg").write_bytes(b"message")
    options = ("--legacy", "--grace-age", "0s", "--archive", "archive", "--json")
    run("sweep", queue, *options, "--", "true")
    assert sorted(os.listdir(queue / "archive")) == ["x.db", "x.msg"]
    (queue / "archive/keep").mkdir()
    removed = []

    def sweep():
        said = run("sweep", queue, *options, "--archive-for", "20ms", "--", "true")
        removed.extend(line for line in map(json.loads, said.splitlines()) if len(line) == 1)
        return removed

    eventually(sweep)
    assert removed == [{"archive_removed": 2}]
    assert os.listdir(queue / "archive") == ["keep"]
    dry = run("sweep", queue, "--legacy", "--archive", "archive", "--dry-run", "--json")
    assert json.loads(dry)["left_alone"] == {}


def test_explain_and_check_say_what_is_in_the_archive(queue, run, tmp_path):
    rename_in(queue, "a.csv")
    config = tmp_path / "watcher.toml"
    config.write_text(
        f'[queues.q]\npath = "{queue}"\nformat = "raw"\narchive = "archive"\n'
        'archive_dated = true\narchive_for = "30d"\nhandler = { exec = ["true"] }\n'
    )
    run("sweep", queue, "--config", config, "--grace-age", "0s")
    (name,) = archived(queue)
    said = json.loads(run("explain", queue / name, "--config", config, "--json"))
    assert said["verdict"] == "archived: it was handled, and is not handled from here"
    assert said["queue"] == str(queue)
    assert said["removed"].startswith(("in 30d at ", "in 29d23h at "))
    for place, verdict in {
        "archive": "ours: handled entries are moved here",
        os.path.dirname(name): "ours: the entries that were handled on that day",
    }.items():
        flags = ("--archive", "archive", "--json")
        assert json.loads(run("explain", queue / place, *flags))["verdict"].startswith(verdict)
    untold = json.loads(run("explain", queue / name, "--json"))
    assert untold["queue above"].startswith(f"{queue}: its daemon looks into no directory")
    checked = run("check", queue, "--config", config)
    assert "archive/20" in checked
    assert "handled entries are moved there, and kept for 30d" in checked
    shm = os.stat("/dev/shm").st_dev
    if shm != queue.stat().st_dev:
        text = run("check", queue, "--archive", "/dev/shm", status=os.EX_UNAVAILABLE)
        assert "archive = /dev/shm: it is on another file system than the queue" in text


def test_the_archive_of_a_patterns_queues_is_no_queue(tmp_path):
    for name in ("one", "two", "archive"):
        (tmp_path / name).mkdir()
    settings = Queue(
        name="q", path=f"{tmp_path}/*", many=True, archive=f"{tmp_path}/archive", format="raw"
    )
    queues, troubles = expand([settings])
    assert sorted(queues) == ["q/one", "q/two"]
    assert troubles == []


def test_a_marker_is_removed_and_its_entry_archived(queue, start_daemon, recorder):
    options = (*RAW, "--archive", "archive", "--marker", "{name}.done")
    daemon = start_daemon(queue, *options, handler=recorder.argv())
    (queue / "a.csv").write_bytes(b"data")
    (queue / "a.csv.done").touch()
    daemon.wait_for("finish", entry="a.csv")
    assert archived(queue) == ["archive/a.csv"]
    daemon.wait(lambda: not (queue / "a.csv.done").exists())
    assert daemon.end() == os.EX_OK
