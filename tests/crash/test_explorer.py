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


def explore(*options: str) -> list[dict]:
    command = [sys.executable, PROGRAM, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(scenario: dict) -> str:
    """What was found, and the way there, for whoever reads the failure."""
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


def test_no_writer_loses_beside_a_sweep():
    scenarios = explore("--only", "x sweep, no crash", "--quick")
    assert {each["name"].split(" x ")[0] for each in scenarios} >= {
        "2.0.8",
        "2.0.13",
        "2.1.4",
        "2.1.5",
        "enqueue",
    }
    assert_kept(scenarios)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_interleaving_and_no_crash_breaks_a_promise():
    explored = explore("--no-long", "--seconds", "600")
    scenarios = [each for each in explored if not each["old_rule"]]
    assert len(scenarios) > 30
    assert_kept(scenarios)
