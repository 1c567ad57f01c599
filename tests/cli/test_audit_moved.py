"""`watcher audit` of a queue that was moved or restored: no false loss, and no silence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

import writers
from tests.command_server import run_command

MOVES = {
    "cp": ["cp", "-a", "{old}", "{new}"],
    "rsync": ["rsync", "-a", "{old}/", "{new}/"],
    "tar": ["sh", "-c", "mkdir {new} && tar -C {old} -cf - . | tar -C {new} -xpf -"],
}
RAW = ("--format", "raw", "--match", "*.csv")
RESULT = 'case "${WATCHER_NAME:-$WATCHER_ENTRY}" in *bad*) exit 65;; *later*) exit 75;; esac'


@pytest.fixture
def watcher(watcher_command, environment):
    """Run a command; return its exit status and what it prints."""

    def run(command, queue, *arguments):
        argv = [*watcher_command, command, str(queue), *map(str, arguments)]
        ended = run_command(argv, env=environment, capture_output=True, text=True)
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stdout + ended.stderr

    return run


@pytest.fixture
def audit(watcher):
    """Return what an audit names: what is missing, what is unknown, what ended before; its sum."""

    def run(queue):
        _, said = watcher("audit", queue, "--json")
        *lines, total = [json.loads(line) for line in said.splitlines()]
        kinds = ("missing", "unknown", "handled_before")
        return *({line[kind] for line in lines if kind in line} for kind in kinds), total

    return run


def put(queue, name, data="x"):
    (queue / f".{name}.tmp").write_text(data)
    (queue / f".{name}.tmp").rename(queue / name)


def sweep(watcher, queue, *options, script=RESULT):
    watcher("sweep", queue, "--grace-age", "0s", *options, "--", "sh", "-c", script)


def move(queue, new, how):
    argv = [word.format(old=queue, new=new) for word in MOVES[how]]
    subprocess.run(argv, check=True)
    shutil.rmtree(queue)


@pytest.mark.parametrize("how", MOVES)
def test_a_raw_queue_that_moves_has_no_false_loss(watcher, audit, queue, tmp_path, how):
    if shutil.which(MOVES[how][0]) is None:
        pytest.skip(f"{how} is not installed")
    for name in ("bad.csv", "later.csv", "held-later.csv", "again.csv", "a b\n.csv"):
        put(queue, name)
    sweep(watcher, queue, *RAW)
    put(queue, "bad.csv")  # the same name once more: bad~1.csv
    sweep(watcher, queue)
    watcher("hold", queue, "held-later.csv")
    put(queue, "again.csv")
    new = tmp_path / "new"
    move(queue, new, how)
    missing, unknown, before, total = audit(new)
    assert (missing, unknown, before, total["balanced"]) == (set(), set(), set(), True)
    assert total["here"] == {"dead": 2, "deferred": 1, "held": 1}
    watcher("requeue", new, "ALL")
    watcher("release", new, "ALL")
    assert audit(new)[3]["balanced"]
    sweep(watcher, new, script="exit 0")
    watcher("requeue", new, "ALL")
    sweep(watcher, new, script="exit 0")
    missing, unknown, before, total = audit(new)
    assert (missing, unknown, total["here"], total["balanced"]) == (set(), set(), {}, True)
    assert (total["seen"], total["done"]) == (7, 7)


def test_a_queue_of_pairs_that_moves_has_no_false_loss(watcher, audit, queue, tmp_path):
    letter = writers.message_for(1, 1)
    for _ in range(3):
        writers.commit_2_1_4(str(queue), letter, writers.no_pause)
    sweep(watcher, queue, "--legacy", script="exit 75")
    watcher("hold", queue, "ALL")
    for number, (state, command) in enumerate((("held", "release"), ("deferred", "requeue"))):
        new = tmp_path / f"new{number}"
        move(queue, new, "cp")
        queue = new
        assert audit(queue)[3]["here"] == {state: 3}
        watcher(command, queue, "ALL")
        assert audit(queue)[3]["balanced"]
    sweep(watcher, queue, script="exit 0")
    missing, unknown, _, total = audit(queue)
    assert (missing, unknown, total["done"], total["balanced"]) == (set(), set(), 3, True)


@pytest.fixture
def restored(watcher, queue, tmp_path):
    """A queue from a backup, whose journal lies elsewhere and knows what came later."""
    (tmp_path / "log").mkdir()
    for name in ("dead-bad.csv", "later.csv", "moved-later.csv"):
        put(queue, name)
    sweep(watcher, queue, *RAW, "--journal-dir", tmp_path / "log" / "q")
    watcher("hold", queue, "moved-later.csv")
    put(queue, "ready.csv")
    backup = tmp_path / "backup"
    subprocess.run(["cp", "-a", queue, backup], check=True)
    watcher("requeue", queue, "dead-bad.csv", "later.csv")
    watcher("release", queue, "ALL")
    watcher("requeue", queue, "moved-later.csv")
    sweep(watcher, queue, script='case "${WATCHER_NAME:-$WATCHER_ENTRY}" in moved*) exit 65;; esac')
    put(queue, "new-bad.csv")
    sweep(watcher, queue)
    shutil.rmtree(queue)
    shutil.copytree(backup, queue)  # shutil keeps the times of files
    return queue


def test_what_a_backup_brings_back_is_told_and_what_it_has_not_is_missing(watcher, audit, restored):
    missing, unknown, before, total = audit(restored)
    assert (missing, unknown) == ({"new-bad.csv"}, set())
    assert {os.path.dirname(file) for file in before} == {"", "deferred", "dead"}
    assert "ready.csv" in before
    assert total["here"] == {"held": 1}, "it was rejected later, and is the same entry"
    watcher("audit", restored, "--accept", "new-bad.csv", "--why", "the disk was lost")
    sweep(watcher, restored, script="exit 0")
    watcher("requeue", restored, "ALL", "--state", "dead")
    watcher("release", restored, "ALL")
    sweep(watcher, restored, script="exit 0")
    sweep(watcher, restored, script="exit 0")
    missing, unknown, _, total = audit(restored)
    assert (missing, unknown, total["balanced"], total["accepted"]) == (set(), set(), True, 1)


def test_a_new_file_of_a_name_that_was_handled_is_not_said_to_be_from_a_backup(audit, restored):
    assert "ready.csv" in audit(restored)[2]
    put(restored, "ready.csv")
    assert "ready.csv" not in audit(restored)[2]
