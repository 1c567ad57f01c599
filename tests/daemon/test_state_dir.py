"""A queue whose state directory lies outside: nothing of the watcher's is in the folder."""

from __future__ import annotations

import json
import signal

import pytest

import writers
from tests.command_server import run_command

LETTER = writers.message_for(1, 1)


def commit(queue):
    return writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)


@pytest.fixture
def state(tmp_path):
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "q"


def test_every_state_of_an_entry_lies_outside_and_commands_find_it(
    queue, state, start_daemon, recorder, run, eventually
):
    argv = recorder.argv(status=75)
    daemon = start_daemon(queue, "--state-dir", str(state), handler=argv)
    name = commit(queue)
    daemon.wait_for("defer", entry=name)
    place = ("--state-dir", state)

    def listed():
        (line,) = map(json.loads, run("list", queue, *place, "--json").splitlines())
        assert line["entry"] == name
        return line["state"]

    eventually(lambda: listed() == "deferred")  # the claim is released after the line of the log
    run("hold", queue, "ALL", *place)
    assert [path.name for path in (state / "held").glob("*.pck")] != []
    assert "every entry is accounted for" in run("audit", queue, *place)
    assert daemon.end() == 0
    assert list(queue.iterdir()) == []


def test_without_the_option_a_command_says_that_there_is_no_state(
    queue, state, start_daemon, recorder, watcher_command, environment
):
    daemon = start_daemon(queue, "--state-dir", str(state), handler=recorder.argv())
    daemon.end()
    for command in ("list", "audit"):
        argv = [*watcher_command, command, str(queue)]
        ended = run_command(argv, env=environment, capture_output=True, text=True)
        assert "--state-dir" in ended.stderr


def test_each_directory_of_a_pattern_has_its_own_below(tmp_path, start_daemon, recorder, state):
    words = ", ".join(f'"{word}"' for word in recorder.argv(status=65))
    (tmp_path / "in" / "one").mkdir(parents=True)
    (tmp_path / "w.toml").write_text(
        f'[queues.in]\npath = "in/*"\nstate_dir = "{state.parent}"\nhandler = {{exec=[{words}]}}\n'
    )
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    (tmp_path / "in" / "two").mkdir()
    for directory in ("one", "two"):
        name = commit(tmp_path / "in" / directory)
        daemon.wait_for("reject", queue=f"in/{directory}", entry=name)
        assert (state.parent / directory / "dead" / f"{name}.pck").exists()
    (tmp_path / "in" / "two").rmdir()  # nothing of the watcher's keeps it
    daemon.wait_for("gone", queue="in/two")
    assert daemon.end() == 0


@pytest.mark.parametrize("pattern", [False, True])
def test_a_reload_refuses_another_state_directory_and_forgets_no_entry(
    tmp_path, start_daemon, recorder, state, pattern
):
    config = tmp_path / "w.toml"
    words = ", ".join(f'"{word}"' for word in recorder.argv(status=75))
    table = f'[queues.in]\npath = "in/{"*" if pattern else "one"}"\nhandler = {{exec=[{words}]}}\n'
    place = state.parent if pattern else state
    (tmp_path / "in" / "one").mkdir(parents=True)
    config.write_text(table + f'state_dir = "{place}"\n')
    daemon = start_daemon(None, "--config", str(config))
    name = commit(tmp_path / "in" / "one")
    daemon.wait_for("defer", entry=name)
    (tmp_path / "other").mkdir()
    for other in ("", f'state_dir = "{tmp_path / "other"}"\n'):
        config.write_text(table + other)
        daemon.send(signal.SIGHUP)
        (line,) = daemon.wait_for("not reloaded")
        assert f"entries may lie in {state.parent}" in line["detail"]
    config.write_text(table + f'state_dir = "{place}"\ngrace_age = "1m"\n')
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    assert daemon.end() == 0


def test_entries_whose_queue_directory_is_gone_are_told_of(
    tmp_path, start_daemon, recorder, state, watcher_command, environment
):
    words = ", ".join(f'"{word}"' for word in recorder.argv(status=65))
    config = tmp_path / "w.toml"
    config.write_text(
        f'[queues.in]\npath = "in/*"\nstate_dir = "{state.parent}"\nhandler = {{exec=[{words}]}}\n'
    )
    queues = [tmp_path / "in" / directory for directory in ("one", "two")]
    for queue in queues:
        queue.mkdir(parents=True)
    daemon = start_daemon(None, "--config", str(config))
    name = commit(queues[0])
    daemon.wait_for("reject", entry=name)
    for queue in queues:
        queue.rmdir()
    (trouble,) = daemon.wait_for("unhealthy", queue="in")
    said = f"{state.parent}/one: entries lie there, and their queue directory {queues[0]} is gone"
    assert said in trouble["detail"]
    for command in ("list", "audit", "check"):
        argv = [*watcher_command, command, "--config", str(config)]
        ended = run_command(argv, env=environment, capture_output=True, text=True)
        assert said in ended.stderr + ended.stdout
        assert ended.returncode != 0
        assert "two" not in ended.stderr
    queues[0].mkdir()
    daemon.wait_for("recovered", queue="in")
    assert daemon.end() == 0


def test_a_missing_place_makes_the_queue_unhealthy_until_it_is_made(
    queue, state, start_daemon, recorder
):
    state.parent.rmdir()
    daemon = start_daemon(queue, "--state-dir", str(state), handler=recorder.argv(), ready=False)
    assert "state_dir: does not exist" in daemon.wait_for("unhealthy")[0]["detail"]
    state.parent.mkdir()
    name = commit(queue)
    daemon.wait_for("finish", entry=name)
    assert daemon.end() == 0


def test_check_names_what_is_wrong_with_it(queue, state, watcher_command, environment):
    argv = [*watcher_command, "check", str(queue), "--state-dir", str(queue / "x"), "--json"]
    ended = run_command(argv, env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    (bad,) = [one for one in lines if one["grade"] == "bad"]
    assert "outside the queue" in bad["what"]
    assert ended.returncode != 0
