"""The replay of 2002 finds the loss where there is one, and says so by its exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import replay_seed_race
import reported_rule
import writers

LETTER = writers.TestMessage(b"Subject: x\n\nhello\n", {"listname": "test"})
CLEAN = replay_seed_race.Score("", 100, 100, 0, 0, 0, abandoned=5, orphans=5, failed=0)


def test_the_reported_rule_loses_a_message_whose_writer_it_meets_halfway(tmp_path):
    met = []
    name = writers.commit_2_0_8(
        str(tmp_path), LETTER, lambda _: met.extend(reported_rule.walk(str(tmp_path)))
    )
    assert os.listdir(tmp_path) == [f"{name}.msg"]
    assert [*met, *reported_rule.walk(str(tmp_path))] == []
    assert os.listdir(tmp_path) == []


def test_the_reported_rule_handles_a_pair_that_is_whole(tmp_path):
    name = writers.commit_2_0_8(str(tmp_path), LETTER, writers.no_pause)
    assert reported_rule.walk(str(tmp_path)) == [name]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "fault",
    [{"lost": 1}, {"doubled": 1}, {"changed": 1}, {"orphans": 4}, {"orphans": 6}, {"failed": 1}],
)
def test_a_score_with_a_fault_is_not_clean(fault):
    assert CLEAN.clean
    assert not CLEAN._replace(**fault).clean


def test_this_program_loses_nothing_where_the_reported_rule_loses():
    program = replay_seed_race.__file__
    argv = [sys.executable, program, "--messages", "300", "--pause", "0-0.02"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    head, theirs, ours = result.stdout.splitlines()[-3:]
    columns = head.split()[1:]
    lost = int(theirs.split()[-len(columns) :][columns.index("lost")])
    assert lost > 0
    assert ours.split() == ["this", "program", "300", "300", "0", "0", "0", "5", "5", "0"]
