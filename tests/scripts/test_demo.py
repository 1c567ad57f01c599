"""`make run` shows each state, ends by itself or by TERM, and its account adds up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def start_demo(tmp_path):
    """Start the demo from a copy of scripts, so that its `.demo` is the test's own."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    started = []

    def start(seconds):
        environment = os.environ | {"RUN_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, tmp_path / "scripts" / "demo.py"]
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.terminate()
            process.communicate()


def account(output):
    """Return (written, done, orphaned, still there) of the closing account."""
    sum_of = r"^written (\d+) .* = done (\d+) \+ orphaned (\d+) \+ still there (\d+)$"
    found = re.search(sum_of, output, re.MULTILINE)
    assert found, output
    return [int(number) for number in found.groups()]


def states(output):
    return set(re.findall(r"^\d\d:\d\d:\d\d\.\d  ([A-Z]+) ", output, re.MULTILINE))


def test_it_ends_by_itself_and_the_account_adds_up(start_demo):
    demo = start_demo(8)
    output = demo.communicate()[0]
    assert demo.returncode == 0, output
    written, done, orphaned, there = account(output)
    assert written == done + orphaned + there
    assert done >= 3
    assert there >= 1  # the abandoned half is younger than the grace age
    assert {"ARRIVING", "READY", "CLAIMED", "DONE"} <= states(output)
    assert "\033" not in output


def test_term_ends_it_with_an_account(start_demo):
    demo = start_demo(600)
    lines = []
    while not any(" DONE " in line for line in lines):
        lines.append(demo.stdout.readline())
        assert lines[-1], lines
    demo.send_signal(signal.SIGTERM)
    output = demo.communicate()[0]
    assert demo.returncode == 0, output
    written, done, orphaned, there = account(output)
    assert written == done + orphaned + there > 0


@pytest.mark.slow
def test_an_abandoned_half_ends_in_orphans(start_demo):
    demo = start_demo(17)
    output = demo.communicate()[0]
    assert demo.returncode == 0, output
    assert "ORPHAN" in states(output)
    assert account(output)[2] == 1
