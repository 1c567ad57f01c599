"""A raw entry has one name, its file's, in every command, in the log and for the handler."""

from __future__ import annotations

import json
import os

import pytest

from tests.command_server import run_command

RAW = ("--format", "raw", "--match", "*.csv", "--match", "*.txt")


@pytest.fixture
def watcher(watcher_command, environment):
    """Run one command; return its status, output and errors."""

    def run(*arguments):
        argv = [*watcher_command, *map(str, arguments)]
        ended = run_command(argv, env=environment, capture_output=True, timeout=30)
        return ended.returncode, ended.stdout.decode(), ended.stderr.decode()

    return run


def test_the_whole_name_is_said_and_understood_everywhere(queue, watcher, tmp_path):
    (queue / "a.csv").write_bytes(b"of csv")
    (queue / "a.txt").write_bytes(b"of txt")
    seen = tmp_path / "seen"
    handler = ("sh", "-c", f'echo "$WATCHER_ENTRY" >> {seen}; exit 65')
    _, printed, _ = watcher("sweep", queue, *RAW, "--grace-age", "0s", "--json", "--", *handler)
    swept = [json.loads(line) for line in printed.splitlines()]
    assert {line["entry"] for line in swept if "entry" in line} == {"a.csv", "a.txt"}
    assert sorted(seen.read_text().split()) == ["a.csv", "a.txt"]
    listed = [json.loads(line) for line in watcher("list", queue, "--json")[1].splitlines()]
    assert {line["entry"] for line in listed} == {"a.csv", "a.txt"}
    assert {line["note"]["entry"] for line in listed} == {"a.csv", "a.txt"}
    dead = queue / ".watcher" / "dead"
    assert {path.name for path in dead.iterdir()} == {
        "a.csv", "a.csv.json", "a.txt", "a.txt.json"
    }  # fmt: skip
    assert watcher("cat", queue, "a.csv")[1] == "of csv"
    assert watcher("cat", queue, "dead/a.txt")[1] == "of txt"
    assert "put away in dead/" in watcher("explain", dead / "a.csv")[1]
    code, printed, _ = watcher("requeue", queue, "a.csv", "--json")
    assert (code, json.loads(printed)["entry"]) == (0, "a.csv")
    assert (queue / "a.csv").read_bytes() == b"of csv"


@pytest.mark.parametrize("wanted", ["a", "dead/a"])
def test_a_name_without_its_ending_is_understood_but_by_delete(queue, watcher, wanted):
    (queue / "a.csv").write_bytes(b"x")
    watcher("sweep", queue, *RAW, "--grace-age", "0s", "--", "sh", "-c", "exit 65")
    code, printed, errors = watcher("delete", queue, wanted, "--yes")
    assert (code, printed) == (os.EX_NOINPUT, "")
    assert f"did you mean {wanted}.csv" in errors
    assert watcher("cat", queue, wanted)[:2] == (0, "x")
    assert watcher("requeue", queue, wanted)[:2] == (0, "a.csv  dead, requeued\n")
    assert watcher("hold", queue, "a")[:2] == (0, "a.csv  ready, held\n")


def test_enqueue_prints_the_name_that_the_other_commands_understand(queue, watcher, tmp_path):
    (tmp_path / "file").write_bytes(b"x,y")
    code, printed, _ = watcher("enqueue", queue, *RAW[:4], tmp_path / "file")
    assert code == 0
    assert watcher("cat", queue, printed.strip(), *RAW)[1] == "x,y"
