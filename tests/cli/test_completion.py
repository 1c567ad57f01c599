"""What a real shell offers after TAB: the files of scripts/completion are sourced and asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from watcher.cli import completion

SHELLS = Path(__file__).parents[2] / "scripts" / "completion"
BASH = """
compopt() { true; }
source "$1"; shift
complete -p watcher >/dev/null || exit 1
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_watcher_completion watcher
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path, environment):
    """An environment whose PATH has the program of these sources as `watcher`."""
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "watcher"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m watcher "$@"\n')
    program.chmod(0o755)
    return environment | {"PATH": f"{place}:{environment['PATH']}"}


@pytest.fixture
def bash(path, queue, tmp_path):
    """Ask bash what comes after the words; Q is the queue."""

    def asked(*words):
        argv = ["bash", "-c", BASH, "bash", str(SHELLS / "watcher"), "watcher"]
        argv += [word.replace("Q", str(queue)) for word in words]
        ended = subprocess.run(argv, env=path, capture_output=True, text=True, timeout=30)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.split()

    return asked


@pytest.fixture
def entries(queue):
    for state, names in {"dead": ["monday", "tuesday"], "held": ["monkey"]}.items():
        place = queue / ".watcher" / state
        place.mkdir(parents=True, mode=0o700)
        for name in names:
            (place / f"{name}.pck").write_bytes(b"x")
            (place / f"{name}.json").write_text(json.dumps({"why": "no"}))
    for name in ("ready.pck", "no entry.pck", "mo$(touch x).pck", "-rf.pck", "mo\n.pck", "x.txt"):
        (queue / name).write_bytes(b"x")


def test_bash_completes_commands_options_and_entries(bash, entries):
    assert bash("requ") == ["requeue"]
    assert "--state" in bash("list", "--st")
    assert bash("requeue", "Q", "") == ["monday", "tuesday"]
    assert bash("delete", "Q", "held/m") == ["held/monkey"]
    assert bash("hold", "Q", "") == ["ready"]
    assert bash("requeue", "Q", "monday", "") == ["tuesday"]


def test_of_a_queue_that_is_none_nothing_is_offered_and_nothing_printed(bash, tmp_path):
    assert bash("cat", "/nowhere", "") == []


def test_queues_of_the_configuration_are_offered(path, bash, queue, tmp_path):
    file = tmp_path / "watcher.toml"
    file.write_text(f'[queues.orders]\npath = "{queue}"\nhandler.exec = ["true"]\n')
    path["WATCHER_CONFIG"] = str(file)
    assert bash("list", "or") == ["orders"]


def test_the_time_and_the_names_have_a_limit(queue, entries, monkeypatch):
    from watcher.rules.lifecycle import State
    from watcher.rules.names import Layout
    from watcher.spool.spool import Spool

    spool = Spool(os.fsencode(queue), Layout())
    assert list(completion._in_state(spool, State.READY, b"", until=0.0)) == []
    assert list(completion._in_state(spool, State.READY, b"", until=1e18)) == ["ready"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes_entries(path, queue, entries):
    asks = f"source {SHELLS / 'watcher.fish'}; complete -C 'watcher requeue {queue} tu'"
    ended = subprocess.run(["fish", "-c", asks], env=path, capture_output=True, timeout=30)
    assert ended.stdout.split()[:1] == [b"tuesday"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_reads_its_file(path):
    argv = ["zsh", "-fc", f"autoload -U compinit; compinit -D; source {SHELLS / '_watcher'}"]
    subprocess.run(argv, env=path, check=True, timeout=30)
