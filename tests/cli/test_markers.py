"""The commands in a queue with markers: nothing that they move waits for a marker afterwards."""

from __future__ import annotations

import json

import pytest

from tests.command_server import run_command

NAME, DONE = "report.csv", "report.csv.done"
FLAGS = ("--format", "raw", "--marker", "{name}.done", "--companions", "{name}.aria2")
pytestmark = [pytest.mark.promise2]


@pytest.fixture
def run(queue, watcher_command, environment):
    """Run a command on the queue; return its lines of JSON, or its text."""

    def running(command, *words, place=None):
        argv = [*watcher_command, command, str(place or queue), *words]
        ended = run_command(argv, env=environment, capture_output=True, timeout=60)
        assert b"Traceback" not in ended.stderr, ended.stderr
        out = ended.stdout.decode()
        if "--json" in words:
            return [json.loads(line) for line in out.splitlines()]
        return out + ended.stderr.decode()

    return running


@pytest.fixture
def swept(queue, run):
    """Have the queue record that it has markers; then put an entry and its marker there."""
    run("sweep", *FLAGS, "--", "true")
    (queue / NAME).write_bytes(b"whole")
    (queue / DONE).write_bytes(b"sum 123")


def names(queue):
    return sorted(path.name for path in queue.iterdir() if path.name != ".watcher")


def state(run, name="report.csv"):
    return [line["state"] for line in run("list", "--json") if line["entry"] == name]


def test_hold_takes_the_marker_away_and_release_needs_none(queue, run, swept):
    assert "held" in run("hold", NAME)
    assert names(queue) == []
    assert "through deferred/, where it needs no marker" in run("release", NAME)
    assert state(run) == ["deferred"]
    run("sweep", "--", "true")
    assert state(run) == []


def test_a_dead_entry_is_requeued_without_a_marker(queue, run, swept):
    run("sweep", "--", "sh", "-c", "exit 65")
    assert (state(run), names(queue)) == (["dead"], [])
    (queue / NAME).write_bytes(b"the next, half")
    assert "through deferred/, where it needs no marker" in run("requeue", NAME)
    run("sweep", "--", "true")
    assert (state(run), names(queue)) == (["arriving"], [NAME])


def test_an_entry_without_its_marker_is_not_held(queue, run, swept):
    (queue / DONE).unlink()
    assert f"waits for its marker {DONE}" in run("hold", NAME)
    assert names(queue) == [NAME]


@pytest.mark.parametrize(
    ("there", "verdict", "marker"),
    [
        ((NAME, DONE), "ready: its marker is there", "there"),
        ((NAME,), f"left: waits for its marker {DONE}", "not there"),
        (
            (NAME, DONE, "report.csv.aria2"),
            "left: waits until its companion report.csv.aria2 is gone",
            "there",
        ),
    ],
)
def test_explain_says_what_an_entry_waits_for(queue, run, swept, there, verdict, marker):
    for name in {NAME, DONE} - set(there):
        (queue / name).unlink()
    for name in set(there) - {NAME, DONE}:
        (queue / name).write_bytes(b"")
    (found,) = run("explain", "--json", place=queue / NAME)
    assert found["verdict"] == verdict
    assert found["marker"] == f"{DONE}, {marker}"


def test_a_symbolic_link_is_no_marker_and_explain_says_so(queue, run, swept):
    (queue / DONE).unlink()
    (queue / DONE).symlink_to(queue / NAME)
    (found,) = run("explain", "--json", place=queue / NAME)
    assert found["verdict"] == f"left: waits for its marker {DONE}"
    assert found["marker"] == f"{DONE}, there, and no regular file"


def test_an_archived_entry_leaves_no_marker(queue, run, swept):
    run("sweep", "--archive", "archive/", "--", "true")
    assert names(queue) == ["archive"]
    assert names(queue / "archive") == [NAME]


def test_explain_of_a_marker_says_whether_its_entry_is_there(queue, run, swept):
    (found,) = run("explain", "--json", place=queue / DONE)
    assert found["entry"] == f"{NAME}, there"
    (queue / NAME).unlink()
    (found,) = run("explain", "--json", place=queue / DONE)
    assert found["entry"] == f"{NAME}, not there"
    assert "remove it" in found["advice"]


def test_check_reports_a_marker_without_its_entry_alone(queue, run, swept):
    (queue / "gone.csv.done").write_bytes(b"")
    (queue / "half.csv").write_bytes(b"x")
    told = run("check", "--json")
    template, said = [line for line in told if line["about"] == "marker"]
    assert template["what"] == "{name}.done"
    assert "gone.csv.done" in said["what"]
    assert DONE not in said["what"]
    (waits,) = [line for line in told if line["about"] == "not complete"]
    assert waits["what"].endswith("half.csv: waits for its marker half.csv.done")


def test_audit_accounts_for_every_entry(queue, run, swept):
    run("sweep", "--", "sh", "-c", "exit 75")
    (queue / "other").write_bytes(b"x")
    (queue / "other.done").write_bytes(b"")
    run("sweep", "--", "true")
    assert "every entry is accounted for" in run("audit")


def test_a_dry_sweep_says_which_entries_wait_and_changes_nothing(queue, run, swept):
    (queue / "other").write_bytes(b"x")
    *lines, summary = run("sweep", "--dry-run", "--json")
    told = {line["file"]: line["why"] for line in lines}
    assert told == {NAME: "its marker is there", "other": "waits for its marker other.done"}
    assert names(queue) == sorted(["other", NAME, DONE])
    assert summary["left_alone"] == {}
