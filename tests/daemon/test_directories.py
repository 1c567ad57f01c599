"""Directories that go, come back, are replaced, or may not be used."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

import writers

LETTER = writers.message_for(1, 1)


def commit(queue):
    return writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)


def test_a_directory_removed_and_put_back_is_watched_again(queue, start_daemon, recorder):
    daemon = start_daemon(queue, "--sweep-every", "200ms", handler=recorder.argv())
    shutil.rmtree(queue)
    daemon.wait_for("unhealthy")
    queue.mkdir()
    daemon.wait_for("ready", 2)
    name = commit(queue)
    daemon.wait_for("finish", entry=name)
    assert daemon.end() == 0


def test_a_directory_replaced_by_another_is_noticed_and_its_entries_are_found(
    queue, start_daemon, recorder
):
    daemon = start_daemon(queue, "--sweep-every", "200ms", handler=recorder.argv())
    queue.rename(queue.with_name("old"))
    queue.mkdir()
    name = commit(queue)
    daemon.wait_for("finish", entry=name)
    old = commit(queue.with_name("old"))
    daemon.send(10)  # SIGUSR1: status, so that there is something to wait for
    daemon.wait_for("status")
    assert daemon.events("finish", entry=old) == []
    assert daemon.end() == 0


def test_a_directory_whose_parent_is_replaced_is_noticed_though_no_event_tells(
    tmp_path, start_daemon, recorder
):
    queue = tmp_path / "parent" / "queue"
    queue.mkdir(parents=True)
    daemon = start_daemon(queue, "--sweep-every", "200ms", handler=recorder.argv())
    queue.parent.rename(tmp_path / "old")
    queue.mkdir(parents=True)
    name = commit(queue)
    daemon.wait_for("finish", entry=name)
    assert daemon.end() == 0


def test_a_missing_directory_among_several_does_not_hold_up_the_others(
    tmp_path, queue, start_daemon, recorder
):
    argv = ", ".join(f'"{word}"' for word in recorder.argv())
    (tmp_path / "w.toml").write_text(
        f'[queues.there]\npath = "{queue}"\nhandler = {{ exec = [{argv}] }}\n'
        f'[queues.missing]\npath = "{tmp_path}/missing"\nhandler = {{ exec = [{argv}] }}\n'
    )
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    daemon.wait_for("unhealthy", queue="missing")
    name = commit(queue)
    daemon.wait_for("finish", entry=name, queue="there")
    (tmp_path / "missing").mkdir()
    daemon.wait_for("ready", queue="missing")
    late = commit(tmp_path / "missing")
    daemon.wait_for("finish", entry=late, queue="missing")
    assert daemon.end() == 0


@pytest.mark.parametrize("command", ["run", "sweep", "list", "check"])
def test_a_missing_directory_is_exit_66(command, tmp_path, watcher_command, environment):
    argv = [*watcher_command, command, str(tmp_path / "missing")]
    if command in ("run", "sweep"):
        argv += ["--", "true"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30)
    assert ended.returncode == os.EX_NOINPUT
    assert len(ended.stderr.splitlines()) == 1
    assert "missing" in ended.stderr


def test_a_directory_that_is_not_writable_hands_nothing_out_and_says_so(
    queue, recorder, watcher_command, environment
):
    name = commit(queue)
    queue.chmod(0o555)
    mortal = []
    if os.geteuid() == 0:  # root may write anywhere, unless it gives that up
        mortal = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    ended = subprocess.run(
        [
            *(*mortal, *watcher_command, "sweep", str(queue), "--grace-age", "0s", "--"),
            *recorder.argv(),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    queue.chmod(0o755)
    assert ended.returncode == os.EX_NOPERM, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert recorder.calls == []
    assert (queue / f"{name}.pck").exists()
