"""The explorer finds what old rules lose, and nothing that this program breaks.

It runs as a program of its own: it forks its actors, and a process that forks has one thread.
The scenarios that take minutes are in `make explore` only.
"""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "explore.py")
pytestmark = [
    pytest.mark.promise1,
    pytest.mark.promise2,
    pytest.mark.promise3,
    pytest.mark.promise4,
]


def explore(*options: str) -> list[dict]:
    command = [sys.executable, PROGRAM, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(scenario: dict) -> str:
    """The broken promise and the way to it, for the reader of the failure."""
    lines = [scenario["name"]]
    for what, trace in scenario["found"]:
        lines += [what, *trace]
    return "\n".join(lines)


def assert_kept(scenarios: list[dict]) -> None:
    for scenario in scenarios:
        assert not scenario["found"], told(scenario)
        assert scenario["complete"], scenario["name"]
        assert scenario["states"] > 10, scenario["name"]


def test_finds_the_losses_of_the_old_rules():
    scenarios = explore("--only", "x the rule of")
    assert len(scenarios) == 3
    for scenario in scenarios:
        assert any(what.startswith("LOST") for what, _ in scenario["found"]), told(scenario)


@pytest.mark.parametrize(
    "name",
    [
        "2.0.13 x sweep, no crash",
        "2.1.5 x sweep, no crash",
        "linked in x daemon, no crash",
        "written in place x daemon, no crash",
        "written in place x settle, no crash",
        "marker in place, entry reopened x daemon",
        "archive: a file that is handled",
    ],
)
def test_one_of_each_kind_keeps_every_promise(name):
    """All the others are in the slow test below."""
    [scenario] = explore("--only", name)
    assert_kept([scenario])


def test_finds_that_in_create_alone_proves_nothing():
    [scenario] = explore("--only", "believes IN_CREATE")
    assert any(what.startswith("handled early") for what, _ in scenario["found"]), told(scenario)


def test_finds_that_one_close_proves_nothing():
    [scenario] = explore("--only", "believes one close")
    assert any(what.startswith("handled early") for what, _ in scenario["found"]), told(scenario)


def test_finds_that_a_marker_must_not_be_removed_last():
    [scenario] = explore("--only", "the marker removed last")
    assert any(what.startswith("forgotten") for what, _ in scenario["found"]), told(scenario)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_scenario_that_takes_seconds_breaks_a_promise():
    scenarios = [each for each in explore("--quick") if not each["old_rule"]]
    assert {each["name"].split(" x ")[0] for each in scenarios} >= {
        "2.0.8",
        "2.0.13",
        "2.1.4",
        "2.1.5",
        "enqueue",
    }
    assert len(scenarios) > 20
    assert_kept(scenarios)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_interleaving_and_no_crash_breaks_a_promise():
    """All but what takes minutes, which `make explore` has too."""
    long = ("--without", "killed twice", "--without", "over the one in hand")
    explored = explore("--no-long", *long, "--seconds", "600")
    scenarios = [each for each in explored if not each["old_rule"]]
    assert len(scenarios) > 30
    assert_kept(scenarios)
