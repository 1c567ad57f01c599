"""Commands over every directory of a configuration, or over one that is named."""

from __future__ import annotations

import json
import os
import pickle

import pytest

from tests.command_server import run_command

WHOLE = pickle.dumps(b"message", 2) + pickle.dumps({}, 2)


@pytest.fixture
def root(tmp_path):
    """Two directories that match a pattern, with an entry each, and a plain queue."""
    for name in ("in/one", "in/two", "plain"):
        (tmp_path / name).mkdir(parents=True)
        put(tmp_path / name, name.rpartition("/")[2])
    (tmp_path / "w.toml").write_text(
        '[queues.in]\npath = "in/*"\ngrace_age = "0s"\nhandler = { exec = ["false"] }\n'
        "retry = { max_attempts = 1 }\n"
        '[queues.plain]\npath = "plain"\ngrace_age = "0s"\nhandler = { exec = ["true"] }\n'
    )
    return tmp_path


def put(queue, name):
    (queue / f"{name}.tmp").write_bytes(WHOLE)
    (queue / f"{name}.tmp").rename(queue / f"{name}.pck")


@pytest.fixture
def watcher(root, watcher_command, environment):
    """Run a command with the configuration; return its exit status, lines and errors."""

    def run(command, *arguments):
        argv = [*watcher_command, command, "--config", str(root / "w.toml"), *map(str, arguments)]
        ended = run_command(argv, env=environment, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout.splitlines(), ended.stderr

    return run


def entries(lines):
    return {(record["queue"], record["entry"]) for record in map(json.loads, lines)}


def test_list_without_a_directory_lists_every_queue(watcher):
    status, lines, _ = watcher("list", "--json")
    assert status == 0
    assert entries(lines) == {("in/one", "one"), ("in/two", "two"), ("plain", "plain")}
    status, lines, _ = watcher("list")
    assert lines[0::2] == ["plain:", "in/one:", "in/two:"]


def test_list_takes_a_queues_name_a_patterns_name_or_a_directory(watcher, root):
    for named in ("in/one", root / "in" / "one"):
        status, (line,), _ = watcher("list", named, "--json")
        assert (status, json.loads(line)["entry"], "queue" in json.loads(line)) == (0, "one", False)
    status, lines, _ = watcher("list", "in", "--json")
    assert entries(lines) == {("in/one", "one"), ("in/two", "two")}
    status, lines, error = watcher("list", "in/three")
    assert (status, lines) == (os.EX_NOINPUT, [])
    assert "in/three" in error


def test_sweep_audit_and_requeue_work_on_every_directory(watcher, root):
    status, lines, _ = watcher("sweep", "--json")
    results = [json.loads(line) for line in lines]
    handled = {(one["queue"], one["result"]) for one in results if "result" in one}
    assert handled == {("plain", "done"), ("in/one", "rejected"), ("in/two", "rejected")}
    status, lines, _ = watcher("audit", "--json")
    assert status == 0
    assert {(one["queue"], one["balanced"]) for one in map(json.loads, lines)} == {
        ("plain", True),
        ("in/one", True),
        ("in/two", True),
    }
    status, lines, _ = watcher("requeue", "ALL", "--state", "dead", "--json")
    assert status == 0
    assert entries(lines) == {("in/one", "one"), ("in/two", "two")}
    assert (root / "in" / "one" / "one.pck").exists()


def test_an_entry_is_named_in_one_queue_only(watcher, root):
    status, lines, error = watcher("hold", "in", "one")
    assert (status, lines) == (os.EX_USAGE, [])
    assert "say which" in error
    status, lines, _ = watcher("hold", "in/one", "one")
    assert (status, lines) == (0, ["one  ready, held"])
    assert watcher("hold")[0] == os.EX_USAGE
    status, lines, _ = watcher("release", "in", "ALL")
    assert (status, lines) == (0, ["in/one:", "one  held, released", "in/two:"])
    assert (root / "in" / "one" / "one.pck").exists()


def test_cat_takes_a_queues_name_and_refuses_that_of_a_pattern(watcher):
    assert watcher("cat", "in/two", "two")[:2] == (0, ["message"])
    status, _, error = watcher("cat", "in", "two")
    assert status == os.EX_USAGE
    assert "in/..." in error


def test_check_checks_every_directory_and_says_which_parent_is_missing(watcher, root):
    status, lines, _ = watcher("check", "--json")
    assert {json.loads(line)["where"] for line in lines} >= {
        str(root / name) for name in ("plain", "in/one", "in/two")
    }
    (root / "in").rename(root / "moved")
    status, lines, _ = watcher("check", "--json")
    (bad,) = [one for one in map(json.loads, lines) if one["about"] == "pattern"]
    assert bad["grade"] == "bad"
    assert str(root / "in") in bad["what"]
    assert status != 0


def test_a_command_with_a_directory_has_the_settings_of_its_pattern(watcher, root):
    _, lines, _ = watcher("sweep", root / "in" / "two", "--json")
    assert json.loads(lines[0])["result"] == "rejected"
