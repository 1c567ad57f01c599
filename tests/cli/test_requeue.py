"""requeue at a rate: in the order of commit, resumable, with a last line of how far it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.command_server import run_command

NAMES = [f"n{number:02}" for number in range(30)]


@pytest.fixture
def dead(queue):
    """A directory of dead entries, the later one's name before the earlier one's."""
    place = queue / ".watcher" / "dead"
    place.mkdir(parents=True, mode=0o700)
    for number, name in enumerate(reversed(NAMES)):
        (place / f"{name}.pck").write_bytes(b"x")
        note = {"why": "no", "files": [f"{name}.pck"], "committed_ns": 10**18 + number}
        (place / f"{name}.json").write_text(json.dumps(note))
    return place


@pytest.fixture
def argv(queue, watcher_command):
    return [*watcher_command, "requeue", str(queue)]


@pytest.fixture
def run(argv, environment):
    def running(*arguments, status=0):
        ended = run_command([*argv, *arguments], env=environment, text=True, timeout=30)
        assert ended.returncode == status, ended.stderr
        return ended.stdout.splitlines(), ended.stderr

    return running


def moved(lines):
    return [line.split()[0] for line in lines]


def test_it_takes_its_time_and_keeps_the_order_of_commit(dead, run):
    began = time.monotonic()
    lines, told = run("ALL", "--rate", "60/s")
    assert time.monotonic() - began > 24 / 60  # the first six come at once
    assert moved(lines) == [*reversed(NAMES)]
    assert told == "30 requeued, 0 left\n"
    assert list(dead.iterdir()) == []
    assert "no entries" in run("ALL", "--rate", "60/s")[1]


def test_after_an_interrupt_the_same_command_goes_on_with_the_rest(dead, argv, environment, run):
    with subprocess.Popen(
        [*argv, "ALL", "--rate", "20/m"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        first = process.stdout.readline()  # now it waits three seconds
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert told == "1 requeued, 29 left; the same command goes on with these\n"
    assert (moved([first]), rest) == ([NAMES[-1]], "")
    lines, told = run("ALL", "--rate", "1000/s")
    assert moved(lines) == [*reversed(NAMES[:-1])]
    assert told == "29 requeued, 0 left\n"


def test_the_last_line_counts_what_the_limit_leaves(dead, run):
    assert run("ALL", "--limit", "12")[1] == (
        "12 requeued, 18 left; the same command goes on with these\n"
    )
    assert run("ALL", "--dry-run")[1] == ""
    assert run("ALL", "--limit", "50", "--json")[1] == ""
    assert run("ALL", "--limit", "50")[1].startswith("no entries")


def test_what_is_left_for_now_is_counted_and_75(queue, dead, run):
    locked = subprocess.Popen(
        ["flock", str(dead / "n03.pck"), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with locked:
        locked.stdin.write(b"locked\n")
        locked.stdin.flush()
        locked.stdout.readline()
        lines, told = run("ALL", "--rate", "1000/s", status=os.EX_TEMPFAIL)
        locked.stdin.close()
    assert len(lines) == 30
    assert told == "29 requeued, 1 left; the same command goes on with these\n"


@pytest.mark.parametrize("rate", ["5", "0/s", "fast"])
def test_a_wrong_rate_is_named_with_what_was_expected(dead, run, rate):
    told = run("ALL", "--rate", rate, status=os.EX_USAGE)[1]
    assert "--rate" in told
    assert "5/s, 10/m or 200/h" in told


def test_state_lists_its_values_in_the_help(run):
    assert "[orphan|deferred|dead|archived]" in "\n".join(run("--help")[0])


def test_an_orphan_is_told_how_it_becomes_a_whole_entry_and_that_works(queue, run, watcher_command):
    orphans = queue / ".watcher" / "orphans"
    orphans.mkdir(parents=True, mode=0o700)
    (orphans / "a.msg").write_bytes(b"Subject: x\n\ntext\n")
    (line,), _ = run("orphan/a", "--legacy", "--dry-run")
    recipe = line.partition("then: ")[2].partition("; and")[0]
    assert recipe.startswith("watcher cat")
    recipe = recipe.replace("KEY=VALUE", "listname=x").replace("watcher ", '"$@" ')
    recipe = recipe.replace("orphan/a.msg", "orphan/a.msg --legacy")
    subprocess.run(["sh", "-ec", recipe, "sh", *watcher_command], check=True, timeout=30)
    (made,) = queue.glob("*.pck")
    told = subprocess.run(
        [*watcher_command, "cat", queue, made.name, "--metadata"],
        stdout=subprocess.PIPE,
        timeout=30,
    )
    assert b'listname: "x"' in told.stdout


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        (
            "a.csv",
            ("--format", "raw", "--marker", "{name}.done"),
            "waits for its marker a.csv.done",
        ),
        ("a.msg", ("--legacy",), "is half of a pair"),
    ],
)
def test_delete_of_what_no_worker_takes_names_a_way_that_works(
    queue, watcher_command, environment, name, options, why
):
    (queue / name).write_bytes(b"x")
    argv = [*watcher_command, "delete", str(queue), name, "--yes", *options]
    ended = run_command(argv, env=environment, text=True, timeout=30)
    assert ended.returncode == os.EX_USAGE
    assert f"{name}: {why}" in ended.stderr
    assert "so no worker takes it" in ended.stderr
    assert "hold it first" not in ended.stderr
